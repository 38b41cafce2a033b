"""Paired tests of two models on the same rows: DeLong for AUC, user bootstrap for GAUC."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata
from sklearn.utils import check_consistent_length, check_random_state

from skmars.metrics._ranking import auc_by_group, check_binary, check_scores, check_users
from skmars.utils._parameters import Number, check_number

OPEN_SHARE = Number(Real, 0, 1, closed="neither")
BLOCK = 4_000_000  # bootstrap counts that are held at once


@dataclass(frozen=True)
class PairedTest:
    """Result of a paired test of a model against a base model.

    Attributes
    ----------
    statistic : float
        Difference in units of its standard error.
    pvalue : float
        Two-sided probability of such a difference where there is none.
    difference : float
        Score of the model minus that of the base.
    confidence_interval : tuple of float
        Lower and upper end for the difference.
    score, base_score : float
        Scores of the two models.
    """

    statistic: float
    pvalue: float
    difference: float
    confidence_interval: tuple[float, float]
    score: float
    base_score: float


def _check(
    y_true: ArrayLike, y_score: ArrayLike, base_score: ArrayLike, confidence_level: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    check_number(confidence_level, OPEN_SHARE, "confidence_level", "a paired test")
    positive = check_binary(y_true)
    scores = [check_scores(y_score), check_scores(base_score, "base_score")]
    check_consistent_length(positive, *scores)
    return positive, np.stack(scores)


def delong_test(
    y_true: ArrayLike,
    y_score: ArrayLike,
    base_score: ArrayLike,
    *,
    users: ArrayLike | None = None,
    confidence_level: float = 0.95,
) -> PairedTest:
    """DeLong's test of the difference between two AUCs on the same rows.

    The AUC is a U statistic: the mean over pairs of a positive and a negative row. Its
    variance follows from how much each row contributes, and the covariance of the two
    models from how their contributions go together. Contributions come from midranks [2]_,
    in O(n log n).

    Parameters
    ----------
    y_true : array-like of shape (n_rows,)
        Binary target.
    y_score, base_score : array-like of shape (n_rows,)
        Scores of the model and of the base model.
    users : array-like of int or str, shape (n_rows,), default=None
        User id of each row. Rows of one user then need not be independent [3]_.
    confidence_level : float, default=0.95
        Level of the confidence interval.

    Returns
    -------
    PairedTest
        `statistic` (z), `pvalue` (two-sided), `difference` (AUC minus base AUC),
        `confidence_interval`, `score` and `base_score` (the AUCs).

    Raises
    ------
    ValueError
        If a class has fewer than two rows, all rows are of one user, scores are not finite, or
        lengths differ.

    Notes
    -----
    Without `users` rows count as independent. Where users have many rows, the test is then too
    sure of itself.

    References
    ----------
    .. [1] E. DeLong, D. DeLong and D. Clarke-Pearson, "Comparing the areas under two or more
       correlated receiver operating characteristic curves", Biometrics 44, 1988.
    .. [2] X. Sun and W. Xu, "Fast implementation of DeLong's algorithm", IEEE Signal
       Processing Letters 21, 2014.
    .. [3] N. Obuchowski, "Nonparametric analysis of clustered ROC curve data", Biometrics 53,
       1997.

    Examples
    --------
    >>> from skmars.metrics import delong_test
    >>> y_true = [0, 0, 0, 1, 1, 1]
    >>> test = delong_test(y_true, [1, 2, 4, 3, 5, 6], [2, 4, 5, 1, 3, 6])
    >>> round(test.difference, 3), round(test.pvalue, 3)
    (0.444, 0.074)
    """
    positive, scores = _check(y_true, y_score, base_score, confidence_level)
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) < 2:
        raise ValueError(
            f"DeLong's test needs two rows of each class at least, got {m} positive and {n} "
            "negative ones."
        )
    ranks = rankdata(scores, axis=1)  # midranks among all rows
    # Part of the negatives below each positive row, and of the positives above each negative.
    v10 = (ranks[:, positive] - rankdata(scores[:, positive], axis=1)) / n
    v01 = 1.0 - (ranks[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / m
    auc, base_auc = v10.mean(axis=1)
    contrast = np.array([1.0, -1.0])
    if users is None:
        covariance = np.cov(v10) / m + np.cov(v01) / n
        error = float(np.sqrt(max(contrast @ covariance @ contrast, 0.0)))
    else:
        ids, code = check_users(users, len(positive))
        if len(ids) < 2:
            raise ValueError("DeLong's test needs rows of two users at least, got one user.")
        part = np.empty(len(positive))  # of each row in the difference, less what all have
        part[positive] = contrast @ (v10 - v10.mean(axis=1, keepdims=True)) / m
        part[~positive] = contrast @ (v01 - v01.mean(axis=1, keepdims=True)) / n
        of_user = np.bincount(code, part)
        error = float(np.sqrt(of_user @ of_user * len(ids) / (len(ids) - 1)))
    difference = float(auc - base_auc)
    margin = float(norm.ppf(0.5 + confidence_level / 2)) * error
    statistic = _standardised(difference, error)
    return PairedTest(
        statistic=statistic,
        pvalue=float(2.0 * norm.sf(abs(statistic))),
        difference=difference,
        confidence_interval=(difference - margin, difference + margin),
        score=float(auc),
        base_score=float(base_auc),
    )


def _standardised(difference: float, error: float) -> float:
    """Difference over its standard error; models of equal ranking give 0 over 0, that is 0."""
    if error > 1e-12:
        return difference / error
    return 0.0 if abs(difference) <= 1e-12 else float(np.copysign(np.inf, difference))


def gauc_bootstrap_test(
    y_true: ArrayLike,
    y_score: ArrayLike,
    base_score: ArrayLike,
    users: ArrayLike,
    *,
    n_resamples: int = 2000,
    confidence_level: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> PairedTest:
    """Bootstrap over users of the difference between two group AUCs on the same rows.

    Users are drawn with replacement, each with all impressions, and both models are scored on
    the same draw.

    Parameters
    ----------
    y_true : array-like of shape (n_rows,)
        Binary target.
    y_score, base_score : array-like of shape (n_rows,)
        Scores of the model and of the base model.
    users : array-like of int or str, shape (n_rows,)
        User id of each row.
    n_resamples : int, default=2000
        Number of draws.
    confidence_level : float, default=0.95
        Level of the (percentile) confidence interval.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same draws on every call.

    Returns
    -------
    PairedTest
        `statistic` is the difference over its bootstrap standard error; `pvalue` is twice the
        part of the draws on the other side of zero, at least ``1 / n_resamples`` or so.

    Raises
    ------
    ValueError
        If fewer than two users have rows of both classes, or as in `gauc_score`.

    See Also
    --------
    gauc_score : The score that is compared.
    delong_test : For the AUC over all rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skmars.metrics import gauc_bootstrap_test
    >>> rng = np.random.RandomState(0)
    >>> users, y_true = np.repeat(np.arange(100), 10), np.tile([0, 1], 500)
    >>> noise = rng.normal(size=1000)
    >>> test = gauc_bootstrap_test(y_true, y_true + noise, noise, users, random_state=0)
    >>> test.pvalue < 0.01
    True
    """
    at_least_two = Number(Integral, 2, None, closed="left")
    check_number(n_resamples, at_least_two, "n_resamples", "gauc_bootstrap_test")
    positive, scores = _check(y_true, y_score, base_score, confidence_level)
    ids, code = check_users(users, len(positive))
    rng = check_random_state(random_state)

    auc, size = zip(*(auc_by_group(positive, s, code, len(ids)) for s in scores))
    defined = ~np.isnan(auc[0])
    n_users = int(np.count_nonzero(defined))
    if n_users < 2:
        raise ValueError(
            f"The bootstrap needs at least two users with clicked and unclicked rows, got "
            f"{n_users} of {len(ids)}."
        )
    weight = size[0][defined].astype(np.float64)
    values = np.stack([weight * a[defined] for a in auc] + [weight], axis=1)
    gauc, base_gauc = (values.sum(axis=0) / weight.sum())[:2]

    draws = []
    block = max(1, BLOCK // n_users)
    for begin in range(0, n_resamples, block):
        # How often each user is drawn: one row a resample instead of n_users indices.
        size_of_block = min(block, n_resamples - begin)
        count = rng.multinomial(n_users, np.full(n_users, 1.0 / n_users), size=size_of_block)
        model, base, total = (count @ values).T
        draws.append((model - base) / total)
    resampled = np.concatenate(draws)

    difference = float(gauc - base_gauc)
    below, above = np.count_nonzero(resampled <= 0), np.count_nonzero(resampled >= 0)
    tail = (1.0 - confidence_level) / 2
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    return PairedTest(
        statistic=_standardised(difference, float(resampled.std(ddof=1))),
        pvalue=float(min(1.0, 2.0 * (min(below, above) + 1) / (n_resamples + 1))),
        difference=difference,
        confidence_interval=(float(low), float(high)),
        score=float(gauc),
        base_score=float(base_gauc),
    )
