"""Ids of users and items: one array of integers or strings, and codes into it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[Any]

# Up to here, every whole number has a float of its own.
EXACT_FLOATS = 2**53


def as_ids(values: Iterable[Any] | NDArray[Any], name: str) -> Ids:
    """Return ids as an array of integers or an object array of str, each with its exact value.

    Parameters
    ----------
    values : array-like of int, str or UUID
        Floats and Decimals are welcome where each is a whole number that is known exactly (pandas
        turns integers into floats when a column once held a missing value). A UUID becomes the
        string that it is written as.
    name : str
        What the ids are, for messages: ``"column 'item_id' of log"``.

    Returns
    -------
    ndarray of shape (n_ids,)
        int64, or uint64 where a number is larger than int64 can hold, or object (str).

    Raises
    ------
    ValueError
        If an id is missing, an empty string, or too large to be known exactly.
    TypeError
        If integers and strings are mixed, or the ids are neither.
    """
    array = values if isinstance(values, np.ndarray) else _to_array(values, name)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}.")
    if array.dtype.kind in "iu":
        return _integers(array)
    if array.dtype.kind == "f":
        return _whole(array, name)
    if array.dtype.kind in "UT":
        array = array.astype(object)
    if array.dtype.kind != "O":
        raise TypeError(f"{name} must be integers or strings, got dtype {array.dtype}.")
    return _object_ids(array, name)


def _to_array(values: Iterable[Any], name: str) -> NDArray[Any]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a sequence of ids, got {values!r}.")
    # np.asarray([1, "a"]) would silently turn the integer into a string.
    values = list(values)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _integers(array: NDArray[Any]) -> Ids:
    if array.dtype.kind == "u" and array.max(initial=0) > np.iinfo(np.int64).max:
        return array.astype(np.uint64, copy=False)
    return array.astype(np.int64, copy=False)


def _whole(array: NDArray[np.floating], name: str) -> Ids:
    _refuse_missing(~np.isfinite(array), name)
    if (array != np.trunc(array)).any():
        raise TypeError(
            f"{name} must be integers or strings, got fractions such as "
            f"{array[array != np.trunc(array)][0].item()!r}."
        )
    if (np.abs(array) >= EXACT_FLOATS).any():
        raise ValueError(
            f"{name} holds floats from 2**53 on (the largest: {np.abs(array).max():.0f}), of which "
            "several ids may have become one. Read the column as integers or strings."
        )
    return array.astype(np.int64)


def _object_ids(array: NDArray[Any], name: str) -> Ids:
    _refuse_missing(
        np.array([v is None or type(v).__name__ in ("NAType", "NaTType") or v != v for v in array])
        if len(array)
        else np.zeros(0, dtype=bool),
        name,
    )
    kinds = {_kind(v) for v in array}
    if not kinds:
        return np.zeros(0, dtype=np.int64)
    if kinds == {"int"}:
        return _exact(array, name)
    if kinds in ({"float"}, {"Decimal"}):
        numbers = array.astype(np.float64)
        if kinds == {"float"} or not all(v == v.to_integral_value() for v in array):
            return _whole(numbers, name)
        return _exact(np.array([int(v) for v in array], dtype=object), name)
    if kinds == {"str"}:
        strings = np.array([str(v) for v in array], dtype=object)
        empty = strings == ""
        if empty.any():
            raise ValueError(
                f"{name} holds {np.count_nonzero(empty)} empty strings (first at row "
                f"{int(np.argmax(empty))}). Drop these rows or give them an id."
            )
        return strings
    found = " and ".join(sorted(kinds))
    raise TypeError(
        f"{name} must be all integers or all strings, got {found}. "
        "Convert the column to one type, for example with .astype(str)."
    )


def _exact(array: NDArray[Any], name: str) -> Ids:
    """Return Python integers as int64 or uint64."""
    low, high = min(array), max(array)
    if low >= np.iinfo(np.int64).min and high <= np.iinfo(np.int64).max:
        return array.astype(np.int64)
    if low >= 0 and high <= np.iinfo(np.uint64).max:
        return array.astype(np.uint64)
    raise ValueError(
        f"{name} holds integers from {low} to {high}, which 64 bits can't hold. Convert them to "
        "strings, for example with .astype(str)."
    )


def _refuse_missing(missing: NDArray[np.bool_], name: str) -> None:
    if missing.any():
        raise ValueError(
            f"{name} holds {np.count_nonzero(missing)} missing ids (first at row "
            f"{int(np.argmax(missing))}). Drop these rows or give them an id."
        )


def _kind(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "bool"
    if isinstance(value, int | np.integer):
        return "int"
    if isinstance(value, float | np.floating):
        return "float"
    return "str" if isinstance(value, str | UUID) else type(value).__name__


def kind_of(ids: Ids) -> str:
    """Say in words what the ids are: "integers" or "strings"."""
    return "integers" if ids.dtype.kind in "iu" else "strings"


def check_same_kind(ids: Ids, name: str, reference: Ids, reference_name: str) -> None:
    """Raise TypeError if one holds integers and the other strings (nothing would match)."""
    if len(ids) and len(reference) and kind_of(ids) != kind_of(reference):
        target = "int" if kind_of(reference) == "integers" else "str"
        raise TypeError(
            f"{name} holds {kind_of(ids)} but {reference_name} holds {kind_of(reference)}, so "
            f"that nothing would match. Convert one of them, for example with .astype({target})."
        )


def joined(*parts: Ids) -> Ids:
    """Return ids of one kind one after another. (NumPy makes floats of int64 and uint64.)"""
    filled = [part for part in parts if len(part)]
    if len({part.dtype for part in filled}) > 1:
        return _exact(np.concatenate([part.astype(object) for part in filled]), "ids")
    return np.concatenate(filled) if filled else parts[0]


def factorize(ids: Ids) -> tuple[Ids, NDArray[np.int32]]:
    """Return the sorted distinct ids, and each id as a code into them."""
    if ids.dtype.kind in "iu":
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
    """Codes of ids: position in a fixed array of distinct ids, -1 for unknown ones.

    Parameters
    ----------
    ids : ndarray of shape (n_ids,)
        Distinct.
    name : str
        Whose ids they are, for messages: "the catalogue of fit".
    """

    def __init__(self, ids: Ids, name: str) -> None:
        self.ids, self.name = ids, name

    def __len__(self) -> int:
        return len(self.ids)

    def __getstate__(self) -> dict[str, Any]:
        # What is sorted or hashed is made again faster than it is read.
        return {"ids": self.ids, "name": self.name}

    @cached_property
    def _sorted(self) -> tuple[Ids, NDArray[np.int64]]:
        order = np.argsort(self.ids, kind="stable")
        return self.ids[order], order

    @cached_property
    def _position(self) -> dict[str, int]:
        return {v: i for i, v in enumerate(self.ids)}

    def __call__(self, ids: Ids, name: str) -> NDArray[np.int32]:
        """Return the code of each id, -1 where it is unknown.

        Raises
        ------
        TypeError
            If one holds integers and the other strings. `name` says whose ids these are.
        """
        check_same_kind(ids, name, self.ids, self.name)
        if len(self.ids) == 0 or len(ids) == 0:
            return np.full(len(ids), -1, dtype=np.int32)
        if ids.dtype.kind == "O":
            get = self._position.get
            return np.fromiter((get(v, -1) for v in ids), dtype=np.int32, count=len(ids))
        known, order = self._sorted
        there = np.ones(len(ids), dtype=bool)
        if ids.dtype != known.dtype:
            # Beyond the range of the other type an id is unknown. (NumPy would compare floats.)
            limits = np.iinfo(known.dtype)
            there = (ids >= 0) if limits.min == 0 else (ids <= np.uint64(limits.max))
            ids = ids.astype(known.dtype)
        at = np.searchsorted(known, ids)
        at[at == len(known)] = 0
        return np.where((known[at] == ids) & there, order[at], -1).astype(np.int32)
