r"""Order-preserving matching of a donor's sequence with the user's own (strategy "dp").

With the own items :math:`a_1..a_n`, the donor's :math:`b_1..b_m` and their centred cosine
:math:`c_{ij} = \cos(a_i, b_j)`, a matching pairs own with donor items, each at most once, without
crossing. The borrowed subsequence is the donor's side of the matching that maximises
the summed similarity, a weighted longest common subsequence:

.. math::
    D_{ij} = \max(D_{i-1,j},\; D_{i,j-1},\; D_{i-1,j-1} + c_{ij}), \qquad D_{0j} = D_{i0} = 0,

where the third term is open to pairs with :math:`c_{ij} \ge \theta` and :math:`c_{ij} > 0` only.

Ties: read back from :math:`D_{nm}`, a pair is matched if that attains the maximum; else the own
item is skipped if that does; else the donor's. Among equally good matchings that prefers
recent items of the donor. Cosines are counted in millionths, as integers, so that ties are exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skmars.data import Sequences
from skmars.retrieval._embeddings import DECIMALS, ItemView
from skmars.utils import _ragged as ragged

_BLOCK = 1 << 22  # cells of the tables held at a time


def matched_events(
    own: Sequences,
    history: Sequences,
    permitted: NDArray[np.bool_],
    items: ItemView,
    theta: float,
) -> NDArray[np.bool_]:
    """Return which of the permitted donor events are in the best matching of each pair.

    Own items are in codes of their catalogue, those of donors in codes of `fit`. Pairs of one
    donor should stand side by side. `theta` is the least cosine of matched items.
    """
    matched = np.zeros(len(permitted), dtype=bool)
    at = history.offsets
    # Similar lengths share a block, so that little of it is padding.
    order = np.argsort(history.length, kind="stable")
    begin = 0
    while begin < len(order):
        end = begin + _fitting(own.length[order[begin:]], history.length[order[begin:]])
        pairs = order[begin:end]
        inside = np.arange(history.length[pairs].max()) < history.length[pairs, None]
        events = ragged.ranges(at[pairs], history.length[pairs])
        candidates = np.zeros(inside.shape, dtype=bool)
        candidates[inside] = permitted[events]
        similarity = _similarity(own[pairs], history[pairs], items, theta)
        similarity *= candidates[:, None, :]
        matched[events] = best_matching(similarity)[inside]
        begin = end
    return matched


def _fitting(n: NDArray[np.int32], m: NDArray[np.int32]) -> int:
    """Return how many of the first pairs have a padded table of at most `_BLOCK` cells."""
    some = slice(0, _BLOCK // max(1, int(m[0])) + 1)  # no more than that can fit
    n, m = n[some].astype(np.int64), m[some].astype(np.int64)
    cells = np.maximum.accumulate(n) * np.maximum.accumulate(m) * np.arange(1, len(n) + 1)
    return max(1, int(np.searchsorted(cells, _BLOCK, side="right")))


def _similarity(
    own: Sequences, history: Sequences, items: ItemView, theta: float
) -> NDArray[np.int32]:
    """Return c_ij in millionths, 0 where i and j can't be matched; (n_pairs, n, m), padded."""
    shape = (len(own), int(own.length.max()), int(history.length.max()))
    result = np.zeros(shape, dtype=np.int32)
    scale = 10**DECIMALS
    least = max(1, int(np.ceil(np.round(theta * scale, DECIMALS))))
    same_donor = (np.diff(history.start) == 0) & (np.diff(history.length) == 0)
    edges = np.concatenate([[0], np.flatnonzero(~same_donor) + 1, [len(own)]])
    for first, end in zip(edges[:-1], edges[1:]):
        mine = own[first:end]
        theirs = items.stacked_units[0][history.row(first)].astype(np.float64)
        cosine = items.units(mine.items[mine.positions()]).astype(np.float64) @ theirs.T
        cosine *= scale
        np.rint(cosine, out=cosine)
        np.minimum(cosine, scale, out=cosine)
        cosine *= cosine >= least
        inside = np.arange(shape[1]) < mine.length[:, None]
        result[first:end, :, : len(theirs)][inside] = cosine
    return result


def best_matching(similarity: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Solve the recurrence for a batch of pairs; loops over the own items only.

    Parameters
    ----------
    similarity : ndarray of shape (n_pairs, n, m), int
        c_ij; 0 (or less) for pairs that can't be matched, and for padding.

    Returns
    -------
    ndarray of shape (n_pairs, m), bool
        The donor items of the best matching.

    Examples
    --------
    >>> best_matching(np.array([[[0, 9, 5], [7, 0, 5]]]))
    array([[False,  True,  True]])
    """
    n_pairs, n, m = similarity.shape
    # D[i-1, 0..m]; cosines are at most 10^6, so that int32 holds the sum of 2,000.
    total = np.zeros((n_pairs, m + 1), dtype=np.int32 if n <= 2000 else np.int64)
    column = np.arange(m, dtype=np.int32)
    # At cell (i, j), where the way back leaves row i: the last column up to j at which D is
    # attained by a match or from above (not from the left), and whether by a match.
    leave = np.empty((n, n_pairs, m), dtype=np.int32)
    match = np.empty((n, n_pairs, m), dtype=bool)
    for i in range(n):
        diagonal = total[:, :-1] + similarity[:, i]
        best = np.maximum(total[:, 1:], diagonal)
        np.equal(diagonal, best, out=match[i])
        match[i] &= similarity[:, i] > 0
        np.maximum.accumulate(best, axis=1, out=total[:, 1:])
        attained = column * (best == total[:, 1:])
        np.maximum.accumulate(attained, axis=1, out=leave[i])
    used = np.zeros((n_pairs, m), dtype=bool)
    pair = np.arange(n_pairs)
    j = np.full(n_pairs, m - 1)  # -1: nothing of the donor is left
    for i in range(n - 1, -1, -1):
        at = np.where(j >= 0, leave[i, pair, j], -1)
        hit = (at >= 0) & match[i, pair, at]
        used[pair[hit], at[hit]] = True
        j = at - hit
    return used
