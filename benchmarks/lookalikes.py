"""What does the augmenter cost, against the product and top-k that no search can do without?

    python -m benchmarks.lookalikes --rows 20000 --donors 100000 --threads 1 2
    python -m benchmarks.lookalikes --threads 1 2 --busy       # another process keeps a core busy
    python -m benchmarks.lookalikes --rows 1000000 --repeats 1  # minutes

Rows are those of `benchmarks.parts.retrieval.shop`: users with three events, each before ten
candidates (--candidates), and donors with twenty.

bare      the product of all users with all donors in float32, and the 50 largest of each row, as
          torch does both (`mm`, `topk` without sorting): blocks of so many users as are fastest in
          a trial, taken by threads of their own with one arithmetic thread each
with      `transform` with look-alike features (the latest K users who touched each target)
without   `transform` with `n_lookalikes` 0: one donor is enough to borrow from
fit       `fit_transform` of the rows of the donors, each with donors of other folds

All contenders run in turn, each round in the same order, and ratios are medians of the ratios
within a round: to `bare`, and to the same contender on the first number of threads. `memory` is
what the process needed at most beyond what it held before the step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measure import busy_processes, peak_mb, reset_peak, threads
from benchmarks.parts import retrieval
from skmars import SequenceRetrievalAugmenter

K = 50
CONTENDERS = ("bare", "with", "without", "fit")
_TRIED = (32, 64, 128, 256)


@dataclass
class Took:
    """What one contender took on some threads; one entry a round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


def product_and_top_k(
    users: NDArray[np.float32], donors: NDArray[np.float32], k: int, block: int, n_threads: int
) -> None:
    """Search by torch alone, in blocks of users."""
    left, right = torch.from_numpy(users), torch.from_numpy(donors).T
    k = min(k, len(donors))
    found = torch.empty((len(users), k), dtype=torch.int64)

    def search(first: int) -> None:
        some = slice(first, first + block)
        found[some] = torch.topk(torch.mm(left[some], right), k, sorted=False).indices

    with ThreadPoolExecutor(n_threads) as executor:
        list(executor.map(search, range(0, len(users), block)))


def fastest_block(users: NDArray[np.float32], donors: NDArray[np.float32]) -> int:
    """Return the number of users at a time with which `product_and_top_k` is fastest."""
    some = users[:512]
    took: dict[int, float] = {}
    for block in _TRIED * 2:
        began = time.process_time()
        product_and_top_k(some, donors, K, block, 1)
        took[block] = min(took.get(block, np.inf), time.process_time() - began)
    return min(took, key=lambda block: took[block])


def contenders(arguments: argparse.Namespace) -> dict[str, Callable[[int], Any]]:
    """Return functions of the number of threads."""
    n_users = max(1, arguments.rows // arguments.candidates)
    retrieval.ROWS_A_USER = arguments.candidates
    fitted, X = retrieval.shop(n_users, arguments.donors, arguments.items, arguments.width)
    users = retrieval.vectors(n_users, arguments.width, seed=2)
    made: dict[str, Callable[[int], Any]] = {}
    for name, n in (("with", K), ("without", 0)):
        augmenter = SequenceRetrievalAugmenter(
            low_quantile=0.0, high_quantile=1.0, neighbors=arguments.neighbors, n_lookalikes=n
        ).fit(fitted)

        def transform(n_threads: int, augmenter: Any = augmenter) -> None:
            augmenter.set_params(n_jobs=n_threads).transform(X)

        def fit(n_threads: int, augmenter: Any = augmenter) -> None:
            augmenter.set_params(n_jobs=n_threads).fit_transform(fitted)

        made[name] = transform
        made.setdefault("fit", fit)
    donors = augmenter.donor_embedding_
    block = fastest_block(users, donors)
    print(f"{len(X):,} rows of {n_users:,} users, {len(donors):,} donors")
    print(f"bare: {block} users a block", flush=True)
    made["bare"] = partial(_bare, users, donors, block)
    return {name: made[name] for name in CONTENDERS if name in arguments.contenders}


def _bare(
    users: NDArray[np.float32], donors: NDArray[np.float32], block: int, n_threads: int
) -> None:
    product_and_top_k(users, donors, K, block, n_threads)


def main(command: list[str] | None = None) -> dict[tuple[str, int], Took]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--candidates", type=int, default=10, help="rows a user")
    parser.add_argument("--donors", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--neighbors", default="exact")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--contenders", nargs="+", default=["bare", "with", "without"],
                        choices=CONTENDERS)  # fmt: skip
    parser.add_argument("--busy", action="store_true", help="keep one core busy meanwhile")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args(command)
    took: dict[tuple[str, int], Took] = {}
    with threads(1), busy_processes(int(arguments.busy)):
        made = contenders(arguments)
        for _ in range(arguments.repeats):
            for name, call in made.items():
                for n in arguments.threads:
                    of = took.setdefault((name, n), Took())
                    reset_peak()
                    memory, cpu, wall = peak_mb(), time.process_time(), time.perf_counter()
                    call(n)
                    of.wall.append(time.perf_counter() - wall)
                    of.cpu.append(time.process_time() - cpu)
                    of.memory.append(peak_mb() - memory)
    titles = "step", "threads", "wall, s", "CPU, s", "memory, MB", "wall to bare", "CPU to bare"
    print("| " + " | ".join([*titles, "speed-up"]) + " |\n|" + "---|" * 8)
    for (name, n), of in took.items():
        bare, alone = took.get(("bare", n), Took()), took[name, arguments.threads[0]]
        cells = [name, str(n), f"{np.median(of.wall):.2f}", f"{np.median(of.cpu):.2f}"]
        cells += [f"{np.median(of.memory):,.0f}", _ratio(of.wall, bare.wall)]
        cells += [_ratio(of.cpu, bare.cpu), _ratio(alone.wall, of.wall)]
        print("| " + " | ".join(cells) + " |")
    return took


def _ratio(of: list[float], to: list[float]) -> str:
    return f"{np.median(np.divide(of, to)):.2f}" if to else ""


if __name__ == "__main__":
    main()
