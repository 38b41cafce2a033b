"""Similarity of items, by co-occurrence in histories and by embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from skmars.data import Impressions, Sequences
from skmars.data._activity import UserActivity

# Items whose products with all others are held at a time.
BLOCK_ITEMS = 1024


def user_sequences(X: Impressions) -> Sequences:
    """Return one sequence a user: the longest history among the user's rows."""
    _, row = UserActivity.of(X)
    return X.history[row]


def item_cf_iuf(sequences: Sequences, n_items: int) -> csr_array:
    r"""Similarity of items by co-occurrence, active users counting less (ItemCF-IUF).

    .. math::
        sim_{ij} = \frac{C_{ij}}{\sqrt{N_i N_j}}, \quad
        C_{ij} = \sum_{u: i, j \in S_u} \frac{1}{\log(1 + |S_u|)}

    over users `u` with the set of items :math:`S_u`; :math:`N_i` users have item `i`. An item
    is not similar to itself. `sequences` has one row a user, `n_items` is the number of item codes;
    the result has shape (n_items, n_items), sorted indices, and values of nine decimals.

    References
    ----------
    Breese, Heckerman, Kadie, "Empirical Analysis of Predictive Algorithms for Collaborative
    Filtering", UAI 1998 (inverse user frequency); Liu et al., arXiv:2108.06479 (its use here).

    Examples
    --------
    >>> s = Sequences(np.array([0, 1, 2, 1], dtype=np.int32), np.array([0, 2]), np.array([2, 2]))
    >>> item_cf_iuf(s, 3).toarray().round(3)
    array([[0.   , 0.644, 0.   ],
           [0.644, 0.   , 0.644],
           [0.   , 0.644, 0.   ]])
    """
    user = np.repeat(np.arange(len(sequences)), sequences.length)
    item = sequences.items[sequences.positions()]
    has = csr_array((np.ones(len(item)), (user, item)), shape=(len(sequences), n_items))
    has.sum_duplicates()
    has.data[:] = 1
    size = np.diff(has.indptr)
    count = np.bincount(has.indices, minlength=n_items)
    # sqrt of both factors of each entry, so that has.T @ has is all that is left to do.
    row = np.repeat(np.arange(len(size)), size)
    has.data = 1 / np.sqrt(np.log1p(size[row]) * count[has.indices])
    similarity = csr_array(has.T @ has)
    # Equal ones are equal, whatever the order of the sums.
    similarity.data = np.round(similarity.data, 9)
    similarity.setdiag(0)
    similarity.eliminate_zeros()
    similarity.sort_indices()
    return similarity


def nearest(similarity: csr_array) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return each item's most similar item, and the similarity: -1 and -inf where there is none.

    Among equals, that of lower code. Indices of `similarity` have to be sorted.

    >>> nearest(csr_array([[0, 0.2, 0.7], [0.2, 0, 0], [0, 0, 0]]))[0]
    array([ 2,  0, -1], dtype=int32)
    """
    n = similarity.shape[0]
    items, scores = np.full(n, -1, dtype=np.int32), np.full(n, -np.inf)
    count = np.diff(similarity.indptr)
    has = np.flatnonzero(count)
    if len(has):
        scores[has] = np.maximum.reduceat(similarity.data, similarity.indptr[has])
        row = np.repeat(np.arange(n), count)
        hit = np.flatnonzero(similarity.data == scores[row])
        first = hit[np.diff(row[hit], prepend=-1) > 0]  # codes increase within a row
        items[row[first]] = similarity.indices[first]
    return items, scores


def hybrid_nearest(
    similarity: csr_array, vectors: NDArray[Any], vocabulary: NDArray[Any]
) -> NDArray[np.int32]:
    """Return each item's most similar item by co-occurrence or by embedding.

    The hybrid correlation of Liu et al., arXiv:2108.06479: similarities by co-occurrence and dot
    products of embeddings are scaled to [0, 1] each (by the least and the largest of all pairs of
    different items; of the pairs that occur together, for co-occurrence); the better of both wins,
    co-occurrence among equals. `vectors`, of shape (n_vocabulary, n_components), embed the items of
    `vocabulary`, increasing codes. Items without neighbours get -1.

    >>> together = csr_array([[0, 0.5, 0.4], [0.5, 0, 0], [0.4, 0, 0]])
    >>> hybrid_nearest(together, np.array([[1.0, 0], [0.2, 0.9], [0.1, 1.0]]), np.arange(3))
    array([1, 0, 1], dtype=int32)
    """
    best, score = nearest(similarity)
    found, product, low, high = _nearest_by_product(vectors)
    if len(similarity.data):
        score = _scaled(score, similarity.data.min(), similarity.data.max())
    closer = _scaled(product, low, high) > score[vocabulary]
    best[vocabulary[closer]] = vocabulary[found[closer]]
    return best


def _scaled(x: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    return (x - low) / (high - low) if high > low else np.where(np.isfinite(x), 1.0, x)


def _nearest_by_product(
    vectors: NDArray[Any],
) -> tuple[NDArray[np.int64], NDArray[Any], float, float]:
    """Return the nearest other vector of each, their product, and the range of all products."""
    n, low = len(vectors), np.inf
    found, best = np.zeros(n, dtype=np.int64), np.full(n, -np.inf)
    if n < 2:
        return found, best, 0.0, 0.0
    for start in range(0, n, BLOCK_ITEMS):
        product = vectors[start : start + BLOCK_ITEMS] @ vectors.T
        rows = np.arange(len(product))
        product[rows, start + rows] = np.inf
        low = min(low, float(product.min()))
        product[rows, start + rows] = -np.inf
        found[start + rows] = product.argmax(axis=1)
        best[start + rows] = product[rows, found[start + rows]]
    return found, best, low, float(best.max())
