"""A metric against one parameter of a search, such as theta."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.model_selection import ValidationCurveDisplay
from sklearn.utils._optional_dependencies import check_matplotlib_support

from skmars.plotting._figure import axes_for, neutral
from skmars.plotting._search_results import candidates_with, score_label


class SearchCurveDisplay(ValidationCurveDisplay):
    """A metric against one parameter: AUC against theta, say.

    scikit-learn's :class:`~sklearn.model_selection.ValidationCurveDisplay`, which also reads
    what a search has found already, and marks the best value. Use :meth:`from_cv_results` after
    a search, `from_estimator` (inherited) to fit an estimator for each value, and the
    constructor for arrays of your own.

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
    lines_ : list of matplotlib Line2D, or None
        Mean scores, unless they are drawn as error bars.
    errorbar_ : list of matplotlib ErrorbarContainer, or None
    best_ : matplotlib PathCollection
        The mark of the value with the best test score.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

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
        ax: Any = None,
        **kwargs: Any,
    ) -> SearchCurveDisplay:
        """Draw what a search found.

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
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **kwargs
            Passed to `plot`.

        Returns
        -------
        SearchCurveDisplay

        Raises
        ------
        TypeError
            If `cv_results` is not the ``cv_results_`` of a search.
        ValueError
            If the parameter was not searched over, has fewer than two values or others than
            numbers, or there is no such score.
        """
        check_matplotlib_support(f"{cls.__name__}.from_cv_results")
        chosen, params, scores = candidates_with(cv_results, (param_name,), metric)
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
            keys = [
                k for k in cv_results if k.startswith("split") and k.endswith(f"_{part}_{metric}")
            ]
            return np.stack([cv_results[k][rows] for k in keys], axis=1) if keys else None

        return cls(
            param_name=param_name,
            param_range=values,
            train_scores=folds("train"),
            test_scores=folds("test"),
            score_name=score_label(metric) if score_name is None else score_name,
        ).plot(ax, **kwargs)

    def plot(
        self, ax: Any = None, *, score_type: str = "test", negate_score: bool = False, **kwargs: Any
    ) -> SearchCurveDisplay:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        score_type : {"test", "train", "both"}, default="test"
            Which scores to draw.
        negate_score : bool, default=False
            Whether to turn the sign of the scores, for those called ``neg_...``.
        **kwargs
            Passed to `ValidationCurveDisplay.plot`: `score_name`, `std_display_style`,
            `line_kw`, `fill_between_kw`, `errorbar_kw`.

        Returns
        -------
        SearchCurveDisplay
            Itself.
        """
        kwargs["line_kw"] = {"marker": "o", **(kwargs.get("line_kw") or {})}
        kwargs["fill_between_kw"] = {"alpha": 0.25, **(kwargs.get("fill_between_kw") or {})}
        super().plot(axes_for(self, ax), score_type=score_type, negate_score=negate_score, **kwargs)
        mean = self.test_scores.mean(axis=1)
        best = int(np.nanargmax(mean))
        self.best_ = self.ax_.scatter(
            self.param_range[best],
            -mean[best] if negate_score else mean[best],
            s=140,
            facecolors="none",
            edgecolors=neutral(),
            linewidths=2,
            zorder=3,
            label=f"best: {self.param_range[best]:g}",
        )
        if self.test_scores.shape[1] > 1:
            self.ax_.set_ylabel(f"{self.ax_.get_ylabel()}, mean ± std of folds")
        self.ax_.legend()
        return self
