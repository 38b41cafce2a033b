"""The scarcity curve as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.paper.methods import METHODS
from benchmarks.paper.results import Cells, over_seeds
from benchmarks.paper.statistics import interval


def draw_scarcity(points: dict[int | None, dict[str, Cells]], names: list[str], path: Path) -> None:
    """Draw AUC against the number of items kept, with 95 % intervals over the seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in names:
        line = [
            (x, *interval(auc))
            for x, point in enumerate(points.values())
            if len(auc := over_seeds(point.get(name, {})))
        ]
        if line:
            x, mean, half = np.array(line).T
            axes.errorbar(
                x, mean, np.nan_to_num(half), label=METHODS[name].label, marker="o", capsize=3
            )
    axes.set_xticks(range(len(points)), ["all" if k is None else str(k) for k in points])
    axes.set_xlabel("items kept of the history")
    axes.set_ylabel("AUC of the users whose histories are cut")
    axes.legend()
    figure.savefig(path)
