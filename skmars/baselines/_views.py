"""Changed histories of a batch, in the form of DIN's input. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from skmars.baselines import _operators as operators
from skmars.baselines._auxiliary import Positions, TrainingBatch
from skmars.baselines._operators import KEPT, MASKED, Edit

T = TypeVar("T")  # an array, or a tensor of the same shape


@dataclass(frozen=True)
class View(Generic[T]):
    """Histories of some rows of a batch, position by position; integers all."""

    items: T  # the distinct items, as rows of the embedding table: (n_distinct,)
    codes: T  # the same as codes into the catalogue
    item: T  # index into `items`: (n_positions,)
    feedback: T  # as in `Positions`
    borrowed: T
    masked: T  # 1 where the item is masked
    length: T  # (n_histories,)
    row: T  # rows of the batch whose histories these are


@dataclass
class ItemChoice:
    """Candidates that may replace items: similar items and the vocabulary; shapes (n_codes,)."""

    table_row: NDArray[np.int64]  # row of the embedding table of each item; 0 where it has none
    similar: NDArray[np.int32] | None = None  # the most similar item of each; -1 where none is

    @cached_property
    def vocabulary(self) -> NDArray[np.int64]:
        """Codes of the items that have an embedding of their own."""
        return np.flatnonzero(self.table_row)


def view_of(
    batch: TrainingBatch[NDArray[Any]],
    positions: NDArray[np.int64],
    edit: Edit,
    row: NDArray[np.int64],
    choice: ItemChoice,
    random_state: RandomState,
) -> View[NDArray[Any]]:
    """Return the edited histories of the rows `row` of a batch, whose positions are `positions`."""
    bag: Positions[NDArray[Any]] = batch.history
    items = operators.changed_items(
        batch.codes[bag.item[positions]] % len(choice.table_row),  # whatever the fold of the row
        edit,
        random_state,
        choice.similar,
        choice.vocabulary,
    )
    codes, item = np.unique(items, return_inverse=True)
    old, masked = positions[edit.source], (edit.change == MASKED).astype(np.int64)
    known = bag.feedback[old], bag.borrowed[old]
    return View(choice.table_row[codes], codes, item, *known, masked, edit.length, row)


def same_length_view(
    batch: TrainingBatch[NDArray[Any]],
    rate: NDArray[np.float64],
    choice: ItemChoice,
    random_state: RandomState,
) -> View[NDArray[Any]]:
    """Reorder the share `rate` of each history, or substitute it (M-Reorder, M-Substitute).

    The view goes, position by position, with ``batch.history``.
    """
    length: NDArray[np.int64] = batch.history.length
    reorders = random_state.randint(2, size=len(length)) == 1
    source = operators.reorder(length, np.where(reorders, rate, 0), random_state).source
    change = operators.substitute(length, rate, random_state).change
    change[np.repeat(reorders, length)] = KEPT
    edit = Edit(length, source, change)
    rows = np.arange(len(length))
    return view_of(batch, np.arange(len(source)), edit, rows, choice, random_state)
