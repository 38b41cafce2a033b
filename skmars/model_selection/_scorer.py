"""Scorers that read the user from X, so that `scoring=` needs no metadata routing."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.utils import check_consistent_length

from skmars.data import Impressions
from skmars.data._checks import require_impressions
from skmars.metrics._ranking import check_binary, gauc_score
from skmars.metrics._top_k import METRICS, mean_at_k
from skmars.model_selection._rows import known_times, moment_codes
from skmars.utils._parameters import Number, check_choice, check_number


class UserScorer:
    """A scorer ``(estimator, X, y) -> float`` over a function of target, scores and impressions.

    Made by `make_user_scorer`; takes `Impressions` and tables alike.
    """

    def __init__(self, score_func: Callable[..., float], name: str, kwargs: dict[str, Any]) -> None:
        self._score_func = score_func
        self._name = name
        self._kwargs = kwargs

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        """Score a fitted classifier on the rows `X` with target `y`."""
        impressions = require_impressions(X, estimator_name=self._name)
        if y is None:
            raise ValueError(f"{self._name} needs the target y, got None.")
        check_consistent_length(y, impressions)
        score = self._score_func(np.asarray(y), _scores(estimator, X), impressions, **self._kwargs)
        if np.ndim(score) or not isinstance(score, Real):
            raise TypeError(f"{self._name} must return one number, got {score!r}.")
        return float(score)

    def __repr__(self) -> str:
        arguments = "".join(f", {name}={value!r}" for name, value in self._kwargs.items())
        return f"make_user_scorer({self._name}{arguments})"


def _scores(estimator: Any, X: Any) -> NDArray[Any]:
    """Scores by which rows are ranked: the decision function, else the probability."""
    if hasattr(estimator, "decision_function"):
        return np.asarray(estimator.decision_function(X))
    if hasattr(estimator, "predict_proba"):
        return np.asarray(estimator.predict_proba(X))[:, 1]
    raise TypeError(
        f"{type(estimator).__name__} has neither decision_function nor predict_proba; a ranking "
        "needs one of them."
    )


def make_user_scorer(score_func: Callable[..., float], **kwargs: Any) -> UserScorer:
    """Make a scorer from a function that needs the users of the rows.

    Parameters
    ----------
    score_func : callable ``(y_true, y_score, impressions, **kwargs) -> float``
        Larger is better. `impressions` are the rows scored: `impressions.user_ids`,
        `impressions.history.length` and so on.
    **kwargs
        Passed to `score_func`.

    Returns
    -------
    callable ``(estimator, X, y) -> float``
        For `scoring=` of `cross_validate`, `GridSearchCV` and their like. `X` may be
        `Impressions` or a pandas, polars or pyarrow table.

    Examples
    --------
    >>> from sklearn.metrics import roc_auc_score
    >>> from skmars.model_selection import make_user_scorer
    >>> def newcomers_auc(y_true, y_score, impressions, n):
    ...     new = impressions.history.length < n
    ...     return roc_auc_score(y_true[new], y_score[new])
    >>> make_user_scorer(newcomers_auc, n=3)
    make_user_scorer(newcomers_auc, n=3)
    """
    if not callable(score_func):
        raise TypeError(
            f"score_func must be a function of y_true, y_score and impressions, got {score_func!r}."
        )
    return UserScorer(score_func, getattr(score_func, "__name__", repr(score_func)), kwargs)


def low_active_rows(X: Impressions, quantile: float) -> NDArray[np.bool_]:
    """Return which rows belong to low-active users.

    A user's activity is the longest history (own items) among the rows; low-active are those
    at or below the quantile over users, so that ties at the threshold are all in.
    """
    activity = np.full(len(X.users), -1, dtype=np.int64)
    np.maximum.at(activity, X.user, X.history.length)
    threshold = np.quantile(activity[activity >= 0], quantile)
    return activity[X.user] <= threshold


def _check_several(groups: NDArray[Any], name: str, group: str) -> None:
    """Raise ValueError if every group is a single row, which can't be ranked."""
    if len(groups) and np.unique(groups, return_counts=True)[1].max() == 1:
        advice = (
            "Rank all rows of a user with groups='user'"
            if group == "moment"
            else "Split with TimeSplit or KFold, whose parts hold several rows a user (those of "
            "LeaveLastOut do not)"
        )
        raise ValueError(
            f"{name} compares rows of one {group}, but each {group} has a single row among the "
            f"{len(groups)} scored. {advice}; or add unclicked rows to what is scored with "
            "sample_negatives; or compare all rows with scoring='roc_auc'."
        )


