"""From rows of impressions to borrowed histories: users, their donors, what these lend and say."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions, ItemCatalog, Sequences
from skmars.data._columns import LOOKALIKES, TOUCHED
from skmars.data._sequences import FLAT
from skmars.retrieval._borrowing import Queries, Rule, borrow
from skmars.retrieval._embeddings import (
    ItemSpace,
    Vectors,
    center_of,
    centred_units,
    has_embedding,
)
from skmars.retrieval._lookalike_features import DonorInteractions, comparable, support
from skmars.retrieval._neighbors import find_donors, fit_index
from skmars.utils import _ragged as ragged
from skmars.utils._ids import Lookup

_BLOCK_ROWS = 1 << 14  # distinct histories embedded and searched at a time


@dataclass(frozen=True)
class DonorPool:
    """The donors of `fit`.

    Attributes
    ----------
    ids : ndarray of shape (n_donors,)
        Their user ids.
    history : Sequences of n_donors rows
        Their longest history, in codes of `items`.
    units : ndarray of shape (n_donors, n_components), float32
        Centred unit user embeddings.
    center : ndarray of shape (n_components,), float64
        Mean of the donors' user embeddings.
    items : ItemSpace
        The items of `fit`.
    users : {"units", "embedding", "vectors"}
        What `user_vectors` makes of rows.
    index : estimator or None
        Neighbour index over `units`; None searches exactly.
    """

    ids: NDArray[Any]
    history: Sequences
    units: Vectors
    center: NDArray[np.float64]
    items: ItemSpace
    users: str
    index: Any = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def first_event(self) -> NDArray[np.float64] | None:
        """When each donor's first event happened."""
        if self.history.time is None:
            return None
        times = self.history.time[self.history.positions()]
        if len(times) == 0:
            return np.zeros(0)
        return np.minimum.reduceat(times, self.history.offsets[:-1])

    @cached_property
    def interactions(self) -> DonorInteractions:
        """Which donors touched which items."""
        return DonorInteractions.of(self.history, len(self.items.catalog))

    def n_before(self, before: NDArray[np.float64] | None, n_rows: int) -> NDArray[np.int64]:
        """Count for each row the donors with an event before its moment; all without moments."""
        if before is None:
            return np.full(n_rows, len(self))
        return np.searchsorted(self._begun, comparable(before))

    @cached_property
    def _begun(self) -> NDArray[np.float64]:
        """First events, ascending."""
        return np.sort(self.first_event)  # type: ignore[arg-type]

    def __getstate__(self) -> dict[str, Any]:
        # What is cached is made again faster than it is read.
        fields = self.__dataclass_fields__
        return {name: value for name, value in vars(self).items() if name in fields}


def collect_donors(
    X: Impressions,
    user_representation: str,
    representation: str,
    neighbors: Any,
    n_jobs: int | None,
) -> DonorPool:
    """Make the pool of donors from one row of each.

    Parameters
    ----------
    X : Impressions
        Their longest histories, with user embeddings or a catalogue with item vectors.
    user_representation : {"history", "embedding"}
    representation : {"features", "embedding"}
        What stands for items.
    neighbors : str or estimator
    n_jobs : int or None

    Raises
    ------
    ValueError
        If there is nothing to compare users by, or an embedding is not finite.
    """
    items = ItemSpace.of(X.catalog, representation)
    vectors = items.vectors
    if vectors is not None:
        check_finite(vectors, "the item embedding (or features) of the catalogue")
    has_users = X._embedding is not None or X._encoder is not None
    if vectors is not None and user_representation == "history":
        users = "units"
    else:
        users = "embedding" if has_users else "vectors"
    if len(X) == 0:
        found = np.zeros((0, 0), dtype=np.float32)
    elif users == "vectors" and vectors is None:
        raise ValueError(
            "there is nothing to compare users by: X has no user embedding, and its catalogue "
            "neither an embedding nor features. Put an aligner or encoder before this step, or "
            "build the catalogue with features."
        )
    else:
        found = user_vectors(X, items, users)
    known = has_embedding(found)
    X, found = X[known], found[known]
    center = center_of(found)
    units = centred_units(found, center)
    index = fit_index(neighbors, units, n_jobs) if len(X) else None
    return DonorPool(X.user_ids, X.history.compact(), units, center, items, users, index)


