"""From donors to borrowed histories: relevance, filter and concatenation (Eq. 16-18)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skmars.data import Sequences
from skmars.retrieval._dynamic_programming import matched_events
from skmars.retrieval._embeddings import Vectors, pairwise_cosine, rounded
from skmars.utils import _ragged as ragged

_BLOCK = 1 << 22  # events of donors looked at together


@dataclass(frozen=True)
class Rule:
    """What is borrowed of the donors' histories; see `SequenceRetrievalAugmenter`."""

    strategy: str
    theta: float
    n_neighbors: int
    max_borrowed: int | None


@dataclass(frozen=True)
class Queries:
    """Low-active rows that borrow, one entry a query.

    Attributes
    ----------
    donor : ndarray of shape (n_queries, k), int32
        Their donors, most similar first; -1 for none.
    donor_similarity : ndarray of shape (n_queries, k), float64
        Eq. 15.
    probe : callable or None
        ``probe(q)`` is what Eq. 16 compares items with for the queries `q`: unit vectors or means
        of two, float64 of shape (len(q), n_components). None if items have no embedding.
    own : Sequences of n_queries rows
        Their own history, in the item codes of the donors' histories.
    room : ndarray of shape (n_queries,), int64
        How many items they may borrow.
    before : ndarray of shape (n_queries,), float64, or None
        Only events before this moment are borrowed; None for no restriction.
    """

    donor: NDArray[np.int32]
    donor_similarity: NDArray[np.float64]
    probe: Callable[[NDArray[np.int64]], NDArray[np.float64]] | None
    own: Sequences
    room: NDArray[np.int64]
    before: NDArray[np.float64] | None


@dataclass
class _Events:
    """Events of donors, grouped by pair (a query and one of its donors), oldest first."""

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


def borrow(queries: Queries, donors: Sequences, units: Vectors | None, rule: Rule) -> Sequences:
    """Return what each query borrows.

    Parameters
    ----------
    queries : Queries
    donors : Sequences
        One history a donor.
    units : ndarray of shape (n_items, n_components), float32, or None
        Centred unit vectors of the items.
    rule : Rule

    Returns
    -------
    Sequences of n_queries rows
        The least similar donor leftmost, oldest first within a donor. Its flat arrays are as
        long as what is borrowed; `donor` holds row numbers of `donors`.
    """
    n = len(queries.donor)
    start, length = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int32)
    position, donor = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int32)]
    relevance, similarity = [np.zeros(0, dtype=np.float32)], [np.zeros(0, dtype=np.float32)]
    filled = 0
    for rows in _blocks(queries, donors):
        row, rank = _pairs(queries.donor[rows], rule)
        # Pairs of one donor side by side: their relevance is one matrix product.
        by_donor = np.argsort(queries.donor[rows[row], rank], kind="stable")
        row, rank = row[by_donor], rank[by_donor]
        events = _events(queries, donors, units, rule, rows[row], rank)
        # Eq. 18: row by row, the most similar donor last, next to the own history.
        as_read = np.lexsort((-rank, row))
        row, rank, events = row[as_read], rank[as_read], events.take(as_read)
        events = _cut(events, row, queries.room[rows], rule)

        length[rows] = np.bincount(row, weights=events.n, minlength=len(rows))
        start[rows] = filled + ragged.offsets(length[rows])[:-1]
        filled += len(events.position)
        position.append(events.position)
        donor.append(np.repeat(queries.donor[rows[row], rank], events.n))
        relevance.append(events.s.astype(np.float32))
        cosine = queries.donor_similarity[rows[row], rank].astype(np.float32)
        similarity.append(np.repeat(cosine, events.n))

    taken = np.concatenate(position)
    return Sequences(
        donors.items[taken],
        start,
        length,
        feedback=None if donors.feedback is None else donors.feedback[taken],
        time=None if donors.time is None else donors.time[taken],
        donor=np.concatenate(donor),
        similarity=np.concatenate(relevance),
        donor_similarity=np.concatenate(similarity),
    )


def _blocks(queries: Queries, donors: Sequences) -> Iterator[NDArray[np.int64]]:
    """Yield queries in blocks of bounded work, those of one donor side by side."""
    order = np.argsort(queries.donor[:, 0], kind="stable")
    lengths = np.append(donors.length, 0).astype(np.int64)  # -1 takes the last entry: 0
    done = np.cumsum(lengths[queries.donor[order]].sum(axis=1))
    at = 0
    while at < len(order):
        budget = _BLOCK + (done[at - 1] if at else 0)
        end = max(at + 1, int(np.searchsorted(done, budget, side="right")))
        yield order[at:end]
        at = end


