"""AUC by how much a user has done so far."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._response import _get_response_values_binary

from skmars.data._checks import require_impressions
from skmars.metrics._ranking import auc_by_group, check_binary, check_scores
from skmars.plotting._figure import axes_for, neutral

Z_95 = 1.96  # half the width of a 95 % interval, in standard errors


class ActivityAUCDisplay:
    """AUC of the rows of each activity decile: for whom does a model work?

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. Draw several
    models on the same axes to compare them.

    Parameters
    ----------
    auc, standard_error : ndarray of shape (n_bins,)
        AUC and its standard error in each bin; NaN where a bin has one class only.
    lowest, highest : ndarray of shape (n_bins,)
        Least and greatest activity in each bin.
    n_rows : ndarray of shape (n_bins,)
        How many rows each has.
    name : str, default=None
        Name in the legend.

    Attributes
    ----------
    errorbar_ : matplotlib ErrorbarContainer
        AUC with 95 % intervals.
    chance_level_ : matplotlib Line2D
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

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

    def __init__(
        self,
        *,
        auc: NDArray[np.float64],
        standard_error: NDArray[np.float64],
        lowest: NDArray[Any],
        highest: NDArray[Any],
        n_rows: NDArray[np.int64],
        name: str | None = None,
    ) -> None:
        self.auc, self.standard_error, self.n_rows = auc, standard_error, n_rows
        self.lowest, self.highest, self.name = lowest, highest, name

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
    ) -> ActivityAUCDisplay:
        """Score a fitted classifier; activity is the length of the own history of each row.

        Parameters
        ----------
        estimator : classifier or pipeline that ends in one
            Fitted.
        X : Impressions or table of impressions
        y : array-like of shape (n_rows,)
            Clicks.
        n_bins : int, default=10
            Into how many bins of equally many rows to divide.
        name : str, default=None
            Name in the legend; None takes that of the class.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **kwargs
            Passed to matplotlib's `errorbar`.

        Returns
        -------
        ActivityAUCDisplay
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
    ) -> ActivityAUCDisplay:
        """Score predictions that are there already.

        Parameters
        ----------
        y_true : array-like of shape (n_rows,)
            Binary target.
        y_score : array-like of shape (n_rows,)
            Scores, larger for rows that are more likely clicked.
        activity : array-like of shape (n_rows,)
            How active the user of each row is: ``X.history.length``, say.
        n_bins, name, ax, **kwargs
            As in `from_estimator`.

        Returns
        -------
        ActivityAUCDisplay

        Raises
        ------
        ValueError
            If lengths differ, `n_bins` is below 1, or the target is not binary.
        """
        positive, score = check_binary(y_true), check_scores(y_score)
        activity = np.asarray(activity)
        check_consistent_length(positive, score, activity)
        if n_bins < 1:
            raise ValueError(f"n_bins must be at least 1, got {n_bins!r}.")
        edges = np.quantile(activity, np.arange(1, n_bins) / n_bins)
        # Activity at an edge belongs to the lower bin, as ties at low_quantile are low-active.
        _, group = np.unique(np.searchsorted(edges, activity), return_inverse=True)
        n_groups = int(group.max()) + 1
        auc, n_rows = auc_by_group(positive, score, group.astype(np.int32), n_groups)
        order = np.argsort(activity, kind="stable")
        ends = np.cumsum(n_rows)
        return cls(
            auc=auc,
            standard_error=_standard_error(
                auc, np.bincount(group, weights=positive.astype(np.float64)), n_rows
            ),
            lowest=activity[order[ends - n_rows]],
            highest=activity[order[ends - 1]],
            n_rows=n_rows,
            name=name,
        ).plot(ax, **kwargs)

    def plot(self, ax: Any = None, *, name: str | None = None, **kwargs: Any) -> ActivityAUCDisplay:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        name : str, default=None
            Name in the legend; None takes that of the display.
        **kwargs
            Passed to matplotlib's `errorbar`.

        Returns
        -------
        ActivityAUCDisplay
            Itself.
        """
        ax = axes_for(self, ax)
        at = np.arange(len(self.auc))
        style = {"marker": "o", "capsize": 3, **kwargs}
        name = self.name if name is None else name
        self.errorbar_ = ax.errorbar(
            at, self.auc, yerr=Z_95 * self.standard_error, label=name, **style
        )
        self.chance_level_ = ax.axhline(0.5, color=neutral(), linestyle=":", linewidth=1)
        labels = [
            f"{low:g}" if low == high else f"{low:g}–{high:g}"
            for low, high in zip(self.lowest, self.highest)
        ]
        ax.set_xticks(at, labels)
        ax.set(xlabel="activity of the user (items in the history)", ylabel="AUC (95 % interval)")
        if name is not None:
            ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
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
