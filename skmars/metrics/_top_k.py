"""Precision, recall, hit rate, NDCG and reciprocal rank of the first k rows of each group.

Rows of equal score have no order of their own. Every value here is the exact expectation over all
orders of such rows, each equally likely, so that a constant score gets what chance would.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln
from sklearn.utils import Bunch, check_consistent_length

from skmars.metrics._ranking import check_binary, check_scores, check_users
from skmars.utils import _ragged as ragged
from skmars.utils._parameters import Number, check_number

Values = NDArray[np.float64]


def _sums(group: NDArray[Any], values: NDArray[Any], n_groups: int) -> Values:
    # Without entries, weights would not make it floats.
    return np.bincount(group, weights=values, minlength=n_groups).astype(np.float64)


class Ranking(NamedTuple):
    """Rows ranked within their groups. A run is a stretch of rows of one group and one score."""

    ids: NDArray[Any]  # of the groups
    size: NDArray[np.int64]  # rows of each group
    n_positive: NDArray[np.int64]  # positive rows of each group
    group: NDArray[np.int64]  # of each run; the runs of a group stand from the highest score down
    start: NDArray[np.int64]  # of each run: how many rows of its group stand above it
    length: NDArray[np.int64]  # of each run: its rows
    positive: NDArray[np.int64]  # of each run: its positive rows
    k: int

    def total(self, values: NDArray[Any]) -> Values:
        """Return the sum over the runs of each group."""
        return _sums(self.group, values, len(self.ids))

    @property
    def slots(self) -> NDArray[np.int64]:
        """How many rows of each run are among the first k of its group."""
        return np.clip(self.k - self.start, 0, self.length)


def _rank(y_true: ArrayLike, y_score: ArrayLike, groups: ArrayLike, k: int, name: str) -> Ranking:
    check_number(k, Number(Integral, 1, None, closed="left"), "k", name)
    positive, score = check_binary(y_true), check_scores(y_score)
    check_consistent_length(positive, score)
    ids, code = check_users(groups, len(positive), "groups")
    n_positive = np.bincount(code[positive], minlength=len(ids))
    size = np.bincount(code, minlength=len(ids))
    if not ((n_positive > 0) & (n_positive < size)).any():
        raise ValueError(
            f"{name} is undefined: none of the {len(ids)} groups has both clicked and unclicked "
            f"rows ({len(positive)} rows in all), so that nothing can be ranked right or wrong. "
            "Take larger groups, such as all rows of a user, or add unclicked rows with "
            "skmars.sample_negatives."
        )
    order = np.lexsort((-score, code))
    code, score, positive = code[order], score[order], positive[order]
    new = np.append(True, (score[1:] != score[:-1]) | (code[1:] != code[:-1]))
    first = np.flatnonzero(new)
    group = code[first].astype(np.int64)
    return Ranking(
        ids,
        size,
        n_positive,
        group,
        first - (np.cumsum(size) - size)[group],
        np.diff(first, append=len(score)),
        np.add.reduceat(positive.astype(np.int64), first),
        int(k),
    )


def _none(length: NDArray[Any], positive: NDArray[Any], n: NDArray[Any]) -> Values:
    """Return the chance that the first `n` of `length` rows in random order hold no positive."""
    negative = length - positive
    possible = n <= negative
    n = np.where(possible, n, 0)
    ways = gammaln(negative + 1) - gammaln(negative - n + 1)
    ways += gammaln(length - n + 1) - gammaln(length + 1)
    return np.where(possible, np.exp(ways), 0.0)


def _hits(ranking: Ranking) -> Values:
    """Return the expected number of positives among the first k."""
    return ranking.total(ranking.positive * ranking.slots / ranking.length)


def _precision(ranking: Ranking) -> Values:
    return _hits(ranking) / ranking.k


def _recall(ranking: Ranking) -> Values:
    return _hits(ranking) / np.maximum(ranking.n_positive, 1)


def _hit_rate(ranking: Ranking) -> Values:
    missed = _none(ranking.length, ranking.positive, ranking.slots)
    first = np.flatnonzero(np.diff(ranking.group, prepend=-1))
    return 1.0 - np.multiply.reduceat(missed, first)


def _ndcg(ranking: Ranking) -> Values:
    discount = 1.0 / np.log2(np.arange(ranking.size.max()) + 2.0)
    discount[ranking.k :] = 0.0
    total = np.append(0.0, np.cumsum(discount))
    start, length = ranking.start, ranking.length
    gain = ranking.total(ranking.positive / length * (total[start + length] - total[start]))
    return gain / total[np.maximum(ranking.n_positive, 1)]


def _mrr(ranking: Ranking) -> Values:
    # The first positive of a group lies in the first of its runs that holds one. Within it, the
    # first `before` rows hold none with the chance `_none`, and then the next row is one.
    found = np.flatnonzero(ranking.positive)
    group, first = np.unique(ranking.group[found], return_index=True)
    run = found[first]
    slots = ranking.slots[run]
    before = ragged.ranges(np.zeros(len(run)), slots)
    start, length, positive = (
        np.repeat(column[run], slots)
        for column in (ranking.start, ranking.length, ranking.positive)
    )
    chance = _none(length, positive, before) * positive / (length - before)
    reciprocal = chance / (start + before + 1)
    return _sums(np.repeat(group, slots), reciprocal, len(ranking.ids))


# Each gives one value a group; those of groups without a positive have no meaning.
METRICS: dict[str, Callable[[Ranking], Values]] = {
    "precision": _precision,
    "recall": _recall,
    "hit_rate": _hit_rate,
    "ndcg": _ndcg,
    "mrr": _mrr,
}


def mean_at_k(
    metric: str, y_true: ArrayLike, y_score: ArrayLike, groups: ArrayLike, k: int
) -> float:
    """Return the mean of one of `METRICS` over the groups with a positive."""
    ranking = _rank(y_true, y_score, groups, k, f"{metric}_at_k")
    return float(METRICS[metric](ranking)[ranking.n_positive > 0].mean())


def precision_at_k(
    y_true: ArrayLike, y_score: ArrayLike, groups: ArrayLike, *, k: int = 10
) -> float:
    """Precision at k: share of clicked rows among the `k` rows of a group that score highest.

    Parameters
    ----------
    y_true : array-like of shape (n_rows,)
        Binary target: 0 and 1, -1 and 1, or booleans.
    y_score : array-like of shape (n_rows,)
        Scores, larger for rows that are more likely clicked. Of tied rows, every order counts
        equally: the value is its expectation.
    groups : array-like of int or str, shape (n_rows,)
        What is ranked together: the user (`X.user_ids`), or the page of each row.
    k : int, default=10
        How many rows from the top count. A group with fewer rows is not compensated for: two
        clicked rows and no other have a precision at 10 of 0.2.

    Returns
    -------
    float
        Mean over groups, between 0 and 1. Groups without a clicked row are left out;
        `ranking_at_k` counts them.

    Raises
    ------
    ValueError
        If no group has rows of both classes, the target is not binary, scores are not finite,
        lengths differ, or `k` is not positive.

    See Also
    --------
    ranking_at_k : All metrics at k of each group.
    retrieval_precision_at_k : Precision of a search for nearest neighbours between embeddings.

    Examples
    --------
    >>> from skmars.metrics import precision_at_k
    >>> users = ["ann", "ann", "ann", "bob", "bob", "cid"]
    >>> precision_at_k([1, 0, 1, 0, 1, 0], [0.9, 0.5, 0.4, 0.8, 0.3, 0.5], users, k=2)
    0.5
    """
    return mean_at_k("precision", y_true, y_score, groups, k)


def recall_at_k(y_true: ArrayLike, y_score: ArrayLike, groups: ArrayLike, *, k: int = 10) -> float:
    """Recall at k: share of a group's clicked rows that are among the `k` that score highest.

    Parameters
    ----------
    y_true, y_score, groups, k
        As in `precision_at_k`.

    Returns
    -------
    float
        Mean over groups with a clicked row, between 0 and 1.

    Raises
    ------
    ValueError
        As `precision_at_k` does.

    See Also
    --------
    precision_at_k : Describes the parameters.
    retrieval_recall_at_k : Recall of a search for nearest neighbours between embeddings.

    Notes
    -----
    A group with more than `k` clicked rows can't reach 1. A group with at most `k` rows always
    does.

    Examples
    --------
    >>> from skmars.metrics import recall_at_k
    >>> recall_at_k([1, 0, 1, 0, 1], [0.9, 0.5, 0.4, 0.8, 0.3], [7, 7, 7, 8, 8], k=1)
    0.25
    """
    return mean_at_k("recall", y_true, y_score, groups, k)


def hit_rate_at_k(
    y_true: ArrayLike, y_score: ArrayLike, groups: ArrayLike, *, k: int = 10
) -> float:
    """Hit rate at k: share of groups with a clicked row among the `k` that score highest.

    With one clicked row a group, that is the recall.

    Parameters
    ----------
    y_true, y_score, groups, k
        As in `precision_at_k`.

    Returns
    -------
    float
        Of the groups with a clicked row, between 0 and 1.

    Raises
    ------
    ValueError
        As `precision_at_k` does.

    See Also
    --------
    precision_at_k : Describes the parameters.

    Examples
    --------
    >>> from skmars.metrics import hit_rate_at_k
    >>> hit_rate_at_k([1, 0, 1, 0, 1], [0.9, 0.5, 0.4, 0.8, 0.3], [7, 7, 7, 8, 8], k=1)
    0.5

    The two rows of one score may come in either order:

    >>> hit_rate_at_k([1, 0], [0.5, 0.5], [7, 7], k=1)
    0.5
    """
    return mean_at_k("hit_rate", y_true, y_score, groups, k)


def ndcg_at_k(y_true: ArrayLike, y_score: ArrayLike, groups: ArrayLike, *, k: int = 10) -> float:
    """NDCG at k: how far up the clicked rows of a group stand, relative to the best order.

    A clicked row at rank r counts ``1 / log2(1 + r)`` if r is at most `k`. The sum is divided by
    that of the best order.

    Parameters
    ----------
    y_true, y_score, groups, k
        As in `precision_at_k`.

    Returns
    -------
    float
        Mean over groups with a clicked row, between 0 and 1.

    Raises
    ------
    ValueError
        As `precision_at_k` does.

    See Also
    --------
    precision_at_k : Describes the parameters.
    sklearn.metrics.ndcg_score : The same for groups of one size, which gives 0 to those without a
        clicked row.

    Examples
    --------
    >>> from skmars.metrics import ndcg_at_k
    >>> round(ndcg_at_k([1, 0, 1, 0, 1], [0.9, 0.5, 0.4, 0.8, 0.3], [7, 7, 7, 8, 8], k=2), 3)
    0.622
    """
    return mean_at_k("ndcg", y_true, y_score, groups, k)


def mrr_at_k(y_true: ArrayLike, y_score: ArrayLike, groups: ArrayLike, *, k: int = 10) -> float:
    """Mean reciprocal rank at k: 1 / rank of a group's first clicked row, 0 below rank `k`.

    Parameters
    ----------
    y_true, y_score, groups, k
        As in `precision_at_k`.

    Returns
    -------
    float
        Mean over groups with a clicked row, between 0 and 1.

    Raises
    ------
    ValueError
        As `precision_at_k` does.

    See Also
    --------
    precision_at_k : Describes the parameters.

    Examples
    --------
    >>> from skmars.metrics import mrr_at_k
    >>> mrr_at_k([1, 0, 1, 0, 1], [0.9, 0.5, 0.4, 0.8, 0.3], [7, 7, 7, 8, 8])
    0.75
    """
    return mean_at_k("mrr", y_true, y_score, groups, k)


def ranking_at_k(y_true: ArrayLike, y_score: ArrayLike, groups: ArrayLike, *, k: int = 10) -> Bunch:
    """Precision, recall, hit rate, NDCG and reciprocal rank at k of each group.

    Parameters
    ----------
    y_true, y_score, groups, k
        As in `precision_at_k`.

    Returns
    -------
    Bunch
        groups : ndarray of shape (n_groups,)
            Distinct groups.
        precision, recall, hit_rate, ndcg, mrr : ndarray of shape (n_groups,), float64
            Of each group, NaN for those left out. Their means are what `precision_at_k` and the
            others return.
        n_impressions : ndarray of shape (n_groups,), int64
            Rows of each group.
        n_groups_left_out, n_impressions_left_out : int
            How many groups had no clicked row, and their rows.

    Raises
    ------
    ValueError
        As `precision_at_k` does.

    Examples
    --------
    >>> from skmars.metrics import ranking_at_k
    >>> result = ranking_at_k([1, 0, 1, 0, 0], [0.9, 0.5, 0.4, 0.8, 0.3], [7, 7, 7, 8, 8], k=2)
    >>> result.recall, result.n_groups_left_out
    (array([0.5, nan]), 1)
    """
    ranking = _rank(y_true, y_score, groups, k, "ranking_at_k")
    left_out = ranking.n_positive == 0
    return Bunch(
        groups=ranking.ids,
        **{name: np.where(left_out, np.nan, f(ranking)) for name, f in METRICS.items()},
        n_impressions=ranking.size,
        n_groups_left_out=int(np.count_nonzero(left_out)),
        n_impressions_left_out=int(ranking.size[left_out].sum()),
    )
