"""What all displays share: where they draw, and in which colours."""

from __future__ import annotations

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


class Display:
    """Draws on given axes, or on those of a new figure, and remembers both."""

    ax_: Any
    figure_: Figure

    def _axes(self, ax: Any, **figure: Any) -> Any:
        """Return `ax`, or new axes whose lines take `COLORS`; `figure` is for ``plt.subplots``."""
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(**figure)
            for each in np.ravel(ax):
                each.set_prop_cycle(color=COLORS)
        self.ax_, self.figure_ = ax, np.ravel(ax)[0].figure
        return ax


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
