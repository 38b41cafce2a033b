"""The order of the rows in an epoch, and its batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from skmars.utils._on_disk import MANY, Disk

# Rows on disk are read in stretches of so many, which lie together.
STRETCH = 1 << 14

Rows = NDArray[np.int64]


def shuffled(n_rows: int, random_state: np.random.RandomState, disk: Disk | None) -> Iterator[Rows]:
    """Return all rows in a random order, some at a time.

    Of more than `MANY` rows on disk, stretches of `STRETCH` rows come in a random order, and those
    of each `MANY` consecutive rows of this order are shuffled: each part of the files is read once.
    Of fewer rows, and in memory, every order is as likely as any other.

    Parameters
    ----------
    n_rows : int
    random_state : RandomState
    disk : Disk or None
        Where the rows are on disk.

    Yields
    ------
    ndarray of int64
    """
    if disk is None or n_rows <= MANY:
        yield random_state.permutation(n_rows)
        return
    begin = STRETCH * random_state.permutation(-(-n_rows // STRETCH))
    n_together = max(MANY // STRETCH, 1)
    for i in range(0, len(begin), n_together):
        rows = (begin[i : i + n_together, None] + np.arange(STRETCH)).ravel()
        yield random_state.permutation(rows[rows < n_rows])


def equal_batches(parts: Iterable[Rows], n_rows: int, n_batches: int) -> Iterator[Rows]:
    """Cut all rows, which come in parts, into batches of equal size, as `np.array_split` does.

    Examples
    --------
    >>> parts = [np.array([4, 0, 1]), np.array([3, 2])]
    >>> [batch.tolist() for batch in equal_batches(parts, 5, 2)]
    [[4, 0, 1], [3, 2]]
    >>> [batch.tolist() for batch in equal_batches(parts, 5, 3)]
    [[4, 0], [1, 3], [2]]
    """
    size, n_larger = divmod(n_rows, n_batches)
    rest: Rows = np.zeros(0, dtype=np.int64)
    number = 0
    for part in parts:
        rest, at = np.concatenate([rest, part]) if len(rest) else part, 0
        while number < n_batches and (n := size + (number < n_larger)) <= len(rest) - at:
            yield rest[at : at + n]
            number, at = number + 1, at + n
        rest = rest[at:]
