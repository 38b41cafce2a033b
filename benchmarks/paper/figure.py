"""The scarcity curve as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.paper.methods import METHODS
from benchmarks.paper.results import Cells, difference, over_seeds


def draw_scarcity(points: dict[int | None, dict[str, Cells]], names: list[str], path: Path) -> None:
    """Draw AUC against the number of items kept, and what each method has more than the base.

    The same users are cut for all methods of a seed, and others in each seed: differences have
    narrow intervals where the AUCs have wide ones.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = [name for name in names if any(point.get(name) for point in points.values())]
    for i, name in enumerate(names):
        label, color = METHODS[name].label, f"C{i}"
        means = [
            (x, over_seeds(point[name]).mean())
            for x, point in enumerate(points.values())
            if point.get(name)
        ]
        left.plot(*zip(*means), label=label, color=color, marker="o")
        if name == "base":
            continue
        found = [difference(p.get(name, {}), p.get("base", {})) for p in points.values()]
        more = np.array([(x, d.value, d.low, d.high) for x, d in enumerate(found) if d]).T
        if len(more):
            x, value, low, high = more
            beside = x + 0.12 * (i - len(names) / 2)  # lest intervals hide each other
            right.errorbar(
                beside, value, [value - low, high - value], color=color, fmt="o", capsize=3
            )
    right.axhline(0, color="C0")
    for axes in (left, right):
        axes.set_xticks(range(len(points)), ["all" if k is None else str(k) for k in points])
        axes.set_xlabel("items kept of the history")
    left.set_ylabel("AUC of the users whose histories are cut")
    right.set_ylabel(f"AUC − that of {METHODS['base'].label}, 95 % interval")
    figure.legend(loc="outside lower center", ncols=3)
    figure.savefig(path)
