"""Changed histories of a batch, as DIN reads histories. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.baselines import _operators as operators
from skmars.baselines._operators import KEPT, MASKED, Edit, Operator
from skmars.utils import _ragged as ragged


@dataclass(frozen=True)
class View:
    """Histories of some rows of a batch; arrays, or tensors of the same shapes.

    Attributes
    ----------
    items, codes : int64 ndarray of shape (n_distinct,)
        The distinct items, as rows of the embedding table and as codes into the catalogue.
    item : int64 ndarray of shape (n_positions,)
        Index into `items`.
    feedback, borrowed, masked : int64 ndarray of shape (n_positions,)
        What is known of each position, and whether its item is masked.
    length : int64 ndarray of shape (n_histories,)
    row : int64 ndarray
        Rows of the batch whose histories these are.
    """

    items: Any
    codes: Any
    item: Any
    feedback: Any
    borrowed: Any
    masked: Any
    length: Any
    row: Any


@dataclass
class ItemChoice:
    """Which items may stand for others.

    Attributes
    ----------
    table_row : ndarray of shape (n_codes,)
        Row of the embedding table of each item code; 0 for items that it lacks.
    similar : ndarray of shape (n_codes,), or None
        The most similar item of each item code, -1 for none.
    """

    table_row: NDArray[np.int64]
    similar: NDArray[np.int32] | None = None

    @cached_property
    def vocabulary(self) -> NDArray[np.int64]:
        """Codes of the items that have an embedding of their own."""
        return np.flatnonzero(self.table_row)


def view_of(
    batch: Any,
    positions: NDArray[np.int64],
    edit: Edit,
    row: NDArray[np.int64],
    choice: ItemChoice,
    random_state: np.random.RandomState,
) -> View:
    """Return the edited histories.

    Parameters
    ----------
    batch : Batch of arrays
    positions : ndarray of shape (n_old,)
        Positions in ``batch.history``, row after row, which `edit` changes.
    edit : Edit
    row : ndarray
        Rows of the batch.
    choice : ItemChoice
    random_state : RandomState
    """
    bag = batch.history
    items = operators.changed_items(
        batch.codes[bag.item[positions]] % len(choice.table_row),  # whatever the fold of the row
        edit,
        random_state,
        similar=choice.similar,
        vocabulary=choice.vocabulary,
    )
    codes, item = np.unique(items, return_inverse=True)
    old = positions[edit.source]
    return View(
        choice.table_row[codes],
        codes,
        item,
        bag.feedback[old],
        bag.borrowed[old],
        (edit.change == MASKED).astype(np.int64),
        edit.length,
        row,
    )


def two_views(
    batch: Any,
    ways: Sequence[Operator],
    choice: ItemChoice,
    random_state: np.random.RandomState,
    *,
    few: int,
    short: int,
    max_length: int,
    token: bool,
) -> View:
    """Change each history that is not empty by two different operators.

    Parameters
    ----------
    batch : Batch of arrays
    ways : sequence of operators
    choice : ItemChoice
    random_state : RandomState
    few, short : int
        A history of at most `short` items may choose of the first `few` operators only; of 0,
        both views are the history itself.
    max_length : int
        The last items of a history, and of a view, that are used.
    token : bool
        Masked items stay, marked, instead of being deleted.

    Returns
    -------
    View
        All first views, then all second ones.
    """
    bag = batch.history
    rows = np.flatnonzero(bag.length)
    length = np.minimum(bag.length[rows], max_length)
    positions = ragged.ranges(ragged.offsets(bag.length)[1:][rows] - length, length)
    n = np.where(length > short, len(ways), few)
    first = random_state.randint(0, np.maximum(n, 1))
    second = (first + 1 + random_state.randint(0, np.maximum(n - 1, 1))) % np.maximum(n, 1)
    way = np.concatenate([np.where(n > 0, w, len(ways)) for w in (first, second)])
    edit = operators.one_of([*ways, operators.keep], way, np.tile(length, 2), random_state)
    if not token:
        edit = edit.without_masked()
    return view_of(batch, np.tile(positions, 2), edit.last(max_length), rows, choice, random_state)


def same_length_view(
    batch: Any, rate: NDArray[np.float64], choice: ItemChoice, random_state: np.random.RandomState
) -> View:
    """Reorder each history, or substitute some of its items (M-Reorder, M-Substitute of BASRec).

    Parameters
    ----------
    batch : Batch of arrays
    rate : ndarray of shape (n_rows,)
        Share of each history that is changed.
    choice : ItemChoice
    random_state : RandomState

    Returns
    -------
    View
        Of all rows; position by position as ``batch.history``.
    """
    length = batch.history.length
    reorders = random_state.randint(2, size=len(length)) == 1
    source = operators.reorder(length, np.where(reorders, rate, 0), random_state).source
    change = operators.substitute(length, rate, random_state).change
    change[np.repeat(reorders, length)] = KEPT
    edit = Edit(length, source, change)
    rows = np.arange(len(length))
    return view_of(batch, np.arange(len(source)), edit, rows, choice, random_state)
