"""The pictures: differences to DIN on all data (a forest plot), and the scarcity curve.

Text stays text, fonts are large enough for a phone, and the same results give the same files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.paper.markdown import NOT_MEASURED
from benchmarks.paper.methods import METHODS
from benchmarks.paper.results import Points, over_seeds
from benchmarks.paper.statistics import Difference

# Okabe and Ito's colours, told apart by colour-blind people, too; markers and dashes tell the same.
STYLES: dict[str, dict[str, Any]] = {
    "base": {"color": "#000000", "marker": "o", "linestyle": (0, (1, 1.5))},
    "factors": {"color": "#D55E00", "marker": "s", "linestyle": (0, (5, 2))},
    "random-donors": {"color": "#009E73", "marker": "^", "linestyle": (0, (3, 1, 1, 1))},
    "mars": {"color": "#0072B2", "marker": "D", "linestyle": "-"},
}
LOOKS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "skmars",
    "font.size": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
WIDTH = 5.2  # inches; a phone shows them three quarters as large


@dataclass(frozen=True)
class Group:
    """Rows of a forest plot: a title, and differences by row and method.

    Groups of the same `scale` share their limits.
    """

    title: str
    rows: Mapping[str, Mapping[str, Difference | None]]
    scale: str = ""


def draw_forest(groups: Sequence[Group], names: list[str], path: Path, description: str) -> None:
    """Draw differences to DIN with their intervals: one row a data set, one mark a method."""
    groups = [group for group in groups if group.rows]
    if not groups:
        _draw_nothing(path, description)
        return
    sizes = [len(group.rows) for group in groups]
    with rc_context(LOOKS):
        figure = Figure((WIDTH, 1.1 + 0.62 * sum(sizes) + 0.7 * len(groups)), layout="constrained")
        grid = {"height_ratios": sizes}
        axes = figure.subplots(len(groups), squeeze=False, gridspec_kw=grid)[:, 0]
        for ax, group in zip(axes, groups):
            _draw_group(ax, group, names)
            alike = [d for g in groups if g.scale == group.scale for d in _differences(g)]
            ends = [end for d in alike for end in (d.low, d.high, d.value, 0.0)]
            least, most = np.nanmin([*ends, 0.0]), np.nanmax([*ends, 0.01])  # no lens on nothing
            ax.set_xlim(least - 0.06 * (most - least), most + 0.06 * (most - least))
        axes[-1].set_xlabel("AUC − AUC of DIN, with 95 % interval")
        marks = [_mark(name) for name in names]
        look = {"ncols": len(names), "columnspacing": 1.0, "handletextpad": 0.3, "handlelength": 1}
        figure.legend(handles=marks, loc="outside upper center", **look)
        _save(figure, path, description)


def _differences(group: Group) -> list[Difference]:
    return [d for found in group.rows.values() for d in found.values() if d is not None]


def _mark(name: str) -> Line2D:
    """Make what the legend shows of a method."""
    look = {key: STYLES[name][key] for key in ("color", "marker")}
    return Line2D([], [], linestyle="none", markersize=7, label=METHODS[name].label, **look)


def _draw_group(ax: Any, group: Group, names: list[str]) -> None:
    for y, found in enumerate(group.rows.values()):
        if not any(found.values()):
            ax.annotate(NOT_MEASURED, (0, y), (6, 0), textcoords="offset points", va="center")
        for i, name in enumerate(names):
            d = found.get(name)
            if d is None:
                continue
            at = y + 0.24 * (i - (len(names) - 1) / 2)
            color, marker = STYLES[name]["color"], STYLES[name]["marker"]
            if not np.isnan(d.low):
                ax.plot([d.low, d.high], [at, at], color=color, linewidth=2)
            ax.plot([d.value], [at], color=color, marker=marker, markersize=7)
    ax.axvline(0, color="#000000", linewidth=1)
    ax.grid(axis="x", color="#dddddd", linewidth=0.6)
    ax.set_yticks(range(len(group.rows)), list(group.rows))
    ax.set_ylim(len(group.rows) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.locator_params(axis="x", nbins=5)
    ax.xaxis.set_major_formatter(_signed)
    ax.set_title(group.title, fontsize=12, loc="left", fontstyle="italic")


def _signed(value: float, _: int) -> str:
    return f"{value:+.{2 if round(value, 2) == round(value, 4) else 3}f}" if value else "0"


def draw_scarcity(points: Points, path: Path, description: str) -> None:
    """Draw AUC against the number of items kept: DIN, DIN + item factors, the default pipeline."""
    if not points:
        _draw_nothing(path, description)
        return
    with rc_context(LOOKS):
        figure = Figure((WIDTH, 4.2), layout="constrained")
        ax = figure.subplots()
        for name in ("base", "factors", "mars"):
            at = [x for x, cells in enumerate(points.values()) if name in cells]
            means = [over_seeds(list(points.values())[x][name]).mean() for x in at]
            if at:
                ax.plot(at, means, label=METHODS[name].label, linewidth=2, **STYLES[name])
        ax.set_xticks(range(len(points)), ["all" if k is None else str(k) for k in points])
        ax.set_xlabel("items kept of the history")
        ax.set_ylabel("AUC")
        ax.grid(axis="y", color="#dddddd", linewidth=0.6)
        ax.legend(handlelength=3)
        _save(figure, path, description)


def _draw_nothing(path: Path, description: str) -> None:
    with rc_context(LOOKS):
        figure = Figure((WIDTH, 1))
        figure.text(0.5, 0.5, NOT_MEASURED, ha="center", va="center")
        _save(figure, path, description)


def _save(figure: Figure, path: Path, description: str) -> None:
    about = {"Date": None, "Creator": None, "Title": path.stem, "Description": description}
    figure.savefig(path, metadata=about)
