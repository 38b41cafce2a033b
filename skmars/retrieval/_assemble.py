"""Add borrowed items and look-alike features to rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions, ItemCatalog, Sequences
from skmars.data._columns import LOOKALIKES, TOUCHED
from skmars.data._sequences import FLAT
from skmars.retrieval import _plan
from skmars.retrieval._borrowing import Borrowers, borrow, nothing_borrowed
from skmars.retrieval._embeddings import ItemSpace
from skmars.retrieval._lookalike_features import Counts, count_lookalikes, lookalike_features
from skmars.retrieval._neighbors import Donors
from skmars.utils import _ragged as ragged
from skmars.utils._blocks import in_threads
from skmars.utils._units import Vectors

# Rows that get features on one thread, and of these at a time: what is computed for them then fits
# into the cache.
_THREAD_ROWS, _CACHE_ROWS = 1 << 14, 1 << 10


@dataclass(frozen=True)
class Retrieved:
    """What some rows borrow, and their look-alike features."""

    borrowing: NDArray[np.int64]  # rows that may borrow
    borrowed: Sequences  # what each of these borrows
    featured: NDArray[np.int64]  # rows with look-alike features
    features: NDArray[np.float64]  # (4, n_featured)


def retrieve(plan: _plan.Plan, block: range, donors: Donors) -> Retrieved:
    """Return what the rows of a block of searches borrow, and their look-alike features."""
    row, at = plan.rows_of(block)
    borrows = plan.borrows[row]
    borrowed = nothing_borrowed(plan.pool.history)
    if borrows.any():
        borrowed = borrowed_items(plan, row[borrows], at[borrows], donors)
    if not plan.settings.n_lookalikes:
        return Retrieved(row[borrows], borrowed, row[:0], np.zeros((len(LOOKALIKES), 0)))

    users = compared_users(plan, block)

    def featured(first: int) -> NDArray[np.float64]:
        some = slice(first, first + _THREAD_ROWS)
        return _features(plan, row[some], at[some], users)

    with in_threads(featured, range(0, len(row), _THREAD_ROWS), plan.settings.n_jobs) as parts:
        features = np.concatenate(list(parts), axis=1)
    return Retrieved(row[borrows], borrowed, row, features)


def compared_users(plan: _plan.Plan, block: range) -> Vectors:
    """Return the vectors by which the users of a block of searches are compared with all users."""
    history = plan.X.history[plan.first_row[block.start : block.stop]]
    return plan.pool.users.compared(history, plan.items)


def _features(
    plan: _plan.Plan, row: NDArray[np.int64], at: NDArray[np.int64], users: Vectors
) -> NDArray[np.float64]:
    """Return the features of rows; `at` says which of `users` is that of each, ascending."""
    features = np.empty((len(LOOKALIKES), len(row)))
    for first in range(0, len(row), _CACHE_ROWS):
        some = slice(first, first + _CACHE_ROWS)
        theirs = slice(at[some][0], at[some][-1] + 1)
        counts = lookalike_counts(plan, row[some], at[some] - theirs.start, users[theirs])
        features[:, some] = lookalike_features(counts, plan.pool.users.interactions.share_of_likes)
    return features


def lookalike_counts(
    plan: _plan.Plan, row: NDArray[np.int64], at: NDArray[np.int64], users: Vectors
) -> Counts:
    """Count how users interacted with the targets of rows; see `_features` for `at`."""
    everybody = plan.pool.users
    return count_lookalikes(
        everybody.interactions,
        everybody.vectors,
        everybody.spread,
        users,
        at,
        plan.own.user[row],
        plan.items.codes(plan.X.target[row]),
        None if plan.before is None else plan.before[row],
        plan.settings.n_lookalikes,
    )


def assemble(plan: _plan.Plan, found: Iterable[Retrieved]) -> Impressions:
    """Return the rows of a plan with borrowed items and look-alike features.

    `found` has what each block of searches led to. The catalogue is extended by borrowed items that
    it lacks.
    """
    X, pool = plan.X, plan.pool
    rows: list[NDArray[np.int64]] = []
    pieces: list[Sequences] = []
    features = np.zeros((len(LOOKALIKES), len(X)))
    for part in found:
        rows.append(part.borrowing)
        pieces.append(part.borrowed)
        features[:, part.featured] = part.features
    if plan.settings.n_lookalikes:
        names = TOUCHED if pool.history.feedback is None else LOOKALIKES
        X = X._with(context={**X.context, **dict(zip(names, features))})
    if not pieces:
        rows, pieces = [np.zeros(0, dtype=np.int64)], [nothing_borrowed(pool.history)]
    borrowed = stacked(rows, pieces, len(X))
    catalog, items = _in_catalog(borrowed.items, pool.items, X.catalog)
    return X.with_catalog(catalog)._with(borrowed=borrowed._with(items=items, donors=pool.ids))


def borrowed_items(
    plan: _plan.Plan, rows: NDArray[np.int64], user: NDArray[np.int64], donors: Donors
) -> Sequences:
    """Return the borrowed items of rows; computed once for rows of equal history and target."""
    settings, items = plan.settings, plan.items
    relevance, max_length = settings.relevance, settings.max_length
    target = plan.X.target[rows]
    by_target = items.stacked_units and relevance != "user"
    first, borrower = _plan.distinct([user, target] if by_target else [user])
    rows, user, target = rows[first], user[first], target[first]

    def query_vectors(some: NDArray[np.int64]) -> NDArray[np.float64]:
        if relevance == "target":
            return items.units(target[some]).astype(np.float64)
        users = donors.user[user[some]].astype(np.float64)
        # The mean of two cosines is the cosine-like product with the mean of both unit vectors.
        return users if relevance == "user" else (users + items.units(target[some])) / 2

    own = plan.X.history[rows].last(max_length)
    borrowers = Borrowers(
        donor=donors.donor[user, : settings.n_neighbors],
        donor_similarity=donors.similarity[user, : settings.n_neighbors],
        query_vectors=query_vectors if items.stacked_units else None,
        own=own,
        capacity=max_length - own.length.astype(np.int64),
        before=None if plan.before is None else plan.before[rows],
    )
    return borrow(borrowers, plan.pool.history, items, settings)[borrower]


def stacked(rows: list[NDArray[np.int64]], pieces: list[Sequences], n_rows: int) -> Sequences:
    """Concatenate sequences; row ``rows[p][i]`` of the result is row `i` of piece `p`.

    Rows that are in no piece are empty.
    """
    shift = ragged.offsets(np.array([len(piece.items) for piece in pieces]))
    start, length = np.zeros(n_rows, dtype=np.int64), np.zeros(n_rows, dtype=np.int32)
    for row, piece, by in zip(rows, pieces, shift):
        start[row], length[row] = piece.start + by, piece.length

    def column(name: str) -> Any:
        parts = [getattr(piece, name) for piece in pieces]
        return None if parts[0] is None else np.concatenate(parts)

    return Sequences(start=start, length=length, **{name: column(name) for name in FLAT})


def _in_catalog(
    items: NDArray[np.int32], space: ItemSpace, old: ItemCatalog
) -> tuple[ItemCatalog, NDArray[np.int32]]:
    """Return a catalogue extended by items of `fit`, and the codes of these in it."""
    distinct, number = np.unique(items, return_inverse=True)
    ids = space.ids[distinct]
    catalog = old.extend(ids)
    codes = catalog.codes(ids)
    added = codes >= len(old)
    if added.any() and space.vectors is not None and space.kind == "embedding":
        # Later steps get the embeddings that fit knew. (Both are of one space, see
        # ItemSpace.view.) The new items are the last part.
        last = catalog.parts[-1]
        embedding = last.take_embedding(np.arange(len(last)))
        if embedding is not None:
            embedding[last.codes(ids[added])] = space.vectors[distinct[added]]
            changed = last.with_embedding(embedding)
            catalog = catalog.map_parts(lambda part: changed if part is last else part)
    return catalog, codes[number]
