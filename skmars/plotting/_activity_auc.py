"""AUC by how much a user has done so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._response import _get_response_values_binary

from skmars.data._checks import require_impressions
from skmars.metrics._ranking import auc_by_group, check_binary, check_scores
from skmars.plotting._figure import Display, chance_line, label_axes, label_ticks, next_marker

Z_95 = 1.96  # half the width of a 95 % interval, in standard errors


@dataclass(eq=False, repr=False, kw_only=True)
class ActivityAUCDisplay(Display):
    """AUC of the rows of each activity decile: for whom does a model work?

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. Draw several
    models on the same axes to compare them.

    Parameters
    ----------
    auc, standard_error : ndarray of shape (n_bins,)
        AUC and its standard error in each bin; NaN where a bin has one class only.
    lowest, highest, n_rows : ndarray of shape (n_bins,)
        Least and greatest activity in each bin, and how many rows it has.
    name : str, default=None
        Name in the legend.

    Attributes
    ----------
    errorbar_, chance_level_ : matplotlib ErrorbarContainer, Line2D
        AUC with 95 % intervals, and one half.
    ax_, figure_ : matplotlib Axes, Figure

    See Also
    --------
    skmars.model_selection.low_active_auc_scorer : One number, for use in a search.

    Notes
    -----
    Equal activities are never divided, so that there may be fewer bins than were asked for.
    Intervals are those of Hanley and McNeil [1]_, for rows that are independent.

    References
    ----------
    .. [1] J. Hanley and B. McNeil, "The meaning and use of the area under a receiver operating
       characteristic (ROC) curve", Radiology 143, 1982.

    Examples
    --------
    >>> import numpy as np
    >>> from skmars.plotting import ActivityAUCDisplay
    >>> rng = np.random.RandomState(0)
    >>> y, activity = rng.randint(2, size=500), rng.poisson(5, size=500)
    >>> display = ActivityAUCDisplay.from_predictions(
    ...     y, y * activity + 3 * rng.normal(size=500), activity, n_bins=4)
    >>> display.lowest, display.highest
    (array([0, 4, 6, 7]), array([ 3,  5,  6, 12]))
    >>> bool(display.auc[0] < display.auc[-1])
    True
    """

    auc: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    lowest: NDArray[Any]
    highest: NDArray[Any]
    n_rows: NDArray[np.int64]
    name: str | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        n_bins: int = 10,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Score a fitted classifier and return the display, drawn.

        Activity is the length of the own history of each row.

        Parameters
        ----------
        estimator : fitted classifier, or pipeline that ends in one
        X, y : Impressions or table of impressions, array-like of shape (n_rows,)
            Rows and their clicks.
        n_bins, name, ax, **kwargs
            As in `from_predictions`; `name` is that of the class by default.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        length = require_impressions(X, estimator_name=cls.__name__).history.length
        score, _ = _get_response_values_binary(estimator, X, response_method="auto")
        name = type(estimator).__name__ if name is None else name
        return cls.from_predictions(y, score, length, n_bins=n_bins, name=name, ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_score: ArrayLike,
        activity: ArrayLike,
        *,
        n_bins: int = 10,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Score predictions that are there already, and return the display, drawn.

        Parameters
        ----------
        y_true, y_score : array-like of shape (n_rows,)
            Binary target, and scores that are larger for rows that are more likely clicked.
        activity : array-like of shape (n_rows,)
            How active the user of each row is: ``X.history.length``, say.
        n_bins : int, default=10
            Into how many bins of equally many rows to divide.
        name, ax, **kwargs
            As in `plot`.

        Raises
        ------
        ValueError
            If lengths differ, `n_bins` is below 1, or the target is not binary.
        """
        positive, score = check_binary(y_true), check_scores(y_score)
        activity = check_array(activity, ensure_2d=False, input_name="activity")
        check_consistent_length(positive, score, activity)
        if n_bins < 1:
            raise ValueError(f"n_bins must be at least 1, got {n_bins!r}.")
        edges = np.quantile(np.asarray(activity), np.arange(1, n_bins) / n_bins)
        # Activity at an edge belongs to the lower bin, as ties at low_quantile are low-active.
        _, group = np.unique(np.searchsorted(edges, activity), return_inverse=True)
        n_groups = int(group.max()) + 1
        auc, n_rows = auc_by_group(positive, score, group.astype(np.int32), n_groups)
        ordered, ends = np.sort(activity), np.cumsum(n_rows)
        return cls(
            auc=auc,
            standard_error=_standard_error(auc, np.bincount(group, weights=positive), n_rows),
            lowest=ordered[ends - n_rows],
            highest=ordered[ends - 1],
            n_rows=n_rows,
            name=name,
        ).plot(ax, **kwargs)

    def plot(self, ax: Any = None, *, name: str | None = None, **kwargs: Any) -> Self:
        """Draw it, and return the display itself.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        name : str, default=None
            Name in the legend; None takes that of the display.
        **kwargs
            Passed to matplotlib's `errorbar`.

        Raises
        ------
        ValueError
            If the axes already show other bins.
        """
        ax = self._axes(ax)
        from matplotlib.container import ErrorbarContainer
        from matplotlib.ticker import FixedLocator

        ends = zip(self.lowest, self.highest)
        bins = [f"{a:g}" if a == b else f"{a:g}–{b:g}" for a, b in ends]
        # Beside the intervals of other models, not upon them.
        n_others = sum(isinstance(drawn, ErrorbarContainer) for drawn in ax.containers)
        there = [text.get_text() for text in ax.get_xticklabels()]
        written = isinstance(ax.xaxis.get_major_locator(), FixedLocator)
        if n_others and written and there != bins:
            raise ValueError(
                f"the axes show other bins of activity ({', '.join(there)}) than those of this "
                f"display ({', '.join(bins)}). Draw models for the same rows and n_bins, or on "
                "axes of their own."
            )
        at, error = np.arange(len(self.auc)) + 0.12 * n_others, Z_95 * self.standard_error
        name = self.name if name is None else name
        style = {"marker": next_marker(ax), "capsize": 3, "label": name, **kwargs}
        self.errorbar_ = ax.errorbar(at, self.auc, yerr=error, **style)
        self.chance_level_ = chance_line(ax, 0.5, name, self.errorbar_.lines[0].get_color())
        label_ticks(ax, bins)
        label_axes(ax, "activity of the user (items in the history)", "AUC (95 % interval)")
        ax.legend()
        return self


def _standard_error(
    auc: NDArray[np.float64], n_positive: NDArray[Any], n_rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the standard error of an AUC by Hanley and McNeil, NaN where there is no AUC."""
    n_negative = n_rows - n_positive
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (n_positive - 1) * (q1 - auc**2) + (n_negative - 1) * (q2 - auc**2)
    pairs = np.where(np.isnan(auc), np.nan, n_positive * n_negative)
    return np.asarray(np.sqrt(np.maximum(variance, 0.0) / pairs))
