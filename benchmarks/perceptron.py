"""Is the compiled perceptron worth its lines? DIN's attention, compiled and by the torch layers.

    python -m benchmarks.perceptron
    python -m benchmarks.perceptron --positions 4000 --threads 1

512 rows with histories of random lengths, 10 components, 80 and 40 units with Dice. Both compute in
turn; the table has the median of the CPU time of a call with one thread, and of the time on the
clock with several. "Of sgemm" is the share of what a large float32 matrix product does in a second
on as many threads, in the same round: useful operations only, as in `benchmarks.parts.networks`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from statistics import median
from typing import Any

import torch

from benchmarks.measure import machine, sgemm_rate, threads
from benchmarks.parts.networks import ATTENTION_UNITS, DIM
from skmars.ctr import _kernel
from skmars.ctr._layers import AttentionPooling
from skmars.utils._threads import one_thread_each

N_ROWS, N_ITEMS = 512, 3700
LIBRARY = _kernel.library


def work(n_positions: int) -> dict[str, tuple[Callable[[], Any], float]]:
    """Return prediction, forward, and forward and backward pass, with their useful operations."""
    generator = torch.Generator().manual_seed(0)
    length = torch.rand(N_ROWS, generator=generator)
    length = (length / length.sum() * n_positions).long()
    n = int(length.sum())
    row = torch.arange(N_ROWS).repeat_interleave(length)
    at = torch.randint(0, N_ITEMS, (n,), generator=generator)
    query = torch.randn(N_ROWS, DIM, generator=generator, requires_grad=True)
    key = torch.randn(N_ITEMS, DIM, generator=generator, requires_grad=True)
    training = AttentionPooling(DIM, ATTENTION_UNITS, "dice").train()
    fitted = AttentionPooling(DIM, ATTENTION_UNITS, "dice").eval()
    h1, h2 = ATTENTION_UNITS
    useful = 2.0 * (n * (2 * DIM * h1 + h1 * h2 + h2 + DIM) + N_ROWS * DIM * h1)

    def both() -> None:
        training(query, key, row, length, None, at).sum().backward()

    @torch.no_grad()
    def predict() -> None:
        fitted(query, key, row, length, None, at)

    return {"training step": (both, 3 * useful), "prediction": (predict, useful)}


def rounds(call: Callable[[], Any], n_threads: int, n_repeats: int) -> dict[str, list[float]]:
    """Return the seconds of both in each round, and operations a second of a matrix product."""
    clock = time.process_time if n_threads == 1 else time.perf_counter
    found: dict[str, list[float]] = {"sgemm": [], "layers": [], "compiled": []}
    with threads(n_threads):
        for _ in range(n_repeats):
            found["sgemm"].append(sgemm_rate())
            for contender in ("layers", "compiled"):
                is_compiled = contender == "compiled"
                _kernel.library = LIBRARY if is_compiled else lambda: None
                with one_thread_each() if is_compiled else nullcontext():
                    for _ in range(3):  # torch's threads go on spinning for a while
                        call()
                    begin = clock()
                    for _ in range(3):
                        call()
                    found[contender].append((clock() - begin) / 3)
    return found


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--positions", type=int, nargs="+", default=[4000, 60_000])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    print(machine())
    print(
        "| positions | work | threads | layers, ms | compiled, ms | layers / compiled | of sgemm |"
    )
    print("|---|---|---|---|---|---|---|")
    for n_positions in arguments.positions:
        for name, (call, useful) in work(n_positions).items():
            for n_threads in arguments.threads:
                found = rounds(call, n_threads, arguments.repeats)
                layers, compiled, rate = (median(found[k]) for k in ("layers", "compiled", "sgemm"))
                print(
                    f"| {n_positions:,} | {name} | {n_threads} | {layers * 1e3:.2f} | "
                    f"{compiled * 1e3:.2f} | {layers / compiled:.2f} | "
                    f"{useful / compiled / rate:.0%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
