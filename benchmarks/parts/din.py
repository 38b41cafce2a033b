"""DIN: an epoch of training, prediction, and the memory of a whole process."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import joblib
import numpy as np

from benchmarks.interactions import load, padded
from benchmarks.measure import Result, chosen, compare, in_process, peak_mb
from benchmarks.parts.networks import CONTENDERS, Settings, make, useful_flops


def _settings(arguments: Any, X: Any) -> Settings:
    return Settings(
        len(X.catalog), arguments.max_length, arguments.batch_size, arguments.loader_workers
    )


def _rows(arguments: Any) -> tuple[str, Any, Any]:
    name, X, y = load(
        arguments.data, arguments.rows, mean_length=arguments.mean_length, sigma=arguments.sigma
    )
    if len(X) % arguments.batch_size == 1:  # a batch of one row has no batch statistics
        X, y = X[:-1], y[:-1]
    used = X.history.last(arguments.max_length).length
    print(f"[data] {name}: {X!r}; {used.mean():.1f} items of a history used on average")
    return name, X, y


def _contenders(arguments: Any, X: Any, y: Any) -> dict[str, Any]:
    arrays = padded(X, arguments.max_length)
    made = {}
    for name, (_, takes) in chosen(CONTENDERS, arguments.contenders).items():
        try:
            rows = X if takes == "impressions" else arrays
            made[name] = make(name, rows, y, _settings(arguments, X))
        except ImportError as error:
            print(f"[din] {name} is left out: {error}")
    return made


def train_and_predict(arguments: Any, parts: list[str]) -> list[Result]:
    """Time one epoch, and then the prediction of all rows, contender after contender.

    Predictions need trained models, so that an epoch is trained in any case.
    """
    data, X, y = _rows(arguments)
    length = X.history.last(arguments.max_length).length
    contenders = _contenders(arguments, X, y)
    repeats = arguments.repeats if "din-train" in parts else 1
    results = compare(
        f"din-train ({data}, {len(X):,} rows)",
        {name: c.train for name, c in contenders.items()},
        repeats,
        work=useful_flops(length, training=True),
    )
    if "din-train" not in parts:
        results = []
    if "din-predict" in parts:
        results += compare(
            f"din-predict ({data}, {len(X):,} rows)",
            {name: c.predict for name, c in contenders.items()},
            arguments.repeats,
            work=useful_flops(length, training=False),
        )
    for result in results:
        result.note = f"{len(X) / median(result.seconds):,.0f} rows/s"
    return results


def memory(arguments: Any) -> list[Result]:
    """Measure the peak of a process that reads rows from a file, fits an epoch and predicts.

    skmars reads pickled impressions, and so do those that make no rectangle; the others read the
    arrays that they need.
    """
    data, X, y = _rows(arguments)
    part = f"din-memory ({data}, {len(X):,} rows)"
    results = []
    with tempfile.TemporaryDirectory() as folder:
        impressions, arrays = Path(folder, "impressions.joblib"), Path(folder, "arrays.npz")
        joblib.dump((X, y), impressions)
        rectangle: dict[str, Any] = padded(X, arguments.max_length)
        np.savez(arrays, y=y, **rectangle)
        del rectangle
        for name, (_, takes) in chosen(CONTENDERS, arguments.contenders).items():
            result = Result(part, name)
            for _ in range(arguments.repeats):
                file = impressions if takes == "impressions" else arrays
                command = ["--child", name, str(file), str(len(X.catalog))]
                numbers = [arguments.max_length, arguments.batch_size, arguments.loader_workers]
                try:
                    found = in_process("benchmarks.parts.din", *command, *map(str, numbers))
                except RuntimeError as error:
                    if "ImportError" not in str(error) and "ModuleNotFound" not in str(error):
                        raise
                    print(f"[din-memory] {name} is left out: it is not installed")
                    break
                assert found is not None
                result.peak_mb.append(found["peak_mb"])
                result.seconds.append(found["seconds"])
                result.note = f"{found['before_mb']:,.0f} MB before the fit"
            if result.peak_mb:
                results.append(result)
    for result in results:
        ratio = median(result.peak_mb) / median(results[0].peak_mb)
        result.note = f"{ratio:.2f} times {results[0].contender}; {result.note}"
    return results


def child(name: str, file: str, *numbers: str) -> dict[str, float]:
    """Read rows, fit, predict: what `memory` starts in a process of its own."""
    settings = Settings(*map(int, numbers))
    if file.endswith(".npz"):
        rows: Any = dict(np.load(file))
        y = rows.pop("y")
    else:
        rows, y = joblib.load(file)
    contender = make(name, rows, y, settings)
    before_mb = peak_mb()
    begin = time.perf_counter()
    contender.train()
    contender.predict()
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "before_mb": before_mb, "peak_mb": peak_mb()}


if __name__ == "__main__":
    import json
    import sys

    print(json.dumps(child(*sys.argv[2:])))
