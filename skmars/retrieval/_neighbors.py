"""The most similar donors of each query (Eq. 15): exact search, and a choice of others."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from skmars.retrieval._embeddings import Vectors, pairwise_cosine
from skmars.utils._base import DocLinkMixin

# Up to this many donors "auto" searches exactly, beyond it takes an index if one is installed.
# Against a million (128 components, one thread) the build of the graph has paid off after some
# 48,000 queries.
AUTO_EXACT_MAX_DONORS = 50_000
# Similarities are computed in tiles of so many queries and donors (8 MiB): large enough for the
# product, small enough to be still in the cache when their maxima are taken.
_TILE_QUERIES, _TILE_DONORS = 256, 8192


def top_k(
    queries: Vectors,
    donors: Vectors,
    k: int,
    *,
    exclude: NDArray[np.int32] | None = None,
    first_event: NDArray[np.float64] | None = None,
    before: NDArray[np.float64] | None = None,
    n_jobs: int | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Find the `k` donors with the largest cosine, exactly.

    Equal cosines (to six decimals) go to the lower donor index. A row of the result
    depends on its query alone.

    Parameters
    ----------
    queries : ndarray of shape (n_queries, n_components), float32
        Unit (or zero) vectors.
    donors : ndarray of shape (n_donors, n_components), float32
        Unit (or zero) vectors.
    k : int
        Number of donors for each query.
    exclude : ndarray of shape (n_queries,), int32, default=None
        A donor that the query may not have (the user themselves), -1 for none.
    first_event, before : ndarray of shape (n_donors,) and (n_queries,), default=None
        A query may only have donors with ``first_event < before``.
    n_jobs : int, default=None
        Threads over blocks of queries.

    Returns
    -------
    donor : ndarray of shape (n_queries, k), int32
        Most similar first; -1 where there are no more.
    similarity : ndarray of shape (n_queries, k), float64
        Cosines, rounded; 0 where donor is -1.
    """
    # The product's last bits depend on the shape of the tile. So it only nominates: all donors
    # that may be among the k best, within its error, are compared anew, each by itself.
    error = 2e-6 + 2 * np.finfo(np.float32).eps * queries.shape[1]

    def block(at: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        rows = slice(at, at + _TILE_QUERIES)
        # The largest group maxima so far; -2 is below any cosine and above -inf.
        best = np.full((len(queries[rows]), k), -2.0, dtype=np.float32)
        nominated = []
        for first in range(0, max(1, len(donors)), _TILE_DONORS):
            cols = slice(first, first + _TILE_DONORS)
            product = queries[rows] @ donors[cols].T
            if exclude is not None:
                own = exclude[rows] - first
                here = np.flatnonzero((own >= 0) & (own < product.shape[1]))
                product[here, own[here]] = -np.inf
            if first_event is not None and before is not None:
                late = first_event[cols] >= before[rows, None]
                np.copyto(product, -np.inf, where=late)
            row, col = _nominate(product, best, error)
            nominated.append((row, col + first))
        row, col = (np.concatenate(part) for part in zip(*nominated))
        return _ranked(row, col, queries[rows], donors, k)

    blocks = Parallel(n_jobs=n_jobs, prefer="threads")(
        delayed(block)(at) for at in range(0, max(1, len(queries)), _TILE_QUERIES)
    )
    donor, similarity = zip(*blocks)
    return np.concatenate(donor), np.concatenate(similarity)


def _ranked(
    row: NDArray[np.int64], col: NDArray[np.int64], queries: Vectors, donors: Vectors, k: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Rank the nominated pairs of query and donor; keep the `k` best of each query."""
    cosine = pairwise_cosine(queries, row, donors, col)
    order = np.lexsort((col, -cosine, row))
    row, col, cosine = row[order], col[order], cosine[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    best = rank < k
    donor = np.full((len(queries), k), -1, dtype=np.int32)
    similarity = np.zeros((len(queries), k))
    donor[row[best], rank[best]] = col[best]
    similarity[row[best], rank[best]] = cosine[best]
    return donor, similarity


def _nominate(
    product: NDArray[np.float32], best: NDArray[np.float32], error: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and column of all entries that may be among the `k` largest of their row.

    Columns fall into groups. `best` (n_rows, k) holds the largest group maxima of earlier tiles,
    and takes in those of this one. The least of them, less `error`, is reached by `k` entries at
    least, and only the groups whose maximum reaches it hold others: one pass over the product,
    where a partition takes many.
    """
    k = best.shape[1]
    n = product.shape[1]
    n_groups = max(1, n // max(1, min(64, n // (8 * k))))  # column j is in group j % n_groups
    largest = product[:, :n_groups].copy()
    for at in range(n_groups, n, n_groups):
        part = product[:, at : at + n_groups]
        np.maximum(largest[:, : part.shape[1]], part, out=largest[:, : part.shape[1]])
    top = largest if n_groups <= k else np.partition(largest, -k, axis=1)[:, -k:]
    best[:] = np.partition(np.concatenate([best, top], axis=1), -k, axis=1)[:, -k:]
    bound = best.min(axis=1) - np.float32(error)
    row, group = np.nonzero(largest >= bound[:, None])
    col = group[:, None] + np.arange(0, n, n_groups)
    there = col < n
    there &= product[row[:, None], np.where(there, col, 0)] >= bound[row, None]
    return np.repeat(row, there.sum(axis=1)), col[there]


class CosineNeighbors(DocLinkMixin, BaseEstimator):
    """Exact nearest neighbours by cosine, as a blocked matrix product.

    Parameters
    ----------
    n_jobs : int, default=None
        Threads over blocks of queries.

    Attributes
    ----------
    vectors_ : ndarray of shape (n_samples, n_features), float32
        What `fit` was given, at unit length.

    Examples
    --------
    >>> import numpy as np
    >>> index = CosineNeighbors().fit(np.eye(3))
    >>> distance, neighbor = index.kneighbors([[1.0, 0.5, 0.0]], n_neighbors=2)
    >>> neighbor
    array([[0, 1]])
    """

    def __init__(self, n_jobs: int | None = None) -> None:
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None) -> CosineNeighbors:
        """Keep the vectors. `y` is ignored."""
        self.vectors_ = unit(X)
        return self

    def kneighbors(self, X: Any, n_neighbors: int = 5, return_distance: bool = True) -> Any:
        """Return the nearest vectors of `fit`.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features)
        n_neighbors : int, default=5
        return_distance : bool, default=True

        Returns
        -------
        distance : ndarray of shape (n_queries, n_neighbors)
            1 - cosine. Only where `return_distance` is True.
        neighbor : ndarray of shape (n_queries, n_neighbors)
            Row numbers, nearest first; ties go to the lower one.
        """
        check_is_fitted(self)
        if not 1 <= n_neighbors <= len(self.vectors_):
            raise ValueError(
                f"n_neighbors must be between 1 and the number of vectors of fit, "
                f"{len(self.vectors_)}; got {n_neighbors}."
            )
        neighbor, cosine = top_k(unit(X), self.vectors_, n_neighbors, n_jobs=self.n_jobs)
        neighbor = neighbor.astype(np.int64)
        return (1.0 - cosine, neighbor) if return_distance else neighbor


def unit(X: Any) -> Vectors:
    """Scale rows to length 1, in float32; zero rows stay."""
    array = np.asarray(X, dtype=np.float64)
    norm = np.linalg.norm(array, axis=1, keepdims=True)
    return np.ascontiguousarray(array / np.where(norm > 0, norm, 1.0), dtype=np.float32)


def fit_index(neighbors: Any, donors: Vectors, n_jobs: int | None) -> Any:
    """Return a fitted neighbour estimator over the donors, or None for the exact search."""
    if isinstance(neighbors, str):
        if neighbors == "auto":
            large = len(donors) > AUTO_EXACT_MAX_DONORS
            neighbors = "hnsw" if large and find_spec("faiss") is not None else "exact"
        if neighbors == "exact":
            return None
        from skmars.retrieval._ann import HNSWNeighbors, NNDescentNeighbors

        kinds: dict[str, Any] = {"hnsw": HNSWNeighbors, "nndescent": NNDescentNeighbors}
        return kinds[neighbors](n_jobs=n_jobs).fit(donors)
    return clone(neighbors).fit(donors)


def find_donors(
    index: Any,
    queries: Vectors,
    donors: Vectors,
    k: int,
    *,
    exclude: NDArray[np.int32],
    first_event: NDArray[np.float64] | None,
    before: NDArray[np.float64] | None,
    n_jobs: int | None,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Find the donors of each query, by `index` where there is one; see `top_k`.

    An index only names candidates: their cosines are computed here. Queries for which it does
    not name enough permitted ones (none of its nearest had an event before the impression,
    say) are searched exactly.
    """

    def exact(rows: Any) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        return top_k(
            queries[rows],
            donors,
            k,
            exclude=exclude[rows],
            first_event=first_event,
            before=None if before is None else before[rows],
            n_jobs=n_jobs,
        )

    if index is None:
        return exact(slice(None))
    # One more, as the user may be among their own neighbours, and some that may come too late.
    ask = min(len(donors), k + 1 if before is None else 4 * (k + 1))
    found = np.asarray(index.kneighbors(queries, n_neighbors=ask, return_distance=False))
    if found.shape != (len(queries), ask):
        raise ValueError(
            f"kneighbors of neighbors={index!r} returned shape {found.shape} for "
            f"{len(queries)} queries and n_neighbors={ask}; expected {(len(queries), ask)}."
        )
    row = np.repeat(np.arange(len(queries)), ask)
    col = found.ravel()
    allowed = (col >= 0) & (col != exclude[row])
    if first_event is not None and before is not None:
        allowed &= first_event[col] < before[row]
    donor, similarity = _ranked(row[allowed], col[allowed], queries, donors, k)
    short = np.flatnonzero((donor[:, -1] < 0) & (ask < len(donors)))
    if len(short):
        donor[short], similarity[short] = exact(short)
    return donor, similarity
