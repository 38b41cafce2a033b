"""A cache of vectors, by encoder and by content, in memory and optionally on disk.

Both keys are digests of content, so that clones, folds, other catalogues with the same items
and (through a folder) other processes reuse what any of them computed.
"""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path
from typing import IO, Any

import joblib
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from skmars.data._content import open_file
from skmars.data._digest import hash_of, reason
from skmars.utils._files import write_whole

Matrix = NDArray[np.float32]

# The least recently used encoders' vectors are forgotten beyond this many bytes; those of the
# encoder used last are always kept.
MAX_BYTES = 2 * 1024**3

_CHECKSUM = 32  # bytes at the end of a file


class Encoded:
    """The vectors that one encoder has computed so far, by content.

    Attributes
    ----------
    lock : RLock
        Held while encoding: threads that need the same vectors wait for them.
    rows : dict of bytes to ndarray
        Vectors by the digests of their contents.
    fitted : object
        The fitted encoder, where the key is that of an encoder before its fit.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.rows: dict[bytes | None, Matrix] = {}
        self.fitted: Any = None
        self._matrices: weakref.WeakValueDictionary[bytes, Matrix] = weakref.WeakValueDictionary()
        self._folders: dict[Path, Folder] = {}

    @property
    def nbytes(self) -> int:
        return 4 * len(self.rows) * self.width

    @property
    def width(self) -> int:
        """Length of the vectors; 0 before the first."""
        return len(next(iter(self.rows.values()), ()))

    def add(self, digests: Iterable[bytes | None], vectors: Matrix) -> None:
        """Add the vectors of new contents; vectors of another length are ignored."""
        if self.width in (0, vectors.shape[1]):
            for digest, vector in zip(digests, vectors):
                self.rows.setdefault(digest, vector)

    def recall(
        self, digests: Sequence[bytes | None], matrix: Matrix, missing: NDArray[np.bool_]
    ) -> None:
        """Add the rows of a matrix that another process computed, if there are no vectors yet."""
        with self.lock:
            if not self.rows:
                usable = np.flatnonzero(~missing).tolist()
                self.add([digests[i] for i in usable], matrix[usable])

    def matrix(self, digests: Sequence[bytes | None]) -> Matrix:
        """Return a row for each content, zero where it is None or unknown.

        The same contents give the same (read-only) array object as long as it is in use, so that
        the catalogues of all candidates of a grid share their features.
        """
        known = [d if d in self.rows else None for d in digests]
        key = hash_of(*(d or bytes(16) for d in known))
        matrix = self._matrices.get(key)
        if matrix is None:
            matrix = np.zeros((len(known), self.width), dtype=np.float32)
            filled = [i for i, d in enumerate(known) if d is not None]
            if filled:
                matrix[filled] = np.stack([self.rows[known[i]] for i in filled])
            matrix.flags.writeable = False
            self._matrices[key] = matrix
            self.rows.update((known[i], matrix[i]) for i in filled)  # instead of a second copy
        return matrix

    def folder(self, path: Path) -> Folder:
        """Return the folder that holds these vectors on disk."""
        return self._folders.setdefault(path, Folder(path))


class Folder:
    """The vectors of one encoder on disk, in files that are never changed once written.

    Each file ends with a checksum of its bytes and its name. A file that is damaged, cut off or
    misplaced is removed and ignored.

    Readers and writers hold `lock`, so that processes that start together wait for the vectors
    of the first instead of each encoding everything.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stored: set[bytes | None] = set()
        self._files: set[str] = set()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder, so that other processes and threads wait."""
        lock = FileLock(self.path / "lock")
        with self._usable():
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        try:
            for part in self.path.glob("*.part*"):  # of processes that were killed while writing
                part.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def load(self, encoded: Encoded) -> None:
        """Read the vectors that were stored in the folder since the last call."""
        files = {file.name for file in self.path.glob("*.npz")}
        if not self._files <= files:  # somebody emptied the cache
            self.stored, self._files = set(), set()
        for name in sorted(files - self._files):
            content = self._read(name, _read_vectors)
            if content is not None:
                self._files.add(name)
                self.stored.update(content[0])
                encoded.add(*content)

    def store(self, encoded: Encoded, digests: Iterable[bytes | None]) -> None:
        """Write the vectors of those contents that the folder lacks."""
        new = [d for d in dict.fromkeys(digests) if d in encoded.rows and d not in self.stored]
        if new:
            keys = np.frombuffer(b"".join(d or b"" for d in new), np.uint8).reshape(len(new), 16)
            vectors = np.stack([encoded.rows[d] for d in new])
            name = f"{uuid.uuid4().hex}.npz"
            self._write(name, lambda file: np.savez(file, digests=keys, vectors=vectors))
            self.stored.update(new)
            self._files.add(name)

    def read_fitted(self) -> Any:
        """Return the fitted encoder that `write_fitted` stored, or None."""
        return self._read("encoder.joblib", joblib.load)

    def write_fitted(self, fitted: Any) -> bool:
        """Store a fitted encoder; return False if it can't be pickled."""
        try:
            self._write("encoder.joblib", lambda file: joblib.dump(fitted, file))
        except OSError:
            raise
        except Exception:  # pickling runs code of the encoder's own
            return False
        return True

    def _write(self, name: str, dump: Callable[[IO[bytes]], Any]) -> None:
        def write(file: BufferedRandom) -> None:
            dump(file)
            length = file.seek(0, os.SEEK_END)
            file.write(self._checksum(file, length, name))

        with self._usable():
            write_whole(self.path / name, write)

    def _read(self, name: str, load: Callable[[IO[bytes]], Any]) -> Any:
        path = self.path / name
        try:
            with open_file(path) as file:
                length = file.seek(0, os.SEEK_END) - _CHECKSUM
                if length >= 0 and self._checksum(file, length, name) == file.read():
                    file.seek(0)
                    return load(file)
        except FileNotFoundError:
            return None
        except Exception:  # unreadable, or written by another version
            pass
        with suppress(OSError):
            path.unlink()
        return None

    def _checksum(self, file: IO[bytes], length: int, name: str) -> bytes:
        """Return the checksum of a file's name and first `length` bytes; move behind these."""
        checksum = hashlib.blake2b(f"{self.path.name}/{name}".encode(), digest_size=_CHECKSUM)
        file.seek(0)
        while length and (block := file.read(min(length, 2**20))):
            length -= len(block)
            checksum.update(block)
        return checksum.digest()

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(
                f"The folder {str(self.path.parent)!r} of the cache can't be used "
                f"({reason(error)}). Pass a folder that can be written to as `cache`, or None."
            ) from error


