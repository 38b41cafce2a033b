"""Attributes of users: read from a table of users, or from columns of a table of events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skmars.data._attributes import Attribute, as_attribute, take_known
from skmars.data._columns import USER_PREFIX
from skmars.data._frames import Table, read_attribute
from skmars.utils._ids import Ids, factorize
from skmars.utils._values import as_objects, is_sequence

if TYPE_CHECKING:
    from skmars.data._frames import Frame


def of_table(users: Frame, user: str) -> tuple[Ids, dict[str, Attribute]]:
    """Return the users of a table with one row a user, and their attributes.

    Parameters
    ----------
    users : DataFrame or Table
        All columns but `user` are attributes.
    user : str
        Column of the user ids.

    Raises
    ------
    ValueError
        If the table has no such column or no other one, or a user twice.
    TypeError
        If it is no table, or a column is no attribute.
    """
    advice = "The ids have the name that they have in the log; rename the column."
    table = Table(users, "users", advice)
    ids = table.ids(user)
    distinct, code = factorize(ids)
    if len(distinct) < len(ids):
        count = np.bincount(code)
        raise ValueError(
            f"{table.describe(user)} must be distinct, but {np.count_nonzero(count > 1)} users "
            f"repeat (first: {distinct[count > 1].tolist()[0]!r}). Keep one row a user."
        )
    names = [name for name in table.columns if name != user]
    if not names:
        raise ValueError(f"users has no column but {user!r}. Add columns, such as the age.")
    return ids, {_checked_name(c): table.attribute(c) for c in names}


def of_rows(
    table: Table, columns: Mapping[str, str], user: NDArray[np.integer], n_users: int
) -> dict[str, Attribute]:
    """Return attributes of users from columns of a table that has several rows of a user.

    Parameters
    ----------
    table : Table of n_rows rows
    columns : mapping of str to str
        From the name of each attribute to its column.
    user : ndarray of shape (n_rows,), int
        The user of each row, from 0 to ``n_users - 1``.
    n_users : int

    Raises
    ------
    ValueError
        If rows of one user differ in such a column; missing values do not count.
    """
    found = {}
    for name, column in columns.items():
        entries = table.attribute(column)
        known = np.flatnonzero(~entries.missing)
        first = np.full(n_users, -1)
        first[user[known][::-1]] = known[::-1]
        key = entries.values if entries.offsets is None else factorize(_texts(entries))[1]
        other = known[key[known] != key[first[user[known]]]]
        if len(other):
            row = int(other[0])
            values = entries[[int(first[user[row]]), row]].to_list()
            raise ValueError(
                f"{table.describe(column)} is an attribute of users, but rows of one user hold "
                f"{values[0]!r} and {values[1]!r} (row {row}). Where it changes from row to row, "
                "it is context: name it so, or rename the column."
            )
        found[_checked_name(name)] = take_known(entries, first)
    return found


def named_in_log(table: Table, names: Any, taken: Iterable[str | None]) -> dict[str, str]:
    """Return the columns of a log that are attributes of users, by name; raise if they are none."""
    if isinstance(names, Mapping) or not is_sequence(names):
        raise TypeError(
            f"users must be a table with one row a user, or a list of columns of the log, got "
            f"{names!r}."
        )
    taken = set(taken)
    for i, name in enumerate(names):
        table.series(name)
        if name in taken or name in names[:i]:
            raise ValueError(
                f"{table.describe(name)} is named twice: in users, and in another place. A column "
                "has one meaning; leave one of them out."
            )
    return {name: name for name in names}


def filled(new: Attribute, old: Attribute, name: str) -> Attribute:
    """Return a column of attributes, with what is missing in it taken from an older one."""
    if new.missing.all():
        return old
    entries = zip(new.to_list(), old.to_list(), new.missing)
    return as_attribute(as_objects(b if absent else a for a, b, absent in entries), name)


def of_columns(attributes: Any, n_users: int) -> dict[str, Attribute]:
    """Return checked attributes with one entry a user, of a mapping from names to columns."""
    if not isinstance(attributes, Mapping):
        raise TypeError(
            "user_attributes must be a mapping from names to columns, got "
            f"{type(attributes).__name__}."
        )
    found = {}
    for name, values in attributes.items():
        column = read_attribute(values, f"user_attributes[{name!r}]")
        if len(column) != n_users:
            raise ValueError(
                f"user_attributes[{name!r}] has {len(column)} entries for {n_users} users."
            )
        found[_checked_name(name)] = column
    return found


def column_name(name: str) -> str:
    """Return the name of the column of an attribute of users in a table of impressions."""
    return USER_PREFIX + name


def prefixed(columns: Iterable[Any]) -> dict[str, str]:
    """Return the columns of a table of impressions that are attributes of users, by name."""
    return {c.removeprefix(USER_PREFIX): c for c in columns if is_user_column(c)}


def is_user_column(column: Any) -> bool:
    """Return whether a column of a table of impressions is an attribute of users."""
    return isinstance(column, str) and column.startswith(USER_PREFIX)


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise TypeError(f"attributes of users are named by strings, got {name!r}. Rename it.")
    return name


def _texts(entries: Attribute) -> NDArray[Any]:
    return as_objects(map(repr, entries.to_list()))
