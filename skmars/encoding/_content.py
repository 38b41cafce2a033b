"""The raw content of items: load it, recognise it by a digest, find contents unlike the others."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skmars.data._content import ContentDigester, file_digest, is_absent, open_file
from skmars.data._digest import Digester, NoDigest, hash_of, picture_parts, reason
from skmars.data._images import (
    MAX_IMAGE_PIXELS,
    UnusableContent,
    check_array,
    check_image,
    image_bytes,
    load_image,
    max_bytes,
)

Kind = Literal["text", "image", "raw"]

NO_CONTENT = "no content"

# Images handed to an encoder at once hold at most this many pixels together (or one image).
BATCH_PIXELS = 2**25


class Items(Sequence[Any]):
    """The contents of one modality, item by item, loaded on access.

    Parameters
    ----------
    values : ndarray of shape (n_items,)
        One raw content an item; None where there is none.
    kind : {"text", "image", "raw"}
        How to read it.
    max_image_pixels : int
        Larger images are unusable.
    previous : Items, default=None
        What the encoder was fitted on, with which values of an unusual type are recognised.

    Attributes
    ----------
    digests : list of bytes or None
        Digest of each item's content; None where there is nothing to encode.
    problems : dict of int to str
        Why an item can't be used. `load` adds what turns out to be unreadable.
    values, kind, max_image_pixels, previous
        The parameters.
    """

    def __init__(
        self,
        values: NDArray[Any],
        kind: Kind,
        max_image_pixels: int,
        previous: Items | None = None,
    ) -> None:
        self.values, self.kind, self.max_image_pixels = values, kind, max_image_pixels
        self.previous = previous
        self.problems: dict[int, str] = {}
        self.digests: list[bytes | None] = []
        digester = _digester(kind, max_image_pixels)
        for i, value in enumerate(values):
            try:
                self.digests.append(digest(value, kind, max_image_pixels, digester))
            except UnusableContent as problem:
                self.digests.append(None)
                self.problems[i] = str(problem)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, i: Any) -> Any:
        value = self.values[i]
        if self.kind == "text":
            return str.__str__(value)
        if self.kind == "raw":
            return value
        if isinstance(value, str | os.PathLike):
            path, value = value, image_bytes(value, self.max_image_pixels)
            if hash_of(value) != self.digests[i]:  # its vector would be that of another picture
                raise UnusableContent(f"{os.fspath(path)}: changed while it was read")
        return load_image(value, self.max_image_pixels)

    def load(self, indices: Iterable[int]) -> Iterator[tuple[list[int], list[Any]]]:
        """Yield batches of the readable items among `indices`, with contents of bounded size."""
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


def _digester(kind: Kind, max_pixels: int) -> Digester:
    return ContentDigester(max_bytes(max_pixels)) if kind == "raw" else Digester()


def digest(
    value: Any,
    kind: Kind,
    max_image_pixels: int = MAX_IMAGE_PIXELS,
    digester: Digester | None = None,
) -> bytes:
    """Return a digest of a content, 16 bytes long; UnusableContent if it is missing.

    That of an image file depends on its bytes, not its path: the same cover has it under two names.
    """
    try:
        if is_absent(value):
            raise UnusableContent(NO_CONTENT)
        if kind == "text":
            return hash_of(_checked_text(value))
        if kind == "image" and isinstance(value, str | os.PathLike):
            return _picture_file(value, max_bytes(max_image_pixels))
        digester = digester or _digester(kind, max_image_pixels)
        return digester.digest(value if kind == "raw" else _checked_image(value, max_image_pixels))
    except UnusableContent:
        raise
    except NoDigest as error:
        name = type(value).__name__
        raise UnusableContent(f"{name} that can't be told from others: {error}") from error
    except Exception as error:  # a lazily opened file, or an object with code of its own
        raise UnusableContent(reason(error)) from error


def _checked_text(value: Any) -> bytes:
    if not issubclass(type(value), str):
        raise UnusableContent(f"{type(value).__name__} instead of a text")
    try:
        return str.encode(value)
    except UnicodeEncodeError as error:
        raise UnusableContent(f"half a character at position {error.start}") from error


def _picture_file(path: Any, limit: int) -> bytes:
    try:
        open_file(path, limit).close()
        return file_digest(path)
    except (OSError, ValueError) as error:
        raise UnusableContent(f"{os.fspath(path)}: {reason(error)}") from error


def _checked_image(value: Any, max_pixels: int) -> Any:
    """Return the bytes or parts from which the digest of an image without a file is computed."""
    from PIL.Image import Image

    if isinstance(value, Image):
        check_image(value, max_pixels)
        return picture_parts(value)
    if isinstance(value, np.ndarray):
        check_array(value)
        return value
    return image_bytes(value, max_pixels)


def majority_type(values: Iterable[Any]) -> Hashable:
    """Return the `content_type` of more than half of the contents, or None if there is none."""
    counts = Counter(content_type(value) for value in values if not is_absent(value))
    first, count = counts.most_common(1)[0] if counts else (None, 0)
    return first if 2 * count > counts.total() else None


def content_type(value: Any) -> Hashable:
    """Return type and shape of a raw content, and whether it can be read or is finite."""
    try:
        if isinstance(value, dict):
            return "dict", frozenset((key, content_type(part)) for key, part in value.items())
        if isinstance(value, str | bytes | bytearray | os.PathLike) or hasattr(value, "getpalette"):
            return _readable_as(value)
        numbers = np.asarray(value)
        if numbers.dtype.kind in "biufc":
            return "numbers", numbers.shape, bool(np.isfinite(numbers).all())
        if isinstance(value, list | tuple):
            return "list", frozenset(map(content_type, value))
        return type(value), numbers.dtype.kind, numbers.shape
    except Exception:  # objects run code of their own
        return "broken"


def _readable_as(value: Any) -> str:
    try:
        load_image(value)
        return "picture"
    except UnusableContent:
        if not isinstance(value, str | os.PathLike):
            return "no picture"
        os.fspath(value).encode()  # half characters are broken
        return "file" if os.path.isfile(value) else "text"
