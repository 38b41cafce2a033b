"""The items: ids, raw content, attributes, modality features and their aligned embedding."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skmars.data._attributes import Attribute, take_entries
from skmars.data._content import content_key, is_absent
from skmars.data._display import catalog_html
from skmars.data._frames import Table, is_frame
from skmars.data._item_columns import (
    Mask,
    Matrix,
    attribute_columns,
    attribute_names,
    column_of_items,
    feature_matrices,
    frozen,
    joined_texts,
    named_columns,
    rows_at,
    stacked,
)
from skmars.utils._ids import Lookup, are_distinct, as_ids, check_joinable, factorize, joined
from skmars.utils._ragged import offsets
from skmars.utils._stacked import take_rows
from skmars.utils._values import BLOCK, as_matrix

if TYPE_CHECKING:
    from skmars.data._frames import Frame

TITLE_LENGTH = 60
# An extension of an extension has one part more; beyond so many, the small ones are joined.
MAX_PARTS = 8
# A table with an entry for every code is faster than sorting while it has no more entries than this
# many times the codes that are given: few, however large the catalogue is.
_LARGE_TABLE = 16


def require_catalog(catalog: Any) -> ItemCatalog:
    """Return the catalogue; TypeError if it is something else, such as a table of items."""
    if not isinstance(catalog, ItemCatalog):
        raise TypeError(
            f"catalog must be an ItemCatalog, got {type(catalog).__name__}. "
            "Build one with ItemCatalog.from_frame(items)."
        )
    return catalog


class ItemCatalog:
    """Items with their raw content, attributes, modality features and aligned embedding.

    Immutable, and shared by reference: `clone`, `deepcopy` and row selections of
    `Impressions` hand on the same object, so that a grid search never copies it. Fitted steps
    keep what they compute for a catalogue by its `fingerprint`, and find it again for an equal
    one.

    Parameters
    ----------
    ids : array-like of int or str, shape (n_items,)
        Distinct item ids. Their order defines the item codes 0 .. n_items - 1.
    content : mapping of str to sequence of length n_items, default=None
        Raw content by modality: ``"text"`` strings, ``"image"`` paths, PIL images, arrays or
        bytes, or any further name; None marks missing content. ``"title"`` is for display.
    attributes : mapping of str to sequence of length n_items, default=None
        Columns such as the price, the category or the genres of items: numbers, strings or
        booleans (a category each), or lists of strings (several categories each). None or NaN
        marks what is missing. `DINClassifier` embeds them.
    features : mapping of str to array of shape (n_items, n_features), default=None
        Modality features, converted to float32.
    missing : mapping of str to bool array of shape (n_items,), default=None
        Items that lack a modality's features (their rows are ignored).
    embedding : array of shape (n_items, n_components), default=None
        Item embeddings in the aligned space.

    Attributes
    ----------
    ids : ndarray of shape (n_items,), int64, uint64 or object (str)
    content, features, missing : read-only mappings
    attributes : read-only mapping
        Of columns, whose `to_list()` gives the entries.
    embedding : ndarray of shape (n_items, n_components), float32, or None
    folds : tuple of ItemCatalog
        One version of the catalogue for each fold of users: the same items, with features and
        embedding that were made without these users (see `Impressions.fold`). Empty where
        nothing was learnt from users.
    parts : tuple of ItemCatalog
        The catalogue alone, or the one that was extended and the items that `extend` appended.
        What is computed for a part is reused in every catalogue that has it.
    fingerprint : str
        A digest of the whole content: equal for equal catalogues, in any process.

    Raises
    ------
    ValueError
        If ids repeat or are missing, lengths differ, a mask names no modality, a number is beyond
        float32, or an attribute is infinite or called like a modality.
    TypeError
        If ids or an attribute mix numbers and strings, or a table is passed instead of arrays.

    Notes
    -----
    Numbers are numbers: where they name categories, such as the number of a brand, convert them
    to strings. A string is one category: ``"Action|Comedy"`` becomes two by
    ``items["genres"].str.split("|")``.

    Examples
    --------
    >>> catalog = ItemCatalog([10, 20], content={"text": ["a toy", "a book"]})
    >>> catalog
    ItemCatalog(2 items, content: text)
    >>> catalog.codes([20, 99])
    array([ 1, -1], dtype=int32)
    >>> catalog = ItemCatalog([10, 20], attributes={"price": [9.5, None], "tags": [["new"], []]})
    >>> catalog.attributes["tags"].to_list()
    [['new'], []]
    """

    def __init__(
        self,
        ids: ArrayLike,
        *,
        content: Mapping[str, Sequence[Any] | NDArray[Any]] | None = None,
        attributes: Mapping[str, Any] | None = None,
        features: Mapping[str, ArrayLike] | None = None,
        missing: Mapping[str, ArrayLike] | None = None,
        embedding: ArrayLike | None = None,
    ) -> None:
        if isinstance(ids, ItemCatalog) or (not isinstance(ids, np.ndarray) and is_frame(ids)):
            raise TypeError(
                f"ids must be an array of item ids, got a {type(ids).__name__}. A table of items "
                "becomes a catalogue with ItemCatalog.from_frame(items)."
            )
        known = as_ids(ids, "ids of the catalogue")
        if not are_distinct(known):
            distinct, codes = factorize(known)
            count = np.bincount(codes)
            raise ValueError(
                f"ids of the catalogue must be distinct, but {np.count_nonzero(count > 1)} of them "
                f"repeat (first: {distinct[count > 1].tolist()[0]!r}). Drop the duplicated items."
            )
        self._parts: tuple[ItemCatalog, ...] = ()
        self._digests: dict[str, str] = {}
        self.ids = frozen(known)
        self.content = MappingProxyType(
            {
                k: column_of_items(v, f"content[{k!r}]", len(self))
                for k, v in named_columns(content, "content")
            }
        )
        self.features, self.missing = feature_matrices(features, missing, len(self), known=())
        self.attributes = attribute_columns(attributes, len(self), (*self.content, *self.features))
        self.embedding = (
            None if embedding is None else frozen(as_matrix(embedding, "embedding", len(self)))
        )
        self.folds: tuple[ItemCatalog, ...] = ()

    @classmethod
    def from_frame(
        cls,
        frame: Frame,
        *,
        item: str = "item_id",
        title: str | None = None,
        text: str | Sequence[str] | None = None,
        image: str | None = None,
        content: Mapping[str, str] | None = None,
        attributes: Sequence[str] | Mapping[str, str] | None = None,
        features: Mapping[str, str | list[str]] | None = None,
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
        attributes : list of str, or mapping of str to str, default=None
            Columns of attributes such as price, category (strings, categoricals or booleans) and
            genres (a list column), or a mapping from the name of an attribute to its column.
        features : mapping of str to str or list of str, default=None
            Precomputed vectors: modality name to list column, to a column of numbers (a vector
            of length one), or to several columns. Items with a missing value are masked.

        Returns
        -------
        ItemCatalog

        Raises
        ------
        ValueError
            If a named column is not there, or does not hold what it should.
        TypeError
            If `frame` is no table, `content` or `features` no mapping to names of columns, or an
            attribute holds what it can't.

        Examples
        --------
        >>> import pandas as pd
        >>> items = pd.DataFrame({"item_id": [1, 2], "title": ["Up", "Heat"], "text": ["a", "b"]})
        >>> ItemCatalog.from_frame(items)
        ItemCatalog(2 items, content: title, text)
        """
        advice = (
            "Rename a column, or say which one is meant, for example item='sku' or title='name'."
        )
        table = Table(frame, "items", advice)
        raw: dict[str, NDArray[Any]] = {}
        named: dict[str, Any] = {"title": title, "text": text, "image": image}
        for modality, column in named.items():
            if isinstance(column, list | tuple):
                raw[modality] = joined_texts([table.objects(c) for c in column])
            elif column is not None or modality in table.columns:
                raw[modality] = table.objects(modality if column is None else column)
        for name, column in named_columns(content, "content"):
            if named.get(name) is not None:
                raise ValueError(f"content[{name!r}] and {name}= name two columns; pass one.")
            raw[name] = table.objects(column)
        vectors = {
            name: table.vectors(column) for name, column in named_columns(features, "features")
        }
        return cls(
            table.ids(item),
            content=raw,
            attributes={
                name: table.attribute(column)
                for name, column in attribute_names(attributes, "attributes")
            },
            features={name: matrix for name, (matrix, _) in vectors.items()},
            missing={name: mask for name, (_, mask) in vectors.items()},
        )

    # --- the parts of an extended catalogue ----------------------------------------------

    @property
    def parts(self) -> tuple[ItemCatalog, ...]:
        return self._parts or (self,)

    @classmethod
    def _of_parts(cls, parts: Sequence[ItemCatalog]) -> ItemCatalog:
        """Return the catalogue of these parts; nothing is copied."""
        if len(parts) == 1:
            return parts[0]
        new = cls.__new__(cls)
        new._parts, new._digests = tuple(parts), {}
        return new

    def map_parts(self, change: Callable[[ItemCatalog], ItemCatalog]) -> ItemCatalog:
        """Return the catalogue with ``change(part)`` for each part, which has the same items."""
        return self._of_parts([change(part) for part in self.parts])

    def _map(self, change: Callable[[ItemCatalog, slice], ItemCatalog]) -> ItemCatalog:
        """Do as `map_parts`; `change` also gets the slice of each part's items."""
        ends = offsets(np.array([len(part) for part in self.parts]))
        slices = [slice(a, b) for a, b in zip(ends[:-1], ends[1:])]
        return self._of_parts([change(part, at) for part, at in zip(self.parts, slices)])

    # The constructor sets these attributes for one part; those of several are joined when needed.

    @cached_property
    def ids(self) -> NDArray[Any]:  # type: ignore[no-redef]
        return frozen(joined(*(part.ids for part in self.parts)))

    @cached_property
    def content(self) -> Mapping[str, NDArray[Any]]:  # type: ignore[no-redef]
        names = self.parts[0].content
        return MappingProxyType({k: stacked([p.content[k] for p in self.parts]) for k in names})

    @cached_property
    def attributes(self) -> Mapping[str, Attribute]:  # type: ignore[no-redef]
        every = np.arange(len(self))
        names = self.parts[0].attributes
        return MappingProxyType({name: self.take_attribute(name, every) for name in names})

    @cached_property
    def features(self) -> Mapping[str, Matrix]:  # type: ignore[no-redef]
        names = self.parts[0].features
        return MappingProxyType({k: stacked([p.features[k] for p in self.parts]) for k in names})

    @cached_property
    def missing(self) -> Mapping[str, Mask]:  # type: ignore[no-redef]
        names = self.parts[0].features
        return MappingProxyType({k: stacked([p.missing[k] for p in self.parts]) for k in names})

    @cached_property
    def embedding(self) -> Matrix | None:  # type: ignore[no-redef]
        if self.parts[0].embedding is None:
            return None
        return stacked([part.embedding for part in self.parts])

    @cached_property
    def folds(self) -> tuple[ItemCatalog, ...]:  # type: ignore[no-redef]
        n = max(len(part.folds) for part in self.parts)
        return tuple(self._of_parts([part.in_fold(k) for part in self.parts]) for k in range(n))

    @property
    def widths(self) -> dict[str, int]:
        """Number of features of each modality."""
        return {name: matrix.shape[1] for name, matrix in self.parts[0].features.items()}

    def take_ids(self, codes: NDArray[np.integer]) -> NDArray[Any]:
        """Return the ids of some items, at a cost of these alone."""
        if len(self.parts) == 1 or "ids" in vars(self):
            return self.ids[codes]
        parts = [part.ids for part in self.parts]
        if len({part.dtype for part in parts}) == 1:
            return take_rows(parts, codes)
        return self.ids[codes]

    def take_features(self, name: str, codes: NDArray[np.integer]) -> Matrix:
        """Return the features of some items, zero where they lack the modality.

        Parameters
        ----------
        name : str
            Modality.
        codes : ndarray of shape (n,), int

        Returns
        -------
        ndarray of shape (n, n_features), float32
        """
        features = take_rows([part.features[name] for part in self.parts], codes)
        return np.where(self.take_missing(name, codes)[:, None], np.float32(0), features)

    def take_missing(self, name: str, codes: NDArray[np.integer]) -> Mask:
        """Return for each of some items whether it lacks a modality."""
        return take_rows([part.missing[name] for part in self.parts], codes)

    def take_embedding(self, codes: NDArray[np.integer]) -> Matrix | None:
        """Return the aligned embedding of some items; None if the catalogue has none."""
        if self.parts[0].embedding is None:
            return None
        return take_rows([part.embedding for part in self.parts], codes)  # type: ignore[misc]

    def take_attribute(self, name: str, codes: NDArray[np.integer]) -> Attribute:
        """Return an attribute of some items, at a cost of these alone.

        Parameters
        ----------
        name : str
        codes : ndarray of shape (n,), int

        Returns
        -------
        Attribute of n entries
        """
        return take_entries([part.attributes[name] for part in self.parts], codes)

    # --- what the steps of the pipeline add ----------------------------------------------

    def _derive(self, **changes: Any) -> ItemCatalog:
        """Return a catalogue of one part with some attributes changed; the others are shared."""
        new = type(self).__new__(type(self))
        state = {k: v for k, v in vars(self).items() if k not in ("fingerprint", "_lookup")}
        new.__dict__.update({**state, "_digests": dict(self._digests), **changes})
        for kind in changes.keys() & {"features", "missing", "embedding"}:
            old, new_value = getattr(self, kind), changes[kind]
            for name in [""] if kind == "embedding" else new_value:
                if kind == "embedding" or new_value[name] is not old.get(name):
                    new._digests.pop(f"{kind} {name}", None)
        if "ids" not in changes and "_lookup" in vars(self):
            new.__dict__["_lookup"] = self._lookup
        return new

    def with_features(
        self,
        features: Mapping[str, ArrayLike],
        missing: Mapping[str, ArrayLike] | None = None,
    ) -> ItemCatalog:
        """Return a catalogue with further (or replaced) modality features; all else is shared.

        Parameters
        ----------
        features : mapping of str to array of shape (n_items, n_features)
        missing : mapping of str to bool array of shape (n_items,), default=None
            Items that lack these features.

        Returns
        -------
        ItemCatalog

        Raises
        ------
        ValueError, TypeError
            As for the constructor.
        """
        matrices, masks = feature_matrices(features, missing, len(self), known=self.widths)

        def change(part: ItemCatalog, at: slice) -> ItemCatalog:
            added = {k: rows_at(v, at) for k, v in matrices.items()}
            lacking = {k: rows_at(v, at) for k, v in masks.items()}
            return part._derive(
                features=MappingProxyType({**part.features, **added}),
                missing=MappingProxyType({**part.missing, **lacking}),
                folds=tuple(change(fold, at) for fold in part.folds),
            )

        return self._map(change)

    def with_attributes(self, attributes: Mapping[str, Any]) -> ItemCatalog:
        """Return a catalogue with further (or replaced) attributes; all else is shared.

        Parameters
        ----------
        attributes : mapping of str to sequence of length n_items
            As for the constructor.

        Returns
        -------
        ItemCatalog

        Raises
        ------
        ValueError, TypeError
            As for the constructor.

        Examples
        --------
        >>> ItemCatalog([10, 20]).with_attributes({"price": [9.5, 2.0]})
        ItemCatalog(2 items, attributes: price)
        """
        known = self.parts[0]
        columns = attribute_columns(attributes, len(self), (*known.content, *known.features))

        def change(part: ItemCatalog, at: slice) -> ItemCatalog:
            added = {k: v if len(v) == len(part) else v[at] for k, v in columns.items()}
            return part._derive(
                attributes=MappingProxyType({**part.attributes, **added}),
                folds=tuple(change(fold, at) for fold in part.folds),
            )

        return self._map(change)

    def with_embedding(self, embedding: ArrayLike) -> ItemCatalog:
        """Return a catalogue with these aligned item embeddings; all else is shared."""
        matrix = frozen(as_matrix(embedding, "embedding", len(self)))

        def change(part: ItemCatalog, at: slice) -> ItemCatalog:
            folds = tuple(change(fold, at) for fold in part.folds)
            return part._derive(embedding=rows_at(matrix, at), folds=folds)

        return self._map(change)

    def with_folds(self, folds: Iterable[ItemCatalog]) -> ItemCatalog:
        """Return the catalogue with a version of it for each fold of users (see `folds`).

        Parameters
        ----------
        folds : iterable of ItemCatalog
            The same items in the same order and parts.

        Returns
        -------
        ItemCatalog

        Raises
        ------
        TypeError, ValueError
            If one of them is no catalogue, or has other items or parts.
        """
        if isinstance(folds, ItemCatalog) or not isinstance(folds, Iterable):
            raise TypeError(f"folds must be a list of catalogues, got {folds!r}.")
        versions = [require_catalog(fold).parts for fold in folds]
        for k, parts in enumerate(versions):
            if [p._ids_digest for p in parts] != [p._ids_digest for p in self.parts]:
                raise ValueError(
                    f"the catalogue of fold {k} must have the items of this one, in the same order "
                    "and parts. Make it of this one, with with_features and with_embedding."
                )
        return self._of_parts(
            [
                part._derive(folds=tuple(parts[i] for parts in versions))
                for i, part in enumerate(self.parts)
            ]
        )

    def in_fold(self, fold: int) -> ItemCatalog:
        """Return the version made without the users of a fold; the catalogue itself if none is."""
        return self.folds[fold] if self.folds and fold >= 0 else self

    def extend(self, ids: Iterable[Any] | NDArray[Any]) -> ItemCatalog:
        """Return a catalogue with further items, of which nothing but the id is known.

        It shares the arrays of this one, so that its cost depends on the new items alone.

        Parameters
        ----------
        ids : array-like of int or str
            Item ids; those that are in the catalogue already are left out.

        Returns
        -------
        ItemCatalog
            The known items keep their codes; the new ones have no content, missing attributes,
            masked features and a zero embedding.

        Raises
        ------
        TypeError
            If these ids are strings and those of the catalogue integers, or the other way round.
        ValueError
            If no integer type holds all ids.
        """
        ids = as_ids(ids, "ids")
        new, _ = factorize(ids[self.codes(ids) < 0])
        if len(new) == 0:
            return self
        check_joinable(*(part.ids for part in self.parts), new)
        one = self.parts[0]
        nothing = np.full(len(new), None, dtype=object)
        part = ItemCatalog(
            new,
            content=dict.fromkeys(one.content, nothing),
            features={k: np.zeros((len(new), n), np.float32) for k, n in self.widths.items()},
            missing={k: np.ones(len(new), dtype=bool) for k in self.widths},
            embedding=(
                None
                if one.embedding is None
                else np.zeros((len(new), one.embedding.shape[1]), np.float32)
            ),
        )
        part = part._with_known({k: v.nothing(len(new)) for k, v in one.attributes.items()})
        parts = (*self.parts, part) if len(self) else (part,)
        if len(parts) > MAX_PARTS:
            parts = (one, self._of_parts(parts[1:])._flat())
        return self._of_parts(parts)

    def _flat(self) -> ItemCatalog:
        """Return an equal catalogue of one part."""
        flat = ItemCatalog(
            self.ids,
            content=self.content,
            features=self.features,
            missing=self.missing,
            embedding=self.embedding,
        )
        flat = flat._with_known(self.attributes)
        return flat.with_folds([fold._flat() for fold in self.folds])

    def _with_known(self, attributes: Mapping[str, Attribute]) -> ItemCatalog:
        """Return a catalogue of one part with attributes that were checked before.

        Since then a step may have added features of the name of one.
        """
        return self._derive(attributes=MappingProxyType(dict(attributes)))

    # --- what identifies items and catalogues -----------------------------------------------

    def codes(self, ids: Iterable[Any] | NDArray[Any], name: str = "ids") -> NDArray[np.int32]:
        """Return the item code of each id, -1 where the catalogue does not have it.

        Parameters
        ----------
        ids : array-like of int or str
        name : str, default="ids"
            Whose ids these are, for messages.

        Raises
        ------
        TypeError
            If these ids are strings and those of the catalogue integers, or the other way round.
        """
        ids = as_ids(ids, name)
        codes = self.parts[0]._lookup(ids, name)
        begin = len(self.parts[0])
        for part in self.parts[1:]:
            found = part._lookup(ids, name)
            codes = np.where(found >= 0, found + np.int32(begin), codes)
            begin += len(part)
        return codes

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self.ids, "the catalogue")

    def continues(self, other: ItemCatalog) -> bool:
        """Return whether the items of `other` have the same codes in this catalogue."""
        if len(self.parts) < len(other.parts):
            return len(other) <= len(self) and bool(
                np.array_equal(self.ids[: len(other)], other.ids)
            )
        return all(
            mine._ids_digest == theirs._ids_digest for mine, theirs in zip(self.parts, other.parts)
        )

    @cached_property
    def _ids_digest(self) -> str:
        return self._digest("ids", self.ids)

    def _digest(self, name: str, array: NDArray[Any]) -> str:
        """Return the name and the digest of an array; catalogues that share it keep the digest."""
        if name not in self._digests:
            digest = hashlib.blake2b(f"{array.dtype} {array.shape} ".encode(), digest_size=16)
            if array.dtype == object:
                for value in array:
                    digest.update(content_key(value).encode())
            else:
                digest.update(np.ascontiguousarray(array).data)
            self._digests[name] = digest.hexdigest()
        return f"{name!r}: {self._digests[name]}"

    @cached_property
    def fingerprint(self) -> str:
        if self._parts:
            digests = [part.fingerprint for part in self._parts]
        else:
            digests = [
                self._ids_digest,
                *(self._digest(f"content {k}", v) for k, v in sorted(self.content.items())),
                *(f"attribute {k!r}: {v.digest}" for k, v in sorted(self.attributes.items())),
                *(self._digest(f"features {k}", v) for k, v in sorted(self.features.items())),
                *(self._digest(f"missing {k}", v) for k, v in sorted(self.missing.items())),
                *([] if self.embedding is None else [self._digest("embedding ", self.embedding)]),
                *(fold.fingerprint for fold in self.folds),
            ]
        return hashlib.blake2b(" ".join(digests).encode(), digest_size=16).hexdigest()

    @property
    def titles(self) -> list[str]:
        """Name of each item for display, see `title`."""
        return [self.title(i) for i in range(len(self))]

    def title(self, code: int) -> str:
        """Return an item's name for display: title, else beginning of the text, else id."""
        if not 0 <= code < len(self):
            raise IndexError(f"code must lie between 0 and {len(self) - 1}, got {code}.")
        for part in self.parts:
            if code < len(part):
                break
            code -= len(part)
        named = part.content.get("title", part.content.get("text"))
        value = None if named is None else named[code]
        return str(part.ids[code]) if is_absent(value) else str(value)[:TITLE_LENGTH]

    def __len__(self) -> int:
        return sum(len(part.ids) for part in self.parts)

    def __repr__(self) -> str:
        first = self.parts[0]
        described = [f"{len(self)} items"]
        if first.content:
            described.append("content: " + ", ".join(first.content))
        if first.attributes:
            described.append("attributes: " + ", ".join(first.attributes))
        if first.features:
            sizes = (f"{name} {width}" for name, width in self.widths.items())
            described.append("features: " + ", ".join(sizes))
        if first.embedding is not None:
            described.append(f"embedding {first.embedding.shape[1]}")
        return f"ItemCatalog({', '.join(described)})"

    def _repr_html_(self) -> str:
        return catalog_html(self)

    def __getstate__(self) -> dict[str, Any]:
        # With the fingerprint in all cases: pickles (and joblib's hash of them) must depend on the
        # content alone, not on whether the fingerprint was needed before.
        state: dict[str, Any] = {"fingerprint": self.fingerprint}
        if self._parts:
            return {**state, "_parts": self._parts}
        names = ("ids", "content", "attributes", "features", "missing", "embedding", "folds")
        for name in (*names, "_digests"):
            value = getattr(self, name)
            state[name] = dict(value) if isinstance(value, MappingProxyType) else value
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name in ("content", "attributes", "features", "missing"):
            if name in state:
                state[name] = MappingProxyType(state[name])
        self.__dict__.update({"_parts": (), "_digests": {}, **state})

    def __sklearn_clone__(self) -> ItemCatalog:
        return self

    def __copy__(self) -> ItemCatalog:
        return self

    def __deepcopy__(self, memo: Any) -> ItemCatalog:
        return self


