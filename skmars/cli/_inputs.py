"""Read tables as catalogue, log and rows to predict, with the columns of the fitted model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.cli._source import Source, Words
from skmars.cli._tables import arrow, holds, is_csv, kind_of, read_table, replaced
from skmars.cli._times import check_same_clock, is_absolute, is_pattern, with_times
from skmars.cli._typed import typed_columns
from skmars.data import Impressions, ItemCatalog
from skmars.data._attributes import take_known
from skmars.data._frames import Table
from skmars.data._log import DEFAULT_TIME, time_candidates
from skmars.persistence import Columns, Model
from skmars.serving._histories import UserHistories
from skmars.utils._ids import Lookup


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
        table = _item_table(items, columns, kind)
        if kind_of(events, columns.item) != kind_of(table, columns.item):
            # An id such as 007 in one of the tables makes item ids strings in both.
            table = _item_table(items, columns, "strings")
            events = read(log, ids | {columns.item: "strings"}, columns)
        catalog, attributes = as_catalog(table, items, columns)
        columns = replace(columns, attributes=attributes)
    _require_log(events, log, columns)
    if (time := _time_column(events, log, columns)) != columns.time:
        columns = replace(columns, time=time)
        if is_pattern(columns.time_format) and is_csv(log):
            kinds = {name: kind_of(events, name) for name in ids}
            events = read(log, kinds, columns)  # now with the times as they are written
    events, kinds = _prepared(events, log, columns)
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
        X = _named(users, X.with_users, table, user=columns.user)
    return X, y, columns


def read_attributes(
    path: Source, columns: Columns, kind: str | None
) -> tuple[Any, dict[str, str | None]]:
    """Read the attributes of users, and return their kinds.

    These are the columns that `columns.user_attributes` names, or else all but that of the ids.
    """
    user = columns.user
    table = read_table(path, {user: kind}, None, to_strings=columns.ids == "strings")
    wanted = columns.user_attributes
    named = [("--user", user), *(("--user-attributes", name) for name in wanted)]
    require(table, path, named)
    if not wanted:
        wanted = dict.fromkeys(name for name in table.column_names if name != user)
    table, kinds = typed_columns(table, path, wanted, "--user-attributes", columns.list_separator)
    return table.select([user, *wanted]), kinds


def with_users(X: Impressions, users: Source | None, model: Model) -> Impressions:
    """Return the impressions with the attributes of users: of a table, or those that fit knew."""
    columns, known = model.columns, model.histories
    if users is not None:
        if not columns.user_attributes:
            raise ValueError(
                f"the model was fitted without attributes of users, so that {users} is of no use. "
                "Fit with --users, or leave it out."
            )
        table, _ = read_attributes(users, columns, ids_of(model)[columns.user])
        return _named(users, X.with_users, table, user=columns.user)
    if not columns.user_attributes:
        return X
    row = Lookup(known.users, "the log of the model")(X.users, f"column {columns.user!r}")
    return X._with_users({k: take_known(v, row) for k, v in known.user_attributes.items()})


def read_log(
    path: Source, items: Source | None, model: Model, users: Source | None = None
) -> tuple[Impressions, NDArray[np.int64]]:
    """Read another log with the columns of the log on which a model was fitted."""
    table = read(path, ids_of(model), model.columns)
    _require_log(table, path, model.columns)
    table = _prepared(table, path, model.columns)[0]
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


def read_items(path: Source | None, model: Model) -> ItemCatalog:
    """Read other items for a model; without a file, return its own."""
    if path is None:
        return model.histories.catalog
    table = _item_table(path, model.columns, ids_of(model)[model.columns.item])
    return as_catalog(table, path, model.columns)[0]


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
    columns = model.columns
    rows = read(path, ids_of(model), columns)
    named = [("--user", columns.user), ("--item", columns.item)]
    require(rows, path, [*named, *(("--context", name) for name in columns.context)])
    if len(rows) == 0:
        raise ValueError(f"{path} has no rows. Write one row for each user and item to predict.")
    X = with_histories(rows, path, model, read_histories(log, items, model), log is None)
    return rows, with_users(X, users, model)


def with_histories(
    rows: Any, path: Source | Words, model: Model, histories: UserHistories, from_rows: bool
) -> Impressions:
    """Return impressions of rows, with their own histories if they may and do have them."""
    columns = model.columns
    table = _prepared(rows, path, columns)[0]
    if "history" not in table.column_names or not from_rows:
        return as_rows(table, path, histories, columns)
    if is_csv(path):
        raise ValueError(
            f"{path}: column 'history' must hold lists, which CSV files can't. Write "
            "the rows as Parquet, or drop the column."
        )
    table = _with_history_times(table, path, columns)
    names = {columns.user: "user_id", columns.item: "item_id", columns.time: DEFAULT_TIME}
    used = [*names, "history", "history_feedback", "history_timestamp", *columns.context]
    table = table.select([name for name in used if name in table.column_names])
    table = table.rename_columns([names.get(name, name) for name in table.column_names])
    return _named(path, Impressions.from_frame, table, histories.catalog)


def as_rows(
    table: Any, path: Source | Words, histories: UserHistories, columns: Columns
) -> Impressions:
    """Return impressions of rows whose histories are not in the table itself."""
    frame = Table(table, "rows")
    known = columns.time is not None and columns.time in frame.columns
    seconds = _named(path, frame.seconds, columns.time) if known else None
    user, item = (_named(path, frame.ids, name) for name in (columns.user, columns.item))
    X = _named(path, histories.impressions, user, item, seconds)
    if not columns.context:
        return X
    context = {name: _named(path, frame.context, name) for name in columns.context}
    return replace(X, context=context)


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
    _require_log(table, path, columns)
    histories = read_histories(log, items, model)
    table = _prepared(table, path, columns)[0]
    if histories.now is not None:
        require(table, path, [("--time", columns.time)])
        unknown = np.isnan(_named(path, Table(table, "rows").seconds, columns.time))
        if unknown.any():
            raise ValueError(
                f"{path}: column {columns.time!r} is missing in {np.count_nonzero(unknown)} rows, "
                f"and {log} may hold what these are to predict. Fill it, or drop them."
            )
    y = np.ones(len(table), dtype=np.int64)
    if _label(table, columns) is not None:
        labels = _with_clicks(table, path, columns)[columns.label]
        if labels.null_count:
            raise ValueError(
                f"{path}: column {columns.label!r} is missing in {labels.null_count} rows. Drop "
                "them."
            )
        y = np.asarray(labels.cast(arrow().int64()))
    return with_users(as_rows(table, path, histories, columns), users, model), y


def as_catalog(
    table: Any, path: Source, columns: Columns
) -> tuple[ItemCatalog, dict[str, str | None]]:
    """Make a catalogue of a table, and return the kinds of its attributes.

    Paths of images are relative to the folder of its file.
    """
    table, kinds = typed_columns(
        table, path, columns.attributes, "--attributes", columns.list_separator
    )
    catalog = _named(
        path,
        ItemCatalog.from_frame,
        table,
        item=columns.item,
        title=columns.title,
        text=columns.text,
        image=columns.image,
        attributes=list(columns.attributes),
    )
    if "image" not in catalog.content:
        return catalog, kinds
    folder = path.parent.resolve()
    images = [str(folder / v) if isinstance(v, str) and v else v for v in catalog.content["image"]]
    content = {**catalog.content, "image": images}
    return ItemCatalog(catalog.ids, content=content, attributes=catalog.attributes), kinds


def as_log(
    table: Any, path: Source, catalog: ItemCatalog | None, columns: Columns
) -> tuple[Impressions, NDArray[np.int64]]:
    """Return impressions and labels of a log whose times and context are prepared."""
    label = _label(table, columns)
    X, y = _named(
        path,
        Impressions.from_log,
        table if label is None else _with_clicks(table, path, columns),
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


def _label(table: Any, columns: Columns) -> str | None:
    """Return the column of labels; None where all rows of a log are clicks."""
    lacking = columns.label not in table.column_names
    return None if columns.clicks_alone and lacking else columns.label


def read(path: Source, ids: Mapping[str, str | None], columns: Columns) -> Any:
    """Read a log or rows; what `_prepared` interprets stays as it is written."""
    texts = list(columns.context)
    if is_pattern(columns.time_format) and columns.time is not None:
        texts.append(columns.time)
    return read_table(path, ids, texts, to_strings=columns.ids == "strings")


def _prepared(
    table: Any, path: Source | Words, columns: Columns
) -> tuple[Any, dict[str, str | None]]:
    """Return the table with times and context as the model has them, and the kinds of context."""
    table = with_times(table, path, columns.time, columns.time_format)
    check_same_clock(table, path, columns.time, columns.absolute)
    return typed_columns(table, path, columns.context, "--context")


def _with_history_times(table: Any, path: Source | Words, columns: Columns) -> Any:
    """Return the table with times of histories as those of rows are."""
    name = "history_timestamp"
    if name not in table.column_names or not holds(table[name], "list", "large_list"):
        return table
    compute, lists = arrow("pyarrow.compute"), table[name]
    flat = arrow().table({name: compute.list_flatten(lists)})
    flat = with_times(flat, path, name, columns.time_format)
    check_same_clock(flat, path, name, columns.absolute)
    length = np.asarray(compute.fill_null(compute.list_value_length(lists), 0))
    ends = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    values = flat[name].combine_chunks()
    return replaced(table, name, arrow().LargeListArray.from_arrays(ends, values))


def _with_clicks(table: Any, path: Source, columns: Columns) -> Any:
    """Return the table with a column of booleans as labels."""
    pyarrow, compute, least = arrow(), arrow("pyarrow.compute"), columns.click_from
    values, found = table[columns.label], f"values of type {table[columns.label].type}"
    fine = holds(values, "integer", "floating", "boolean")
    if fine:
        values = values.cast(pyarrow.float64(), safe=False)
        values = compute.if_else(compute.is_nan(values), None, values)
        distinct = sorted(compute.unique(values.drop_null()).to_pylist())
        found = f"{len(distinct)} values ({', '.join(f'{value:g}' for value in distinct[:5])})"
        fine = least is not None or set(distinct) <= {0, 1}
    if not fine:
        what = "0 and 1, or booleans" if least is None else "numbers"
        raise ValueError(
            f"{path}: column {columns.label!r} must hold {what}, got {found}. Give the least "
            "number that is a click, for example --click-from 4, or name another column with "
            "--label."
        )
    clicked = compute.greater_equal(values, 1.0 if least is None else least)
    return replaced(table, columns.label, clicked)


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
    return found[0] if found else DEFAULT_TIME


def _require_log(table: Any, path: Source, columns: Columns) -> None:
    label = _label(table, columns)
    named = [("--user", columns.user), ("--item", columns.item), ("--label", label)]
    named += [("--context", name) for name in columns.context]
    require(table, path, [*named, ("--order", columns.order)])


def _item_table(path: Source, columns: Columns, kind: str | None) -> Any:
    names = {name: getattr(columns, name) for name in ("title", "text", "image")}
    texts = [*(column or name for name, column in names.items()), *columns.attributes]
    table = read_table(path, {columns.item: kind}, texts, to_strings=columns.ids == "strings")
    options = [(f"--{name}", column) for name, column in names.items()]
    options += [("--attributes", column) for column in columns.attributes]
    require(table, path, [("--item", columns.item), *options])
    return table


def ids_of(model: Model) -> dict[str, str | None]:
    """Return the columns of ids, and whether those of the model are integers or strings."""
    known = {model.columns.user: model.histories.users}
    known[model.columns.item] = model.histories.catalog.ids
    return {k: "strings" if ids.dtype == object else "integers" for k, ids in known.items()}


def require(table: Any, path: Source, columns: Iterable[tuple[str, str | None]]) -> None:
    """Raise ValueError if a column is missing; the message has the option that names it."""
    for option, column in columns:
        if column is not None and column not in table.column_names:
            found = ", ".join(map(repr, table.column_names))
            raise ValueError(
                f"{path} has no column {column!r}; it has {found}. `skmars fit` takes the name of "
                f"this column with {option}."
            )


def _named(path: Source | Words, read: Any, *arguments: Any, **options: Any) -> Any:
    """Call a function; name the file in the message of a TypeError or ValueError that it raises."""
    try:
        return read(*arguments, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
