"""Columns of a catalogue, one entry an item: checked, and safe against later changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skmars.data._attributes import Attribute
from skmars.data._content import is_absent
from skmars.data._frames import read_attribute
from skmars.utils._values import as_matrix, as_objects, is_sequence

Matrix = NDArray[np.float32]
Mask = NDArray[np.bool_]


def joined_texts(columns: list[NDArray[Any]]) -> NDArray[Any]:
    """Join the texts of several columns by line breaks; None where an item has none."""
    rows = ([str(part) for part in row if not is_absent(part)] for row in zip(*columns))
    return as_objects("\n".join(parts) or None for parts in rows)


def named_columns(
    mapping: Mapping[str, Any] | None, name: str, of: str = "a modality"
) -> Iterable[tuple[str, Any]]:
    """Return the items of a mapping from names (of what?) to columns; TypeError if it is none."""
    if mapping is None:
        return ()
    if not isinstance(mapping, Mapping):
        raise TypeError(
            f"{name} must be a mapping from the name of {of} to a column, got "
            f"{type(mapping).__name__}. Pass a dict, such as {{'text': ...}}."
        )
    for key in mapping:
        if not isinstance(key, str) or not key:
            raise TypeError(f"{name} must name its columns by strings, got {key!r}.")
    return mapping.items()


def column_of_items(values: Sequence[Any] | NDArray[Any], name: str, n_items: int) -> NDArray[Any]:
    """Return a column with one entry an item, safe against later changes by the caller."""
    if not is_sequence(values):
        what = type(values).__name__ if hasattr(values, "columns") else repr(values)
        raise TypeError(
            f"{name} must be a sequence with one entry an item, got {what}. A table of items "
            "becomes a catalogue with ItemCatalog.from_frame(items)."
        )
    if len(values) != n_items:
        raise ValueError(f"{name} has {len(values)} entries for {n_items} items.")
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return frozen(values)
    # Entry by entry: NumPy would merge equally sized images into one array.
    entries = values.to_pylist() if hasattr(values, "to_pylist") else values
    # By `type`: isinstance runs code of the contents, which may be broken objects.
    return frozen(as_objects(frozen(v) if issubclass(type(v), np.ndarray) else v for v in entries))


def feature_matrices(
    features: Mapping[str, ArrayLike] | None,
    missing: Mapping[str, ArrayLike] | None,
    n_items: int,
    known: Iterable[str],
) -> tuple[Mapping[str, Matrix], Mapping[str, Mask]]:
    """Return checked feature matrices, and for each the mask of the items that lack it."""
    matrices = {
        k: frozen(as_matrix(v, f"features[{k!r}]", n_items))
        for k, v in named_columns(features, "features")
    }
    masks = {}
    for name, values in named_columns(missing, "missing"):
        if name not in matrices:
            have = ", ".join(map(repr, matrices)) or "none"
            hint = " (pass its features along)" if name in known else ""
            raise ValueError(
                f"missing names modality {name!r}, but features are passed for {have}{hint}."
            )
        mask = np.asarray(values)
        if mask.dtype != bool or mask.shape != (n_items,):
            raise ValueError(
                f"missing[{name!r}] must be a mask of {n_items} booleans, one an item; got dtype "
                f"{mask.dtype} and shape {mask.shape}."
            )
        masks[name] = frozen(mask)
    for name in matrices:
        masks.setdefault(name, frozen(np.zeros(n_items, dtype=bool)))
    return MappingProxyType(matrices), MappingProxyType(masks)


def attribute_names(names: Any, parameter: str) -> Iterable[tuple[str, str]]:
    """Return the name and the column of each attribute; both are the same in a list of columns.

    Raises
    ------
    TypeError
        If `names` is neither a list nor a mapping.
    ValueError
        If a column is named twice.
    """
    if names is None or isinstance(names, Mapping):
        return named_columns(names, parameter, of="an attribute")
    if not is_sequence(names):
        raise TypeError(f"{parameter} must be a list of columns, got {names!r}. Pass [{names!r}].")
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ValueError(f"{parameter} names the column {name!r} twice. Name it once.")
    return [(name, name) for name in names]


def attribute_columns(
    attributes: Mapping[str, Any] | None, n_items: int, modalities: Iterable[str]
) -> Mapping[str, Attribute]:
    """Return checked attributes, by name; ValueError if one is called like a modality."""
    columns = {}
    taken = set(modalities)
    for name, values in named_columns(attributes, "attributes", of="an attribute"):
        if name in taken:
            raise ValueError(
                f"attributes names {name!r}, which is a modality of the catalogue. Call the "
                "attribute something else."
            )
        columns[name] = read_attribute(values, f"attributes[{name!r}]")
        if len(columns[name]) != n_items:
            raise ValueError(
                f"attributes[{name!r}] has {len(columns[name])} entries for {n_items} items."
            )
    return MappingProxyType(columns)


def rows_at(array: NDArray[Any], at: slice) -> NDArray[Any]:
    """Return a slice; for all rows the array itself, so that catalogues share it."""
    return array if at == slice(0, len(array)) else array[at]


def stacked(parts: Sequence[Any]) -> NDArray[Any]:
    stacked: NDArray[Any] = np.concatenate(parts)
    stacked.flags.writeable = False
    return stacked


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array as read-only; a copy if the caller could still write to it."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            array = array.copy()
            break
        owner = owner.base
    array.flags.writeable = False
    return array
