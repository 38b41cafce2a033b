"""Rows to predict: from a table with the columns of a model to impressions and probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions
from skmars.data._frames import Table
from skmars.data._log import DEFAULT_TIME
from skmars.data._user_histories import UserHistories
from skmars.persistence._model import Columns, Model
from skmars.persistence._tables._arrow import Origin, is_csv, with_ids
from skmars.persistence._tables._columns import (
    ids_of,
    named,
    prepared,
    require,
    with_history_times,
)

# The column that predictions add to the rows.
PROBABILITY = "probability"


def probabilities(
    model: Model, rows: Any, path: Origin, histories: UserHistories | None = None
) -> NDArray[np.float64]:
    """Return the probability of a click for each row of a table.

    Parameters
    ----------
    model : Model
    rows : pyarrow.Table
        One row for each user and item, with the columns that the model was fitted with.
    path : Origin
        What to call the table in messages.
    histories : UserHistories, default=None
        What the users did so far. None takes the column "history" of the rows, or else what the
        model knows.

    Returns
    -------
    ndarray of shape (n_rows,), float64

    Raises
    ------
    ValueError
        If a column is missing, or can't be read as that of the model; if there are no rows.
    """
    rows = with_ids_of(model, rows, path)
    known = model.histories if histories is None else histories
    X = rows_of(rows, path, model, known, from_rows=histories is None)
    return np.asarray(model.pipeline.predict_proba(with_known_users(X, model))[:, 1], np.float64)


def rows_of(
    rows: Any, path: Origin, model: Model, histories: UserHistories, from_rows: bool = True
) -> Impressions:
    """Return impressions of rows to predict, whose ids are of the kind of the model.

    With a time column, a row's history ends before its time. It may stand in a column "history" of
    the rows, if `from_rows` says so.
    """
    columns = model.columns
    require_columns(rows, path, columns)
    if len(rows) == 0:
        raise ValueError(f"{path} has no rows. Write one row for each user and item to predict.")
    return with_histories(rows, path, model, histories, from_rows)


def with_ids_of(model: Model, rows: Any, path: Origin) -> Any:
    """Return rows with ids of the kinds that a model has; ValueError if they are others."""
    to_strings = model.columns.ids == "strings"
    return with_ids(rows, path, ids_of(model), written=is_csv(path), to_strings=to_strings)


def require_columns(rows: Any, path: Origin, columns: Columns) -> None:
    """Raise ValueError if rows to predict lack a column of a model."""
    needed = [("--user", columns.user), ("--item", columns.item)]
    require(rows, path, [*needed, *(("--context", name) for name in columns.context)])


def with_known_users(X: Impressions, model: Model) -> Impressions:
    """Return the impressions with the attributes of users that a model knows, if it has some."""
    if not model.columns.user_attributes:
        return X
    return X._with_users(model.histories.known.of(X.users, f"column {model.columns.user!r}"))


def with_histories(
    rows: Any, path: Origin, model: Model, histories: UserHistories, from_rows: bool
) -> Impressions:
    """Return impressions of rows, with their own histories if they may and do have them."""
    columns = model.columns
    table = prepared(rows, path, columns)[0]
    if "history" not in table.column_names or not from_rows:
        return as_rows(table, path, histories, columns)
    if is_csv(path):
        raise ValueError(
            f"{path}: column 'history' must hold lists, which CSV files can't. Write "
            "the rows as Parquet, or drop the column."
        )
    table = with_history_times(table, path, columns)
    names = {columns.user: "user_id", columns.item: "item_id", columns.time: DEFAULT_TIME}
    used = [*names, "history", "history_feedback", "history_timestamp", *columns.context]
    table = table.select([name for name in used if name in table.column_names])
    table = table.rename_columns([names.get(name, name) for name in table.column_names])
    return named(path, Impressions.from_frame, table, histories.catalog)


def as_rows(table: Any, path: Origin, histories: UserHistories, columns: Columns) -> Impressions:
    """Return impressions of rows whose histories are not in the table itself."""
    frame = Table(table, "rows")
    known = columns.time is not None and columns.time in frame.columns
    seconds = named(path, frame.seconds, columns.time) if known else None
    user, item = (named(path, frame.ids, name) for name in (columns.user, columns.item))
    context = {name: named(path, frame.context, name) for name in columns.context}
    return named(path, histories.impressions, user, item, seconds, context)
