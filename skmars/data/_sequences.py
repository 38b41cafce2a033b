"""Histories as views into one shared flat array (Arrow calls this layout list-view)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.utils import _ragged as ragged

# Arrays with one entry a value: shared between all row selections.
FLAT = ("items", "feedback", "time", "donor", "similarity", "donor_similarity")


@dataclass(frozen=True, eq=False)
class Sequences:
    """One item sequence a row; row `i` is ``items[start[i] : start[i] + length[i]]``.

    Selecting rows copies `start` and `length` and shares everything else.

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

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, rows: Any) -> Sequences:
        return replace(self, start=self.start[rows], length=self.length[rows])

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
        return replace(self, start=self.start + (self.length - length), length=length)

    def compact(self) -> Sequences:
        """Return the same rows over flat arrays that hold these rows' values and nothing else."""
        positions = self.positions()
        flat = {name: getattr(self, name) for name in FLAT}
        taken: dict[str, Any] = {k: None if v is None else v[positions] for k, v in flat.items()}
        return replace(self, start=self.offsets[:-1], **taken)

    def recode(self, codes: NDArray[np.int32]) -> Sequences:
        """Return the same rows with item code `c` replaced by ``codes[c]``."""
        return replace(self, items=codes[self.items])
