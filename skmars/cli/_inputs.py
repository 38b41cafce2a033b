"""Read logs and rows to predict, as impressions with their histories."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.cli._columns import label_of, read, require_log, with_clicks
from skmars.cli._entities import as_catalog, item_table, read_attributes, read_items, with_users
from skmars.cli._source import Source
from skmars.data import Impressions, ItemCatalog
from skmars.data._frames import Table
from skmars.data._log import DEFAULT_TIME, time_candidates
from skmars.data._user_histories import UserHistories
from skmars.persistence import Columns, Model
from skmars.persistence._tables._arrow import arrow, is_csv, kind_of
from skmars.persistence._tables._columns import ids_of, named, prepared, require
from skmars.persistence._tables._rows import as_rows, rows_of
from skmars.persistence._tables._times import is_absolute, is_pattern, looks_dated


def read_training(
    log: Source, items: Source | None, columns: Columns, users: Source | None = None
) -> tuple[Impressions, NDArray[np.int64], Columns]:
    """Read a log and its items, so that ids are integers in both or strings in both.

    Returns
    -------
    X, y : Impressions and labels, row by row of the log
    columns : Columns
        With the column that holds the times, and the kinds of times and context.
    """
    kind = None if columns.ids == "auto" else columns.ids
    ids: dict[str, str | None] = {columns.user: kind, columns.item: kind}
    events, catalog = read(log, ids, columns), None
    if items is not None:
        table = item_table(items, columns, kind)
        if kind_of(events, columns.item) != kind_of(table, columns.item):
            # An id such as 007 in one of the tables makes item ids strings in both.
            table = item_table(items, columns, "strings")
            events = read(log, ids | {columns.item: "strings"}, columns)
        catalog, attributes = as_catalog(table, items, columns)
        columns = replace(columns, attributes=attributes)
    require_log(events, log, columns)
    if (time := _time_column(events, log, columns)) != columns.time:
        columns = replace(columns, time=time)
        if is_pattern(columns.time_format) and is_csv(log):
            kinds = {name: kind_of(events, name) for name in ids}
            events = read(log, kinds, columns)  # now with the times as they are written
    events, kinds = prepared(events, log, columns)
    columns = replace(columns, absolute=is_absolute(events, columns.time), context=kinds)
    X, y = as_log(events, log, catalog, columns)
    if columns.clicks_alone and not y.all():
        raise ValueError(
            f"{log}: column {columns.label!r} has {np.count_nonzero(y == 0)} rows that are no "
            "clicks, and --negatives is for logs of clicks alone. Leave it out."
        )
    if users is not None:
        kind = "strings" if X.users.dtype == object else "integers"
        table, kinds = read_attributes(users, columns, kind)
        columns = replace(columns, user_attributes=kinds)
        X = named(users, X.with_users, table, user=columns.user)
    return X, y, columns


def read_log(
    path: Source, items: Source | None, model: Model, users: Source | None = None
) -> tuple[Impressions, NDArray[np.int64]]:
    """Read another log with the columns of the log on which a model was fitted."""
    table = read(path, ids_of(model), model.columns)
    require_log(table, path, model.columns)
    table = prepared(table, path, model.columns)[0]
    X, y = as_log(table, path, read_items(items, model), model.columns)
    return with_users(X, users, model), y


def read_histories(log: Source | None, items: Source | None, model: Model) -> UserHistories:
    """Read the histories of another log, over other items; without files, return the model's."""
    if log is None and items is None:
        return model.histories
    if log is None:
        return model.histories.with_catalog(read_items(items, model))
    # Of the rows of this log nothing is predicted, so that they need no context.
    columns = replace(model.columns, context={})
    X, _ = read_log(log, items, replace(model, columns=columns))
    return UserHistories.of(X)


