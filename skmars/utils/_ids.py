"""Ids of users and items: one array of integers or strings, and codes into it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from functools import cached_property
from numbers import Integral
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skmars.utils._stacked import take_rows
from skmars.utils._values import (
    as_objects,
    exact_integers,
    in_words,
    missing,
    type_names,
)

Ids = NDArray[Any]


def as_ids(values: ArrayLike | Iterable[Any], name: str, each: str = "row") -> Ids:
    """Return ids as an array of integers or an object array of str, each with its exact value.

    Parameters
    ----------
    values : array-like of int, str or UUID
        Floats and Decimals are welcome where each is a whole number that is known exactly (pandas
        turns integers into floats when a column once held a missing value). A UUID becomes the
        string that it is written as.
    name : str
        What the ids are, for messages: ``"column 'item_id' of log"``.
    each : str, default="row"
        Unit that has one id, for messages: "row" or "value".

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
    if type(values) is list and set(map(type, values)) == {int}:  # the usual case, quickly
        with suppress(OverflowError):
            return np.array(values, dtype=np.int64)
    array = _to_array(values, name)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}.")
    if array.dtype.kind in "iu":
        return _integers(array)
    if array.dtype.kind == "f":
        return _whole(array, name, each, np.finfo(array.dtype).nmant)
    if array.dtype.kind in "UT":
        array = array.astype(object)
        if len(array) == 0:
            return array
    if array.dtype.kind != "O":
        raise TypeError(f"{name} must be integers or strings, got dtype {array.dtype}.")
    _refuse_missing(array, name, each)
    found = type_names(array)
    if not found:
        return np.zeros(0, dtype=np.int64)
    if found == {"int"}:
        return exact_integers(array, name)
    if found == {"float"}:
        digits = min(np.finfo(t).nmant for t in {np.asarray(v).dtype for v in array})
        return _whole(array.astype(np.float64), name, each, digits)
    if found == {"Decimal"}:
        return _whole_decimals(array, name)
    if found == {"str"}:
        return _strings(array, name, each)
    raise TypeError(
        f"{name} must be all integers or all strings, got {in_words(found)}. "
        "Convert the column to one type, for example with .astype(str)."
    )


def _to_array(values: Any, name: str) -> NDArray[Any]:
    if hasattr(values, "columns"):
        raise TypeError(f"{name} must be one column of ids, got a {type(values).__name__}.")
    if isinstance(values, str | bytes | Mapping | Set) or not isinstance(values, Iterable):
        one = isinstance(values, str | Integral | UUID)
        advice = f" Pass [{values!r}]." if one else ""
        raise TypeError(f"{name} must be a sequence of ids, got {values!r}.{advice}")
    if isinstance(values, np.ma.MaskedArray):
        array = np.array(values, dtype=object)
        array[np.ma.getmaskarray(values)] = None
        return array
    if isinstance(getattr(values, "dtype", None), np.dtype):
        return np.asarray(values)
    if hasattr(values, "to_pylist"):  # of Arrow, whose scalars are no Python objects
        values = values.to_pylist()
    # np.asarray([1, "a"]) would silently turn the integer into a string.
    return as_objects(values)


def _integers(array: NDArray[Any]) -> Ids:
    if array.dtype.kind == "u" and array.max(initial=0) > np.iinfo(np.int64).max:
        return array.astype(np.uint64, copy=False)
    return array.astype(np.int64, copy=False)


def _whole(array: NDArray[np.floating], name: str, each: str, digits: int) -> Ids:
    """Return floats of `digits` binary digits as integers, if they are whole and exact."""
    _refuse_missing(np.where(np.isfinite(array), array, np.nan), name, each)
    if (array != np.trunc(array)).any():
        raise TypeError(
            f"{name} must be integers or strings, got fractions such as "
            f"{array[array != np.trunc(array)][0].item()!r}."
        )
    exponent = min(digits + 1, 53)
    if (np.abs(array) >= 2.0**exponent).any():
        raise ValueError(
            f"{name} holds floats from 2**{exponent} on (the largest: {np.abs(array).max():.0f}), "
            "of which several ids may have become one. Read the column as integers or strings."
        )
    return array.astype(np.int64)


def _whole_decimals(array: NDArray[Any], name: str) -> Ids:
    fractions = [v for v in array if not v.is_finite() or v != v.to_integral_value()]
    if fractions:
        raise TypeError(f"{name} must be integers or strings, got decimals such as {fractions[0]}.")
    return exact_integers(as_objects(map(int, array)), name)


def _strings(array: NDArray[Any], name: str, each: str) -> Ids:
    strings = array
    if set(map(type, array)) != {str}:
        # The value, also of a member of an enumeration, which would be written as its name.
        strings = as_objects(str.__str__(v) if isinstance(v, str) else str(v) for v in array)
    empty = strings == ""
    if empty.any():
        raise ValueError(
            f"{name} holds {np.count_nonzero(empty)} empty strings (first at {each} "
            f"{int(np.argmax(empty))}). Drop these rows or give them an id."
        )
    check_text(strings, name)
    return strings


