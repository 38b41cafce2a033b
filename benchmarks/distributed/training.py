"""What does an epoch of `DINClassifier` take with several workers, against one process?

    OMP_NUM_THREADS=1 python -m benchmarks.distributed.training --rows 40000 --mean-length 100
    OMP_NUM_THREADS=1 python -m benchmarks.distributed.training --data toys FILE --cluster

One process and several take turns in one run: each makes a fit of one epoch (reading the rows
included), with one thread a process. It prints the seconds and the CPU of all processes together,
their medians and the ratio, and how far the parameters differ. ``--cluster`` adds what Ray takes to
start, and to fit the same with `skmars.distributed.fit`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from statistics import median
from typing import Any

import numpy as np

from benchmarks.distributed.usage import Usage, start, usage
from benchmarks.interactions import load
from skmars import DINClassifier


class _Process:
    """One process of a group, with its rows."""

    rows: Any = None

    @classmethod
    def join(cls, rank: int, n: int, file: str, rows: Any) -> None:
        import torch

        torch.set_num_threads(1)
        torch.distributed.init_process_group("gloo", f"file://{file}", rank=rank, world_size=n)
        cls.rows = rows

    @classmethod
    def fit(cls, classifier: DINClassifier, together: bool) -> tuple[Usage, DINClassifier]:
        from skmars.utils._worker_group import training_together

        wall, cpu = time.perf_counter(), time.process_time()
        with training_together() if together else nullcontext():
            classifier.fit(*cls.rows)
        return Usage(time.perf_counter() - wall, time.process_time() - cpu), classifier


def measure(rows: Any, classifier: DINClassifier, n_workers: int, repeats: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pools = [
            ProcessPoolExecutor(
                1, get_context("spawn"), _Process.join, (rank, n_workers, f"{folder}/group", rows)
            )
            for rank in range(n_workers)
        ]
        used: dict[int, list[Usage]] = {n_workers: [], 1: []}  # all join in the first
        for repeat in range(repeats + 1):  # the first warms up
            fitted = []
            for n, taken in used.items():
                running = [pool.submit(_Process.fit, classifier, n > 1) for pool in pools[:n]]
                found = [each.result() for each in running]
                fitted.append(found[0][1])
                if repeat:
                    wall, cpu = max(u.wall for u, _ in found), sum(u.cpu for u, _ in found)
                    taken.append(Usage(wall, cpu))
                    print(f"  {n} process(es): {wall:.2f} s, {cpu:.2f} s of CPU", flush=True)
        for pool in pools:
            pool.shutdown()
    middle = {
        n: Usage(median(u.wall for u in us), median(u.cpu for u in us)) for n, us in used.items()
    }
    for n, found in middle.items():
        print(f"{n} process(es): {found.wall:.2f} s, {found.cpu:.2f} s of CPU")
    wall = middle[n_workers].wall / middle[1].wall
    cpu = middle[n_workers].cpu / middle[1].cpu
    print(
        f"ratio: {wall:.2f} of the seconds, {cpu:.2f} of the CPU, {cpu / n_workers:.2f} a process"
    )
    states = [model._network.state_dict() for model in fitted]
    difference = max(float((states[0][k] - v).abs().max()) for k, v in states[1].items())
    logit = [model.decision_function(rows[0][:1000]) for model in fitted]
    print(
        f"parameters differ by {difference:.2g} at most, logits by "
        f"{np.abs(logit[0] - logit[1]).max():.2g}, losses by "
        f"{abs(fitted[0].loss_curve_[-1] - fitted[1].loss_curve_[-1]):.2g}"
    )


def on_cluster(rows: Any, classifier: DINClassifier, n_workers: int) -> None:
    from skmars.distributed import fit

    with usage() as used:
        ray = start(n_workers + 1)
    print(f"start of Ray: {used}", flush=True)
    for _ in range(2):
        with usage() as used:
            fit(classifier, *rows, n_workers=n_workers)
        print(f"fit on the cluster, workers started: {used}", flush=True)
    ray.shutdown()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", nargs=2, metavar=("KIND", "PATH"), help="toys FILE, ml-1m FOLDER")
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--mean-length", type=float, default=100.0, help="of synthetic histories")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cluster", action="store_true")
    options = parser.parse_args(arguments)
    # The length of a user's history is the mean over its events, which is larger.
    name, X, y = load(options.data, options.rows, mean_length=options.mean_length, sigma=0.7)
    length = X.history.last(200).length.mean()
    print(f"{name}: {len(X):,} rows, {length:.1f} history items on average", flush=True)
    classifier = DINClassifier(
        max_iter=1, early_stopping=False, batch_size=options.batch_size, random_state=0
    )
    measure((X, y), classifier, options.workers, options.repeats)
    if options.cluster:
        on_cluster((X, y), classifier, options.workers)


if __name__ == "__main__":
    main()
