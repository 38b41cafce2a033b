"""The items: ids, raw content, modality features and their aligned embedding."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import _frames as frames
from skmars.data._content import content_key
from skmars.utils._ids import Lookup, as_ids

TITLE_LENGTH = 60


class ItemCatalog:
    """Items with their raw content, modality features and aligned embedding.

    Immutable, and shared by reference: `clone`, `deepcopy` and row selections of
    `Impressions` hand on the same object, so that a grid search never copies it.

    Parameters
    ----------
    ids : array-like of int or str, shape (n_items,)
        Distinct item ids. Their order defines the item codes 0 .. n_items - 1.
    content : mapping of str to sequence of length n_items, default=None
        Raw content by modality: ``"text"`` strings, ``"image"`` paths, PIL images, arrays or
        bytes, or any further name; None marks missing content. ``"title"`` is for display.
    features : mapping of str to array of shape (n_items, n_features), default=None
        Modality features, converted to float32.
    missing : mapping of str to bool array of shape (n_items,), default=None
        Items that lack a modality's features (their rows are ignored).
    embedding : array of shape (n_items, n_components), default=None
        Item embeddings in the aligned space.

    Attributes
    ----------
    ids : ndarray of shape (n_items,), int64 or object (str)
    content, features, missing : read-only mappings
    embedding : ndarray of shape (n_items, n_components), float32, or None
    folds : tuple of ItemCatalog
        The same items as the rows of each fold of users see them: with features and embedding
        made without these users, see `Impressions.fold`. Empty where nothing was made of users.

    Raises
    ------
    ValueError
        If ids repeat or are missing, or lengths differ.
    TypeError
        If ids mix integers and strings.

    Examples
    --------
    >>> catalog = ItemCatalog([10, 20], content={"text": ["a toy", "a book"]})
    >>> catalog
    ItemCatalog(2 items, content: text)
    >>> catalog.codes([20, 99])
    array([ 1, -1], dtype=int32)
    """

    def __init__(
        self,
        ids: Any,
        *,
        content: Mapping[str, Any] | None = None,
        features: Mapping[str, Any] | None = None,
        missing: Mapping[str, Any] | None = None,
        embedding: Any = None,
    ) -> None:
        self.ids = as_ids(ids, "ids of the catalogue")
        distinct, count = np.unique(self.ids, return_counts=True)
        if len(distinct) != len(self.ids):
            raise ValueError(
                f"ids of the catalogue must be distinct, but {np.count_nonzero(count > 1)} of them "
                f"repeat (first: {distinct[count > 1].tolist()[0]!r}). Drop the duplicated items."
            )
        content = {k: self._column(v, f"content[{k!r}]") for k, v in (content or {}).items()}
        features = {k: self._matrix(v, f"features[{k!r}]") for k, v in (features or {}).items()}
        missing = {
            k: np.asarray(self._column(v, f"missing[{k!r}]"), dtype=bool)
            for k, v in (missing or {}).items()
        }
        for name in missing.keys() - features.keys():
            raise ValueError(f"missing names modality {name!r}, which has no features.")
        for name, matrix in features.items():
            missing.setdefault(name, np.zeros(len(matrix), dtype=bool))
        self.content: Mapping[str, NDArray[Any]] = MappingProxyType(content)
        self.features: Mapping[str, NDArray[np.float32]] = MappingProxyType(features)
        self.missing: Mapping[str, NDArray[np.bool_]] = MappingProxyType(missing)
        self.embedding = None if embedding is None else self._matrix(embedding, "embedding")
        self.folds: tuple[ItemCatalog, ...] = ()

    def _column(self, values: Any, name: str) -> NDArray[Any]:
        if isinstance(values, str) or not hasattr(values, "__len__"):
            raise TypeError(f"{name} must be a sequence with one entry an item, got {values!r}.")
        if len(values) != len(self.ids):
            raise ValueError(f"{name} has {len(values)} entries for {len(self.ids)} items.")
        if isinstance(values, np.ndarray) and values.ndim == 1:
            return values
        # Entry by entry: NumPy would merge equally sized images into one array.
        column = np.empty(len(values), dtype=object)
        for i, value in enumerate(values):
            column[i] = value
        return column

    def _matrix(self, values: Any, name: str) -> NDArray[np.float32]:
        matrix = np.asarray(values, dtype=np.float32)
        if matrix.ndim != 2 or len(matrix) != len(self.ids):
            raise ValueError(
                f"{name} must have shape ({len(self.ids)}, n_features), one row an item; "
                f"got shape {matrix.shape}."
            )
        return matrix

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        item: str = "item_id",
        title: str | None = None,
        text: str | Iterable[str] | None = None,
        image: str | None = None,
        content: Mapping[str, str] | None = None,
        features: Mapping[str, str] | None = None,
    ) -> ItemCatalog:
        """Build a catalogue from a pandas, polars or pyarrow table with one row an item.

        Parameters
        ----------
        frame : DataFrame or Table
            One row an item.
        item : str, default="item_id"
            Column of the item ids.
        title, text, image : str, default=None
            Columns of the display title, the text and the image (a path, bytes or object).
            None takes the column of that name if there is one. `text` may be several
            columns, which are joined by a line break.
        content : mapping of str to str, default=None
            Further raw content: modality name to column.
        features : mapping of str to str, default=None
            Precomputed vectors: modality name to list column. A missing vector masks the item.

        Returns
        -------
        ItemCatalog

        Raises
        ------
        ValueError
            If a named column is not there.

        Examples
        --------
        >>> import pandas as pd
        >>> items = pd.DataFrame({"item_id": [1, 2], "title": ["Up", "Heat"], "text": ["a", "b"]})
        >>> ItemCatalog.from_frame(items)
        ItemCatalog(2 items, content: title, text)
        """
        table = frames.Table(frame, "items")
        raw: dict[str, NDArray[Any]] = {}
        for modality, column in {"title": title, "text": text, "image": image}.items():
            if column is not None and not isinstance(column, str):
                raw[modality] = _joined([table.objects(c) for c in column])
            elif column is not None or modality in table.columns:
                raw[modality] = table.objects(column or modality)
        raw |= {modality: table.objects(c) for modality, c in (content or {}).items()}
        matrices, missing = {}, {}
        for modality, column in (features or {}).items():
            matrices[modality], missing[modality] = table.vectors(column)
        return cls(table.ids(item), content=raw, features=matrices, missing=missing)

    @classmethod
    def _derive(cls, parent: ItemCatalog, **changes: Any) -> ItemCatalog:
        """Copy the references of `parent` and replace some; nothing is validated again."""
        new = cls.__new__(cls)
        new.__dict__.update({**parent.__dict__, **changes})
        return new

    def with_features(
        self, features: Mapping[str, Any], missing: Mapping[str, Any] | None = None
    ) -> ItemCatalog:
        """Return a catalogue with further (or replaced) modality features; all else is shared.

        Parameters
        ----------
        features : mapping of str to array of shape (n_items, n_features)
        missing : mapping of str to bool array of shape (n_items,), default=None

        Returns
        -------
        ItemCatalog
        """
        matrices = {k: self._matrix(v, f"features[{k!r}]") for k, v in features.items()}
        masks = {k: np.zeros(len(self), dtype=bool) for k in matrices}
        masks |= {k: np.asarray(v, dtype=bool) for k, v in (missing or {}).items()}
        return self._derive(
            self,
            features=MappingProxyType({**self.features, **matrices}),
            missing=MappingProxyType({**self.missing, **masks}),
            folds=tuple(fold.with_features(features, missing) for fold in self.folds),
        )

    def with_embedding(self, embedding: Any) -> ItemCatalog:
        """Return a catalogue with these aligned item embeddings; all else is shared."""
        return self._derive(
            self,
            embedding=self._matrix(embedding, "embedding"),
            folds=tuple(fold.with_embedding(embedding) for fold in self.folds),
        )

    def with_folds(self, folds: Iterable[ItemCatalog]) -> ItemCatalog:
        """Return the catalogue with what the rows of each fold of users see in its place.

        Parameters
        ----------
        folds : iterable of ItemCatalog
            The same items in the same order.

        Returns
        -------
        ItemCatalog
        """
        return self._derive(self, folds=tuple(folds))

    def in_fold(self, fold: int) -> ItemCatalog:
        """Return the catalogue that the rows of a fold of users see, see `Impressions.fold`."""
        return self.folds[fold] if self.folds and fold >= 0 else self

    def extend(self, ids: Any) -> ItemCatalog:
        """Return a catalogue with further items, of which nothing but the id is known.

        Parameters
        ----------
        ids : array-like of int or str
            Item ids; those that are in the catalogue already are left out.

        Returns
        -------
        ItemCatalog
            The known items keep their codes; the new ones have no content, masked features
            and a zero embedding.
        """
        ids = as_ids(ids, "ids")
        new = np.unique(ids[self.codes(ids) < 0])
        n = len(new)
        if n == 0:
            return self

        def padded(matrix: NDArray[Any]) -> NDArray[Any]:
            return np.concatenate([matrix, np.zeros((n, *matrix.shape[1:]), matrix.dtype)])

        nothing = np.full(n, None, dtype=object)
        extended = ItemCatalog(
            np.concatenate([self.ids, new]) if len(self) else new,
            content={
                k: np.concatenate([v.astype(object), nothing]) for k, v in self.content.items()
            },
            features={k: padded(v) for k, v in self.features.items()},
            missing={k: np.append(v, np.ones(n, dtype=bool)) for k, v in self.missing.items()},
            embedding=None if self.embedding is None else padded(self.embedding),
        )
        return extended.with_folds(fold.extend(new) for fold in self.folds)

    def codes(self, ids: Any) -> NDArray[np.int32]:
        """Return the item code of each id, -1 where the catalogue does not have it."""
        return self._lookup(as_ids(ids, "ids"))

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self.ids)

    @property
    def titles(self) -> list[str]:
        """What to call each item, see `title`."""
        return [self.title(i) for i in range(len(self))]

    def title(self, code: int) -> str:
        """Return what to call an item: its title, else the beginning of its text, else its id."""
        named = self.content.get("title", self.content.get("text"))
        value = None if named is None else named[code]
        return str(self.ids[code]) if value is None else str(value)[:TITLE_LENGTH]

    @cached_property
    def fingerprint(self) -> str:
        """A digest of ids and raw content: equal for equal catalogues, in any process."""
        digest = hashlib.sha256(repr(self.ids.tolist()).encode())
        for name, column in sorted(self.content.items()):
            digest.update(name.encode())
            for value in column:
                digest.update(content_key(value).encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        parts = [f"{len(self)} items"]
        if self.content:
            parts.append("content: " + ", ".join(self.content))
        if self.features:
            sizes = (f"{k} {v.shape[1]}" for k, v in self.features.items())
            parts.append("features: " + ", ".join(sizes))
        if self.embedding is not None:
            parts.append(f"embedding {self.embedding.shape[1]}")
        return f"ItemCatalog({', '.join(parts)})"

    def _repr_html_(self) -> str:
        from skmars.data._display import catalog_html

        return catalog_html(self)

    def __getstate__(self) -> dict[str, Any]:
        # Without what was derived: a pickle, and with it joblib's hash, follows the content only.
        state = {k: v for k, v in self.__dict__.items() if k not in ("_lookup", "fingerprint")}
        return {k: dict(v) if isinstance(v, MappingProxyType) else v for k, v in state.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name in ("content", "features", "missing"):
            state[name] = MappingProxyType(state[name])
        self.__dict__.update(state)

    def __sklearn_clone__(self) -> ItemCatalog:
        return self

    def __copy__(self) -> ItemCatalog:
        return self

    def __deepcopy__(self, memo: Any) -> ItemCatalog:
        return self


def _joined(columns: list[NDArray[Any]]) -> NDArray[Any]:
    texts = ["\n".join(str(part) for part in row if part) for row in zip(*columns)]
    joined = np.empty(len(texts), dtype=object)
    joined[:] = [text or None for text in texts]
    return joined


def side_by_side(
    catalog: ItemCatalog, names: Iterable[str], items: NDArray[np.integer] | None = None
) -> NDArray[np.float32]:
    """Return the features of these modalities, shape (n_items, n_features), of all or some items.

    The rows of each modality are scaled to unit length, so that none outweighs the others; an item
    that lacks it has zeros.
    """
    rows: Any = slice(None) if items is None else items
    blocks = [np.zeros((len(catalog.ids[rows]), 0))]
    for name in names:
        block = np.where(catalog.missing[name][rows, None], 0.0, catalog.features[name][rows])
        norm = np.linalg.norm(block, axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):  # who uses infinite features says so
            blocks.append(block / np.where(norm > 0, norm, 1.0))
    return np.concatenate(blocks, axis=1).astype(np.float32)
