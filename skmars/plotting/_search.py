"""What a search found: a metric against one parameter, or over a grid of two."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import ValidationCurveDisplay

from skmars.plotting._figure import (
    VERMILLION,
    Display,
    label_axes,
    label_ticks,
    neutral,
    next_marker,
)


class SearchCurveDisplay(Display, ValidationCurveDisplay):
    """A metric against one parameter: AUC against theta, say.

    scikit-learn's :class:`~sklearn.model_selection.ValidationCurveDisplay`, which also reads
    what a search has found already, and marks the best value. Use :meth:`from_cv_results` after
    a search, `from_estimator` (inherited) to fit an estimator for each value, and the
    constructor for arrays of your own. Draw several searches on the same axes to compare them.

    Parameters
    ----------
    param_name : str
        The parameter.
    param_range : ndarray of shape (n_values,)
        Its values.
    train_scores : ndarray of shape (n_values, n_folds) or None
        Scores on the training rows.
    test_scores : ndarray of shape (n_values, n_folds)
        Scores on the rows left out.
    score_name : str, default=None
        What the scores are; the label of their axis.

    Attributes
    ----------
    lines_, errorbar_ : list of matplotlib Line2D, list of ErrorbarContainer
        Mean scores; one of the two is None.
    best_ : matplotlib PathCollection
        The mark of the value with the best test score.
    ax_, figure_ : matplotlib Axes, Figure

    See Also
    --------
    SearchHeatmapDisplay : Two parameters at once.

    Examples
    --------
    >>> import numpy as np
    >>> from skmars.plotting import SearchCurveDisplay
    >>> scores = np.array([[0.70, 0.72], [0.75, 0.77], [0.73, 0.71]])
    >>> display = SearchCurveDisplay(
    ...     param_name="theta", param_range=np.array([0.0, 0.1, 0.2]),
    ...     train_scores=None, test_scores=scores, score_name="AUC").plot()
    >>> display.lines_[0].get_ydata()
    array([0.71, 0.76, 0.72])
    >>> display.best_.get_offsets().data
    array([[0.1 , 0.76]])
    """

    @classmethod
    def from_cv_results(
        cls,
        cv_results: Mapping[str, Any],
        param_name: str,
        *,
        metric: str = "score",
        score_name: str | None = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw what a search found, and return the display.

        Where the search had further parameters, they are held at the values of the best
        candidate.

        Parameters
        ----------
        cv_results : dict
            ``search.cv_results_`` of a fitted search.
        param_name : str
            A numeric parameter that was searched over: ``"augment__theta"``, say.
        metric : str, default="score"
            Which score, where the search had several.
        score_name : str, default=None
            What to call it.
        name, ax, **kwargs
            As in `plot`.

        Raises
        ------
        TypeError, ValueError
            If `cv_results` is not that of a search, or the parameter was not searched over, has
            fewer than two values or others than numbers, or there is no such score.
        """
        chosen, params, scores = _candidates_with(cv_results, (param_name,), metric)
        best = params[int(np.nanargmax(scores))]
        same = [{**p, param_name: None} == {**best, param_name: None} for p in params]
        values = np.array([p[param_name] for p, kept in zip(params, same) if kept])
        if values.dtype.kind not in "iuf" or len(np.unique(values)) < 2:
            raise ValueError(
                f"{param_name!r} must have at least two values, all numbers, to be an axis; beside "
                f"the best candidate there are {values.tolist()}."
            )
        values, first = np.unique(values, return_index=True)
        rows = chosen[same][first]

        def folds(part: str) -> Any:
            name = re.compile(rf"split\d+_{part}_{re.escape(metric)}")
            columns = [scores[rows] for key, scores in cv_results.items() if name.fullmatch(key)]
            return np.stack(columns, axis=1) if columns else None

        return cls(
            param_name=param_name,
            param_range=values,
            train_scores=folds("train"),
            test_scores=folds("test"),
            score_name=_score_label(metric) if score_name is None else score_name,
        ).plot(ax, name=name, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        score_type: str = "test",
        negate_score: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Draw it, and return the display itself.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        name : str, default=None
            What was searched; stands before the entries of the legend.
        score_type : {"test", "train", "both"}, default="test"
            Which scores to draw.
        negate_score : bool, default=False
            Whether to turn the sign of the scores, for those called ``neg_...``.
        **kwargs
            Passed to `ValidationCurveDisplay.plot`: `score_name`, `std_display_style`,
            `line_kw`, `fill_between_kw`, `errorbar_kw`.
        """
        ax = self._axes(ax)
        earlier = ax.get_xlabel(), ax.get_ylabel()
        kwargs["line_kw"] = {"marker": next_marker(ax), **(kwargs.get("line_kw") or {})}
        given = kwargs["fill_between_kw"] = {"alpha": 0.25, **(kwargs.get("fill_between_kw") or {})}
        super().plot(ax, score_type=score_type, negate_score=negate_score, **kwargs)
        lines, fills = self.lines_ or [], self.fill_between_ or []
        if not {"color", "facecolor", "fc", "facecolors"} & set(given):
            for line, area in zip(lines, fills):
                area.set(facecolor=line.get_color())
        mean = self.test_scores.mean(axis=1)
        best = int(np.nanargmax(mean))
        x, y = self.param_range[best], -mean[best] if negate_score else mean[best]
        ring = {
            "s": 140,
            "facecolors": "none",
            "edgecolors": neutral(),
            "linewidths": 2,
            "zorder": 3,
        }
        self.best_ = ax.scatter(x, y, label=f"best: {x:g}", **ring)
        if name is not None:
            for drawn in (*lines, *(self.errorbar_ or []), self.best_):
                drawn.set_label(f"{name}: {drawn.get_label().lower()}")
        xlabel, ylabel = ax.get_xlabel(), ax.get_ylabel()
        if self.test_scores.shape[1] > 1:
            ylabel += ", mean ± std of folds"
        ax.set(xlabel=earlier[0], ylabel=earlier[1])
        label_axes(ax, xlabel, ylabel)
        ax.legend()
        return self


@dataclass(eq=False, repr=False)
class SearchHeatmapDisplay(Display):
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
    ax_, figure_ : matplotlib Axes, Figure

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

    param_x: str
    param_y: str
    x_values: Sequence[Any]
    y_values: Sequence[Any]
    scores: NDArray[np.float64]
    _: KW_ONLY
    score_name: str = "test score"

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
    ) -> Self:
        """Draw what a search found, and return the display.

        Of further parameters, each cell has the best values.

        Parameters
        ----------
        param_x, param_y : str
            Parameters that were searched over.
        cv_results, metric, score_name, ax, **kwargs
            As in `SearchCurveDisplay.from_cv_results`.

        Raises
        ------
        TypeError, ValueError
            As `SearchCurveDisplay.from_cv_results`.
        """
        _, params, means = _candidates_with(cv_results, (param_x, param_y), metric)
        x_values, y_values = (_distinct([p[name] for p in params]) for name in (param_x, param_y))
        scores = np.full((len(y_values), len(x_values)), np.nan)
        for candidate, mean in zip(params, means):
            cell = y_values.index(candidate[param_y]), x_values.index(candidate[param_x])
            scores[cell] = np.fmax(scores[cell], mean)
        name = _score_label(metric) if score_name is None else score_name
        display = cls(param_x, param_y, x_values, y_values, scores, score_name=name)
        return display.plot(ax, **kwargs)

    def plot(
        self, ax: Any = None, *, values_format: str = ".3f", colorbar: bool = True, **kwargs: Any
    ) -> Self:
        """Draw it, and return the display itself.

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
        """
        ax = self._axes(ax)
        from matplotlib.patches import Rectangle

        style = {"cmap": "viridis", "origin": "lower", "aspect": "auto", **kwargs}
        self.im_ = ax.imshow(self.scores, **style)
        self.text_ = np.full(self.scores.shape, None, dtype=object)
        for i, j in np.argwhere(np.isfinite(self.scores)):
            # Black or white by what lies behind, whatever the style of the figure.
            red, green, blue, _ = self.im_.cmap(self.im_.norm(self.scores[i, j]))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            number, color = format(self.scores[i, j], values_format), "white" if dark else "black"
            self.text_[i, j] = ax.text(j, i, number, ha="center", va="center", color=color)
        i, j = np.unravel_index(np.nanargmax(self.scores), self.scores.shape)
        frame = Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, fill=False, ec=VERMILLION, lw=3)
        self.best_ = ax.add_patch(frame)
        label_ticks(ax, [_written(v) for v in self.x_values])
        label_ticks(ax, [_written(v) for v in self.y_values], axis="y")
        label_axes(ax, self.param_x, self.param_y)
        if colorbar:
            ax.figure.colorbar(self.im_, ax=ax, label=self.score_name)
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


def _candidates_with(
    cv_results: Mapping[str, Any], names: tuple[str, ...], metric: str
) -> tuple[NDArray[np.intp], list[dict[str, Any]], NDArray[np.float64]]:
    """Return the candidates that set all of `names`, their parameters and mean test scores."""
    if not isinstance(cv_results, Mapping) or "params" not in cv_results:
        raise TypeError(
            "cv_results must be the cv_results_ of a fitted search (GridSearchCV, say), got "
            f"{type(cv_results).__name__}. Pass search.cv_results_."
        )
    if f"mean_test_{metric}" not in cv_results:
        prefix = "mean_test_"
        there = [key.removeprefix(prefix) for key in cv_results if key.startswith(prefix)]
        raise ValueError(f"metric={metric!r} is no score of the search; it has {there}.")
    params = cv_results["params"]
    for name in names:
        if not any(name in candidate for candidate in params):
            searched = sorted({key for candidate in params for key in candidate})
            raise ValueError(f"{name!r} was not searched over; the search has {searched}.")
    chosen = np.flatnonzero([all(name in candidate for name in names) for candidate in params])
    if len(chosen) == 0:
        raise ValueError(f"No candidate of the search sets all of {list(names)}.")
    scores = np.asarray(cv_results[f"mean_test_{metric}"], dtype=np.float64)[chosen]
    if np.isnan(scores).all():
        raise ValueError(f"All candidates failed: mean_test_{metric} is NaN throughout.")
    return chosen, [params[i] for i in chosen], scores


def _score_label(metric: str) -> str:
    return "test score" if metric == "score" else f"{metric} (test)"