def user_vectors(X: Impressions, items: ItemSpace, users: str) -> Vectors:
    """Return the vector of each row's user.

    Parameters
    ----------
    X : Impressions
        Histories in codes of `items` (for "embedding", of its own catalogue).
    items : ItemSpace
    users : {"units", "embedding", "vectors"}
        The mean of the centred unit vectors of the history's items, the user embedding of `X`, or
        the mean of the item vectors as they are.
    """
    if users != "embedding":
        return items.mean_over(X.history, units=users == "units")
    vectors = X.user_embedding
    if vectors is None:
        raise ValueError(
            "X has no user embedding, but the rows of fit had one. Transform X with the steps "
            "that fit was given, or add the column 'user_embedding'."
        )
    return check_finite(np.asarray(vectors), "user_embedding of X")


def query_vectors(X: Impressions, pool: DonorPool) -> Vectors:
    """Return the centred unit vector of each row's user, as it is compared with `pool.units`."""
    items, codes = pool.items.join(X.catalog)
    if codes is not None and pool.users != "embedding":
        X = replace(X, history=X.history.recode(codes))
    return centred_units(user_vectors(X, items, pool.users), pool.center)


def check_finite(vectors: NDArray[Any], name: str) -> NDArray[Any]:
    """Return `vectors`; ValueError if some are NaN or infinite."""
    wrong = ~np.isfinite(vectors).all(axis=1)
    if wrong.any():
        raise ValueError(
            f"{name} holds NaN or infinite values in {np.count_nonzero(wrong)} of {len(wrong)} "
            "rows. Replace them; a row of zeros stands for 'no embedding'."
        )
    return vectors


@dataclass(frozen=True)
class Settings:
    """How donors are searched, and what is done with their histories."""

    rule: Rule
    relevance: str
    max_length: int
    respect_time: bool
    n_lookalikes: int
    n_jobs: int | None


