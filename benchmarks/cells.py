"""Cells of a benchmark: each is measured once, and stands on a line of a file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

from benchmarks.paper.statistics import interval

Cell = dict[str, Any]


def measured(
    output: Path, cells: Iterable[Cell], measure: Callable[..., dict[str, Any]]
) -> list[dict[str, Any]]:
    """Measure the cells that the file lacks, and return the results of all cells.

    Parameters
    ----------
    output : Path
        File with one line of JSON for each result: the cell, what `measure` returned, and the
        seconds that it took. New lines are appended.
    cells : iterable of dict
        All that a result depends on: the arguments of `measure`, as JSON has them.
    measure : callable
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    lines = output.read_text().splitlines() if output.exists() else []
    known = {json.dumps(found["cell"]): found for found in map(json.loads, lines)}
    results = []
    for cell in cells:
        key = json.dumps(cell)
        if key not in known:
            begin = time.perf_counter()
            found = {"cell": cell, **measure(**cell)}
            found["seconds"] = round(time.perf_counter() - begin, 1)
            with output.open("a") as file:
                file.write(json.dumps(found) + "\n")
            print(json.dumps(found), flush=True)
            known[key] = found
        results.append(known[key])
    return results


def auc_and_log_loss(y: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Return AUC and log loss of the probabilities of a click."""
    return {
        "auc": float(roc_auc_score(y, probability)),
        "log_loss": float(log_loss(y, probability)),
    }


def difference(values: list[float]) -> str:
    """Write a mean over seeds with its 95 % interval (t)."""
    mean, half = interval(np.array(values))
    if np.isnan(half):
        return f"{mean:+.4f}"
    return f"{mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]"
