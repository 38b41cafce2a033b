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
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import joblib
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

# The least recently used encoders' vectors are forgotten beyond this many bytes; those of the
# encoder used last are always kept.
MAX_BYTES = 2 * 1024**3


class Encoded:
    """What one encoder has made so far: the fitted encoder, and a vector for each content.

    Attributes
    ----------
    lock : RLock
        Held while encoding: threads that need the same vectors wait for them.
    encoder : fitted transformer or None
        Set where there was something to fit.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.encoder: Any = None
        self._rows: dict[bytes, tuple[int, int]] = {}  # digest -> block, row of it
        self._blocks: list[Matrix] = []
        self._matrices: weakref.WeakValueDictionary[bytes, Matrix] = weakref.WeakValueDictionary()
        self._folders: dict[Path, Folder] = {}

    @property
    def nbytes(self) -> int:
        return sum(block.nbytes for block in self._blocks)

    @property
    def width(self) -> int | None:
        """Length of the vectors; None before the first."""
        return self._blocks[0].shape[1] if self._blocks else None

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._rows

    def add(self, digests: Sequence[bytes], vectors: Matrix) -> None:
        """Keep the vectors of further contents; those that are known stay as they are."""
        new = [i for i, digest in enumerate(digests) if digest not in self._rows]
        if new:
            block = len(self._blocks)
            self._blocks.append(vectors if len(new) == len(digests) else vectors[new])
            self._rows.update({digests[i]: (block, row) for row, i in enumerate(new)})

    def recall(self, digests: Sequence[bytes | None], matrix: Matrix, missing: Any) -> None:
        """Take over rows that an earlier process computed, unless there are vectors already."""
        with self.lock:
            if not self._rows:
                at = [i for i, d in enumerate(digests) if d is not None and not missing[i]]
                self.add([d for d in map(digests.__getitem__, at) if d], matrix[at])

    def matrix(self, digests: Sequence[bytes | None]) -> Matrix:
        """Return a row for each content, zero where it is None or unknown.

        The same contents give the very same (read-only) array for as long as anybody uses it:
        the catalogues of all candidates of a grid share their features.
        """
        known = [d if d in self._rows else None for d in digests]
        key = hashlib.sha256(b"".join(d or bytes(16) for d in known)).digest()
        matrix = self._matrices.get(key)
        if matrix is None:
            at = [i for i, d in enumerate(known) if d is not None]
            where = np.array([self._rows[d] for d in known if d is not None]).reshape(-1, 2)
            matrix = np.zeros((len(known), self.width or 0), dtype=np.float32)
            for block in np.unique(where[:, 0]):
                here = where[:, 0] == block
                matrix[np.asarray(at)[here]] = self._blocks[block][where[here, 1]]
            matrix.flags.writeable = False
            self._matrices[key] = matrix
            self._share(known, matrix)
        return matrix

    def _share(self, digests: list[bytes | None], matrix: Matrix) -> None:
        """Let `matrix` serve as the store, if it holds everything, instead of a second copy."""
        rows = {d: (0, i) for i, d in enumerate(digests) if d is not None}
        if len(rows) == len(self._rows):
            self._blocks, self._rows = [matrix], rows

    def folder(self, path: Path) -> Folder:
        """Return the folder that mirrors these vectors on disk."""
        return self._folders.setdefault(path, Folder(path))

    def vectors(self, digests: Sequence[bytes]) -> Matrix:
        """Return the vectors of known contents."""
        where = [self._rows[digest] for digest in digests]
        return np.stack([self._blocks[block][row] for block, row in where])


class Folder:
    """Vectors on disk, in files that are written once, whole, and never changed.

    Readers need no lock. Who encodes holds `lock`, so that processes that start together wait
    for the vectors of the first instead of each encoding everything.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stored: set[bytes] = set()
        self._files: set[str] = set()

    def lock(self) -> AbstractContextManager[Any]:
        """Return the lock, which other processes and threads respect."""
        self.path.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path / "lock")

    def read(self) -> Iterator[tuple[list[bytes], Matrix]]:
        """Yield contents and vectors of the files that appeared since the last call."""
        files = {file.name for file in self.path.glob("*.npz")}
        if not self._files <= files:  # somebody emptied the cache
            self.stored, self._files = set(), set()
        for name in sorted(files - self._files):
            self._files.add(name)
            try:
                with np.load(self.path / name, allow_pickle=False) as data:
                    digests, vectors = [bytes(row) for row in data["digests"]], data["vectors"]
            except (OSError, ValueError, KeyError, EOFError, BadZipFile):
                continue  # a damaged file is as good as none: its items are encoded again
            self.stored.update(digests)
            yield digests, vectors

    def write(self, digests: Sequence[bytes], vectors: Matrix) -> None:
        """Store vectors of contents that the folder lacks."""
        keys = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(digests), -1)
        name = f"{uuid.uuid4().hex}.npz"
        with _replaced(self.path / name) as file:
            np.savez(file, digests=keys, vectors=vectors)
        self.stored.update(digests)
        self._files.add(name)

    def read_encoder(self) -> Any:
        """Return the fitted encoder that another process left here, or None."""
        try:
            return joblib.load(self.path / "encoder.joblib")
        except Exception:  # absent, damaged, or of other versions: fitted again
            return None

    def write_encoder(self, encoder: Any) -> None:
        """Store the fitted encoder."""
        with _replaced(self.path / "encoder.joblib") as file:
            joblib.dump(encoder, file)


@contextmanager
def _replaced(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name once it is complete."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with open(partial, "wb") as file:
            yield file
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


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
    return None if cache is None else Path(cache).expanduser()
