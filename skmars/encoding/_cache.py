"""Vectors that were computed once, by encoder and content: in memory, and on disk if asked.

Both keys are digests of content, so that clones, folds, other catalogues with the same items
and (through a folder) other processes find what any of them computed.
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

_SEAL = 32  # bytes at the end of a file that tell whether it is as it was written, and where


class Encoded:
    """What one encoder has made so far: a vector for each content.

    Attributes
    ----------
    lock : RLock
        Held while encoding: threads that need the same vectors wait for them.
    rows : dict of bytes to ndarray
        Vectors by the digests of their contents.
    fitted : object
        Of what has no vectors itself: the encoder that a fit made.
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
        """Keep the vectors of further contents, if they fit; those that are known stay."""
        if self.width in (0, vectors.shape[1]):
            for digest, vector in zip(digests, vectors):
                self.rows.setdefault(digest, vector)

    def recall(
        self, digests: Sequence[bytes | None], matrix: Matrix, missing: NDArray[np.bool_]
    ) -> None:
        """Take over rows that an earlier process computed, unless there are vectors already."""
        with self.lock:
            if not self.rows:
                there = np.flatnonzero(~missing).tolist()
                self.add([digests[i] for i in there], matrix[there])

    def matrix(self, digests: Sequence[bytes | None]) -> Matrix:
        """Return a row for each content, zero where it is None or unknown.

        The same contents give the very same (read-only) array for as long as anybody uses it:
        the catalogues of all candidates of a grid share their features.
        """
        known = [d if d in self.rows else None for d in digests]
        key = hash_of(*(d or bytes(16) for d in known))
        matrix = self._matrices.get(key)
        if matrix is None:
            matrix = np.zeros((len(known), self.width), dtype=np.float32)
            there = [i for i, d in enumerate(known) if d is not None]
            if there:
                matrix[there] = np.stack([self.rows[known[i]] for i in there])
            matrix.flags.writeable = False
            self._matrices[key] = matrix
            self.rows.update((known[i], matrix[i]) for i in there)  # instead of a second copy
        return matrix

    def folder(self, path: Path) -> Folder:
        """Return the folder that mirrors these vectors on disk."""
        return self._folders.setdefault(path, Folder(path))


class Folder:
    """What an encoder made, on disk, in files that are written once, whole, and never changed.

    Each ends in a seal: a digest of its bytes and of the place that it was written for. One that is
    damaged, cut off, or that belongs elsewhere is removed, as if it had not been there.

    Who reads or writes holds `lock`, so that processes that start together wait for the vectors
    of the first instead of each encoding everything.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stored: set[bytes | None] = set()
        self._files: set[str] = set()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder against other processes and threads."""
        lock = FileLock(self.path / "lock")
        with self._usable():
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        try:
            for part in self.path.glob("*.part*"):  # whoever wrote it is no more
                part.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def load(self, encoded: Encoded) -> None:
        """Add the vectors that appeared in the folder since the last call."""
        files = {file.name for file in self.path.glob("*.npz")}
        if not self._files <= files:  # somebody emptied the cache
            self.stored, self._files = set(), set()
        for name in sorted(files - self._files):
            found = self._read(name, _read_vectors)
            if found is not None:
                self._files.add(name)
                self.stored.update(found[0])
                encoded.add(*found)

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
        """Return what `write_fitted` left here, or None."""
        return self._read("encoder.joblib", joblib.load)

    def write_fitted(self, fitted: Any) -> bool:
        """Store a fitted encoder; False if it is one that can't be pickled."""
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
            file.write(self._seal(file, length, name))

        with self._usable():
            write_whole(self.path / name, write)

    def _read(self, name: str, load: Callable[[IO[bytes]], Any]) -> Any:
        path = self.path / name
        try:
            with open_file(path) as file:
                length = file.seek(0, os.SEEK_END) - _SEAL
                if length >= 0 and self._seal(file, length, name) == file.read():
                    file.seek(0)
                    return load(file)
        except FileNotFoundError:
            return None
        except Exception:  # no file, or one of other versions: as good as none
            pass
        with suppress(OSError):
            path.unlink()
        return None

    def _seal(self, file: IO[bytes], length: int, name: str) -> bytes:
        """Digest so many bytes of a file, and its place; the position is behind them then."""
        seal = hashlib.blake2b(f"{self.path.name}/{name}".encode(), digest_size=_SEAL)
        file.seek(0)
        while length:
            block = file.read(min(length, 2**20))
            length -= len(block)
            seal.update(block)
        return seal.digest()

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
        raise ValueError("these are no vectors of contents")
    return [bytes(row) for row in digests], vectors


_encoded: OrderedDict[str, Encoded] = OrderedDict()
_lock = threading.Lock()


def encoded_by(key: str) -> Encoded:
    """Return what this process knows of the encoder with this fingerprint."""
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