def read_rows(
    model: Model,
    path: Source,
    *,
    log: Source | None,
    items: Source | None,
    users: Source | None = None,
) -> Any:
    """Read rows to predict, with their histories.

    These come from `log`, or from the column "history" of the rows, or else from the log that
    the model was fitted on. With a time column, a row's history ends before its time.

    Returns
    -------
    table : pyarrow.Table
        The rows as they are in the file.
    X : Impressions
    """
    rows = read(path, ids_of(model), model.columns)
    X = rows_of(rows, path, model, read_histories(log, items, model), log is None)
    return rows, with_users(X, users, model)


def read_labelled(
    model: Model,
    path: Source,
    *,
    log: Source,
    items: Source | None,
    users: Source | None = None,
) -> tuple[Impressions, NDArray[np.int64]]:
    """Read rows with labels, whose histories come from another log.

    Raises
    ------
    ValueError
        If a row has no time, though the model has times: its history might hold the row itself.
    """
    columns = model.columns
    table = read(path, ids_of(model), columns)
    require_log(table, path, columns)
    histories = read_histories(log, items, model)
    table = prepared(table, path, columns)[0]
    if histories.now is not None:
        require(table, path, [("--time", columns.time)])
        unknown = np.isnan(named(path, Table(table, "rows").seconds, columns.time))
        if unknown.any():
            raise ValueError(
                f"{path}: column {columns.time!r} is missing in {np.count_nonzero(unknown)} rows, "
                f"and {log} may hold what these are to predict. Fill it, or drop them."
            )
    y = np.ones(len(table), dtype=np.int64)
    if label_of(table, columns) is not None:
        labels = with_clicks(table, path, columns)[columns.label]
        if labels.null_count:
            raise ValueError(
                f"{path}: column {columns.label!r} is missing in {labels.null_count} rows. Drop "
                "them."
            )
        y = np.asarray(labels.cast(arrow().int64()))
    return with_users(as_rows(table, path, histories, columns), users, model), y


def as_log(
    table: Any, path: Source, catalog: ItemCatalog | None, columns: Columns
) -> tuple[Impressions, NDArray[np.int64]]:
    """Return impressions and labels of a log whose times and context are prepared."""
    label = label_of(table, columns)
    X, y = named(
        path,
        Impressions.from_log,
        table if label is None else with_clicks(table, path, columns),
        catalog,
        user=columns.user,
        item=columns.item,
        time=columns.time,
        order=columns.order,
        label=label,
        history=columns.history,
        context=list(columns.context),
        duplicates=columns.duplicates,
    )
    return X, np.ones(len(X), dtype=np.int64) if y is None else y


def _time_column(table: Any, path: Source, columns: Columns) -> str | None:
    """Return the column of the times by the rule of `Impressions.from_log`."""
    if columns.time is None:
        return None
    if columns.time != DEFAULT_TIME:
        require(table, path, [("--time", columns.time)])
        return columns.time
    used = {columns.user, columns.item, columns.label, columns.order, *columns.context}
    found = time_candidates(Table(table, str(path)), used)
    if len(found) > 1:
        raise ValueError(
            f"{path} has no column {DEFAULT_TIME!r}, but several that may hold the times: "
            f"{', '.join(map(repr, found))}. Name one with `skmars fit --time COLUMN`, or pass "
            "--no-time if the order of the rows is that of the events."
        )
    if found:
        return found[0]
    dates = [name for name in table.column_names if name not in used and looks_dated(table[name])]
    if dates:
        raise ValueError(
            f"{path} has no column {DEFAULT_TIME!r}, but column {dates[0]!r} looks like times. "
            "Name it with `skmars fit --time COLUMN`, or pass --no-time if the order of the rows "
            "is that of the events."
        )
    warnings.warn(
        f"{path} has no column of times, so that the order of its rows is taken for that of the "
        "events. Name the column with --time COLUMN, or say --no-time.",
        UserWarning,
        stacklevel=2,
    )
    return DEFAULT_TIME
