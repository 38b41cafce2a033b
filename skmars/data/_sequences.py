"""Histories as views into one shared flat array (Arrow calls this layout list-view)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.utils import _ragged as ragged
from skmars.utils._on_disk import Disk, taken
from skmars.utils._values import as_column

# A list column of a table: its values, row after row, and the length of each row.
Lists = tuple[NDArray[Any], NDArray[Any]]
# Arrays with one entry a value, and their types: shared between all row selections.
FLAT = {
    "items": np.int32,
    "feedback": np.int8,
    "time": np.float64,
    "donor": np.int32,
    "similarity": np.float32,
    "donor_similarity": np.float32,
}


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences of items, one for each row, which are slices of one shared array.

    Row `i` is ``items[start[i] : start[i] + length[i]]``. Selecting rows copies `start` and
    `length` and shares everything else.

    Parameters
    ----------
    items : ndarray of shape (n_values,), int32
        Item codes (positions in the catalogue), oldest first within a row.
    start : ndarray of shape (n_rows,), int64
        Where each row begins in `items`.
    length : ndarray of shape (n_rows,), int32
        How many items each row has.
    feedback : ndarray of shape (n_values,), int8, or None
        1 where the user liked the item, 0 where not.
    time : ndarray of shape (n_values,), float64, or None
        When each event happened, in seconds; `inf` where that is unknown.
    donor : ndarray of shape (n_values,), int32, or None
        For borrowed items: code into `donors` of the user whose item this is.
    donors : ndarray or None
        User ids of the donors.
    similarity : ndarray of shape (n_values,), float32, or None
        For borrowed items: `s_i` of Eq. 16.
    donor_similarity : ndarray of shape (n_values,), float32, or None
        For borrowed items: cosine between the user and the donor (Eq. 15).

    Raises
    ------
    TypeError, ValueError
        If arrays of the wrong type or shape are passed, or a row lies outside the flat arrays.

    Examples
    --------
    >>> import numpy as np
    >>> s = Sequences(np.array([7, 8, 9], dtype=np.int32), np.array([0, 0, 0]), np.array([0, 1, 3]))
    >>> s.row(2)
    array([7, 8, 9], dtype=int32)
    >>> s[[2]].last(2).row(0)
    array([8, 9], dtype=int32)
    """

    items: NDArray[np.int32]
    start: NDArray[np.int64]
    length: NDArray[np.int32]
    feedback: NDArray[np.int8] | None = None
    time: NDArray[np.float64] | None = None
    donor: NDArray[np.int32] | None = None
    donors: NDArray[Any] | None = None
    similarity: NDArray[np.float32] | None = None
    donor_similarity: NDArray[np.float32] | None = None
    # Copies that `replace` makes are not checked again.
    _checked: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if self._checked:
            return
        types = {**FLAT, "start": np.int64, "length": np.int32}
        given = {name: getattr(self, name) for name in types}
        arrays = {k: as_column(v, t, k) for k, t in types.items() if (v := given[k]) is not None}
        n_rows, n_values = len(arrays["start"]), len(arrays["items"])
        for name, array in arrays.items():
            wanted = n_rows if name in ("start", "length") else n_values
            if len(array) != wanted:
                what = "rows" if name == "length" else "values"
                raise ValueError(f"{name} has {len(array)} entries for {wanted} {what}.")
        start, length = arrays["start"], arrays["length"]
        outside = (start < 0) | (length < 0) | (start + length > n_values)
        if outside.any():
            row = int(np.argmax(outside))
            raise ValueError(
                f"row {row} begins at start={start[row]} and has length={length[row]}, which lies "
                f"outside the {n_values} items."
            )
        if self.feedback is not None and not np.isin(arrays["feedback"], (0, 1)).all():
            raise ValueError("feedback must hold 0 and 1 only.")
        if self.donor is not None and self.donors is not None:
            check_codes(arrays["donor"], len(self.donors), "donor", "donors")
        vars(self).update(arrays, _checked=True)  # past the frozen attributes

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, rows: Any) -> Sequences:
        return self._with(start=self.start[rows], length=self.length[rows])

    def taken(self, rows: Any, disk: Disk | None) -> Sequences:
        """Return some rows; where `disk` is given, the arrays of many are in files."""
        return self._with(
            start=taken(self.start, rows, disk), length=taken(self.length, rows, disk)
        )

    def _with(self, **changes: Any) -> Sequences:
        """Do as `dataclasses.replace`, at a twentieth of its cost: of what needs no check."""
        new = object.__new__(type(self))
        vars(new).update(vars(self), **changes)
        return new

    @classmethod
    def empty(cls, n_rows: int) -> Sequences:
        """Return `n_rows` rows without any item."""
        return cls(
            np.zeros(0, dtype=np.int32),
            np.zeros(n_rows, dtype=np.int64),
            np.zeros(n_rows, dtype=np.int32),
        )

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Cumulative lengths, shape (n_rows + 1,), beginning with 0."""
        return ragged.offsets(self.length)

    def positions(self) -> NDArray[np.int64]:
        """Return the indices into the flat arrays of all values, row after row."""
        return ragged.ranges(self.start, self.length)

    def row(self, i: int) -> NDArray[np.int32]:
        """Return the item codes of row `i` (a view)."""
        return self.items[self.start[i] : self.start[i] + self.length[i]]

    def last(self, n: int) -> Sequences:
        """Return the same rows, each cut to its last `n` items (views, nothing is copied)."""
        length = np.minimum(self.length, n)
        return self._with(start=self.start + (self.length - length), length=length)

    def compact(self) -> Sequences:
        """Return the same rows over flat arrays that hold these rows' values and nothing else."""
        return self._taken(self.positions(), self.offsets[:-1])

    def _taken(self, positions: NDArray[np.int64], start: NDArray[np.int64]) -> Sequences:
        flat = {name: getattr(self, name) for name in FLAT}
        taken = {k: None if v is None else v[positions] for k, v in flat.items()}
        return self._with(start=start, **taken)

    def trimmed(self) -> Sequences:
        """Return the same rows over flat arrays without most of what no row has.

        Rows that share values still do. The cost is that of the rows, and the arrays are shared
        if the rows have half of them.
        """
        order = np.argsort(self.start, kind="stable")
        start, end = self.start[order], (self.start + self.length)[order]
        reached = np.maximum.accumulate(end)
        # Rows that overlap lie in one stretch; the next begins where none has reached.
        begins = np.ones(len(order), dtype=bool)
        begins[1:] = start[1:] > reached[:-1]
        first = np.flatnonzero(begins)
        n_each = np.append(reached[first[1:] - 1], reached[-1:]) - start[first]
        if 2 * n_each.sum() >= len(self.items):
            return self
        moved = np.empty_like(self.start)
        shift = ragged.offsets(n_each)[:-1] - start[first]
        moved[order] = start + shift[np.cumsum(begins) - 1]
        return self._taken(ragged.ranges(start[first], n_each), moved)

    def sharing(self, group: NDArray[np.integer]) -> Sequences:
        """Return the same rows; one that equals the row before it, of its group, is the same view.

        Parameters
        ----------
        group : ndarray of shape (n_rows,), int
            Such as the user of each row.
        """
        same = np.zeros(len(self), dtype=bool)
        same[1:] = (group[1:] == group[:-1]) & (self.length[1:] == self.length[:-1])
        rows = np.flatnonzero(same)
        here = ragged.ranges(self.start[rows], self.length[rows])
        before = ragged.ranges(self.start[rows - 1], self.length[rows])
        differs = np.zeros(len(here), dtype=bool)
        for name in FLAT:
            values = getattr(self, name)
            if values is not None:
                differs |= values[here] != values[before]
        n_differing = np.diff(ragged.offsets(differs)[ragged.offsets(self.length[rows])])
        same[rows[n_differing > 0]] = False
        first = np.maximum.accumulate(np.where(same, 0, np.arange(len(self))))
        return self._with(start=self.start[first])

    def recode(self, codes: NDArray[np.int32]) -> Sequences:
        """Return the same rows with item code `c` replaced by ``codes[c]``."""
        return self._with(items=codes[self.items])

    def columns(self, name: str, ids: Callable[[], NDArray[Any]]) -> dict[str, Callable[[], Lists]]:
        """Return the list columns of a table, each as a function that makes its values.

        Parameters
        ----------
        name : str
            Of the column of the items, with which the names of the others begin.
        ids : callable
            Returns the ids of the items.
        """

        def column(values: NDArray[Any], ids: Callable[[], Any] | None = None) -> Lists:
            taken = values[self.positions()]
            return (taken if ids is None else ids()[taken]), self.length

        columns: dict[str, Callable[[], Lists]] = {name: partial(column, self.items, ids)}
        if self.donor is not None:
            columns[f"{name}_donor"] = partial(column, self.donor, lambda: self.donors)
        for suffix, values in (
            ("similarity", self.similarity),
            ("donor_similarity", self.donor_similarity),
            ("feedback", self.feedback),
            ("timestamp", self.time),
        ):
            if values is not None:
                columns[f"{name}_{suffix}"] = partial(column, values)
        return columns


def check_codes(codes: NDArray[np.integer], n: int, name: str, of: str) -> None:
    """Raise ValueError if a code is not between 0 and ``n - 1``."""
    if codes.min(initial=0) < 0 or codes.max(initial=-1) >= n:
        row = int(np.argmax((codes < 0) | (codes >= n)))
        raise ValueError(
            f"{name} holds {codes[row]} at position {row}, but must lie between 0 and {n - 1}: the "
            f"positions in {of}, which has {n}."
        )
