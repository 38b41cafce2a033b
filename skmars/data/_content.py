"""Raw content of items: is there any, and what identifies it."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from functools import lru_cache
from typing import Any, BinaryIO
from uuid import uuid4

import numpy as np

from skmars.data._digest import Digester, Parts, hash_of

_MAX_PATH = 1024  # longer texts are no paths
_SETTLED = 2_000_000_000  # nanoseconds after which another change shows in a file's times


def is_absent(value: Any) -> bool:
    """Say whether there is nothing: None, NaN, NaT, pandas.NA or blank text."""
    kind = type(value)
    if issubclass(kind, str):
        return not str.strip(value)
    if issubclass(kind, float | np.inexact | np.datetime64 | np.timedelta64):
        return bool(value != value)
    return value is None or kind.__name__ in ("NAType", "NaTType")


def content_key(value: Any) -> str:
    """Return what identifies one raw content of a catalogue.

    A path counts by its text and by size and times of its file, which is not read: to identify a
    catalogue of pictures must not cost what encoding it costs. What can't be told from others by
    its content gets a key that nothing else has.
    """
    try:
        named = isinstance(value, str | os.PathLike) and _is_path(os.fsdecode(value))
        if named and os.path.isfile(value):
            state = os.stat(value)
            return f"{os.fsdecode(value)}:{state.st_size}:{state.st_mtime_ns}"
        return Digester().digest(value).hex()
    except Exception:  # objects run code of their own
        return uuid4().hex


class ContentDigester(Digester):
    """Digests values in which a path stands for the content of its file as well.

    Parameters
    ----------
    max_bytes : int, default=None
        Values that name larger files or devices have no digest, nor have paths of folders. None
        reads all files, and those of folders, and takes the names of devices as texts.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        super().__init__()
        self.max_bytes = max_bytes

    def is_file(self, text: str) -> bool:
        """Say whether a text looks like a path and is one; single words are not looked up."""
        if not ("." in text or os.sep in text) or not _is_path(text):
            return False
        return os.path.isfile(text) or (self.max_bytes is not None and not os.path.isdir(text))

    def taken_apart(self, value: Any) -> Parts:
        path = value if type(value) is str else None
        if isinstance(value, os.PathLike) and os.path.exists(value):
            path = os.fsdecode(value)
        if path is None:
            return super().taken_apart(value)
        if self.max_bytes is not None:
            open_file(path, self.max_bytes).close()
        kind = "file" if type(value) is str else "path"
        return kind, [path.encode("utf-8", "surrogatepass"), file_digest(path)]


def _is_path(text: str) -> bool:
    return len(text) < _MAX_PATH and "\n" not in text and os.path.exists(text)


def open_file(path: Any, max_bytes: int | None = None) -> BinaryIO:
    """Open a file for reading.

    Raises
    ------
    OSError
        If it can't be, is larger than `max_bytes`, or is no file, at once: reading a device, a pipe
        or a socket may never end.
    """
    kind = os.stat(path).st_mode
    if stat.S_ISDIR(kind):
        raise OSError("Is a directory")
    if stat.S_ISREG(kind):
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(path, flags), "rb")
        state = os.fstat(file.fileno())
        if stat.S_ISREG(state.st_mode):  # still
            if max_bytes is None or state.st_size <= max_bytes:
                return file
            file.close()
            raise OSError(f"{state.st_size:,} bytes, more than the {max_bytes:,} that are read")
        file.close()
    raise OSError("Is a device, a pipe or a socket, not a file")


def file_digest(path: Any) -> bytes:
    """Digest the content of a file, or of all files of a folder. Read again once it changed."""
    if os.path.isdir(path):
        files = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
        lines = sorted(f"{os.path.relpath(f, path)} {file_digest(f).hex()}" for f in files)
        return hash_of("\n".join(lines).encode("utf-8", "surrogatepass"))
    state = os.stat(path)
    change = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    if time.time_ns() - max(change[3:]) < _SETTLED:
        return _digest_of_file.__wrapped__(os.fspath(path), change)
    return _digest_of_file(os.path.abspath(path), change)


@lru_cache(maxsize=2**18)
def _digest_of_file(path: str, change: tuple[int, ...]) -> bytes:
    result = hashlib.blake2b(digest_size=16)
    with open_file(path) as file:
        while block := file.read(2**20):
            result.update(block)
    return result.digest()
