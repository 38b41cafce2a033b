"""From row selections to ragged mini-batches: NumPy gathers, no Python loop over rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data._sequences import Sequences
from skmars.utils import _ragged as ragged

# Feedback of a history item, as a code into the network's feedback embedding.
UNKNOWN_FEEDBACK = 2
N_FEEDBACK = 3

# A prediction block holds at most this many history positions (and at least one row).
BLOCK_POSITIONS = 1 << 16
BLOCK_ROWS = 1 << 13


@dataclass(frozen=True)
class RaggedItems:
    """The histories of a batch: its positions one after another, row after row.

    Attributes
    ----------
    item : int64 ndarray of shape (n_positions,)
        Index into `Batch.items`.
    row : int64 ndarray of shape (n_positions,)
        Row of the batch to which the position belongs.
    length : int64 ndarray of shape (n_rows,)
        Positions of each row.
    feedback : int64 ndarray of shape (n_positions,)
        1 liked, 0 not liked, 2 not known.
    borrowed : int64 ndarray of shape (n_positions,)
        1 where the item was borrowed from another user.
    similarity : float32 ndarray of shape (n_positions,) or None
        `s_i` of the borrowed items (Eq. 16), 0 for own ones and where
        it is not known; None where no item has one.
    """

    item: Any
    row: Any
    length: Any
    feedback: Any
    borrowed: Any
    similarity: Any = None


@dataclass(frozen=True)
class Batch:
    """What the network reads for some rows; arrays, or tensors of the same shapes.

    Attributes
    ----------
    dense : float ndarray of shape (n_rows, n_dense)
    categorical : int64 ndarray of shape (n_rows, n_categorical)
    items : int64 ndarray of shape (n_distinct,)
        The distinct items of the batch, as rows of the embedding table (0: not in it).
    codes : int64 ndarray of shape (n_distinct,)
        The same as codes into the catalogue, whose item features they select. Where rows are of
        folds (`Impressions.fold`), an item of several folds stands there several times, with
        the number of items added once for the first fold, twice for the second and so on.
    target : int64 ndarray of shape (n_rows,)
        Index into `items` of the target.
    length : int64 ndarray of shape (n_rows,)
        Length of the user's own history, before it was cut.
    history, borrowed : RaggedItems or None
        Borrowed items stand in a bag of their own, or among `history`.
    """

    dense: Any
    categorical: Any
    items: Any = None
    codes: Any = None
    target: Any = None
    length: Any = None
    history: RaggedItems | None = None
    borrowed: RaggedItems | None = None


@dataclass(frozen=True)
class Rows:
    """All rows of a fit or a prediction, from which batches are gathered.

    Attributes
    ----------
    dense : float ndarray of shape (n_rows, n_dense)
    categorical : int64 ndarray of shape (n_rows, n_categorical)
    table_row : int64 ndarray of shape (n_catalogue,) or None
        Row of the embedding table of each item code; 0 for items that the table lacks.
    target : int ndarray of shape (n_rows,) or None
        Item codes.
    length : int ndarray of shape (n_rows,) or None
        Length of the user's own history, before it was cut.
    history, borrowed : Sequences or None
    shift : int64 ndarray of shape (n_rows,) or None
        What the fold of each row adds to item codes, see `Batch`.
    merge : bool
        Borrowed items join `history` in the batches instead of standing apart.
    """

    dense: NDArray[Any]
    categorical: NDArray[np.int64]
    table_row: NDArray[np.int64] | None = None
    target: NDArray[Any] | None = None
    length: NDArray[Any] | None = None
    history: Sequences | None = None
    borrowed: Sequences | None = None
    shift: NDArray[np.int64] | None = None
    merge: bool = False

    def __len__(self) -> int:
        return len(self.dense)

    def batch(self, rows: NDArray[np.int64] | slice) -> Batch:
        """Gather the batch of the given rows."""
        dense, categorical = self.dense[rows], self.categorical[rows]
        if self.history is None:
            return Batch(dense, categorical)
        assert self.target is not None
        assert self.length is not None
        assert self.table_row is not None
        own = (self.history[rows], 0)
        if self.borrowed is None:
            bags = [_gather([own])]
        elif self.merge:
            bags = [_gather([(self.borrowed[rows], 1), own])]
        else:
            bags = [_gather([own]), _gather([(self.borrowed[rows], 1)])]
        used = [self.target[rows], *(bag.item for bag in bags)]
        n_items = n_codes = len(self.table_row)
        if self.shift is not None:
            shift = self.shift[rows]
            used = [used[0] + shift, *(bag.item + shift[bag.row] for bag in bags)]
            n_codes = n_items + int(shift.max())
        codes, (target, *places) = _distinct(used, n_codes)
        bags = [replace(bag, item=place) for bag, place in zip(bags, places)]
        return Batch(
            dense,
            categorical,
            items=self.table_row[codes % n_items],
            codes=codes,
            target=target,
            length=self.length[rows],
            history=bags[0],
            borrowed=bags[1] if len(bags) > 1 else None,
        )

    def blocks(self) -> Iterator[slice]:
        """Cut the rows into consecutive blocks of bounded work."""
        work = np.zeros(len(self), dtype=np.int64)
        for part in (self.history, self.borrowed):
            if part is not None:
                work += part.length
        ends = np.cumsum(work)
        start = 0
        while start < len(self):
            done = ends[start - 1] if start else 0
            stop = int(np.searchsorted(ends, done + BLOCK_POSITIONS, side="right"))
            stop = min(max(stop, start + 1), start + BLOCK_ROWS)
            yield slice(start, stop)
            start = stop


def _gather(parts: list[tuple[Sequences, int]]) -> RaggedItems:
    """Put the sequences of a row behind one another (borrowed ones to the left)."""
    length: NDArray[np.int64] = np.zeros(len(parts[0][0]), dtype=np.int64)
    for part, _ in parts:
        length += part.length
    at = ragged.offsets(length)[:-1]
    n = int(length.sum())
    item, feedback = np.empty(n, dtype=np.int64), np.full(n, UNKNOWN_FEEDBACK, dtype=np.int64)
    borrowed = np.zeros(n, dtype=np.int64)
    known = any(part.similarity is not None for part, _ in parts)
    similarity = np.zeros(n, dtype=np.float32) if known else None
    for part, is_borrowed in parts:
        source = part.positions()
        place: Any = slice(None)
        if len(parts) > 1:
            place = ragged.ranges(at, part.length)
            at = at + part.length
        item[place] = part.items[source]
        if part.feedback is not None:
            feedback[place] = part.feedback[source]
        if is_borrowed:
            borrowed[place] = 1
        if similarity is not None and part.similarity is not None:
            similarity[place] = np.nan_to_num(part.similarity[source])
    row = np.repeat(np.arange(len(length)), length)
    return RaggedItems(item, row, length, feedback, borrowed, similarity)


def _distinct(
    codes: list[NDArray[Any]], n_codes: int
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Return the distinct codes, and the codes as indices into them, without sorting."""
    seen = np.zeros(n_codes, dtype=bool)
    for c in codes:
        seen[c] = True
    items = np.flatnonzero(seen)
    place = np.empty(n_codes, dtype=np.int64)
    place[items] = np.arange(len(items))
    return items, [place[c] for c in codes]


def cut(
    history: Sequences, borrowed: Sequences | None, max_length: int
) -> tuple[Sequences, Sequences | None]:
    """Keep the last `max_length` items of each row; borrowed ones, which stand left, go first."""
    history = history.last(max_length)
    if borrowed is None:
        return history, None
    length = np.minimum(borrowed.length, max_length - history.length)
    start = borrowed.start + (borrowed.length - length)
    return history, replace(borrowed, start=start, length=length)


def count_items(n_items: int, target: NDArray[Any], *parts: Sequences | None) -> NDArray[np.int64]:
    """Count how often each item code occurs in the rows: as target, in histories, borrowed.

    Histories are views, so that the times each flat position is used are counted (a running sum
    over starts and ends) instead of walking through the views.
    """
    count = np.bincount(target, minlength=n_items)
    for part in parts:
        if part is not None:
            n = len(part.items)
            steps = np.bincount(part.start, minlength=n + 1) - np.bincount(
                part.start + part.length, minlength=n + 1
            )
            used = np.cumsum(steps)[:n]
            # Exact: integers below 2**53 are exact as float64 weights.
            count = count + np.bincount(part.items, used, minlength=n_items).astype(np.int64)
    return count
