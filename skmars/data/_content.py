"""Raw content of items: whether it is missing, and digests by which it is recognised."""

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
_TIME_RESOLUTION = 2_000_000_000  # nanoseconds within which two changes may leave the same time


def is_absent(value: Any) -> bool:
    """Return whether a raw content is missing: None, NaN, NaT, pandas.NA or blank text."""
    kind = type(value)
    if issubclass(kind, str):
        return not str.strip(value)
    if issubclass(kind, float | np.inexact | np.datetime64 | np.timedelta64):
        return bool(value != value)
    return value is None or kind.__name__ in ("NAType", "NaTType")


def content_key(value: Any) -> str:
    """Return a key that is equal for equal raw contents.

    For a path it consists of the text and of size and time of the file, which is not read:
    the fingerprint of a catalogue of pictures must not cost as much as encoding them. A content
    that has no digest gets a random key.
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
    """A `Digester` for which a path includes the content of its file.

    Parameters
    ----------
    max_bytes : int, default=None
        Paths of larger files, of folders and of devices have no digest. None reads all files,
        those in folders as well, and takes the name of a device as a text.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        super().__init__()
        self.max_bytes = max_bytes

    def is_file(self, text: str) -> bool:
        """Return whether a text is the path of a file; single words are not looked up."""
        if not ("." in text or os.sep in text) or not _is_path(text):
            return False
        return os.path.isfile(text) or (self.max_bytes is not None and not os.path.isdir(text))

    def decomposed(self, value: Any) -> Parts:
        path = value if type(value) is str else None
        if isinstance(value, os.PathLike) and os.path.exists(value):
            path = os.fsdecode(value)
        if path is None:
            return super().decomposed(value)
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
        If the file can't be opened or is larger than `max_bytes`, or `path` is a folder, a device,
        a pipe or a socket (reading which may never end).
    """
    kind = os.stat(path).st_mode
    if stat.S_ISDIR(kind):
        raise OSError("Is a directory")
    if stat.S_ISREG(kind):
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(path, flags), "rb")
        state = os.fstat(file.fileno())
        if stat.S_ISREG(state.st_mode):  # not replaced since `os.stat`
            if max_bytes is None or state.st_size <= max_bytes:
                return file
            file.close()
            raise OSError(f"{state.st_size:,} bytes, more than the {max_bytes:,} that are read")
        file.close()
    raise OSError("Is a device, a pipe or a socket, not a file")


def file_digest(path: Any) -> bytes:
    """Return a digest of a file's content, or of all files in a folder.

    A file is read again only if it has changed.
    """
    if os.path.isdir(path):
        files = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
        lines = sorted(f"{os.path.relpath(f, path)} {file_digest(f).hex()}" for f in files)
        return hash_of("\n".join(lines).encode("utf-8", "surrogatepass"))
    state = os.stat(path)
    change = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    if time.time_ns() - max(change[3:]) < _TIME_RESOLUTION:
        return _digest_of_file.__wrapped__(os.fspath(path), change)
    return _digest_of_file(os.path.abspath(path), change)


@lru_cache(maxsize=2**18)
def _digest_of_file(path: str, change: tuple[int, ...]) -> bytes:
    result = hashlib.blake2b(digest_size=16)
    with open_file(path) as file:
        while block := file.read(2**20):
            result.update(block)
    return result.digest()
