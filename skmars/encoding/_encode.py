"""From the raw content of one modality to its features."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import get_tags

from skmars.data._content import is_absent
from skmars.data._images import UnusableContent
from skmars.encoding._cache import Encoded, Folder, Matrix, encoded_by
from skmars.encoding._content import NO_CONTENT, Items, Readable
from skmars.encoding._fingerprint import fingerprint

Chunks = list[list[int]]
Watch = Callable[[Chunks], Iterable[list[int]]]

# Part of every key: raise it when the meaning of stored vectors changes.
_VERSION = 1
# Vectors are stored at least this often, so that an interrupted encoding goes on from there.
_SAVE_EVERY = 30.0
_MAX_SPARSE_COLUMNS = 2**14


@dataclass(frozen=True)
class ModalityEncoder:
    """An encoder that is ready to encode, and the key of the vectors that it makes."""

    transformer: Any
    key: str


@dataclass(frozen=True)
class Features:
    """Features of one modality for all items of a catalogue.

    `missing` marks the items whose row is zero for want of usable content, `problems` says
    why, and `n_encoded` counts the contents that were not in the cache.
    """

    matrix: Matrix
    missing: NDArray[np.bool_]
    problems: dict[int, str]
    n_encoded: int = 0


def requires_fit(transformer: Any) -> bool:
    """Say whether what a transformer computes depends on what it was fitted on."""
    if hasattr(transformer, "__sklearn_tags__"):
        return bool(get_tags(transformer).requires_fit)
    return hasattr(transformer, "fit")


def fit_encoder(
    transformer: Any, items: Items, *, name: str, folder: Path | None
) -> ModalityEncoder:
    """Fit a clone of `transformer` to the usable items, unless that was done before.

    Parameters
    ----------
    transformer : scikit-learn transformer
    items : Items
    name : str
        Modality, for messages.
    folder : Path or None
        Where vectors and fitted encoders are shared between processes.

    Raises
    ------
    ValueError
        If the transformer raises one.
    """
    limit = items.max_image_pixels if items.kind == "image" else None
    parts = [_VERSION, transformer, items.kind, limit]
    if not requires_fit(transformer):
        ready = clone(transformer) if hasattr(transformer, "get_params") else transformer
        return ModalityEncoder(ready, fingerprint(*parts))
    # Fitted on other content it is another encoder, and its pickle belongs to one version. What
    # it may have learned before does not count.
    parts[1] = clone(transformer, safe=False)
    # One string: a digest of many objects takes long.
    contents = b"".join(digest or bytes(16) for digest in items.digests).hex()
    key = fingerprint(*parts, sklearn.__version__, contents)
    with _exclusive(key, folder) as (encoded, disk):
        if encoded.encoder is None and disk is not None:
            encoded.encoder = disk.read_encoder()
        if encoded.encoder is None:
            readable = Readable(items, [i for i in range(len(items)) if _is_readable(items, i)])
            fitted = clone(transformer, safe=False)
            if not readable.indices:  # nothing will be encoded either, which is for others to say
                return ModalityEncoder(fitted, key)
            try:
                with sklearn.config_context(transform_output="default"):
                    fitted.fit(readable if items.kind == "image" else list(readable), None)
            except ValueError as error:
                raise ValueError(f"The {name} encoder could not be fitted: {error}") from error
            encoded.encoder = fitted
            if disk is not None:
                disk.write_encoder(fitted)
        return ModalityEncoder(encoded.encoder, key)


def _is_readable(items: Items, i: int) -> bool:
    if items.digests[i] is None:
        return False
    try:
        items[i]
    except UnusableContent as problem:
        items.problems[i] = str(problem)
        return False
    return True


def encode(
    encoder: ModalityEncoder,
    items: Items,
    *,
    name: str,
    ids: NDArray[Any],
    batch_size: int,
    folder: Path | None,
    watch: Watch,
) -> Features:
    """Encode each distinct content that no earlier call has encoded, and gather all features.

    Parameters
    ----------
    encoder : ModalityEncoder
    items : Items
        Content of all items of the catalogue.
    name, ids : str and ndarray of shape (n_items,)
        Modality and item ids, for messages.
    batch_size : int
        Items are read and encoded so many at a time.
    folder : Path or None
        Where vectors are shared between processes.
    watch : callable
        Passes the chunks of items on one by one; it may report progress.

    Raises
    ------
    ValueError
        If the encoder returns NaN, infinity, or anything but one vector an item.
    """
    with _exclusive(encoder.key, folder) as (encoded, disk):
        if disk is not None:
            _synchronise(encoded, disk, items.digests)
        todo: dict[bytes, int] = {}
        for i, digest in enumerate(items.digests):
            if digest is not None and digest not in encoded:
                todo.setdefault(digest, i)
        order = list(todo.values())
        if items.kind == "text":  # texts of one length need no padding
            order.sort(key=lambda i: -len(items[i]))
        known = len(encoded)
        pending: list[tuple[list[int], Matrix]] = []

        def save() -> None:
            if pending:
                digests = [items.digests[i] for indices, _ in pending for i in indices]
                vectors = np.concatenate([vectors for _, vectors in pending])
                encoded.add(digests, vectors)  # type: ignore[arg-type]
                if disk is not None:
                    disk.write(digests, vectors)  # type: ignore[arg-type]
                pending.clear()

        saved = time.monotonic()
        try:
            for chunk in watch(_chunks(order, batch_size)):
                for indices, contents in items.load(chunk):
                    vectors = _vectors(encoder.transformer, contents, name, ids[indices])
                    width = pending[0][1].shape[1] if pending else encoded.width
                    if width is not None and vectors.shape[1] != width:
                        raise ValueError(
                            f"The {name} encoder returned vectors of length {vectors.shape[1]} "
                            f"for one batch and {width} for another."
                        )
                    pending.append((indices, vectors))
                if time.monotonic() - saved > _SAVE_EVERY:
                    save()
                    saved = time.monotonic()
        finally:
            save()
        for i, digest in enumerate(items.digests):  # the other items with an unreadable content
            if digest is not None and todo.get(digest) in items.problems:
                items.problems[i] = items.problems[todo[digest]]
        missing = np.array([d is None or d not in encoded for d in items.digests], dtype=bool)
        matrix = encoded.matrix(items.digests)
        return Features(matrix, missing, items.problems, len(encoded) - known)


@contextmanager
def _exclusive(key: str, folder: Path | None) -> Iterator[tuple[Encoded, Folder | None]]:
    """Hold the vectors of an encoder, against threads and (given a folder) other processes."""
    encoded = encoded_by(key)
    disk = None if folder is None else encoded.folder(folder / key)
    with encoded.lock, disk.lock() if disk is not None else nullcontext():
        yield encoded, disk


def _synchronise(encoded: Encoded, disk: Folder, digests: Sequence[bytes | None]) -> None:
    """Learn what other processes stored, and store what only this one knows."""
    for keys, vectors in disk.read():
        encoded.add(keys, vectors)
    unsaved = [
        d for d in dict.fromkeys(digests) if d is not None and d in encoded and d not in disk.stored
    ]
    if unsaved:
        disk.write(unsaved, encoded.vectors(unsaved))


def _chunks(order: list[int], size: int) -> Chunks:
    return [order[i : i + size] for i in range(0, len(order), size)]


def _vectors(transformer: Any, contents: list[Any], name: str, ids: NDArray[Any]) -> Matrix:
    with sklearn.config_context(transform_output="default"):
        vectors = transformer.transform(contents)
    if hasattr(vectors, "toarray"):
        if vectors.shape[1] > _MAX_SPARSE_COLUMNS:
            raise ValueError(
                f"The {name} encoder returned a sparse matrix with {vectors.shape[1]} columns; "
                "features are dense. Let it end in a TruncatedSVD."
            )
        vectors = vectors.toarray()
    return as_features(vectors, name, ids)


def as_features(vectors: Any, name: str, ids: NDArray[Any]) -> Matrix:
    """Return `vectors` as a finite float32 matrix with one row for each of `ids`."""
    try:
        matrix = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The {name} vectors are not numbers: {error}") from error
    if matrix.ndim != 2 or len(matrix) != len(ids) or matrix.shape[1] == 0:
        raise ValueError(
            f"The {name} encoder must return one vector an item: shape ({len(ids)}, n_features), "
            f"got shape {matrix.shape}."
        )
    bad = ~np.isfinite(matrix).all(axis=1)
    if bad.any():
        raise ValueError(
            f"The {name} encoder returned NaN or infinity for {np.count_nonzero(bad)} items "
            f"(ids {', '.join(map(str, ids[bad][:5]))}). Clean their content, or set it to None "
            "to mask them."
        )
    return matrix


def precomputed(values: NDArray[Any] | Sequence[Any], name: str, ids: NDArray[Any]) -> Features:
    """Stack a column of vectors; None masks the item.

    Raises
    ------
    ValueError
        If the vectors differ in length, or are not finite numbers.
    """
    there = np.array([not is_absent(value) for value in values], dtype=bool)
    problems = {int(i): NO_CONTENT for i in np.flatnonzero(~there)}
    rows = [np.ravel(value) for value, usable in zip(values, there) if usable]
    lengths = np.array([len(row) for row in rows])
    if len(np.unique(lengths)) > 1:
        first, other = lengths[0], np.flatnonzero(lengths != lengths[0])[0]
        raise ValueError(
            f"The {name} vectors must be of one length: item {ids[there][0]} has {first} numbers, "
            f"item {ids[there][other]} has {lengths[other]}."
        )
    matrix = np.zeros((len(ids), lengths[0] if rows else 0), dtype=np.float32)
    if rows:
        matrix[there] = as_features(np.stack(rows), name, ids[there])
    return Features(matrix, ~there, problems)
