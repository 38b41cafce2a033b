"""What a fit learns of an attribute of items or users, and the numbers that this makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from skmars.ctr._batches import Entries
from skmars.ctr._errors import attribute_changed, attribute_out_of_range, attributes_lacking
from skmars.data._attributes import Attribute, take_entries
from skmars.data._checks import LARGEST
from skmars.utils import _ragged as ragged
from skmars.utils._ids import Lookup

Codes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LearntAttribute:
    """The scale of numbers, or the row of the embedding table of each category.

    Row 0 stands for what is missing, and for categories that the fit did not see.
    """

    kind: str  # see `Attribute`
    known: Lookup | None  # categories of the rows 1, 2, ...; None for numbers
    count: Codes  # how often each row of the table occurs in the rows of the fit
    scaler: StandardScaler | None = None

    @property
    def n_categories(self) -> int | None:
        return None if self.known is None else len(self.known)

    def coded(self, column: Attribute, name: str) -> Attribute:
        """Return a column with numbers scaled, 0 where missing, and categories as table rows.

        A list holds one row at least, and leaves out unknown ones if it has others.

        Raises
        ------
        ValueError
            If the column is of another kind than in fit. `name` is for messages.
        """
        empty = bool(column.missing.all())
        if empty:
            column = _like(self.kind, len(column))
        elif column.kind != self.kind:
            raise attribute_changed(name, column.kind, self.kind)
        if self.known is None:
            assert self.scaler is not None
            scaled = np.asarray(self.scaler.transform(column.values[:, None]))[:, 0]
            return replace(column, values=np.where(np.isnan(scaled), 0.0, scaled))
        assert column.categories is not None
        # Of the categories that occur: a row of a request must not cost all there are.
        used, place = np.unique(column.values, return_inverse=True)
        row = np.zeros(len(used), dtype=np.int64)
        there = used >= 0
        row[there] = self.known(column.categories[used[there]], name) + 1
        values = row[place]
        if column.offsets is None:
            return replace(column, values=values)
        entry = np.repeat(np.arange(len(column)), np.diff(column.offsets))[values > 0]
        length = np.bincount(entry, minlength=len(column))
        filled = np.zeros(np.maximum(length, 1).sum(), dtype=np.int64)
        offsets = ragged.offsets(np.maximum(length, 1))
        filled[ragged.ranges(offsets[:-1], length)] = values[values > 0]
        return replace(column, values=filled, offsets=offsets)


def learn_attribute(column: Attribute, count: Codes, name: str) -> LearntAttribute:
    """Learn scale or categories of a column of which something is known.

    Parameters
    ----------
    column : Attribute
        Of the distinct items (or users) of the rows of fit.
    count : ndarray of shape (n_entries,), int64
        How often each of them occurs.
    name : str
        For messages: "attribute 'price' of items".

    Raises
    ------
    ValueError
        If a number is too large for a network.
    """
    if column.categories is None:
        known = column.values[~column.missing]
        if np.abs(known).max() > LARGEST:
            raise attribute_out_of_range(name, LARGEST)
        scaler = StandardScaler().fit(column.values[:, None])
        if known.min() == known.max():
            # Nothing is learnt of a constant, so that another value must not tell anything.
            scaler.scale_ = np.array([np.inf])
        return LearntAttribute(column.kind, None, np.zeros(0, dtype=np.int64), scaler)
    each = np.unique(column.values[column.values >= 0])
    categories = Lookup(column.categories[each], "the categories of fit")
    learnt = LearntAttribute(column.kind, categories, np.zeros(0, dtype=np.int64))
    coded = learnt.coded(column, name)
    if coded.offsets is not None:
        count = np.repeat(count, np.diff(coded.offsets))
    # Exact: integers below 2**53 are exact as float64 weights.
    total = np.bincount(coded.values, count, minlength=len(each) + 1)
    return replace(learnt, count=total.astype(np.int64))


def chosen_attributes(
    there: Mapping[str, Attribute], names: str | Sequence[str] | None, of: str
) -> list[str]:
    """Resolve the parameters `item_attributes` and `user_attributes`.

    Parameters
    ----------
    there : mapping of str to Attribute
        Those of the items (or users) of the rows of fit.
    names : "auto", None or sequence of str
    of : {"item", "user"}
    """
    if names is None:
        return []
    known = [name for name, column in there.items() if not column.missing.all()]
    if isinstance(names, str):  # "auto"
        return known
    for name in names:
        if name not in there:
            what = f"which the {of}s of X do not have; they have {list(there)}"
        elif name not in known:
            what = f"which is missing for all {of}s of X"
        else:
            continue
        raise ValueError(f"{of}_attributes names {name!r}, {what}.")
    return list(names)


def coded_attributes(
    there: Mapping[str, Attribute], learnt: Mapping[str, LearntAttribute], of: str
) -> list[Attribute]:
    """Return the columns that a fit has learnt, coded; ValueError if one is not there."""
    lacking = [name for name in learnt if name not in there]
    if lacking:
        raise attributes_lacking(lacking[0], list(there), of)
    return [
        each.coded(there[name], f"attribute {name!r} of {of}s") for name, each in learnt.items()
    ]


def entries_of(
    parts: Sequence[Attribute], at: NDArray[np.integer], name: str
) -> Entries[NDArray[Any]]:
    """Gather entries of a coded column that lies in parts.

    Raises
    ------
    ValueError
        If a number is too large for a network. `name` is for messages.
    """
    taken = take_entries(parts, at)
    if taken.categories is None and not np.abs(taken.values).max(initial=0) <= LARGEST:
        raise attribute_out_of_range(name, LARGEST)
    return Entries(taken.values, None if taken.offsets is None else np.diff(taken.offsets))


def _like(kind: str, n: int) -> Attribute:
    """Return `n` missing entries of a kind."""
    some = np.zeros(0, dtype=object)
    one = {
        "number": Attribute(np.zeros(0)),
        "category": Attribute(np.zeros(0, dtype=np.int32), some),
        "list": Attribute(np.zeros(0, dtype=np.int32), some, np.zeros(1, dtype=np.int64)),
    }[kind]
    return one.nothing(n)
