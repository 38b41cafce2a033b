"""Search the donors most similar to each user (Eq. 15), exactly or by an index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skmars.retrieval._ann import HNSWNeighbors, NeighborIndex, Neighbors
from skmars.retrieval._embeddings import DECIMALS, pairwise_cosine
from skmars.retrieval._plan import Plan
from skmars.utils import _ragged as ragged
from skmars.utils._base import DocLinkMixin
from skmars.utils._blocks import in_threads
from skmars.utils._units import Vectors, centred_units, has_embedding, unit

# Similarities are computed in tiles of so many queries and donors (2 MiB): large enough for the
# product, small enough to be still in the cache when their maxima are taken.
_TILE_QUERIES, _TILE_DONORS = 256, 2048
_SCALE = 10**DECIMALS


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
    queries, donors : ndarray of shape (n_queries or n_donors, n_components), float32
        Unit (or zero) vectors.
    k : int
        Number of donors for each query.
    exclude : ndarray of shape (n_queries,), int32, default=None
        A donor that the query may not have (the user themselves), -1 for none.
    first_event, before : ndarray of shape (n_donors,) and (n_queries,), default=None
        A query may only have donors with ``first_event < before``.
    n_jobs : int, default=None
        Threads over blocks of queries; None for as many as BLAS has.

    Returns
    -------
    donor, similarity : ndarray of shape (n_queries, k), int32 and float64
        Most similar first; -1 and 0 where there are no more.
    """

    def some(at: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        rows = slice(at, at + _TILE_QUERIES)
        row, col = _candidates(
            queries[rows],
            donors,
            k,
            None if exclude is None else exclude[rows],
            first_event,
            None if before is None else before[rows],
        )
        return _ranked(row, col, queries[rows], donors, k)

    with in_threads(some, range(0, max(1, len(queries)), _TILE_QUERIES), n_jobs) as found:
        parts = list(found)
    if len(parts) == 1:
        return parts[0]
    donor, similarity = zip(*parts)
    return np.concatenate(donor), np.concatenate(similarity)


def _error(queries: Vectors) -> float:
    """Return by how much cosines in single precision may differ from the rounded exact ones."""
    return 2e-6 + 2 * float(np.finfo(np.float32).eps) * queries.shape[1]


def _ranked(
    row: NDArray[np.int64], col: NDArray[np.int64], queries: Vectors, donors: Vectors, k: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Rank candidate pairs of query and donor by cosine; keep the `k` best of each query."""
    cosine = pairwise_cosine(queries, row, donors, col)
    # By row, then by falling cosine, then by donor: one integer, as cosines are rounded.
    place = row * (2 * _SCALE + 1) + (_SCALE - np.rint(cosine * _SCALE).astype(np.int64))
    order = np.argsort(place * len(donors) + col)
    row = row[order]
    rank = np.arange(len(row)) - ragged.offsets(np.bincount(row, minlength=len(queries)))[row]
    best = np.flatnonzero(rank < k)
    row, rank, order = row[best], rank[best], order[best]
    donor = np.full((len(queries), k), -1, dtype=np.int32)
    similarity = np.zeros((len(queries), k))
    donor[row, rank] = col[order]
    similarity[row, rank] = cosine[order]
    return donor, similarity


def _candidates(
    queries: Vectors,
    donors: Vectors,
    k: int,
    exclude: NDArray[np.int32] | None,
    first_event: NDArray[np.float64] | None,
    before: NDArray[np.float64] | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return query and donor of all pairs that may be among the `k` best of their query.

    The product's last bits depend on the shape of the tile. So it only chooses candidates, all that
    may be among the best within its error: their cosines are computed one by one.

    The donors of a tile are divided into groups. At least `k` of a query's donors reach the least
    of its `k` largest group maxima so far, so that only groups whose maximum reaches it are looked
    into: one pass over the product, where a partition takes many.
    """
    n, error = len(queries), np.float32(_error(queries))
    step = _TILE_DONORS * max(1, _TILE_QUERIES // max(1, n))  # few queries meet more donors
    # Column j of a tile is in group j % n_groups; twice as many as are looked for, at least.
    n_columns = min(step, len(donors))
    n_groups = min(max(1, n_columns), 1 << (max(64, 2 * k, n_columns // 32) - 1).bit_length())
    size = -(-n_columns // n_groups)
    tile = np.empty((n, size * n_groups), dtype=np.float32)
    groups = tile.reshape(n, size, n_groups)
    # The largest group maxima; -2 is below any cosine and above -inf.
    best = np.full((n, k), -2.0, dtype=np.float32)
    bound = best[:, 0]
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))]
    due = 0
    for number, first in enumerate(range(0, len(donors), step)):
        cols = slice(first, first + step)
        width = len(donors[cols])
        product = tile[:, :width]
        np.matmul(queries, donors[cols].T, out=product)
        tile[:, width:] = -np.inf
        if exclude is not None:
            own = exclude - first
            inside = np.flatnonzero((own >= 0) & (own < width))
            product[inside, own[inside]] = -np.inf
        if first_event is not None and before is not None:
            np.copyto(product, -np.inf, where=first_event[cols] >= before[:, None])
        largest = groups[:, 0].copy()
        for i in range(1, size):
            np.maximum(largest, groups[:, i], out=largest)
        if number == due:
            # A bound that is a little old costs less than a new one for every tile.
            top = largest if n_groups <= k else np.partition(largest, -k, axis=1)[:, -k:]
            best = np.partition(np.concatenate([best, top], axis=1), -k, axis=1)[:, -k:]
            bound = best.min(axis=1) - error
            due = number + 1 + number // 4
        row, group = np.divmod(np.flatnonzero(largest >= bound[:, None]), n_groups)
        value = groups[row, :, group]
        hit, place = np.divmod(np.flatnonzero(value >= bound[row, None]), size)
        col = first + place * n_groups + group[hit]
        found.append((row[hit], col, value[hit, place]))
    row, col, value = (np.concatenate(part) for part in zip(*found))
    kept = np.flatnonzero(value >= bound[row])  # that of the last tiles
    row, col, value = row[kept], col[kept], value[kept]
    # By row, then by falling cosine.
    order = np.argsort((row << 32) - np.rint(value * np.float32(1 << 30)).astype(np.int64))
    row, col, value = row[order], col[order], value[order]
    n_each = np.bincount(row, minlength=n)
    last = (ragged.offsets(n_each)[:-1] + np.minimum(n_each, k) - 1)[row]
    kept = np.flatnonzero(value >= value[last] - error)
    return row[kept], col[kept]


@dataclass(frozen=True)
class Donors:
    """The donors most similar to some users (Eq. 15)."""

    user: Vectors  # centred unit vectors of the users
    donor: NDArray[np.int32]  # (n_users, k), the most similar first; -1 where there are no more
    similarity: NDArray[np.float64]  # (n_users, k), cosines; 0 where there are no more


# A block of searches, and the embeddings of their users if these are made by an earlier step.
Searches = tuple[range, Vectors | None]


def embedded_users(plan: Plan, block: range) -> Vectors | None:
    """Return the embeddings of the users of a block of searches; None where items make users.

    A step that makes embeddings need not know that several threads call it.
    """
    if plan.pool.user_kind != "embedding":
        return None
    return _user_vectors(plan, block)


def _user_vectors(plan: Plan, block: range) -> Vectors:
    rows = plan.first_row[block.start : block.stop]
    return plan.pool.user_vectors(plan.X[rows], plan.items)


def find_donors(plan: Plan, block: range, vectors: Vectors | None = None) -> Donors:
    """Find the donors of the users of a block of searches.

    Users without a vector have none, nor have those who do not borrow. `vectors` are those of the
    users, where they are known. An index, if there is one, only proposes candidates, whose cosines
    are computed here. Where too few of them are permitted (those with an event before the row,
    say), the search is exact.
    """
    pool, k = plan.pool, plan.n_donors
    rows = plan.first_row[block.start : block.stop]
    users = centred_units(_user_vectors(plan, block) if vectors is None else vectors, pool.center)
    donor = np.full((len(rows), k), -1, dtype=np.int32)
    similarity = np.zeros(donor.shape)
    search = np.flatnonzero(has_embedding(users) & plan.finds_donors[block.start : block.stop])
    own, first_event = plan.own.donor[rows], pool.first_event
    before = None if plan.before is None else plan.before[rows]
    if pool.index is not None and len(search):
        # One more, as the user may be among their own neighbours. Only where some donors came
        # later than the row, many more are looked for.
        late = np.zeros(len(search), dtype=bool)
        if before is not None and first_event is not None:
            late = before[search] <= pool.last_first_event
        lacking = []
        for some, wanted in ((search[~late], k + 1), (search[late], 4 * (k + 1))):
            if len(some):
                allowed = None if before is None else before[some]
                found = _search_index(plan, users[some], own[some], allowed, wanted)
                donor[some], similarity[some], complete = found
                lacking.append(some[~complete])
        search = np.concatenate(lacking)
    if len(search):
        donor[search], similarity[search] = top_k(
            users[search],
            pool.units,
            k,
            exclude=own[search],
            first_event=first_event,
            before=None if before is None else before[search],
            n_jobs=plan.settings.n_jobs,
        )
    return Donors(users, donor, similarity)


def donors_of_rows(plan: Plan) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the donors most similar to the user of each row of a plan, and their cosines.

    Both of shape (n_rows, `plan.n_donors`), the most similar first; -1 and 0 where there are no
    more, and in rows for which the plan searches none.
    """
    donor = np.full((len(plan.X), plan.n_donors), -1, dtype=np.int32)
    similarity = np.zeros(donor.shape)
    for block in plan.blocks:
        found, (row, at) = find_donors(plan, block), plan.rows_of(block)
        donor[row], similarity[row] = found.donor[at], found.similarity[at]
    return donor, similarity


def _search_index(
    plan: Plan,
    users: Vectors,
    own: NDArray[np.int32],
    before: NDArray[np.float64] | None,
    wanted: int,
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.bool_]]:
    """Return the best of `wanted` donors that the index proposes for each user.

    And whether these are enough: as many as are looked for, or all that there are.
    """
    pool, k = plan.pool, plan.n_donors
    assert pool.index is not None
    wanted = min(len(pool.units), wanted)
    found, cosine = _proposed(pool.index, users, wanted, len(pool.units), plan.settings.n_jobs)
    n_proposed = np.count_nonzero(found >= 0, axis=1)
    allowed = (found >= 0) & (found != own[:, None])
    if before is not None and pool.first_event is not None:
        allowed &= pool.first_event[found] < before[:, None]
    if cosine is not None:
        # Within their error, these cosines tell which are among the best.
        cosine[~allowed] = -np.inf
        least = np.partition(cosine, -k, axis=1)[:, -k, None]
        allowed &= cosine >= least - _error(users)
    row, rank = np.nonzero(allowed)
    donor, similarity = _ranked(row, found[row, rank], users, pool.units, k)
    return donor, similarity, (donor[:, -1] >= 0) | (n_proposed == len(pool.units))


def _proposed(
    index: NeighborIndex, queries: Vectors, n_neighbors: int, n_donors: int, n_jobs: int | None
) -> tuple[NDArray[np.int64], NDArray[np.float32] | None]:
    """Return the donors that an index proposes for each query, each once, -1 where there is none.

    And their cosines in single precision, if the index is known to tell these.
    """
    if isinstance(index, HNSWNeighbors):
        cosine, found = index.proposed(queries, n_neighbors, n_jobs)
        return found, cosine
    searched = index.kneighbors(queries, n_neighbors=n_neighbors, return_distance=False)
    found = np.asarray(searched)
    shape = (len(queries), n_neighbors)
    if found.shape != shape or found.dtype.kind not in "iu" or found.max() >= n_donors:
        raise ValueError(
            f"kneighbors of neighbors={index!r} returned shape {found.shape} for {len(queries)} "
            f"queries and n_neighbors={n_neighbors}, dtype {found.dtype}; expected row numbers "
            f"below {n_donors} of shape {shape}."
        )
    found = np.sort(found.astype(np.int64), axis=1)
    found[:, 1:][found[:, 1:] == found[:, :-1]] = -1
    return np.maximum(found, -1), None


class CosineNeighbors(DocLinkMixin, BaseEstimator):
    """Exact nearest neighbours by cosine, as a blocked matrix product.

    Parameters
    ----------
    n_jobs : int, default=None
        Threads over blocks of queries; None for as many as BLAS has.

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

    def fit(self, X: ArrayLike, y: object = None) -> CosineNeighbors:
        """Store the vectors, scaled to unit length. `y` is ignored."""
        self.vectors_ = unit(X)
        return self

    def kneighbors(
        self, X: ArrayLike, n_neighbors: int = 5, return_distance: bool = True
    ) -> Neighbors:
        """Return (1 - cosine, row numbers), each of shape (n_queries, n_neighbors).

        Nearest first; ties go to the lower number. Without `return_distance` the numbers alone.
        """
        check_is_fitted(self)
        if not 1 <= n_neighbors <= len(self.vectors_):
            raise ValueError(
                f"n_neighbors must be between 1 and the number of vectors of fit, "
                f"{len(self.vectors_)}; got {n_neighbors}."
            )
        neighbor, cosine = top_k(unit(X), self.vectors_, n_neighbors, n_jobs=self.n_jobs)
        row = neighbor.astype(np.int64)
        return (1.0 - cosine, row) if return_distance else row