def retrieve(
    X: Impressions,
    rows: NDArray[np.int64],
    exclude: NDArray[np.int32],
    pool: DonorPool,
    settings: Settings,
    watch: Callable[[list[range]], Iterable[range]] = iter,
) -> Impressions:
    """Return `X` with what its low-active rows borrow, and what look-alikes make of its targets.

    Parameters
    ----------
    X : Impressions
    rows : ndarray of int
        The low-active rows.
    exclude : ndarray of shape (n_rows of X,), int32
        The donor who is the user of the row, -1 if the user is none.
    pool : DonorPool
    settings : Settings
    watch : callable
        Passes the blocks of searches on one by one; it may report progress.

    Returns
    -------
    Impressions
        The catalogue is extended by borrowed items that it lacks.
    """
    room = settings.max_length - np.minimum(X.history.length, settings.max_length)
    borrows = np.zeros(len(X), dtype=bool)
    borrows[rows] = room[rows] > 0
    rows = np.arange(len(X)) if settings.n_lookalikes else np.flatnonzero(borrows)
    rows = rows if len(pool) else rows[:0]
    items, codes, coded = pool.items, None, X
    if len(rows):
        items, codes = pool.items.join(X.catalog)
        if codes is not None:
            coded = replace(X, history=X.history.recode(codes), target=codes[X.target])
    before = X.time if settings.respect_time and pool.history.time is not None else None

    # Work is done once for each distinct history and moment, and once more for each target.
    keys: list[NDArray[Any]] = [X.user, X.history.start, X.history.length]
    if before is not None:
        keys.append(before)
    embedded = pool.users == "embedding"
    if X._embedding is not None and embedded:
        keys = [np.arange(len(X))]  # rows may have embeddings of their own
    searched, search = _distinct([key[rows] for key in keys])
    to_target = settings.relevance != "user" and items.units is not None
    borrowers = np.flatnonzero(borrows[rows])
    keys = [search[borrowers], coded.target[rows[borrowers]]]
    lent, loan = _distinct(keys if to_target else keys[:1])
    lent = borrowers[lent]
    asking = np.argsort(search, kind="stable")
    # Both in the order of the searches: those of a block stand side by side.
    search_lent, search_asking = search[lent], search[asking]

    pieces = [nothing_borrowed(pool)]
    opinions = np.zeros((len(LOOKALIKES), len(X)))
    starts = range(0, len(searched), _BLOCK_ROWS)
    for part in watch([range(at, min(at + _BLOCK_ROWS, len(searched))) for at in starts]):
        block = rows[searched[part.start : part.stop]]
        # The encoder of X knows the items by the codes of X.
        vectors = user_vectors((X if embedded else coded)[block], items, pool.users)
        users = centred_units(vectors, pool.center)
        donor, similarity = _donors(
            users, pool, exclude[block], None if before is None else before[block], settings
        )
        of_block = _of_block(search_lent, part)
        row, which = rows[lent[of_block]], search_lent[of_block] - part.start
        queries = Queries(
            donor=donor[which, : settings.rule.n_neighbors],
            donor_similarity=similarity[which, : settings.rule.n_neighbors],
            probe=_probe(users, which, items.units, coded.target[row], settings.relevance),
            own=coded.history[row].last(settings.max_length),
            room=room[row].astype(np.int64),
            before=None if before is None else before[row],
        )
        pieces.append(borrow(queries, pool.history, items.units, settings.rule))
        if settings.n_lookalikes:
            of_block = _of_block(search_asking, part)
            row, which = rows[asking[of_block]], search_asking[of_block] - part.start
            moment = None if before is None else before[row]
            opinions[:, row] = support(
                pool.interactions,
                donor[which, : settings.n_lookalikes],
                similarity[which, : settings.n_lookalikes],
                coded.target[row],
                pool.n_before(moment, len(row)),
                moment,
            )
    if settings.n_lookalikes:
        X = with_support(X, opinions, pool)
    borrowed = _concatenated(pieces)

    start, length = np.zeros(len(X), dtype=np.int64), np.zeros(len(X), dtype=np.int32)
    at = rows[borrowers]
    start[at], length[at] = borrowed.start[loan], borrowed.length[loan]
    borrowed = replace(borrowed, start=start, length=length, donors=pool.ids)
    if codes is None:
        return X.with_borrowed(borrowed)
    catalog, translation = _translation(borrowed.items, pool.items, X.catalog)
    return X.with_catalog(catalog).with_borrowed(borrowed.recode(translation))


def with_support(X: Impressions, opinions: NDArray[np.float64], pool: DonorPool) -> Impressions:
    """Return `X` with what donors make of its targets, (4, n_rows), in the context."""
    names = TOUCHED if pool.history.feedback is None else LOOKALIKES
    return replace(X, context={**X.context, **dict(zip(names, opinions))})


def joined(
    X: Impressions, parts: list[tuple[NDArray[np.int64], Impressions]], pool: DonorPool
) -> Impressions:
    """Return `X` with what each part of its rows borrowed, and was told, from pools of its own.

    Parameters
    ----------
    X : Impressions
    parts : list of (row numbers, these rows of X as `retrieve` returned them)
    pool : DonorPool
        All donors, whose numbers replace those of the parts.
    """
    numbers = Lookup(pool.ids, "the donors")
    pieces, start, length = [], np.zeros(len(X), np.int64), np.zeros(len(X), np.int32)
    added = [name for name in parts[0][1].context if name not in X.context]
    context = {**X.context, **{name: np.zeros(len(X)) for name in added}}
    at = 0
    for rows, part in parts:
        borrowed = part.borrowed
        assert borrowed is not None
        assert borrowed.donor is not None
        assert borrowed.donors is not None
        pieces.append(
            replace(borrowed, donor=numbers(borrowed.donors, "the donors")[borrowed.donor])
        )
        start[rows], length[rows] = borrowed.start + at, borrowed.length
        at += len(borrowed.items)
        for name in added:
            context[name][rows] = part.context[name]
    borrowed = replace(_concatenated(pieces), start=start, length=length, donors=pool.ids)
    return replace(X, context=context).with_borrowed(borrowed)


