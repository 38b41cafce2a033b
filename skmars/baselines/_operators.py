"""Operators that change ragged rows at random: crop, mask, reorder, substitute, insert.

An operator does not depend on items. It takes the lengths n of the rows (which may be zero) and a
share from 0 to 1, one for all rows or one each, and returns the positions of the old rows that make
up the new ones (an `Edit`). Items, feedback, times and embeddings are then gathered by these
positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from skmars.utils import _ragged as ragged

# What an edit does to the item at a position.
KEPT, SIMILAR, MASKED = 0, 1, 2

Share = float | NDArray[np.float64]


@dataclass(frozen=True)
class Edit:
    """New rows, described by the positions of the old rows that they consist of."""

    length: NDArray[np.int64]  # of each new row: (n_rows,)
    source: NDArray[np.int64]  # the old position behind each new one: (n_new,)
    change: NDArray[np.int8]  # of the item there: KEPT, replaced by a SIMILAR one, or MASKED

    def without_masked(self) -> Edit:
        """Return the edit that deletes what this one masks."""
        stays = self.change != MASKED
        row = np.repeat(np.arange(len(self.length)), self.length)
        length = np.bincount(row[stays], minlength=len(self.length))
        return Edit(length, self.source[stays], self.change[stays])

    def last(self, n: int) -> Edit:
        """Return the edit of which each row keeps its last `n` positions."""
        length = np.minimum(self.length, n)
        stays = ragged.ranges(ragged.offsets(self.length)[1:] - length, length)
        return Edit(length, self.source[stays], self.change[stays])


Operator = Callable[..., Edit]  # of the lengths of rows, and `random_state`


def keep(length: NDArray[Any], *, random_state: RandomState | None = None) -> Edit:
    """Change nothing.

    >>> keep(np.array([1, 2])).source
    array([0, 1, 2])
    """
    n = int(np.sum(length))
    return Edit(np.asarray(length, np.int64), np.arange(n), np.zeros(n, dtype=np.int8))


def crop(length: NDArray[Any], share: Share, random_state: RandomState) -> Edit:
    """Keep one window of ``int(share * n)`` positions; at least one stays.

    >>> crop(np.array([4]), 0.5, np.random.RandomState(0)).source
    array([0, 1])
    """
    start, size = _window(length, share, random_state)
    size = np.minimum(np.maximum(size, 1), length)
    source = ragged.ranges(ragged.offsets(length)[:-1] + start, size)
    return Edit(size, source, np.zeros(len(source), dtype=np.int8))


def mask(length: NDArray[Any], share: Share, random_state: RandomState) -> Edit:
    """Mask ``int(share * n)`` positions.

    >>> mask(np.array([4]), 0.5, np.random.RandomState(0)).change
    array([2, 0, 0, 2], dtype=int8)
    """
    edit = keep(length)
    edit.change[chosen(length, share * length // 1, random_state)] = MASKED
    return edit


def reorder(length: NDArray[Any], share: Share, random_state: RandomState) -> Edit:
    """Shuffle one window of ``int(share * n)`` positions.

    >>> reorder(np.array([4]), 0.8, np.random.RandomState(0)).source
    array([0, 2, 1, 3])
    """
    edit = keep(length)
    start, size = _window(length, share, random_state)
    window = ragged.ranges(ragged.offsets(length)[:-1] + start, size)
    row = np.repeat(np.arange(len(size)), size)
    edit.source[window] = window[np.lexsort((random_state.random_sample(len(window)), row))]
    return edit


def substitute(length: NDArray[Any], share: Share, random_state: RandomState) -> Edit:
    """Replace ``max(int(share * n), 1)`` items by similar ones.

    >>> substitute(np.array([3]), 0.1, np.random.RandomState(0)).change
    array([1, 0, 0], dtype=int8)
    """
    edit = keep(length)
    edit.change[chosen(length, np.maximum(share * length // 1, 1), random_state)] = SIMILAR
    return edit


def insert(length: NDArray[Any], share: Share, random_state: RandomState) -> Edit:
    """Put before each of ``max(int(share * n), 1)`` items a similar one.

    >>> edit = insert(np.array([3]), 0.1, np.random.RandomState(0))
    >>> edit.source, edit.change
    (array([0, 0, 1, 2]), array([1, 0, 0, 0], dtype=int8))
    """
    before = chosen(length, np.maximum(share * length // 1, 1), random_state)
    row = np.repeat(np.arange(len(length)), length)
    copies = 1 + before.astype(np.int64)
    source = np.repeat(np.arange(len(row)), copies)
    change = np.zeros(len(source), dtype=np.int8)
    change[ragged.offsets(copies)[:-1][before]] = SIMILAR
    return Edit(np.bincount(row[source], minlength=len(length)), source, change)


OPERATORS = {o.__name__: o for o in (crop, mask, reorder, substitute, insert)}


def with_shares(names: Sequence[str], shares: object) -> list[Operator]:
    """Return operators by name, each with the share that `shares` has as attribute of that name."""
    return [partial(OPERATORS[name], share=getattr(shares, name)) for name in names]


def one_of(
    operators: Sequence[Operator],
    choice: NDArray[Any],
    length: NDArray[Any],
    random_state: RandomState,
) -> Edit:
    """Change each row by the operator whose index is chosen for it.

    >>> def backwards(length, random_state):
    ...     edit = keep(length)
    ...     return Edit(length, edit.source[::-1], edit.change)
    >>> one_of([keep, backwards], np.array([1, 0]), np.array([2, 3]), None).source
    array([1, 0, 2, 3, 4])
    """
    begin = ragged.offsets(length)[:-1]
    new_length = np.zeros(len(length), dtype=np.int64)
    parts = []
    for i, operator in enumerate(operators):
        rows = np.flatnonzero(choice == i)
        edit = operator(length[rows], random_state=random_state)
        new_length[rows] = edit.length
        parts.append((rows, edit))
    new_begin = ragged.offsets(new_length)[:-1]
    source = np.empty(int(new_length.sum()), dtype=np.int64)
    change = np.empty(len(source), dtype=np.int8)
    for rows, edit in parts:
        place = ragged.ranges(new_begin[rows], edit.length)
        source[place] = ragged.ranges(begin[rows], length[rows])[edit.source]
        change[place] = edit.change
    return Edit(new_length, source, change)


def changed_items(
    items: NDArray[Any],
    edit: Edit,
    random_state: RandomState,
    similar: NDArray[Any] | None,
    vocabulary: NDArray[Any],
    token: int | None = None,
) -> NDArray[Any]:
    """Return the items of the new rows, from those of the old rows, row after row.

    `similar` has the most similar item of each code; where that is -1, a random one of
    `vocabulary` stands in its stead. `token` stands where an item is masked.

    >>> edit = Edit(np.array([3]), np.array([0, 0, 1]), np.array([1, 0, 2], dtype=np.int8))
    >>> v = np.arange(9)
    >>> changed_items(np.array([4, 5]), edit, None, similar=v + 1, vocabulary=v, token=0)
    array([5, 4, 0])
    """
    new = items[edit.source]
    if similar is not None:
        swapped = np.flatnonzero(edit.change == SIMILAR)
        partner = similar[new[swapped]]
        alone = np.flatnonzero(partner < 0)
        if len(alone):
            partner[alone] = vocabulary[random_state.randint(len(vocabulary), size=len(alone))]
        new[swapped] = partner
    if token is not None:
        new[edit.change == MASKED] = token
    return new


def chosen(
    length: NDArray[Any], size: float | NDArray[Any], random_state: RandomState
) -> NDArray[np.bool_]:
    """Mark `size` positions of each row, every subset alike; all where there are fewer.

    >>> chosen(np.array([2, 3]), 1, np.random.RandomState(0))
    array([ True, False, False, False,  True])
    """
    n = int(np.sum(length))
    row = np.repeat(np.arange(len(length)), length)
    order = np.lexsort((random_state.random_sample(n), row))
    rank = np.empty(n, dtype=np.int64)
    rank[order] = np.arange(n) - ragged.offsets(length)[:-1][row]
    return rank < np.broadcast_to(size, len(length))[row]


def _window(
    length: NDArray[Any], share: Share, random_state: RandomState
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw a window of L = int(share * n) positions, its start from U{0, n - L - 1}."""
    size = (share * length).astype(np.int64)
    return random_state.randint(0, np.maximum(length - size, 1)), size
