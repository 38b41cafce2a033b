"""Read the users to recommend items to, and the items to choose from."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.cli._columns import read as read_columns
from skmars.cli._entities import with_users
from skmars.cli._inputs import read_histories
from skmars.cli._source import Source, Words
from skmars.cli._tables import read_table
from skmars.data import Impressions
from skmars.data._frames import Table
from skmars.persistence import Model
from skmars.persistence._tables._arrow import arrow, with_ids
from skmars.persistence._tables._columns import ids_of, require
from skmars.persistence._tables._rows import with_histories
from skmars.utils._ids import Lookup


def read_users(
    model: Model,
    users: Source | None,
    user_ids: Sequence[str],
    *,
    log: Source | None,
    items: Source | None,
    user_table: Source | None = None,
    context: Mapping[str, str] | None = None,
) -> tuple[Any, Impressions]:
    """Read users, with their histories.

    Parameters
    ----------
    model : Model
    users : Path or StandardInput or None
        Table with one row a user, and what else rows to predict have, except for the item.
    user_ids : sequence of str
        Users in place of a table. With neither, all users of the log.
    log, items, user_table : Path or StandardInput or None
        Files with other histories, items and attributes of users than those of the model.
    context : mapping of str to str, default=None
        The context of all users, where there is no table of them.

    Returns
    -------
    table : pyarrow.Table
        The users as they are in the file.
    X : Impressions
        Their targets are placeholders.
    """
    columns, kinds = model.columns, ids_of(model)
    histories = read_histories(log, items, model)
    name: Source | Words
    if users is not None:
        name, rows = users, read_columns(users, kinds, columns)
        needed = [("--context", column) for column in columns.context]
        require(rows, users, [("--user", columns.user), *needed])
        if len(rows) == 0:
            raise ValueError(f"{users} has no rows. Write one row for each user.")
    else:
        if user_ids:
            name = Words("--user-id")
            rows = arrow().table({columns.user: list(user_ids)})
            rows = with_ids(rows, name, {columns.user: kinds[columns.user]}, written=True)
        else:
            rows = arrow().table({columns.user: histories.users})
        name = Words("--with")
        rows = _with_context(rows, model, context or {})
    place = np.repeat(histories.catalog.ids[:1], len(rows))
    shown = rows
    if columns.item in rows.column_names:  # such as a log, of whose rows the users count
        shown = rows.drop_columns([columns.item])
    shown = shown.append_column(columns.item, arrow().array(place))
    X = with_histories(shown, name, model, histories, log is None)
    strangers = X.users[Lookup(histories.users, "the log")(X.users, columns.user) < 0]
    if len(strangers) and "history" not in rows.column_names:
        first = ", ".join(map(repr, strangers[:3].tolist())) + ", ..." * (len(strangers) > 3)
        who = "1 user is" if len(strangers) == 1 else f"{len(strangers)} users are"
        warnings.warn(
            f"{who} not in the log ({first}), so that their histories are empty.",
            UserWarning,
            stacklevel=2,
        )
    return rows, with_users(X, user_table, model)


def _with_context(rows: Any, model: Model, context: Mapping[str, str]) -> Any:
    """Return the table with the same context in all rows."""
    known = model.columns.context
    lacking = [column for column in known if column not in context]
    if lacking:
        raise ValueError(
            f"the model predicts from context ({', '.join(known)}). Say which it is, for example "
            f"--with {lacking[0]}=VALUE, or pass a table USERS with these columns."
        )
    other = [column for column in context if column not in known]
    if other:
        raise ValueError(
            f"--with {other[0]}: the model has no such context column; it has "
            f"{', '.join(known) or 'none'}."
        )
    for column, value in context.items():
        rows = rows.append_column(column, arrow().array([value] * len(rows), "string"))
    return rows


def read_candidates(path: Source, model: Model) -> NDArray[Any]:
    """Read the ids of the items to choose from."""
    item = model.columns.item
    kind = ids_of(model)[item]
    table = read_table(path, {item: kind}, to_strings=model.columns.ids == "strings")
    require(table, path, [("--item", item)])
    if len(table) == 0:
        raise ValueError(f"{path} has no rows. Write one row for each item to choose from.")
    return Table(table, str(path)).ids(item)
