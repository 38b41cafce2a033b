"""Attributes: columns of items or users that hold numbers, categories, or lists of these."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.utils import _ragged as ragged
from skmars.utils._ids import check_text, factorize
from skmars.utils._stacked import take_rows
from skmars.utils._values import NUMBERS, as_numbers, as_objects, in_words, is_sequence, missing
from skmars.utils._values import type_names as types_of


@dataclass(frozen=True, eq=False, repr=False)
class Attribute:
    """A column with one entry an item (or user): a number, a category, or a list of categories.

    Immutable. Made by `as_attribute`, so that equal columns are equal to the bit.

    Parameters
    ----------
    values : ndarray of shape (n,), float64 or int32
        Numbers, NaN where one is missing. Or categories as positions in `categories`: one an
        entry, -1 where it is missing; of lists, those of all entries one after another.
    categories : ndarray of str as objects, or None
        The distinct categories, sorted. None for numbers.
    offsets : ndarray of shape (n_entries + 1,), int64, or None
        Where the list of each entry begins in `values`. None for numbers and single categories.
    """

    values: NDArray[Any]
    categories: NDArray[Any] | None = None
    offsets: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        for array in (self.values, self.categories, self.offsets):
            if array is not None:
                array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.values) if self.offsets is None else len(self.offsets) - 1

    @property
    def kind(self) -> str:
        """What an entry is: "number", "category" or "list"."""
        if self.categories is None:
            return "number"
        return "category" if self.offsets is None else "list"

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Which entries are missing; of lists, which are empty."""
        if self.offsets is not None:
            return np.diff(self.offsets) == 0
        return np.isnan(self.values) if self.categories is None else self.values < 0

    def __getitem__(self, entries: Any) -> Attribute:
        """Select entries by an array of positions, a mask or a slice."""
        return take_entries([self], np.arange(len(self))[entries])

    def nothing(self, n: int) -> Attribute:
        """Return `n` missing entries of the same kind."""
        if self.categories is None:
            return Attribute(np.full(n, np.nan))
        none = np.zeros(0, dtype=object)
        if self.offsets is None:
            return Attribute(np.full(n, -1, dtype=np.int32), none)
        return Attribute(np.zeros(0, dtype=np.int32), none, np.zeros(n + 1, dtype=np.int64))

    def column(self) -> NDArray[Any] | tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the entries as a column of a table, for `make_frame`."""
        if self.categories is None:
            return self.values
        names = np.append(self.categories, as_objects([None]))[self.values]  # -1 is the last one
        return names if self.offsets is None else (names, np.diff(self.offsets))

    def to_list(self) -> list[Any]:
        """Return the entries as floats, strings (None where missing), or lists of strings."""
        column = self.column()
        if not isinstance(column, tuple):
            return column.tolist()
        assert self.offsets is not None
        flat = column[0].tolist()
        return [flat[a:b] for a, b in zip(self.offsets[:-1], self.offsets[1:])]

    @cached_property
    def digest(self) -> str:
        """A digest of the content, equal for equal columns in any process."""
        result = hashlib.blake2b(f"{self.kind} {len(self)} ".encode(), digest_size=16)
        for array in (self.values, self.offsets):
            if array is not None:
                result.update(np.ascontiguousarray(array).data)
        if self.categories is not None:
            result.update(repr(self.categories.tolist()).encode())
        return result.hexdigest()

    def __repr__(self) -> str:
        what = "numbers" if self.categories is None else f"{len(self.categories)} categories"
        lists = "lists of " if self.offsets is not None else ""
        n_missing = np.count_nonzero(self.missing)
        return f"Attribute({len(self)} entries, {lists}{what}, {n_missing} missing)"

    def __getstate__(self) -> dict[str, Any]:
        # Without the digest: pickles must depend on the content alone.
        return {"values": self.values, "categories": self.categories, "offsets": self.offsets}

    def __copy__(self) -> Attribute:
        return self

    def __deepcopy__(self, memo: Any) -> Attribute:
        return self


def take_entries(parts: Sequence[Attribute], entries: NDArray[np.integer]) -> Attribute:
    """Return some entries of a column that lies in parts, at a cost of these entries alone.

    Parameters
    ----------
    parts : sequence of Attribute
        One at least, of one kind. The categories are those of the first; a part that has
        others has none.
    entries : ndarray of shape (n,), int
        Positions in the whole column.
    """
    first = parts[0]
    values = [part.values for part in parts]
    starts = [part.offsets[:-1] for part in parts if part.offsets is not None]
    if not starts:
        return replace(first, values=take_rows(values, entries))
    start = take_rows(starts, entries)
    ends = [part.offsets[1:] for part in parts if part.offsets is not None]
    length = take_rows(ends, entries) - start
    if len(parts) > 1:
        begin = ragged.offsets(np.array([len(part) for part in parts]))
        flat = ragged.offsets(np.array([len(part.values) for part in parts]))
        start = start + flat[np.searchsorted(begin, entries, side="right") - 1]
    taken = take_rows(values, ragged.ranges(start, length))
    return replace(first, values=taken, offsets=ragged.offsets(length))


def take_known(column: Attribute, entries: NDArray[np.integer]) -> Attribute:
    """Return some entries of a column; what stands at -1 is missing."""
    at = np.where(entries < 0, len(column), entries)
    return take_entries([column, column.nothing(1)], at)


def as_attribute(values: NDArray[Any], name: str) -> Attribute:
    """Return a column of numbers, strings, booleans or lists of strings as an attribute.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Objects may be of any kind, None or NaN where one is missing.
    name : str
        What they are, for messages: ``"column 'price' of items"``.

    Raises
    ------
    TypeError
        If entries are something else, or of several kinds.
    ValueError
        If a number is infinite, or there are several numbers an entry.
    """
    if values.ndim != 1:
        raise ValueError(
            f"{name} must hold one value an entry, got shape {values.shape}. Vectors belong into "
            "features."
        )
    if values.dtype.kind in "UT":
        values = values.astype(object)
    if values.dtype.kind in "iuf":
        return _numbers(values, name)
    if values.dtype.kind == "b":
        return _categories(as_objects(map(str, values.tolist())), name)
    if values.dtype.kind != "O":
        raise _other_types(name, {f"dtype {values.dtype}"})
    there = ~missing(values)
    known = values[there]
    found = types_of(known)
    if found <= {"str"} or found == {"bool"}:
        texts = np.full(len(values), None, dtype=object)
        texts[there] = _strings(known)
        return _categories(texts, name)
    if found <= NUMBERS - {"bool"}:
        return _numbers(values, name)
    if all(map(is_sequence, known)):
        rows = [row.to_pylist() if hasattr(row, "to_pylist") else row for row in known]
        length = np.zeros(len(values), dtype=np.int64)
        length[there] = [len(row) for row in rows]
        return lists_of_categories(as_objects(chain.from_iterable(rows)), length, name)
    raise _other_types(name, found)


def lists_of_categories(flat: NDArray[Any], length: NDArray[np.int64], name: str) -> Attribute:
    """Return lists of strings as an attribute; what is missing or blank in a list is left out.

    Parameters
    ----------
    flat : ndarray of shape (n_values,)
        The strings of all lists.
    length : ndarray of shape (n,)
        Number of strings of each list.
    name : str
        What they are, for messages.

    Raises
    ------
    TypeError
        If the lists hold something else.
    """
    flat = flat.astype(object) if flat.dtype.kind in "UT" else flat
    there = ~missing(flat)
    found = types_of(flat[there].astype(object, copy=False))
    if not found <= {"str"}:
        raise TypeError(
            f"{name} holds lists of {in_words(found)}; lists of an attribute hold strings. Convert "
            "what names categories to strings. Vectors of numbers belong into features."
        )
    texts = np.full(len(flat), None, dtype=object)
    texts[there] = _strings(flat[there])
    one = _categories(texts, name)
    known = one.values >= 0
    entry = np.repeat(np.arange(len(length)), length)[known]
    n_each = np.bincount(entry, minlength=len(length))
    return Attribute(one.values[known], one.categories, ragged.offsets(n_each))


def _numbers(values: NDArray[Any], name: str) -> Attribute:
    numbers = as_numbers(values, name, exact=False).astype(np.float64)
    infinite = np.isinf(numbers)
    if infinite.any():
        raise ValueError(
            f"{name} holds {np.count_nonzero(infinite)} infinite numbers (first: entry "
            f"{int(np.argmax(infinite))}). Replace them; what is not known may be missing."
        )
    # One zero and one NaN, so that equal columns have equal bits.
    return Attribute(np.where(np.isnan(numbers), np.nan, numbers + 0.0))


def _strings(values: NDArray[Any]) -> NDArray[Any]:
    # The value, also of a member of an enumeration, which would be written as its name.
    return as_objects(str.__str__(v) if isinstance(v, str) else str(v) for v in values)


def _categories(texts: NDArray[Any], name: str) -> Attribute:
    """Return strings, None where one is missing, as an attribute; blank ones are missing, too."""
    known = np.fromiter((v is not None and bool(v.strip()) for v in texts), bool, len(texts))
    check_text(texts[known], name)
    categories, codes = factorize(texts[known])
    values = np.full(len(texts), -1, dtype=np.int32)
    values[known] = codes
    return Attribute(values, categories.astype(object))


def _other_types(name: str, found: set[str]) -> TypeError:
    return TypeError(
        f"{name} holds {in_words(found)}; an attribute holds numbers, strings, booleans or lists "
        "of strings, each with missing values. Convert it, for example a date to its year."
    )