def _distinct(keys: list[NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first row of each distinct combination, in their order, and each row's number."""
    order = np.lexsort(keys[::-1])
    new = np.zeros(len(order), dtype=bool)
    new[:1] = True
    for key in keys:
        new[1:] |= key[order[1:]] != key[order[:-1]]
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.cumsum(new) - 1
    return order[new], number


def _of_block(ascending: NDArray[np.int64], part: range) -> slice:
    first, last = np.searchsorted(ascending, [part.start, part.stop])
    return slice(first, last)


def _donors(
    users: Vectors,
    pool: DonorPool,
    exclude: NDArray[np.int32],
    before: NDArray[np.float64] | None,
    settings: Settings,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Find the look-alikes of each user (Eq. 15); none for users without an embedding."""
    k = min(max(settings.rule.n_neighbors, settings.n_lookalikes), len(pool))
    donor = np.full((len(users), k), -1, dtype=np.int32)
    similarity = np.zeros((len(users), k))
    known = np.flatnonzero(has_embedding(users))
    if len(known):
        donor[known], similarity[known] = find_donors(
            pool.index,
            users[known],
            pool.units,
            k,
            exclude=exclude[known],
            first_event=None if before is None else pool.first_event,
            before=None if before is None else before[known],
            n_jobs=settings.n_jobs,
        )
    return donor, similarity


def _probe(
    users: Vectors,
    user: NDArray[np.int64],
    items: Vectors | None,
    target: NDArray[np.int32],
    relevance: str,
) -> Callable[[NDArray[np.int64]], NDArray[np.float64]] | None:
    """Return for queries (``users[user]``, ``items[target]``) the vectors of Eq. 16.

    Their product with an item's unit vector is s_i.
    """
    if items is None:
        return None

    def probe(query: NDArray[np.int64]) -> NDArray[np.float64]:
        if relevance == "user":
            return users[user[query]].astype(np.float64)
        targets = items[target[query]].astype(np.float64)
        # The mean of two cosines is the cosine-like product with the mean of both unit vectors.
        return targets if relevance == "target" else (users[user[query]] + targets) / 2

    return probe


def nothing_borrowed(pool: DonorPool) -> Sequences:
    """Return no row, with the columns that borrowed histories have."""
    no_one = np.zeros((0, 1), dtype=np.int32)
    room = np.zeros(0, dtype=np.int64)
    nothing = Queries(no_one, no_one.astype(float), None, Sequences.empty(0), room, None)
    return borrow(nothing, pool.history, None, Rule("most_similar", 0.0, 1, None))


def _concatenated(pieces: list[Sequences]) -> Sequences:
    """Put pieces with flat arrays of their own under each other."""
    shift = ragged.offsets(np.array([len(piece.items) for piece in pieces]))

    def joined(name: str) -> Any:
        parts = [getattr(piece, name) for piece in pieces]
        return None if parts[0] is None else np.concatenate(parts)

    start = np.concatenate([piece.start + by for piece, by in zip(pieces, shift)])
    return Sequences(start=start, length=joined("length"), **{n: joined(n) for n in FLAT})


def _translation(
    items: NDArray[np.int32], ours: ItemSpace, theirs: ItemCatalog
) -> tuple[ItemCatalog, NDArray[np.int32]]:
    """Return the catalogue `theirs` with the items borrowed, and their codes in it by our codes."""
    ids = ours.catalog.ids
    used = np.zeros(len(ids), dtype=bool)
    used[items] = True
    codes = np.full(len(ids), -1, dtype=np.int32)
    catalog = theirs.extend(ids[used])
    codes[used] = catalog.codes(ids[used])
    added = used & (codes >= len(theirs))
    if added.any() and catalog.embedding is not None and ours.kind == "embedding":
        # What fit knows of them, later steps may know too. (Both are of one space, see
        # ItemSpace.join.)
        assert ours.vectors is not None
        embedding = catalog.embedding.copy()
        embedding[codes[added]] = ours.vectors[added]
        catalog = catalog.with_embedding(embedding)
    return catalog, codes
