"""What do two stages of `recommend` cost and miss, against ranking the whole catalogue?

    python -m benchmarks.two_stages --items 2000 10000 50000

For each size of the catalogue, a pipeline is fitted to the same number of planted users. Then the
ten best items of `--users` users are found by ranking all items, and by ranking `candidates` of
them: half of these are items that look-alikes touched, half those nearest to the user's history.
Printed are CPU seconds, how many times fewer they are than those of the whole, and the recall of
its ten items, as mean and median over users.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from skmars import Impressions, make_mars, make_multimodal_ctr, recommend

N = 10


def fitted(n_items: int, n_users: int, seed: int) -> tuple[Any, Impressions]:
    """Return a pipeline, briefly fitted to planted users, and their rows."""
    X, y = make_multimodal_ctr(n_users=n_users, n_items=n_items, random_state=seed)
    mars = make_mars(random_state=seed, align__max_iter=3, ctr__max_iter=8)
    return mars.fit(X, y), X


def measure(model: Any, now: Impressions, candidates: list[int]) -> Iterator[dict[str, float]]:
    """Yield a line for the whole catalogue, and one for each number of candidates."""
    recommend(model, now[:1], N)  # the first row of a process pays for the catalogue
    whole: list[set[Any]] = []
    seconds = 0.0
    for k in (None, *candidates):
        began = time.process_time()
        top = recommend(model, now, N, candidates=k, frame="pandas")
        took = time.process_time() - began
        found = [set(top["item_id"][top["row"] == i]) for i in range(len(now))]
        if k is None:
            whole, seconds = found, took
        recall = [len(a & b) / len(b) for a, b in zip(found, whole)]
        yield {
            "candidates": len(now.catalog) if k is None else k,
            "seconds": took,
            "times": seconds / took,
            "mean": float(np.mean(recall)),
            "median": float(np.median(recall)),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[2000, 10000])
    parser.add_argument("--candidates", type=int, nargs="+", default=[100, 200, 500, 1000])
    parser.add_argument("--n-users", type=int, default=1000, help="users of the fit")
    parser.add_argument("--users", type=int, default=20, help="users with a list of ten items")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{'items':>7} {'candidates':>10} {'CPU s':>7} {'times':>6} {'recall':>7} {'median':>7}")
    for n_items in options.items:
        model, X = fitted(n_items, options.n_users, options.seed)
        some = np.linspace(0, len(X.users) - 1, options.users).astype(int)
        for line in measure(model, X.latest()[some], options.candidates):
            print(
                f"{n_items:7} {line['candidates']:10} {line['seconds']:7.2f} {line['times']:6.1f} "
                f"{line['mean']:7.3f} {line['median']:7.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
