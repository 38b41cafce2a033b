"""Group AUC (Eq. 19) and the relative improvement of an AUC (Eq. 20)."""

from __future__ import annotations

from numbers import Real
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Bunch, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import type_of_target

from skmars.utils._ids import as_ids, factorize
from skmars.utils._parameters import Number, check_number


def check_binary(y_true: ArrayLike) -> NDArray[np.bool_]:
    """Return a binary target as booleans: the larger of its two values is the positive class."""
    y = column_or_1d(y_true)
    if len(y) == 0:
        raise ValueError("y_true is empty; a score needs at least one row of each class.")
    kind = type_of_target(y, input_name="y_true")
    if kind != "binary":
        raise ValueError(
            f"y_true must be binary (clicked or not), got a target of type {kind!r}. "
            "Make it binary, for example y_true = rating >= 4."
        )
    classes = np.unique(y)
    if len(classes) == 2:
        return np.asarray(y == classes[1])
    negative = classes.dtype.kind in "biuf" and classes[0] <= 0
    return np.full(len(y), not negative)


def check_scores(y_score: ArrayLike, name: str = "y_score") -> NDArray[np.float64]:
    """Return scores as finite floats, one a row; TypeError or ValueError otherwise."""
    scores = np.asarray(y_score)
    if scores.ndim != 1:
        hint = " Pass predict_proba(X)[:, 1]." if scores.ndim == 2 else ""
        raise ValueError(f"{name} must have one entry a row, got shape {scores.shape}.{hint}")
    if scores.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers, got dtype {scores.dtype}.")
    scores = scores.astype(np.float64)
    if not np.isfinite(scores).all():
        n_bad = np.count_nonzero(~np.isfinite(scores))
        raise ValueError(f"{name} holds {n_bad} values that are NaN or infinite.")
    return scores


