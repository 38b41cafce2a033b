"""What all displays share: where they draw, and in which colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

# Of the palette of Okabe and Ito, which people tell apart whatever their colour vision: those
# with a contrast of 3 at least to white and to black (the blue a little lighter than theirs), so
# that they serve on light and dark.
BLUE, VERMILLION, GREEN, PURPLE = "#1E82C4", "#D55E00", "#009E73", "#CC79A7"
COLORS = (BLUE, VERMILLION, GREEN, PURPLE)


def axes_for(display: Any, ax: Any, **figure: Any) -> Any:
    """Return `ax`, or the axes of a new figure, whose lines take `COLORS` one after another.

    Parameters
    ----------
    display : display
        Named in the error.
    ax : matplotlib Axes or None
    **figure
        Of ``plt.subplots``.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    check_matplotlib_support(f"{type(display).__name__}.plot")
    import matplotlib.pyplot as plt

    if ax is not None:
        return ax
    _, axes = plt.subplots(**figure)
    for each in np.ravel(axes):
        each.set_prop_cycle(color=COLORS)
    return axes


def neutral() -> Any:
    """Return the colour of text in the current style: black on light, white on dark."""
    import matplotlib as mpl

    return mpl.rcParams["text.color"]
