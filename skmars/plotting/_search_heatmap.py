"""A metric over a grid of two parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._optional_dependencies import check_matplotlib_support

from skmars.plotting._figure import VERMILLION, axes_for
from skmars.plotting._search_results import candidates_with, score_label


class SearchHeatmapDisplay:
    """A metric over a grid of two parameters, as a heat map.

    It is recommended to use :meth:`from_cv_results`.

    Parameters
    ----------
    param_x, param_y : str
        The parameters.
    x_values, y_values : sequence
        Their values.
    scores : ndarray of shape (n_y_values, n_x_values)
        The metric; NaN where it was not measured.
    score_name : str, default="test score"
        What it is.

    Attributes
    ----------
    im_ : matplotlib AxesImage
    text_ : ndarray of matplotlib Text, shape (n_y_values, n_x_values)
        The number in each cell, None where there is none.
    best_ : matplotlib Rectangle
        Frame of the best cell.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    SearchCurveDisplay : One parameter.

    Examples
    --------
    >>> import numpy as np
    >>> from skmars.plotting import SearchHeatmapDisplay
    >>> display = SearchHeatmapDisplay(
    ...     "lam", "beta", [0.1, 1.0], [0.0, 0.1], np.array([[0.70, 0.71], [0.75, 0.74]])).plot()
    >>> display.text_[1, 0].get_text()
    '0.750'
    """

    def __init__(
        self,
        param_x: str,
        param_y: str,
        x_values: Sequence[Any],
        y_values: Sequence[Any],
        scores: NDArray[np.float64],
        *,
        score_name: str = "test score",
    ) -> None:
        self.param_x, self.param_y = param_x, param_y
        self.x_values, self.y_values = x_values, y_values
        self.scores, self.score_name = scores, score_name

    @classmethod
    def from_cv_results(
        cls,
        cv_results: Mapping[str, Any],
        param_x: str,
        param_y: str,
        *,
        metric: str = "score",
        score_name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> SearchHeatmapDisplay:
        """Draw what a search found; of further parameters, the best values for each cell.

        Parameters
        ----------
        cv_results : dict
            ``search.cv_results_`` of a fitted search.
        param_x, param_y : str
            Parameters that were searched over.
        metric : str, default="score"
            Which score, where the search had several.
        score_name : str, default=None
            What to call it.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **kwargs
            Passed to `plot`.

        Returns
        -------
        SearchHeatmapDisplay

        Raises
        ------
        TypeError
            If `cv_results` is not the ``cv_results_`` of a search.
        ValueError
            If a parameter was not searched over, or there is no such score.
        """
        check_matplotlib_support(f"{cls.__name__}.from_cv_results")
        _, params, means = candidates_with(cv_results, (param_x, param_y), metric)
        x_values, y_values = (_distinct([p[name] for p in params]) for name in (param_x, param_y))
        scores = np.full((len(y_values), len(x_values)), np.nan)
        for candidate, mean in zip(params, means):
            cell = y_values.index(candidate[param_y]), x_values.index(candidate[param_x])
            scores[cell] = np.fmax(scores[cell], mean)
        name = score_label(metric) if score_name is None else score_name
        display = cls(param_x, param_y, x_values, y_values, scores, score_name=name)
        return display.plot(ax, **kwargs)

    def plot(
        self, ax: Any = None, *, values_format: str = ".3f", colorbar: bool = True, **kwargs: Any
    ) -> SearchHeatmapDisplay:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        values_format : str, default=".3f"
            How to write the numbers.
        colorbar : bool, default=True
            Whether to add a colour bar.
        **kwargs
            Passed to matplotlib's `imshow`.

        Returns
        -------
        SearchHeatmapDisplay
            Itself.
        """
        ax = axes_for(self, ax)
        from matplotlib.patches import Rectangle

        style = {"cmap": "viridis", "origin": "lower", "aspect": "auto", **kwargs}
        self.im_ = ax.imshow(self.scores, **style)
        self.text_ = np.full(self.scores.shape, None, dtype=object)
        for i, j in np.argwhere(np.isfinite(self.scores)):
            # Black or white by what lies behind, whatever the style of the figure.
            red, green, blue, _ = self.im_.cmap(self.im_.norm(self.scores[i, j]))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            self.text_[i, j] = ax.text(
                j,
                i,
                format(self.scores[i, j], values_format),
                ha="center",
                va="center",
                color="white" if dark else "black",
            )
        i, j = np.unravel_index(np.nanargmax(self.scores), self.scores.shape)
        self.best_ = Rectangle(
            (j - 0.47, i - 0.47), 0.94, 0.94, fill=False, edgecolor=VERMILLION, linewidth=3
        )
        ax.add_patch(self.best_)
        ax.set_xticks(range(len(self.x_values)), [_written(v) for v in self.x_values])
        ax.set_yticks(range(len(self.y_values)), [_written(v) for v in self.y_values])
        ax.set(xlabel=self.param_x, ylabel=self.param_y)
        if colorbar:
            ax.figure.colorbar(self.im_, ax=ax, label=self.score_name)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _distinct(values: list[Any]) -> list[Any]:
    """Return the distinct values: numbers in their order, others as they came."""
    distinct = [v for i, v in enumerate(values) if v not in values[:i]]
    try:
        return sorted(distinct)
    except TypeError:
        return distinct


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)
