"""Ids of users and items: one array of integers or strings, and codes into it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[Any]


def as_ids(values: Iterable[Any] | NDArray[Any], name: str) -> Ids:
    """Return ids as an int64 array or an object array of str.

    Parameters
    ----------
    values : array-like of int or str
        Floats are welcome where each is a whole number (pandas turns integers into floats
        when a column once held a missing value).
    name : str
        What the ids are, for messages: ``"column 'item_id' of log"``.

    Raises
    ------
    ValueError
        If an id is missing or not a whole number.
    TypeError
        If integers and strings are mixed, or the ids are neither.
    """
    array = values if isinstance(values, np.ndarray) else _to_array(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}.")
    if array.dtype.kind in "iub":
        return array.astype(np.int64, copy=False)
    if array.dtype.kind == "f":
        whole = np.isfinite(array)
        if not whole.all():
            raise ValueError(
                f"{name} holds {np.count_nonzero(~whole)} missing ids (first at row "
                f"{int(np.argmin(whole))}). Drop these rows or give them an id."
            )
        result = array.astype(np.int64)
        if not (result == array).all():
            raise TypeError(
                f"{name} must be integers or strings, got fractions such as "
                f"{array[result != array][0].item()!r}."
            )
        return result
    if array.dtype.kind in "UT":
        return array.astype(object)
    if array.dtype.kind != "O":
        raise TypeError(f"{name} must be integers or strings, got dtype {array.dtype}.")
    return _object_ids(array, name)


def _to_array(values: Iterable[Any]) -> NDArray[Any]:
    # np.asarray([1, "a"]) would silently turn the integer into a string.
    values = list(values)
    if all(isinstance(v, int | np.integer) for v in values):
        return np.array(values, dtype=np.int64)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _object_ids(array: NDArray[Any], name: str) -> Ids:
    missing = np.array([v is None or v != v for v in array], dtype=bool)
    if missing.any():
        raise ValueError(
            f"{name} holds {np.count_nonzero(missing)} missing ids (first at row "
            f"{int(np.argmax(missing))}). Drop these rows or give them an id."
        )
    kinds = {_kind(v) for v in array}
    if kinds == {"int"} or not kinds:
        return array.astype(np.int64)
    if kinds == {"str"}:
        return np.array([str(v) for v in array], dtype=object)
    found = " and ".join(sorted(kinds))
    raise TypeError(
        f"{name} must be all integers or all strings, got {found}. "
        "Convert the column to one type, for example with .astype(str)."
    )


def _kind(value: Any) -> str:
    if isinstance(value, int | np.integer):
        return "int"
    return "str" if isinstance(value, str) else type(value).__name__


def kind_of(ids: Ids) -> str:
    """Say in words what the ids are: "integers" or "strings"."""
    return "integers" if ids.dtype.kind == "i" else "strings"


def check_same_kind(ids: Ids, name: str, reference: Ids, reference_name: str) -> None:
    """Raise TypeError if one holds integers and the other strings (nothing would match)."""
    if len(ids) and len(reference) and kind_of(ids) != kind_of(reference):
        target = "int" if kind_of(reference) == "integers" else "str"
        raise TypeError(
            f"{name} holds {kind_of(ids)} but {reference_name} holds {kind_of(reference)}, so "
            f"that nothing would match. Convert one of them, for example with .astype({target})."
        )


def factorize(ids: Ids) -> tuple[Ids, NDArray[np.int32]]:
    """Return the sorted distinct ids, and each id as a code into them."""
    if ids.dtype.kind == "i":
        distinct, codes = np.unique(ids, return_inverse=True)
        return distinct, codes.astype(np.int32)
    # A dict beats sorting objects: one hash a value, and only distinct strings are compared.
    position: dict[str, int] = {}
    codes = np.fromiter(
        (position.setdefault(v, len(position)) for v in ids), dtype=np.int32, count=len(ids)
    )
    distinct = np.array(list(position), dtype=object)
    order = np.argsort(distinct, kind="stable")
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return distinct[order], rank[codes]


class Lookup:
    """Codes of ids: position in a fixed array of distinct ids, -1 for unknown ones."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        if ids.dtype.kind == "i":
            self._order = np.argsort(ids, kind="stable")
            self._sorted = ids[self._order]
        else:
            self._position = {v: i for i, v in enumerate(ids)}

    def __call__(self, ids: Ids) -> NDArray[np.int32]:
        """Return the code of each id, -1 where it is unknown."""
        if len(self._ids) == 0 or kind_of(self._ids) != kind_of(ids):
            return np.full(len(ids), -1, dtype=np.int32)
        if ids.dtype.kind == "i":
            at = np.searchsorted(self._sorted, ids)
            at[at == len(self._sorted)] = 0
            codes = np.where(self._sorted[at] == ids, self._order[at], -1)
            return codes.astype(np.int32)
        get = self._position.get
        return np.fromiter((get(v, -1) for v in ids), dtype=np.int32, count=len(ids))