def auc_by_group(
    positive: NDArray[np.bool_], score: NDArray[np.float64], group: NDArray[np.int32], n_groups: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the AUC of each group, NaN where it has one class only, and the group sizes.

    The AUC is the rank sum of the positives (Mann-Whitney), tied scores share their mean rank.
    All groups are ranked by one sort.
    """
    order = np.lexsort((score, group))
    group, score, positive = group[order], score[order], positive[order]
    size = np.bincount(group, minlength=n_groups)
    n_positive = np.bincount(group, weights=positive, minlength=n_groups)

    # A run is a stretch of equal scores within a group; its rows share the mean of their ranks.
    new_run = np.ones(len(score), dtype=bool)
    new_run[1:] = (score[1:] != score[:-1]) | (group[1:] != group[:-1])
    run_start = np.flatnonzero(new_run)
    run_length = np.diff(run_start, append=len(score))
    mean_position = np.repeat(run_start + 0.5 * (run_length - 1), run_length)
    rank = mean_position - (np.cumsum(size) - size)[group]  # from 0 within the group

    rank_sum = np.bincount(group, weights=rank * positive, minlength=n_groups)
    pairs = n_positive * (size - n_positive)
    wins = rank_sum - 0.5 * n_positive * (n_positive - 1)
    auc = np.divide(wins, pairs, out=np.full(n_groups, np.nan), where=pairs > 0)
    return auc, size


def check_users(
    users: ArrayLike, n_rows: int, name: str = "users"
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Return the distinct ids and the code of each row; ValueError if the length differs."""
    ids = as_ids(users, name)
    if len(ids) != n_rows:
        raise ValueError(
            f"{name} must have one entry a row: got {len(ids)} {name} for {n_rows} rows. "
            "For Impressions pass X.user_ids."
        )
    return factorize(ids)


@overload
def gauc_score(
    y_true: ArrayLike,
    y_score: ArrayLike,
    users: ArrayLike,
    *,
    return_details: Literal[False] = ...,
) -> float: ...
@overload
def gauc_score(
    y_true: ArrayLike, y_score: ArrayLike, users: ArrayLike, *, return_details: Literal[True]
) -> tuple[float, Bunch]: ...
def gauc_score(
    y_true: ArrayLike, y_score: ArrayLike, users: ArrayLike, *, return_details: bool = False
) -> float | tuple[float, Bunch]:
    """Group AUC: the AUC within each user, averaged with the number of impressions as weight.

    The AUC over all rows also rewards a model that merely predicts which users click a lot.
    Group AUC measures how well each user's own impressions are ranked (Eq. 19):

        GAUC = sum_u n_u * AUC_u / sum_u n_u

    with n_u the impressions of user u. The AUC of a user whose rows are all of one class
    does not exist; such users are left out of both sums.

    Parameters
    ----------
    y_true : array-like of shape (n_rows,)
        Binary target: 0 and 1, -1 and 1, or booleans.
    y_score : array-like of shape (n_rows,)
        Scores, larger for rows that are more likely clicked. Ties count one half.
    users : array-like of int or str, shape (n_rows,)
        User id of each row (`X.user_ids`).
    return_details : bool, default=False
        Whether to return what the mean is made of as a second value.

    Returns
    -------
    gauc : float
        Between 0 and 1; 0.5 is chance.
    details : Bunch
        Only with ``return_details=True``:

        users : ndarray of shape (n_users,)
            Distinct user ids.
        auc : ndarray of shape (n_users,), float64
            AUC of each user, NaN for those left out.
        n_impressions : ndarray of shape (n_users,), int64
            Rows of each user.
        n_users_left_out, n_impressions_left_out : int
            How many users had one class only, and their rows.

    Raises
    ------
    ValueError
        If no user has rows of both classes, the target is not binary, scores are not
        finite, or lengths differ.

    References
    ----------
    .. [1] "MARS: Modality-Aligned Retrieval for Sequence Augmented CTR Prediction",
       arXiv 2509.01184, Eq. 19.

    Examples
    --------
    >>> from skmars.metrics import gauc_score
    >>> users = ["ann", "ann", "ann", "bob", "bob", "cid"]
    >>> y_true = [1, 0, 0, 1, 0, 1]
    >>> y_score = [0.9, 0.2, 0.1, 0.3, 0.8, 0.5]
    >>> gauc_score(y_true, y_score, users)
    0.6
    >>> _, details = gauc_score(y_true, y_score, users, return_details=True)
    >>> details.n_users_left_out
    1
    """
    positive = check_binary(y_true)
    score = check_scores(y_score)
    check_consistent_length(positive, score)
    ids, code = check_users(users, len(positive))

    auc, size = auc_by_group(positive, score, code, len(ids))
    defined = ~np.isnan(auc)
    if not defined.any():
        raise ValueError(
            f"GAUC is undefined: none of the {len(ids)} users has both clicked and unclicked "
            f"rows ({len(positive)} rows in all). With one impression a user, as after "
            "leave-last-out, use sklearn.metrics.roc_auc_score over all rows instead."
        )
    gauc = float(np.average(auc[defined], weights=size[defined]))
    if not return_details:
        return gauc
    return gauc, Bunch(
        users=ids,
        auc=auc,
        n_impressions=size,
        n_users_left_out=int(np.count_nonzero(~defined)),
        n_impressions_left_out=int(size[~defined].sum()),
    )


def relative_improvement(auc: float, base_auc: float) -> float:
    """Relative improvement of an AUC over that of a base model, in percent (equation 20).

    A random model has an AUC of 0.5, so that only what exceeds it counts:

        RelaImpr = ((AUC - 0.5) / (AUC_base - 0.5) - 1) * 100

    Parameters
    ----------
    auc : float
        AUC (or GAUC) of the model.
    base_auc : float
        AUC (or GAUC) of the base model, above 0.5.

    Returns
    -------
    float
        Percent; negative where the model is worse than the base.

    Raises
    ------
    ValueError
        If an AUC lies outside 0 to 1, or that of the base does not exceed 0.5.

    References
    ----------
    .. [1] "MARS: Modality-Aligned Retrieval for Sequence Augmented CTR Prediction",
       arXiv 2509.01184, Eq. 20.

    Examples
    --------
    >>> from skmars.metrics import relative_improvement
    >>> round(relative_improvement(0.76, 0.75), 2)
    4.0
    """
    for name, value in (("auc", auc), ("base_auc", base_auc)):
        check_number(value, Number(Real, 0, 1, closed="both"), name, "relative_improvement")
    if base_auc <= 0.5:
        raise ValueError(
            f"base_auc must exceed 0.5, got {base_auc!r}: relative to a base that is no better "
            "than chance an improvement has no meaning."
        )
    return float(((auc - 0.5) / (base_auc - 0.5) - 1.0) * 100.0)