def side_by_side(
    catalog: ItemCatalog, names: Iterable[str], items: NDArray[np.integer] | None = None
) -> Matrix:
    """Return the features of several modalities as one matrix, for all or some items.

    The rows of each modality are scaled to unit length, so that none outweighs the others; an item
    that lacks it has zeros. The matrix has shape (n_items, n_features), float32.
    """
    names = list(names)
    n = len(catalog) if items is None else len(items)
    result = np.empty((n, sum(catalog.widths[name] for name in names)), dtype=np.float32)
    for at in range(0, n, BLOCK):  # so that all items of a large catalogue take no copies
        rows = slice(at, min(at + BLOCK, n))
        codes = np.arange(rows.start, rows.stop) if items is None else items[rows]
        begin = 0
        for name in names:
            block = catalog.take_features(name, codes)
            block = block.astype(np.float64)  # squares overflow float32
            norm = np.linalg.norm(block, axis=1, keepdims=True)
            with np.errstate(invalid="ignore"):  # steps refuse infinite features themselves
                result[rows, begin : begin + block.shape[1]] = block / np.where(norm > 0, norm, 1.0)
            begin += block.shape[1]
    return result


def distinct_codes(
    arrays: Sequence[NDArray[np.integer]], n_codes: int
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Return the distinct codes of some arrays, and these as positions in the distinct ones.

    Parameters
    ----------
    arrays : sequence of ndarray of shape (n,), int
        Codes from 0 to ``n_codes - 1``.
    n_codes : int

    Returns
    -------
    distinct : ndarray of shape (n_distinct,), int64
        Ascending.
    places : list of ndarray of shape (n,), int64

    Examples
    --------
    >>> import numpy as np
    >>> distinct_codes([np.array([7, 3]), np.array([3])], 9)
    (array([3, 7]), [array([1, 0]), array([0])])
    """
    n = sum(map(len, arrays))
    if n_codes > _LARGE_TABLE * n:
        distinct, places = _sorted_codes(np.concatenate(arrays, dtype=np.int64), n_codes)
        return distinct, np.split(places, np.cumsum([len(codes) for codes in arrays])[:-1])
    seen = np.zeros(n_codes, dtype=bool)
    for codes in arrays:
        seen[codes] = True
    distinct = np.flatnonzero(seen)
    place = np.empty(n_codes, dtype=np.int64)
    place[distinct] = np.arange(len(distinct))
    return distinct, [place[codes] for codes in arrays]


def _sorted_codes(
    codes: NDArray[np.int64], n_codes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct codes, and each as a position in these, at a cost of what is given."""
    n_bits = len(codes).bit_length()
    if n_codes.bit_length() + n_bits > 63:
        distinct, places = np.unique(codes, return_inverse=True)
        return distinct, places
    # Code and place as one number each: numbers are sorted faster than places by their codes.
    both = np.sort(codes << n_bits | np.arange(len(codes)))
    at, ordered = both & ((1 << n_bits) - 1), both >> n_bits
    new = np.ones(len(codes), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    places = np.empty(len(codes), dtype=np.int64)
    places[at] = np.cumsum(new) - 1
    return ordered[new], places
