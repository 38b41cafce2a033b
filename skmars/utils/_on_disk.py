"""Arrays in files, which the system maps into memory page by page, and loops over their blocks."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

# What must not cost memory for all rows at once goes through so many of them at a time.
BLOCK = 1 << 20
# Of impressions on disk, what is made of more rows than these is on disk, too.
MANY = 1 << 22


def blocks(n: int, size: int | None = None) -> Iterator[slice]:
    """Cut `n` rows into slices of `size` rows, by default `BLOCK`; without rows there is one.

    Examples
    --------
    >>> list(blocks(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    size = BLOCK if size is None else size
    for begin in range(0, max(n, 1), size):
        yield slice(begin, min(begin + size, n))


def count_codes(codes: NDArray[np.integer], n_codes: int) -> NDArray[np.int64]:
    """Do as `np.bincount`, which would copy all codes as int64.

    Examples
    --------
    >>> import numpy as np
    >>> count_codes(np.array([2, 0, 2], dtype=np.int32), 4)
    array([1, 0, 2, 0])
    """
    count = np.zeros(n_codes, dtype=np.int64)
    for block in blocks(len(codes)):
        if n_codes > BLOCK:
            np.add.at(count, codes[block], 1)
        else:
            count += np.bincount(codes[block], minlength=n_codes)
        release(codes)
    return count


def cut_groups(ends: NDArray[np.int64], n_rows: int) -> list[int]:
    """Cut consecutive groups into stretches of at most `n_rows` rows each, or of one group.

    Parameters
    ----------
    ends : ndarray of shape (n_groups + 1,)
        Cumulative numbers of rows, beginning with 0.
    n_rows : int

    Returns
    -------
    list of int
        The first group of each stretch, and the number of groups.

    Examples
    --------
    >>> import numpy as np
    >>> cut_groups(np.array([0, 2, 3, 9, 10]), 4)
    [0, 2, 3, 4]
    """
    first = [0]
    while first[-1] < len(ends) - 1:
        reached = np.searchsorted(ends, ends[first[-1]] + n_rows, side="right") - 1
        first.append(max(int(reached), first[-1] + 1))
    return first


def release(*arrays: NDArray[Any] | None) -> None:
    """Let go of the pages of arrays in files, which count as memory of the process once read.

    Their values stay: the system reads the pages again, mostly from its cache.
    """
    for array in arrays:
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            base.madvise(mmap.MADV_DONTNEED)


class ArrayFile:
    """An array that is written to a new file, part after part.

    Parameters
    ----------
    path : Path
    file : binary file, default=None
        The open file, where it is there already.
    """

    def __init__(self, path: Path, file: IO[bytes] | None = None) -> None:
        self.path = path
        self._file = path.open("xb") if file is None else file
        self._length = 0
        self._like: NDArray[Any] | None = None

    def append(self, part: NDArray[Any]) -> None:
        """Write further entries, of the type and width of the first ones."""
        if self._like is None:
            self._like = part[:0].copy()
        if part.dtype != self._like.dtype or part.shape[1:] != self._like.shape[1:]:
            raise TypeError(f"{self.path.name} holds {self._like.dtype}, got {part.dtype}.")
        self._file.write(np.ascontiguousarray(part).data)
        self._length += len(part)

    def close(self) -> None:
        self._file.close()

    def mapped(self, path: Path | None = None, *, temporary: bool = False) -> NDArray[Any]:
        """Return the array, read-only, after `close`.

        Parameters
        ----------
        path : Path, default=None
            Where the file is now, if it was moved.
        temporary : bool, default=False
            Whether the file is removed when nobody needs the array any more.
        """
        path = self.path if path is None else path
        assert self._like is not None
        shape = (self._length, *self._like.shape[1:])
        if 0 in shape:  # no file can be mapped that is empty
            if temporary:
                _remove(path, os.getpid())
            return np.zeros(shape, self._like.dtype)
        array = np.memmap(path, self._like.dtype, "r", shape=shape)
        if temporary:
            weakref.finalize(array, _remove, path, os.getpid())
        # Not as a memmap, which every operation would hand on. Joblib finds the file all the same.
        return np.asarray(array)


def _remove(path: Path, process: int) -> None:
    """Remove a file, and its folder if that is empty; not in a fork of the process."""
    if os.getpid() == process:
        with suppress(OSError):
            path.unlink()
            path.parent.rmdir()


@dataclass(frozen=True)
class Disk:
    """Where arrays are put that have an entry for each of many rows: in files of a folder.

    If the folder is not there (in another process, on another machine), files are put where
    temporary files are.
    """

    folder: str

    def array(self, parts: Iterable[NDArray[Any]]) -> NDArray[Any]:
        """Write an array, part after part; its file is removed when nobody needs it any more."""
        usable = os.path.isdir(self.folder) and os.access(self.folder, os.W_OK | os.X_OK)
        handle, name = tempfile.mkstemp(".rows", "skmars-", self.folder if usable else None)
        file = ArrayFile(Path(name), os.fdopen(handle, "wb"))
        try:
            for part in parts:
                file.append(part)
            file.close()
        except BaseException as error:
            with suppress(OSError):
                file.close()
            _remove(file.path, os.getpid())
            if isinstance(error, OSError):
                raise not_written(file.path.parent, error) from error
            raise
        return file.mapped(temporary=True)


def not_written(folder: Path, error: OSError) -> OSError:
    """Return the error to raise where files of a folder could not be written."""
    return OSError(
        f"{folder} can't be written: {error.strerror or error}. Nothing half-made stays; make "
        "room, or name a folder elsewhere."
    )


def taken(array: NDArray[Any], rows: Any, disk: Disk | None) -> NDArray[Any]:
    """Return ``array[rows]``; with `disk`, in a file if these are many rows.

    Parameters
    ----------
    array : ndarray of shape (n, ...)
    rows : slice, or ndarray of int or bool
    disk : Disk or None
    """
    if disk is None or isinstance(rows, slice) or len(rows) <= MANY or array.dtype == object:
        return array[rows]
    if rows.dtype == bool and len(rows) != len(array):
        return array[rows]  # which says what is wrong

    def part(block: slice) -> NDArray[Any]:
        some = rows[block]
        return array[block][some] if some.dtype == bool else array[some]

    return computed(len(rows), part, disk, array)


def computed(
    n_rows: int, make: Callable[[slice], NDArray[Any]], disk: Disk | None, *sources: Any
) -> NDArray[Any]:
    """Return ``make(slice(0, n_rows))``; with `disk`, of many rows, block by block in a file.

    Parameters
    ----------
    n_rows : int
    make : callable
        Returns the entries of some rows, which depend on these alone.
    disk : Disk or None
    *sources : ndarray or None
        What `make` reads, to let go of it.
    """
    if disk is None or n_rows <= MANY:
        return make(slice(0, n_rows))

    def parts() -> Iterator[NDArray[Any]]:
        for block in blocks(n_rows):
            yield make(block)
            release(*sources)

    return disk.array(parts())
