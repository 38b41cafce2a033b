"""How long does each step of the default pipeline take to fit to users of MovieLens-1M?

    OMP_NUM_THREADS=2 python -m benchmarks.whole_fit path/to/ml-1m

Two epochs of the aligner and two of DIN, without early stopping, so that two versions of the code,
each run in its own checkout, do the same number of steps. Seconds on the clock, and of the CPU.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skmars import Impressions, load_movielens_1m, make_mars


def timed(name: str, call: Callable[[], Any]) -> Any:
    """Return what a call returns; print how long it took."""
    clock, processor = time.perf_counter(), time.process_time()
    result = call()
    seconds, cpu = time.perf_counter() - clock, time.process_time() - processor
    print(f"| {name} | {seconds:.2f} | {cpu:.2f} |", flush=True)
    return result


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("data", type=Path, help="folder of MovieLens-1M")
    parser.add_argument("--users", type=int, default=150, help="the first ones")
    arguments = parser.parse_args()
    catalog, log = load_movielens_1m(arguments.data)
    times = {"time": "approximate_time", "order": "position"}  # of the Parquet files
    X, y = Impressions.from_log(log, catalog, label="liked", history="all", **times)
    chosen = X.user < arguments.users
    X, y = X[chosen], y[chosen]
    mars = make_mars(random_state=0).set_params(
        align__max_iter=2, ctr__max_iter=2, ctr__early_stopping=False
    )
    encode, *others, ctr = mars.steps
    X = encode[1].fit_transform(X, y)  # content is encoded once, whatever is fitted after it
    print(f"{len(X):,} rows\n| step | seconds | CPU seconds |\n|---|---|---|")

    def fit() -> None:
        rows = X
        for name, step in others:
            rows = timed(name, lambda step=step, rows=rows: step.fit_transform(rows, y))
        timed(ctr[0], lambda: ctr[1].fit(rows, y))

    timed("all", fit)


if __name__ == "__main__":
    main()
