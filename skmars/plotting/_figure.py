"""What all displays share: where they draw, in which colours, and how they share axes."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of the palette of Okabe and Ito, which people tell apart whatever their colour vision: those
# with a contrast of 3 at least to white and to black (the blue a little lighter than theirs), so
# that they serve on light and dark.
BLUE, VERMILLION, GREEN, PURPLE = "#1E82C4", "#D55E00", "#009E73", "#CC79A7"
COLORS = (BLUE, VERMILLION, GREEN, PURPLE)
CHARACTER = 0.55  # mean width of a character, in sizes of the font
MARKERS = "os^D"  # for who can't tell the colours apart


class Display:
    """Draws on given axes, or on those of a new figure, and remembers both.

    Several displays may share axes. Then each has a colour, a marker and an entry in the legend of
    its own, and titles and labels that are there already stay.
    """

    ax_: Any
    figure_: Figure

    def _axes(self, ax: Any, **figure: Any) -> Any:
        """Return `ax`, or new axes whose lines take `COLORS`; `figure` is for ``plt.subplots``."""
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(layout="constrained", **figure)
            for each in np.ravel(ax):
                each.set_prop_cycle(color=COLORS)
        self.ax_, self.figure_ = ax, np.ravel(ax)[0].figure
        return ax


def label_axes(ax: Any, xlabel: str = "", ylabel: str = "", title: str = "") -> None:
    """Set labels and title where there are none; those too long for the axes get several lines."""
    size = ax.get_window_extent()
    points = {"x": size.width, "y": size.height}
    points = {axis: pixels * 72 / ax.figure.dpi for axis, pixels in points.items()}
    texts = (ax.xaxis.label, xlabel, "x"), (ax.yaxis.label, ylabel, "y"), (ax.title, title, "x")
    for text, words, along in texts:
        if words and not text.get_text():
            n_characters = max(10, int(points[along] / (CHARACTER * text.get_fontsize())))
            text.set(text=fill(words, n_characters), parse_math=False)


def label_ticks(ax: Any, labels: Sequence[str], axis: str = "x") -> None:
    """Write labels at 0, 1, ... of an axis, aslant where they would run into each other."""
    ticks = range(len(labels))
    if axis == "y":
        ax.set_yticks(ticks, labels)
        return
    ax.set_xticks(ticks, labels)
    size = ax.get_xticklabels()[0].get_fontsize() if len(labels) else 0
    room = ax.get_window_extent().width * 72 / ax.figure.dpi / max(1, len(labels))
    if max(map(len, labels), default=0) * CHARACTER * size > 0.9 * room:
        ax.tick_params(axis="x", labelrotation=45)
        for text in ax.get_xticklabels():
            text.set(ha="right", rotation_mode="anchor")


def next_marker(ax: Any) -> str:
    """Return the marker of the next line: another one than those of the lines that are there."""
    return MARKERS[sum(line.get_marker() in tuple(MARKERS) for line in ax.lines) % len(MARKERS)]


def chance_line(ax: Any, level: float, name: str | None, color: Any) -> Any:
    """Return the dotted line of what chance reaches: that which is there, if it is the same.

    A second, different one has the colour and the name of the curve that it belongs to.
    """
    label = "chance level"
    there = [line for line in ax.lines if line.get_label().startswith(label)]
    for line in there:
        if np.isclose(line.get_ydata()[0], level):
            return line
    if there:
        label = label if name is None else f"{label} ({name})"
    else:
        color = neutral()
    return ax.axhline(level, color=color, linestyle=":", linewidth=1, label=label)


def require_step(estimator: Any, cls: type, display: type) -> None:
    """Raise TypeError if `estimator` is no `cls`, NotFittedError if it is not fitted."""
    if not isinstance(estimator, cls):
        raise TypeError(
            f"{display.__name__}.from_estimator takes a {cls.__name__}, got "
            f"{type(estimator).__name__}. Of a pipeline pass that step, for example "
            "pipeline['name'], and X as the steps before it return it."
        )
    check_is_fitted(estimator)


def neutral() -> Any:
    """Return the colour of text in the current style: black on light, white on dark."""
    import matplotlib as mpl

    return mpl.rcParams["text.color"]
