"""The raw content of items: is it there, what identifies it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal

from numpy.typing import NDArray

from skmars.data._content import content_key, is_absent
from skmars.data._images import UnusableContent, load_image, reason

Kind = Literal["text", "image", "raw"]

NO_CONTENT = "no content"

# Images handed to an encoder at once hold at most this many pixels together (or one image).
BATCH_PIXELS = 2**25


class Items(Sequence[Any]):
    """The content of one modality, item by item, read only when it is asked for.

    Parameters
    ----------
    values : ndarray of shape (n_items,)
        One raw content an item; None where there is none.
    kind : {"text", "image", "raw"}
        How to read it.
    max_image_pixels : int
        Larger images are unusable.
    previous : Items, default=None
        Values that stand in the same place of these are known, and not looked at again.

    Attributes
    ----------
    digests : list of bytes or None
        What identifies each item's content; None where there is nothing to encode.
    problems : dict of int to str
        Why an item can't be used. `load` adds what turns out to be unreadable.
    """

    def __init__(
        self,
        values: NDArray[Any],
        kind: Kind,
        max_image_pixels: int,
        previous: Items | None = None,
    ) -> None:
        self.values, self.kind, self.max_image_pixels = values, kind, max_image_pixels
        self.problems: dict[int, str] = {}
        self.digests: list[bytes | None] = []
        for i, value in enumerate(values):
            if previous is not None and i < len(previous) and value is previous.values[i]:
                known, problem = previous.digests[i], previous.problems.get(i)
            else:
                known, problem = _examined(value, kind)
            self.digests.append(known)
            if problem is not None:
                self.problems[i] = problem

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, i: Any) -> Any:
        if self.kind == "image":
            return load_image(self.values[i], self.max_image_pixels)
        return self.values[i]

    def load(self, indices: Sequence[int]) -> Iterator[tuple[list[int], list[Any]]]:
        """Yield the readable ones among `indices` with their content, few large images at once."""
        found: list[int] = []
        contents: list[Any] = []
        pixels = 0
        for i in indices:
            try:
                content = self[i]
            except UnusableContent as problem:
                self.problems[i] = str(problem)
                continue
            size = content.width * content.height if self.kind == "image" else 0
            if contents and pixels + size > BATCH_PIXELS:
                yield found, contents
                found, contents, pixels = [], [], 0
            found.append(i)
            contents.append(content)
            pixels += size
        if contents:
            yield found, contents


class Readable(Sequence[Any]):
    """The items at `indices`, all known to be readable, loaded one by one while iterating."""

    def __init__(self, items: Items, indices: Sequence[int]) -> None:
        self.items, self.indices = items, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self.items[j] for j in self.indices[i]]
        return self.items[self.indices[i]]


def _examined(value: Any, kind: Kind) -> tuple[bytes | None, str | None]:
    try:
        return digest(value, kind), None
    except UnusableContent as problem:
        return None, str(problem)


def digest(value: Any, kind: Kind) -> bytes:
    """Return 16 bytes that identify a content wherever it lies; UnusableContent if none is there.

    Of an image file the bytes count, not the path: the same cover under two names is one.
    """
    if is_absent(value):
        raise UnusableContent(NO_CONTENT)
    if kind == "text":
        if not isinstance(value, str):
            raise UnusableContent(f"{type(value).__name__} instead of a text")
        return _hash(value.encode("utf-8", "surrogatepass"))
    if kind == "image":
        if isinstance(value, str | os.PathLike):
            try:
                state = os.stat(value)
                return _file_digest(os.fspath(value), state.st_size, state.st_mtime_ns)
            except (OSError, ValueError) as error:
                raise UnusableContent(f"{value}: {reason(error)}") from error
        if hasattr(value, "tobytes") and hasattr(value, "getpalette"):
            try:
                palette, pixels = value.getpalette("RGBA"), value.tobytes()
            except Exception as error:  # a lazily opened file may fail in many ways
                raise UnusableContent(reason(error)) from error
            return _hash(f"{value.mode}{value.size}{palette}".encode(), pixels)
    return _hash(content_key(value).encode())


def _hash(*parts: bytes) -> bytes:
    result = hashlib.blake2b(digest_size=16)
    for part in parts:
        result.update(part)
    return result.digest()


@lru_cache(maxsize=2**18)
def _file_digest(path: str, size: int, changed: int) -> bytes:
    """Digest a file; size and time of change are there to read it anew once it changed."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


def file_digest(path: str | os.PathLike[str]) -> str:
    """Digest the content of a file, or of all files of a folder."""
    if not os.path.isdir(path):
        state = os.stat(path)
        return _file_digest(os.fspath(path), state.st_size, state.st_mtime_ns).hex()
    lines = []
    for folder, _, names in os.walk(path):
        files = (os.path.join(folder, name) for name in names)
        lines += [f"{os.path.relpath(file, path)} {file_digest(file)}" for file in files]
    return _hash("\n".join(sorted(lines)).encode()).hex()