def _pairs(donor: NDArray[np.int32], rule: Rule) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and rank of the donors that lend."""
    lends = donor >= 0
    if rule.strategy == "kth":
        lends[:, : rule.n_neighbors - 1] = False
        lends[:, rule.n_neighbors :] = False
    row, rank = np.nonzero(lends)
    return row, rank


def _events(
    queries: Queries,
    donors: Sequences,
    units: Vectors | None,
    rule: Rule,
    query: NDArray[np.int64],
    rank: NDArray[np.int64],
) -> _Events:
    """Return the events that the pairs (sorted by donor) may borrow."""
    donor = queries.donor[query, rank]
    if rule.strategy == "dp":
        assert units is not None
        return _matched(queries, donors[donor], units, rule.theta, query)
    # What each pair looks at: the whole history, or, where no event is passed over, as many as
    # there is room for. In any case the last ones.
    window = donors.length[donor].astype(np.int64)
    if rule.strategy != "filter" and queries.before is None:
        window = np.minimum(window, queries.room[query])
        if rule.max_borrowed is not None:
            window = np.minimum(window, rule.max_borrowed)
    if not len(donor):
        return _Events(window, np.zeros(0, dtype=np.int64), np.zeros(0))
    # All pairs of one donor look at equally many: their relevance is one matrix product.
    first = np.flatnonzero(np.diff(donor, prepend=-1))
    n_pairs = np.diff(first, append=len(donor))
    widest = np.maximum.reduceat(window, first)
    looked_at = np.repeat(widest, n_pairs)
    end = (donors.start[donor] + donors.length[donor]).astype(np.int64)
    position = ragged.ranges(end - looked_at, looked_at)
    s = np.full(len(position), np.nan)
    if queries.probe is not None and units is not None:
        # In float64, so that the rounded result does not depend on what else is in a product.
        begin = ragged.offsets(n_pairs * widest)
        for i, pair in enumerate(first):
            items = donors.items[position[begin[i] : begin[i] + widest[i]]]
            probes = queries.probe(query[pair : pair + n_pairs[i]])
            product = s[begin[i] : begin[i + 1]].reshape(n_pairs[i], widest[i])
            np.matmul(probes, units[items].T.astype(np.float64), out=product)
        rounded(s)
    kept = position >= np.repeat(end - window, looked_at)
    if rule.strategy == "filter":
        kept &= s >= rule.theta  # Eq. 17
    if queries.before is not None and donors.time is not None:
        kept &= donors.time[position] < np.repeat(queries.before[query], looked_at)
    return _Events(looked_at, position, s).keep(kept)


def _matched(
    queries: Queries, history: Sequences, units: Vectors, theta: float, query: NDArray[np.int64]
) -> _Events:
    """Return the events that match the own history best (strategy "dp")."""
    n = history.length.astype(np.int64)
    position = history.positions()
    permitted = np.ones(len(position), dtype=bool)
    if queries.before is not None and history.time is not None:
        permitted = history.time[position] < np.repeat(queries.before[query], n)
    used = matched_events(queries.own[query], history, permitted, units, theta)
    events = _Events(n, position, np.zeros(len(position))).keep(used)
    if queries.probe is not None:
        of = np.repeat(np.arange(len(query)), events.n)
        items = history.items[events.position]
        events.s = pairwise_cosine(queries.probe(query), of, units, items)
    return events


def _cut(events: _Events, row: NDArray[np.int64], room: NDArray[np.int64], rule: Rule) -> _Events:
    """Keep of each row at most `max_borrowed` events, and at most as many as there is room."""
    if rule.max_borrowed is not None:
        event_row = np.repeat(row, events.n)
        nearness = np.arange(len(event_row))
        best_last = (nearness, events.s, event_row) if rule.strategy == "filter" else (event_row,)
        order = np.lexsort(best_last)
        kept = np.empty(len(order), dtype=bool)
        kept[order] = _from_the_end(event_row) < rule.max_borrowed
        events = events.keep(kept)
    event_row = np.repeat(row, events.n)
    return events.keep(_from_the_end(event_row) < room[event_row])


def _from_the_end(event_row: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the events of the same row that follow each event (rows are contiguous)."""
    edges = np.append(np.flatnonzero(np.diff(event_row, prepend=-1)), len(event_row))
    return np.repeat(edges[1:], np.diff(edges)) - 1 - np.arange(len(event_row))