def _read_vectors(file: IO[bytes]) -> tuple[list[bytes], Matrix]:
    with np.load(file, allow_pickle=False) as data:
        digests, vectors = data["digests"], data["vectors"]
    shapes = digests.shape == (len(vectors), 16) and vectors.ndim == 2 and vectors.shape[1] > 0
    if not shapes or (digests.dtype, vectors.dtype) != (np.uint8, np.float32):
        raise ValueError("the file does not hold digests and vectors")
    return [bytes(row) for row in digests], vectors


_encoded: OrderedDict[str, Encoded] = OrderedDict()
_lock = threading.Lock()


def encoded_by(key: str) -> Encoded:
    """Return the vectors that this process has of the encoder with this fingerprint."""
    with _lock:
        entry = _encoded.setdefault(key, Encoded())
        _encoded.move_to_end(key)
        total = sum(other.nbytes for other in _encoded.values())
        while total > MAX_BYTES and len(_encoded) > 1:
            total -= _encoded.popitem(last=False)[1].nbytes
        return entry


def clear_memory_cache() -> None:
    """Forget the vectors and fitted encoders that this process keeps in memory."""
    with _lock:
        _encoded.clear()


def cache_folder(cache: str | os.PathLike[str] | joblib.Memory | None) -> Path | None:
    """Return the folder that the parameter `cache` names."""
    if isinstance(cache, joblib.Memory):
        return None if cache.location is None else Path(cache.location) / "skmars"
    if cache is None:
        return None
    if not os.fspath(cache) or "\0" in os.fspath(cache):
        raise ValueError(f"cache must be the path of a folder, got {cache!r}. Pass one, or None.")
    return Path(cache).expanduser()
