"""Fit an encoder, and encode the raw content of one modality as features."""

from __future__ import annotations

import logging
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import get_tags

from skmars.data._content import is_absent
from skmars.data._digest import NoDigest, reason
from skmars.data._images import UnusableContent
from skmars.encoding._cache import Encoded, Folder, Matrix, encoded_by
from skmars.encoding._content import NO_CONTENT, Items, Readable, content_type, majority_type
from skmars.encoding._fingerprint import fingerprint
from skmars.utils._progress import as_tasks, report
from skmars.utils._values import rows_not_finite

Chunks = list[list[int]]
Watch = Callable[[Chunks], Iterable[list[int]]]

# Part of every key: raise it when the meaning of stored vectors changes.
_VERSION = 2
# Vectors are stored at least this often, so that an interrupted encoding goes on from there.
_SAVE_EVERY = 30.0
_MAX_SPARSE_COLUMNS = 2**14


@dataclass(frozen=True)
class ModalityEncoder:
    """A fitted encoder, and the key of its vectors in the cache.

    `lasting` is whether another process can compute that key, so that it may be used on disk.
    """

    transformer: Any
    key: str
    lasting: bool = True


@dataclass(frozen=True)
class Features:
    """Features of one modality for all items of a catalogue.

    `missing` masks the items without usable content, whose rows are zero, `problems` has the
    reasons, and `n_encoded` counts the contents that were not in the cache.
    """

    matrix: Matrix
    missing: NDArray[np.bool_]
    problems: dict[int, str]
    n_encoded: int = 0


class BadVectors(ValueError):
    """An encoder returned what can't be features; the message names the modality."""


def requires_fit(transformer: Any) -> bool:
    """Return whether what a transformer computes depends on what it was fitted on."""
    if hasattr(transformer, "__sklearn_tags__"):
        return bool(get_tags(transformer).requires_fit)
    return hasattr(transformer, "fit")


def fit_encoder(
    transformer: Any, items: Items, *, name: str, folder: Path | None
) -> ModalityEncoder:
    """Fit a clone of `transformer` to the usable items, unless that was done before.

    In `folder` fitted encoders are shared between processes. An error of the transformer names
    the modality, `name`.
    """
    fits = requires_fit(transformer)
    # The clone, because what an encoder learnt before this fit does not matter.
    parts = [_VERSION, clone(transformer, safe=False) if fits else transformer, items.kind]
    if fits:  # the result of a fit also depends on the content and on these versions
        limit = items.max_image_pixels if items.kind == "image" else None
        parts += [limit, sys.version, sklearn.__version__, items.digests]
    try:
        key, lasting = fingerprint(*parts), True
    except NoDigest as error:
        key, lasting = uuid.uuid4().hex, False
        warnings.warn(
            f"The vectors of the {name} encoder are not cached, and made in every fit: it can't be "
            f"told from other encoders by its content ({error}).",
            UserWarning,
            stacklevel=5,
        )
    if not fits:
        ready = clone(transformer) if hasattr(transformer, "get_params") else transformer
        return ModalityEncoder(ready, key, lasting)
    with _exclusive(key, folder if lasting else None) as (encoded, disk):
        stored = None if disk is None else disk.read_fitted()
        if isinstance(stored, ModalityEncoder):
            encoded.fitted = stored
        elif encoded.fitted is None:
            # Two fits on the same content may differ: the key of the vectors is that of the fit.
            fitted = _fitted(transformer, items, name)
            encoded.fitted = ModalityEncoder(fitted, uuid.uuid4().hex, lasting)
        if disk is not None and stored is None and not disk.write_fitted(encoded.fitted):
            encoded.fitted = replace(encoded.fitted, lasting=False)
        return encoded.fitted


def _fitted(transformer: Any, items: Items, name: str) -> Any:
    """Fit a clone to the readable items; if it fails, to those of the majority's type alone."""
    readable = [i for i in range(len(items)) if _is_readable(items, i)]
    if not readable:  # nothing will be encoded either, and the caller raises
        return clone(transformer, safe=False)
    try:
        return _fit(transformer, items, readable)
    except Exception as error:
        common = majority_type(items[i] for i in readable) if items.kind == "raw" else None
        good = [i for i in readable if common is not None and content_type(items[i]) == common]
        if not 0 < len(good) < len(readable):
            raise _failure(name, "could not be fitted", error) from error
    try:
        return _fit(transformer, items, good)
    except Exception as error:
        raise _failure(name, "could not be fitted", error) from error


