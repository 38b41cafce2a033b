"""The first of two stages: items of a large catalogue that a row is likely to want."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from skmars.retrieval._embeddings import user_vectors
from skmars.retrieval._neighbors import donors_of_rows
from skmars.retrieval._plan import Plan
from skmars.utils._units import unit

# A donor whose cosine is this much below that of the most similar one has the weight 1/e.
TEMPERATURE = 0.1
_BLOCK = 1 << 22  # scores of rows and items in memory at a time
# How much a difference of popularity counts: it decides between equals alone.
_LITTLE = 1e-9


def likely_items(plan: Plan, k: int, exclude_seen: bool) -> Iterator[NDArray[np.int64]]:
    """Yield for each row of a plan the codes of at most `k` items, ascending.

    Half of them are those that most of its donors touched before the row, each donor counted by
    similarity; the others are those nearest to its history, by the cosine of the item with the mean
    of the history's items. Equals rank by how many users touched them, so that a row without a
    history gets what is popular.

    Parameters
    ----------
    plan : Plan
        With donors for each row.
    k : int
    exclude_seen : bool
        Whether to leave out the items of the row's history.
    """
    X, items = plan.X, plan.items
    n_items = len(X.catalog)
    codes = np.arange(n_items, dtype=np.int32)
    # Several items of the catalogue never have one code in the space.
    of_code = np.full(int(items.codes(codes).max(initial=0)) + 1, -1)
    of_code[items.codes(codes)] = codes
    units = items.units(codes) if items.stacked_units else None
    donor, weight = _donors(plan)
    until = plan.pool.users.interactions.until(plan.before, len(X))
    popular: dict[int, NDArray[np.float64]] = {}
    step = max(1, _BLOCK // max(1, n_items))
    for first in range(0, len(X), step):
        rows = np.arange(first, min(first + step, len(X)))
        near = np.zeros((len(rows), n_items))
        if units is not None:
            near[:] = unit(user_vectors(X[rows], items, "units")) @ units.T
        touched = _touched(plan, rows, donor[rows], weight[rows], of_code, n_items)
        for i, row in enumerate(rows.tolist()):
            moment = int(until[row])
            if moment not in popular:
                popular = {moment: _popularity(plan, codes, moment)}
            one, other = (np.round(s[i], 6) + popular[moment] for s in (touched, near))
            if exclude_seen:
                one[X.history.row(row)] = other[X.history.row(row)] = -np.inf
            yield _half_and_half(one, other, k)


def _donors(plan: Plan) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the donors of each row, and their weights; -1 and 0 where there are no more."""
    donor, similarity = donors_of_rows(plan)
    weight = np.exp((similarity - similarity[:, :1]) / TEMPERATURE)
    return donor, weight * (donor >= 0)


def _touched(
    plan: Plan,
    rows: NDArray[np.int64],
    donor: NDArray[np.int32],
    weight: NDArray[np.float64],
    of_code: NDArray[np.int64],
    n_items: int,
) -> NDArray[np.float64]:
    """Sum up the weights of the donors who touched each item before the row."""
    result = np.zeros((len(rows), n_items))
    row, rank = np.nonzero(donor >= 0)
    history = plan.pool.history[donor[row, rank]]
    at = history.positions()
    pair = np.repeat(np.arange(len(row)), history.length)
    kept = np.ones(len(at), dtype=bool)
    if plan.before is not None and history.time is not None:
        kept = history.time[at] < plan.before[rows][row[pair]]
    code = history.items[at].astype(np.int64)
    kept &= code < len(of_code)
    pair, code = pair[kept], of_code[code[kept]]
    # Each donor counts once for an item; items that the catalogue lacks have the code -1.
    once = np.unique((pair * np.int64(n_items) + code)[code >= 0])
    pair, code = np.divmod(once, max(1, n_items))
    np.add.at(result, (row[pair], code), weight[row, rank][pair])
    return result


def _popularity(plan: Plan, codes: NDArray[np.int32], until: int) -> NDArray[np.float64]:
    """Return a little for each user who touched an item before a moment."""
    interactions = plan.pool.users.interactions
    _, count = interactions.pairs(
        plan.items.codes(codes), np.full(len(codes), until, dtype=np.int32)
    )
    return count.astype(np.float64) * _LITTLE


def _half_and_half(
    one: NDArray[np.float64], other: NDArray[np.float64], k: int
) -> NDArray[np.int64]:
    """Return `k` items, the first half of them the best of one score, the rest those of another."""
    chosen = _best(one, k // 2)
    rest = np.setdiff1d(_best(other, k), chosen)
    best = rest[np.argsort(-other[rest], kind="stable")][: k - len(chosen)]
    return np.sort(np.concatenate([chosen, best]))


def _best(score: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    best = np.argpartition(-score, k)[:k] if k < len(score) else np.arange(len(score))
    return best[score[best] > -np.inf]
