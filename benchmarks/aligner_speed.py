"""How long does `SteinAligner` take, on how many threads, and beside a busy process?

    python -m benchmarks.aligner_speed --data path/to/ml-1m
    python -m benchmarks.aligner_speed --data path/to/ml-1m --rows 100000 --threads 1 2 --busy 0 1

Prints wall-clock and CPU seconds (medians of `--repeats`) of `fit` and `fit_transform`, one epoch
each, and of reading all user embeddings, for each number of threads and of busy processes beside
it. Text and image features are those of `MultimodalEncoder`, out-of-fold item factors included.
`--rows` takes whole users of about so many rows, without `--data` of synthetic data; the batch size
is that of a fit on a million rows. To compare two versions, run it in the checkouts of both.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.interactions import synthetic, with_features
from benchmarks.measure import busy_processes
from skmars import Impressions, MultimodalEncoder, SteinAligner, load_movielens_1m

BATCH_SIZE = 4096
WIDTHS = {"text": 128, "image": 240}  # of the default encoders on MovieLens-1M


def read(path: Path | None, n_rows: int | None) -> tuple[Impressions, np.ndarray]:
    """Return encoded impressions and labels: of MovieLens-1M, or synthetic ones."""
    if path is None:
        X, y = synthetic(n_rows or 100_000, mean_length=160.0)
        return with_features(X, WIDTHS), y
    catalog, log = load_movielens_1m(path)
    times = {"time": "approximate_time", "order": "position"}  # of the Parquet files
    X, y = Impressions.from_log(log, catalog, label="liked", history="all", **times)
    X = MultimodalEncoder().fit(X).transform(X)
    if n_rows is None or n_rows >= len(X):
        return X, y
    rows_of_user = np.bincount(X.user, minlength=len(X.users))
    shuffled = np.random.default_rng(0).permutation(len(X.users))
    last = int(np.searchsorted(np.cumsum(rows_of_user[shuffled]), n_rows))
    chosen = np.flatnonzero(np.isin(X.user, shuffled[: last + 1]))
    return X[chosen], y[chosen]


def timed(work: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Return the medians of wall-clock and CPU seconds."""
    wall, cpu = [], []
    for _ in range(repeats):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - begin_cpu)
    return median(wall), median(cpu)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of MovieLens-1M; default: synthetic")
    parser.add_argument("--rows", type=int, help="about so many rows; default: all, or 100,000")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--busy", type=int, nargs="+", default=[0], help="processes beside it")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    import torch

    X, y = read(arguments.data, arguments.rows)
    print(X, flush=True)
    aligner = SteinAligner(max_iter=1, batch_size=BATCH_SIZE, random_state=0, device="cpu")
    few = slice(0, min(len(X), 2000))
    aligner.fit(X[few], y[few])  # the first fit of a process imports a part of PyTorch
    rows = aligner.fit_transform(X, y)
    works = {
        "fit": lambda: aligner.fit(X, y),
        "fit_transform": lambda: aligner.fit_transform(X, y),
        "user embeddings": lambda: rows[:].user_embedding,
    }
    print(f"{'':16s} {'threads':>8s} {'busy':>5s} {'seconds':>8s} {'CPU':>8s}")
    for name, work in works.items():
        for n_busy in arguments.busy:
            for n_threads in arguments.threads:
                torch.set_num_threads(n_threads)
                with busy_processes(n_busy):
                    wall, cpu = timed(work, arguments.repeats)
                line = f"{name:16s} {n_threads:8d} {n_busy:5d} {wall:8.2f} {cpu:8.2f}"
                print(line, flush=True)


if __name__ == "__main__":
    main()