def _gauc(y_true: NDArray[Any], y_score: NDArray[Any], X: Impressions) -> float:
    _check_several(X.user, "gauc_scorer", "user")
    return gauc_score(y_true, y_score, X.user_ids)


def _ranking(
    y_true: NDArray[Any],
    y_score: NDArray[Any],
    X: Impressions,
    metric: str,
    k: int,
    groups: str,
) -> float:
    code: NDArray[Any] = X.user
    if groups == "moment":
        code = moment_codes(X.user, known_times(X, "groups='moment'", "groups='user'"))
    _check_several(code, "ranking_scorer", groups)
    return mean_at_k(metric, y_true, y_score, code, k)


def _low_active_auc(
    y_true: NDArray[Any], y_score: NDArray[Any], X: Impressions, quantile: float
) -> float:
    y_true = check_binary(y_true)
    rows = low_active_rows(X, quantile)
    if len(np.unique(y_true[rows])) < 2:
        raise ValueError(
            f"The AUC of low-active users is undefined: their {np.count_nonzero(rows)} rows are "
            f"all of one class. Score more rows, or raise quantile (now {quantile})."
        )
    return float(roc_auc_score(y_true[rows], y_score[rows]))


gauc_scorer = make_user_scorer(_gauc)
"""Scorer for `gauc_score` with the users of X, of which some must have several rows."""
gauc_scorer._name = "gauc_scorer"


def low_active_auc_scorer(quantile: float = 0.3) -> UserScorer:
    """Make a scorer for the AUC over the impressions of low-active users.

    Parameters
    ----------
    quantile : float, default=0.3
        Low-active are the users whose longest history among the rows scored lies at or below
        this quantile over users. Ties are in. Borrowed items do not count.

    Returns
    -------
    callable ``(estimator, X, y) -> float``

    Raises
    ------
    ValueError
        If `quantile` lies outside 0 to 1; on scoring, if the rows of low-active users are all
        of one class.

    Examples
    --------
    >>> from skmars.model_selection import low_active_auc_scorer
    >>> low_active_auc_scorer(0.2)
    make_user_scorer(low_active_auc_scorer, quantile=0.2)
    """
    check_number(quantile, Number(Real, 0, 1, closed="both"), "quantile", "low_active_auc_scorer")
    scorer = make_user_scorer(_low_active_auc, quantile=quantile)
    scorer._name = "low_active_auc_scorer"
    return scorer


def ranking_scorer(metric: str = "ndcg", *, k: int = 10, groups: str = "user") -> UserScorer:
    """Make a scorer for the ranking of each user's rows, or of the rows of each page.

    Parameters
    ----------
    metric : {"ndcg", "mrr", "hit_rate", "precision", "recall"}, default="ndcg"
        See `ndcg_at_k`, `mrr_at_k`, `hit_rate_at_k`, `precision_at_k` and `recall_at_k`.
    k : int, default=10
        How many rows from the top of a group count.
    groups : {"user", "moment"}, default="user"
        What is ranked together: all rows of a user, or those that a user was shown at one time: a
        page, or a click and the negatives that `sample_negatives` drew for it.

    Returns
    -------
    callable ``(estimator, X, y) -> float``

    Raises
    ------
    ValueError
        If a parameter is out of range; on scoring, if no group has rows of both classes, or times
        are unknown and ``groups="moment"``.

    See Also
    --------
    gauc_scorer : The AUC within each user.

    Examples
    --------
    >>> from skmars.model_selection import ranking_scorer
    >>> ranking_scorer("hit_rate", k=5, groups="moment")
    make_user_scorer(ranking_scorer, metric='hit_rate', k=5, groups='moment')
    """
    check_choice(metric, METRICS, "metric", "ranking_scorer")
    check_choice(groups, ("user", "moment"), "groups", "ranking_scorer")
    check_number(k, Number(Integral, 1, None, closed="left"), "k", "ranking_scorer")
    scorer = make_user_scorer(_ranking, metric=metric, k=int(k), groups=groups)
    scorer._name = "ranking_scorer"
    return scorer
