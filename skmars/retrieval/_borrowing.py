"""Choose what is borrowed from the histories of donors: relevance, filter, order (Eq. 16-18)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Sequences
from skmars.retrieval._dynamic_programming import matched_events
from skmars.retrieval._embeddings import DECIMALS, ItemView, pairwise_cosine, rounded
from skmars.retrieval._plan import Settings
from skmars.utils import _ragged as ragged
from skmars.utils._blocks import in_threads

_BLOCK = 1 << 19  # events of donors that a thread has in memory at a time


@dataclass(frozen=True)
class Borrowers:
    """Low-active rows that borrow; those that would borrow the same have one entry.

    ``query_vectors(b)`` is what Eq. 16 compares items with for the borrowers `b`: unit vectors or
    means of two, shape (len(b), n_components); None if items have no vectors.
    """

    donor: NDArray[np.int32]  # (n, k), Eq. 15, most similar first; -1 for none
    donor_similarity: NDArray[np.float64]  # (n, k)
    query_vectors: Callable[[NDArray[np.int64]], NDArray[np.float64]] | None
    own: Sequences  # their own history
    capacity: NDArray[np.int64]  # how many items they may borrow
    before: NDArray[np.float64] | None  # only earlier events are borrowed; None for all


@dataclass(frozen=True)
class _Events:
    """Events of donors, grouped by pair (a borrower and one of its donors), oldest first."""

    n: NDArray[np.int64]  # events of each pair
    position: NDArray[np.int64]  # index into the flat arrays of the donors' histories
    s: NDArray[np.float64]  # relevance, Eq. 16

    def keep(self, kept: NDArray[np.bool_]) -> _Events:
        # Counting by cumulated sums: pairs without any event are no special case.
        total = ragged.offsets(kept)[ragged.offsets(self.n)]
        return _Events(np.diff(total), self.position[kept], self.s[kept])

    def take(self, pairs: NDArray[np.int64]) -> _Events:
        events = ragged.ranges(ragged.offsets(self.n)[pairs], self.n[pairs])
        return _Events(self.n[pairs], self.position[events], self.s[events])


def nothing_borrowed(donors: Sequences) -> Sequences:
    """Return sequences of no row, with the arrays that items borrowed of these donors have."""
    none = np.zeros(0, dtype=np.float32)
    return replace(
        donors[:0].compact(), donor=none.astype(np.int32), similarity=none, donor_similarity=none
    )


def borrow(
    borrowers: Borrowers, donors: Sequences, items: ItemView, settings: Settings
) -> Sequences:
    """Return the items that each borrower takes from its donors.

    Histories of donors are in item codes of `fit`.

    The least similar donor stands leftmost; within a donor the oldest item. The flat arrays are as
    long as what is borrowed, and `donor` holds row numbers of `donors`.
    """
    n = len(borrowers.donor)
    start, length = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int32)
    parts = []
    filled = 0

    def taken(rows: NDArray[np.int64]) -> _Taken:
        return _taken(rows, borrowers, donors, items, settings)

    blocks = list(_blocks(borrowers, donors))
    with in_threads(taken, blocks, settings.n_jobs) as found:
        for rows, part in zip(blocks, found):
            length[rows] = part.length
            start[rows] = filled + ragged.offsets(part.length)[:-1]
            filled += len(part.position)
            parts.append(part)
    if not parts:
        parts = [_taken(np.zeros(0, dtype=np.int64), borrowers, donors, items, settings)]

    def column(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    position = column("position")
    return Sequences(
        donors.items[position],
        start,
        length,
        feedback=None if donors.feedback is None else donors.feedback[position],
        time=None if donors.time is None else donors.time[position],
        donor=column("donor"),
        similarity=column("similarity"),
        donor_similarity=column("donor_similarity"),
    )


@dataclass(frozen=True)
class _Taken:
    """What some borrowers take, one after another."""

    length: NDArray[np.int64]  # of each borrower
    position: NDArray[np.int64]  # index into the flat arrays of the donors' histories
    donor: NDArray[np.int32]
    similarity: NDArray[np.float32]  # relevance, Eq. 16
    donor_similarity: NDArray[np.float32]


def _taken(
    rows: NDArray[np.int64],
    borrowers: Borrowers,
    donors: Sequences,
    items: ItemView,
    settings: Settings,
) -> _Taken:
    """Return what a block of borrowers takes."""
    row, rank = np.nonzero(borrowers.donor[rows] >= 0)
    # Pairs of one donor side by side: their relevance is one matrix product.
    by_donor = np.argsort(borrowers.donor[rows[row], rank], kind="stable")
    row, rank = row[by_donor], rank[by_donor]
    events = _events(borrowers, donors, items, settings, rows[row], rank)
    # Eq. 18: row by row, the most similar donor last, next to the own history.
    as_read = np.lexsort((-rank, row))
    row, rank, events = row[as_read], rank[as_read], events.take(as_read)
    events = _cut(events, row, borrowers.capacity[rows], settings)
    cosine = borrowers.donor_similarity[rows[row], rank].astype(np.float32)
    return _Taken(
        np.bincount(row, weights=events.n, minlength=len(rows)).astype(np.int64),
        events.position,
        np.repeat(borrowers.donor[rows[row], rank], events.n),
        events.s.astype(np.float32),
        np.repeat(cosine, events.n),
    )


def _blocks(borrowers: Borrowers, donors: Sequences) -> Iterator[NDArray[np.int64]]:
    """Yield borrowers in blocks of bounded work, those of one donor side by side."""
    order = np.argsort(borrowers.donor[:, 0], kind="stable")
    donor = borrowers.donor[order]
    done = np.cumsum(np.where(donor < 0, 0, donors.length[donor]).sum(axis=1, dtype=np.int64))
    at = 0
    while at < len(order):
        budget = _BLOCK + (done[at - 1] if at else 0)
        end = max(at + 1, int(np.searchsorted(done, budget, side="right")))
        yield order[at:end]
        at = end


def _events(
    borrowers: Borrowers,
    donors: Sequences,
    items: ItemView,
    settings: Settings,
    borrower: NDArray[np.int64],
    rank: NDArray[np.int64],
) -> _Events:
    """Return the events that the pairs (sorted by donor) may borrow, with their relevance."""
    donor = borrowers.donor[borrower, rank]
    history = donors[donor]
    n, begin = history.length.astype(np.int64), history.offsets
    pair = np.repeat(np.arange(len(n)), n)
    s = np.full(len(pair), np.nan)
    if settings.strategy == "dp":
        early = _is_early(borrowers, donors, borrower[pair], history.positions())
        kept = matched_events(borrowers.own[borrower], history, early, items, settings.theta)
    else:
        kept = np.ones(len(pair), dtype=bool)
        if borrowers.query_vectors is not None:
            # Eq. 16: for each donor one product, of all its items and all that borrow of it. In
            # float64, so that the rounded result does not depend on what else is in a product.
            edges = np.append(np.flatnonzero(np.diff(donor, prepend=-1)), len(donor))
            for first, end in zip(edges[:-1], edges[1:]):
                theirs = items.stacked_units[0][history.row(first)].T.astype(np.float64)
                product = s[begin[first] : begin[end]].reshape(end - first, n[first])
                np.matmul(borrowers.query_vectors(borrower[first:end]), theirs, out=product)
        if settings.strategy == "filter":
            kept = s >= settings.theta - 10.0**-DECIMALS  # before rounding
    # Few events are left of many.
    at = np.flatnonzero(kept)
    pair, s = pair[at], s[at]
    position = history.start[pair] + at - begin[pair]
    if settings.strategy == "dp":
        if borrowers.query_vectors is not None:  # Eq. 16 for each by itself
            vectors, known = borrowers.query_vectors(borrower), donors.items[position]
            s = pairwise_cosine(vectors, pair, items.stacked_units[0], known)
    else:
        rounded(s)
        kept = _is_early(borrowers, donors, borrower[pair], position)
        if settings.strategy == "filter":
            kept &= s >= settings.theta  # Eq. 17
        pair, position, s = pair[kept], position[kept], s[kept]
    return _Events(np.bincount(pair, minlength=len(n)), position, s)


def _is_early(
    borrowers: Borrowers,
    donors: Sequences,
    borrower: NDArray[np.int64],
    position: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Return which events of donors were before the moment of the borrower."""
    if borrowers.before is None or donors.time is None:
        return np.ones(len(position), dtype=bool)
    return np.asarray(donors.time[position] < borrowers.before[borrower])


def _cut(
    events: _Events, row: NDArray[np.int64], capacity: NDArray[np.int64], settings: Settings
) -> _Events:
    """Keep of each row at most `max_borrowed` events, and at most as many as its capacity."""
    if settings.max_borrowed is not None:
        event_row = np.repeat(row, events.n)
        nearness = np.arange(len(event_row))
        best_last = (
            (nearness, events.s, event_row) if settings.strategy == "filter" else (event_row,)
        )
        order = np.lexsort(best_last)
        kept = np.empty(len(order), dtype=bool)
        kept[order] = _from_the_end(event_row) < settings.max_borrowed
        events = events.keep(kept)
    event_row = np.repeat(row, events.n)
    return events.keep(_from_the_end(event_row) < capacity[event_row])


def _from_the_end(event_row: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the events of the same row that follow each event (rows are contiguous)."""
    edges = np.append(np.flatnonzero(np.diff(event_row, prepend=-1)), len(event_row))
    return np.repeat(edges[1:], np.diff(edges)) - 1 - np.arange(len(event_row))