def _fit(transformer: Any, items: Items, indices: list[int]) -> Any:
    readable, fitted = Readable(items, indices), clone(transformer, safe=False)
    with sklearn.config_context(transform_output="default"):
        fitted.fit(readable if items.kind == "image" else list(readable), None)
    return fitted


def _failure(name: str, what: str, error: Exception) -> Exception:
    """Return the error to raise for an encoder that fails on valid content."""
    if isinstance(error, BadVectors):
        return error
    kinds = (TypeError, ValueError, OSError, ImportError)
    kind = next((k for k in kinds if isinstance(error, k)), RuntimeError)
    cause = reason(error) if kind in kinds else f"{type(error).__name__}: {reason(error)}"
    return kind(f"The {name} encoder {what}: {cause}")


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
    TypeError, ValueError, OSError, ImportError, RuntimeError
        If the encoder fails on valid content, or returns anything but one finite vector an item.
        The message names the modality.
    """
    digests = items.digests
    with _exclusive(encoder.key, folder if encoder.lasting else None) as (encoded, disk):
        if disk is not None:
            disk.load(encoded)
        todo: dict[bytes, int] = {}
        for i, digest in enumerate(digests):
            if digest is not None and digest not in encoded.rows:
                todo.setdefault(digest, i)
        order = list(todo.values())
        if items.kind == "text":  # texts of one length need no padding
            order.sort(key=lambda i: -len(items[i]))
        known, saved = len(encoded.rows), time.monotonic()
        batches = _Batches(encoder.transformer, items, name, ids, encoded)
        try:
            for chunk in watch(
                [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
            ):
                for indices, contents in items.load(chunk):
                    batches.encode(indices, contents)
                if disk is not None and time.monotonic() - saved > _SAVE_EVERY:
                    disk.store(encoded, digests)
                    saved = time.monotonic()
        finally:
            if disk is not None:
                disk.store(encoded, digests)
        batches.mask_failures()
        for i, digest in enumerate(digests):  # the other items with an unreadable content
            if digest is not None and todo.get(digest) in items.problems:
                items.problems[i] = items.problems[todo[digest]]
        missing = np.array([digest not in encoded.rows for digest in digests], dtype=bool)
        return Features(encoded.matrix(digests), missing, items.problems, len(encoded.rows) - known)


@dataclass
class _Batches:
    """Encodes batches of items, and collects the items that the encoder fails on.

    Texts and images were checked before: if the encoder fails on them, it raises. Other contents
    are masked instead if their type is neither that of most nor that of any encoded content.
    """

    transformer: Any
    items: Items
    name: str
    ids: NDArray[Any]
    vectors: Encoded
    failures: dict[int, Exception] = field(default_factory=dict)
    common: Hashable = None  # type of most contents

    def encode(self, indices: list[int], contents: list[Any]) -> None:
        """Add the vectors of some items."""
        try:
            vectors = _vectors(self.transformer, contents, self.name, self.ids[indices])
            if self.vectors.width not in (0, vectors.shape[1]):
                raise BadVectors(
                    f"The {self.name} encoder returned vectors of length {vectors.shape[1]} for "
                    f"one batch and {self.vectors.width} for another."
                )
            self.vectors.add([self.items.digests[i] for i in indices], vectors)
        except Exception as error:
            if self.items.kind == "raw" and not self.failures:
                values = (value for items in self._all_items() for value in items.values)
                self.common = majority_type(values)
            if self.items.kind == "raw" and len(indices) > 1:
                # One by one, first those of the majority's type.
                for i, content in sorted(zip(indices, contents), key=lambda x: self._is_odd(x[1])):
                    self.encode([i], [content])
            elif self.items.kind == "raw" and self._is_odd(contents[0]):
                self.failures[indices[0]] = error
            else:
                raise self._error(indices, error) from error

    def mask_failures(self) -> None:
        """Mask the items that the encoder failed on; raise if it encoded others of their type."""
        if not self.failures:
            return
        encoded_types = {
            content_type(value)
            for items in self._all_items()
            for value, digest in zip(items.values, items.digests)
            if digest in self.vectors.rows
        }
        for i, error in self.failures.items():
            if not encoded_types or content_type(self.items[i]) in encoded_types:
                raise self._error([i], error) from error
            self.items.problems[i] = f"{type(error).__name__}: {reason(error)}"

    def _all_items(self) -> list[Items]:
        return [items for items in (self.items, self.items.previous) if items is not None]

    def _is_odd(self, content: Any) -> bool:
        return self.common is None or content_type(content) != self.common

    def _error(self, indices: list[int], error: Exception) -> Exception:
        some = ", ".join(map(str, self.ids[indices][:5]))
        return _failure(self.name, f"failed (at items {some})", error)


@contextmanager
def _exclusive(key: str, folder: Path | None) -> Iterator[tuple[Encoded, Folder | None]]:
    """Lock the vectors of an encoder against other threads and (given a folder) processes."""
    encoded = encoded_by(key)
    disk = None if folder is None else encoded.folder(folder / key)
    with encoded.lock, disk.lock() if disk is not None else nullcontext():
        yield encoded, disk


def _vectors(transformer: Any, contents: list[Any], name: str, ids: NDArray[Any]) -> Matrix:
    with sklearn.config_context(transform_output="default"):
        vectors = transformer.transform(contents)
    if hasattr(vectors, "toarray"):
        if vectors.shape[1] > _MAX_SPARSE_COLUMNS:
            raise BadVectors(
                f"The {name} encoder returned a sparse matrix with {vectors.shape[1]} columns; "
                "features are dense. Add a TruncatedSVD as its last step."
            )
        vectors = vectors.toarray()
    return as_features(vectors, name, ids)


def as_features(vectors: Any, name: str, ids: NDArray[Any]) -> Matrix:
    """Return `vectors` as a finite float32 matrix with one row for each of `ids`."""
    try:
        if np.iscomplexobj(vectors):
            raise TypeError("they are complex")
        matrix = np.array(vectors, dtype=np.float32)  # encoders may use theirs again
    except (TypeError, ValueError) as error:
        raise BadVectors(f"The {name} vectors are not numbers: {error}") from error
    if matrix.ndim != 2 or len(matrix) != len(ids) or matrix.shape[1] == 0:
        raise BadVectors(
            f"The {name} encoder must return one vector an item: shape ({len(ids)}, n_features), "
            f"got shape {matrix.shape}."
        )
    bad = rows_not_finite(matrix)
    if len(bad):
        raise not_finite(name, ids[bad])
    return matrix


def not_finite(name: str, ids: NDArray[Any]) -> BadVectors:
    """Return the error for vectors of items that are not finite."""
    return BadVectors(
        f"The {name} encoder returned NaN or infinity for {len(ids)} items "
        f"(ids {', '.join(map(str, ids[:5]))}). Clean their content, or set it to None "
        "to mask them."
    )


def precomputed(values: NDArray[Any] | Sequence[Any], name: str, ids: NDArray[Any]) -> Features:
    """Stack a column of vectors; None masks the item.

    Raises
    ------
    ValueError
        If the vectors differ in length, or are not finite numbers.
    """
    present = np.array([not is_absent(value) for value in values], dtype=bool)
    problems = {int(i): NO_CONTENT for i in np.flatnonzero(~present)}
    try:
        rows = [np.ravel(value) for value, usable in zip(values, present) if usable]
    except Exception as error:  # ragged lists, objects with code of their own
        raise ValueError(f"The {name} vectors are not numbers: {reason(error)}") from error
    lengths = np.array([len(row) for row in rows])
    if len(np.unique(lengths)) > 1:
        first, other = lengths[0], np.flatnonzero(lengths != lengths[0])[0]
        raise ValueError(
            f"The {name} vectors must be of one length: item {ids[present][0]} has {first} "
            f"numbers, item {ids[present][other]} has {lengths[other]}."
        )
    matrix = np.zeros((len(ids), lengths[0] if rows else 0), dtype=np.float32)
    if rows:
        matrix[present] = as_features(np.stack(rows), name, ids[present])
    return Features(matrix, ~present, problems)


def watcher(estimator: Any, name: str, context: Any = None) -> Watch:
    """Return a function that yields the batches of a modality and reports progress.

    `context` is the callback context of `fit`, None without callbacks.
    """

    def watch(chunks: Chunks) -> Iterator[list[int]]:
        n, done, start = sum(map(len, chunks)), 0, time.perf_counter()
        for chunk in as_tasks(chunks, f"encode {name}", "batch", estimator, context):
            yield chunk
            done += len(chunk)
            line = f"[MultimodalEncoder] {name}: {done} of {n} items"
            report(line, estimator.verbose > 1, logging.DEBUG)
        seconds = time.perf_counter() - start
        line = f"[MultimodalEncoder] {name}: encoded {n} items in {seconds:.1f} s"
        report(line, estimator.verbose)

    return watch
