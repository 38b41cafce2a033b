"""What all displays share: where they draw, and in which colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

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


def require_step(estimator: Any, cls: type, display: type) -> None:
    """Check that `estimator` is a fitted `cls`.

    Raises
    ------
    TypeError
        If it is something else, such as the pipeline with that step.
    NotFittedError
        If it is not fitted.
    """
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