def check_text(strings: NDArray[Any], name: str) -> None:
    """Raise ValueError if a string holds half a character, which no table can store."""
    try:
        "".join(strings).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} holds strings that are no text ({error.object[error.start]!r}). Read the "
            "column with its right encoding."
        ) from error


def _refuse_missing(array: NDArray[Any], name: str, each: str) -> None:
    absent = missing(array)
    if absent.any():
        raise ValueError(
            f"{name} holds {np.count_nonzero(absent)} missing ids (first at {each} "
            f"{int(np.argmax(absent))}). Drop these rows or give them an id."
        )


def kind_of(ids: Ids) -> str:
    """Return whether ids are "integers" or "strings"."""
    return "integers" if ids.dtype.kind in "iu" else "strings"


def check_same_kind(ids: Ids, name: str, reference: Ids, reference_name: str) -> None:
    """Raise TypeError if one holds integers and the other strings (nothing would match)."""
    if len(ids) and len(reference) and kind_of(ids) != kind_of(reference):
        target = "int" if kind_of(reference) == "integers" else "str"
        raise TypeError(
            f"{name} holds {kind_of(ids)} but {reference_name} holds {kind_of(reference)}, so "
            f"that nothing would match. Convert one of them, for example with .astype({target})."
        )


def check_joinable(*parts: Ids) -> None:
    """Raise ValueError if no integer type holds all ids: some negative, some beyond int64."""
    filled = [part for part in parts if len(part)]
    if len({part.dtype for part in filled}) > 1:
        negative = [part for part in filled if part.dtype == np.int64 and part.min() < 0]
        if negative:
            raise ValueError(
                f"ids hold both {negative[0].min()} and integers beyond 2**63, which 64 bits can't "
                "hold. Convert all ids to strings, for example with .astype(str)."
            )


def joined(*parts: Ids) -> Ids:
    """Concatenate ids of one kind. (NumPy would make floats of int64 and uint64.)"""
    filled = [part for part in parts if len(part)] or [parts[0]]
    if len({part.dtype for part in filled}) > 1:
        check_joinable(*filled)
        filled = [part.astype(np.uint64) for part in filled]
    return np.concatenate(filled)


def are_distinct(ids: Ids) -> bool:
    """Return whether no id is there twice."""
    if ids.dtype.kind == "O":
        return len(set(ids)) == len(ids)
    ordered = np.sort(ids)
    return not (ordered[1:] == ordered[:-1]).any()


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
    """Translates ids to codes: positions in a fixed array of distinct ids, -1 for unknown ones.

    Parameters
    ----------
    ids : ndarray of shape (n_ids,)
        Distinct.
    name : str
        Whose ids they are, for messages: "the catalogue of fit".

    Attributes
    ----------
    parts : tuple of Lookup
        The lookup alone, or those whose ids stand behind one another.
    """

    def __init__(self, ids: Ids, name: str) -> None:
        self.ids, self.name = ids, name
        self._parts: tuple[Lookup, ...] = ()

    @property
    def parts(self) -> tuple[Lookup, ...]:
        return self._parts or (self,)

    def extended(self, ids: Ids) -> Lookup:
        """Return a lookup with further ids behind these, which it must not have yet.

        The parts of this one are kept, so that the cost is that of the new ids: each id is joined
        to others as often as the logarithm of their number.

        Raises
        ------
        ValueError
            If no integer type holds all ids.
        """
        if len(ids) == 0:
            return self
        parts = [*self.parts, Lookup(ids, self.name)]
        check_joinable(*(part.ids for part in parts))
        while len(parts) > 1 and len(parts[-2]) < 2 * len(parts[-1]):
            *parts, one, other = parts
            parts.append(Lookup(joined(one.ids, other.ids), self.name))
        if len(parts) == 1:
            return parts[0]
        new = Lookup.__new__(Lookup)
        new.name, new._parts = self.name, tuple(parts)
        return new

    @cached_property
    def ids(self) -> Ids:  # type: ignore[no-redef]
        return joined(*(part.ids for part in self._parts))

    def take(self, codes: NDArray[np.integer]) -> Ids:
        """Return the ids of some codes, at a cost of these alone."""
        parts = [part.ids for part in self.parts]
        if len({part.dtype for part in parts}) == 1:
            return take_rows(parts, codes)
        return self.ids[codes]

    def __len__(self) -> int:
        return sum(len(part.ids) for part in self.parts)

    def __getstate__(self) -> dict[str, Any]:
        # Sorting or hashing again is faster than reading the result.
        return {"ids": self.ids, "name": self.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _parts=())

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
        first, *later = self.parts
        check_same_kind(ids, name, first.ids, self.name)
        codes = first._find(ids)
        begin = len(first)
        for part in later:
            new = np.flatnonzero(codes < 0)
            found = part._find(ids[new])
            codes[new] = np.where(found < 0, found, found + np.int32(begin))
            begin += len(part)
        return codes

    def _find(self, ids: Ids) -> NDArray[np.int32]:
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
