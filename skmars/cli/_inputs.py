"""Read tables as catalogue, log and rows to predict, with the columns of the fitted model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.cli._tables import MISSING, arrow, holds, kind_of, read_table, replaced, without
from skmars.data import Impressions, ItemCatalog
from skmars.data._frames import Table
from skmars.data._log import DEFAULT_TIME, time_candidates
from skmars.persistence import Columns, Model
from skmars.serving._histories import UserHistories


def read_training(
    log: Path, items: Path | None, columns: Columns
) -> tuple[Impressions, NDArray[np.int64], str | None]:
    """Read a log and its items, so that ids are integers in both or strings in both.

    Returns
    -------
    X, y : Impressions and labels, row by row of the log
    time : str or None
        The column that holds the times.
    """
    ids: dict[str, str | None] = {columns.user: None, columns.item: None}
    if items is None:
        return as_log(read_table(log, ids), log, None, columns)
    table = _item_table(items, columns, None)
    events = read_table(log, ids)
    if kind_of(events, columns.item) != kind_of(table, columns.item):
        # An id such as 007 in one of the tables makes item ids strings in both.
        table = _item_table(items, columns, "strings")
        events = read_table(log, ids | {columns.item: "strings"})
    return as_log(events, log, as_catalog(table, items, columns), columns)


def read_log(path: Path, items: Path | None, model: Model) -> tuple[Impressions, NDArray[np.int64]]:
    """Read another log with the columns of the log on which a model was fitted."""
    table = read_table(path, _ids(model))
    X, y, _ = as_log(table, path, read_items(items, model), model.columns)
    return X, y


def read_items(path: Path | None, model: Model) -> ItemCatalog:
    """Read other items for a model; without a file, return its own."""
    if path is None:
        return model.histories.catalog
    table = _item_table(path, model.columns, _ids(model)[model.columns.item])
    return as_catalog(table, path, model.columns)


def read_rows(model: Model, path: Path, *, log: Path | None, items: Path | None) -> Any:
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
    time = columns.time
    rows = read_table(path, _ids(model))
    _require(rows, path, {"--user": columns.user, "--item": columns.item})
    if len(rows) == 0:
        raise ValueError(f"{path} has no rows. Write one row for each user and item to predict.")
    table = with_times(rows, path, time)
    if "history" in table.column_names and log is None:
        if path.suffix.lower() == ".csv":
            raise ValueError(
                f"{path}: column 'history' must hold lists, which CSV files can't. Write "
                "the rows as Parquet, or drop the column."
            )
        names = {columns.user: "user_id", columns.item: "item_id", time: DEFAULT_TIME}
        used = [*names, "history", "history_feedback", "history_timestamp"]
        table = table.select([name for name in used if name in table.column_names])
        table = table.rename_columns([names.get(name, name) for name in table.column_names])
        return rows, _named(path, Impressions.from_frame, table, read_items(items, model))
    if log is not None:
        histories = UserHistories.of(read_log(log, items, model)[0])
    elif items is not None:
        histories = model.histories.with_catalog(read_items(items, model))
    else:
        histories = model.histories
    frame = Table(table, "rows")
    known = time is not None and time in frame.columns
    seconds = _named(path, frame.seconds, time) if known else None
    user, item = (_named(path, frame.ids, name) for name in (columns.user, columns.item))
    return rows, _named(path, histories.impressions, user, item, seconds)


def as_catalog(table: Any, path: Path, columns: Columns) -> ItemCatalog:
    """Make a catalogue of a table; paths of images are relative to the folder of its file."""
    catalog = _named(
        path,
        ItemCatalog.from_frame,
        table,
        item=columns.item,
        title=columns.title,
        text=columns.text,
        image=columns.image,
    )
    if "image" not in catalog.content:
        return catalog
    folder = path.resolve().parent
    images = [str(folder / v) if isinstance(v, str) and v else v for v in catalog.content["image"]]
    content = {**catalog.content, "image": images}
    return ItemCatalog(catalog.ids, content=content, attributes=catalog.attributes)


def as_log(
    table: Any, path: Path, catalog: ItemCatalog | None, columns: Columns
) -> tuple[Impressions, NDArray[np.int64], str | None]:
    """Return impressions and labels of a log, row by row, and the name of its column of times."""
    label = columns.label
    named = {"--user": columns.user, "--item": columns.item, "--label": label}
    _require(table, path, {**named, "--order": columns.order})
    time = _time_column(table, path, columns)
    table = _with_clicks(with_times(table, path, time), path, columns)
    X, y = _named(
        path,
        Impressions.from_log,
        table,
        catalog,
        user=columns.user,
        item=columns.item,
        time=time,
        order=columns.order,
        label=label,
        history=columns.history,
        duplicates=columns.duplicates,
    )
    return X, y, time


def _with_clicks(table: Any, path: Path, columns: Columns) -> Any:
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


def with_times(table: Any, path: Path, time: str | None) -> Any:
    """Return the table with a column of times that holds numbers or datetimes.

    Raises
    ------
    ValueError
        If it holds something else, such as strings that are no dates in ISO 8601.
    """
    if time is None or time not in table.column_names:
        return table
    pyarrow, values = arrow(), table[time]
    if holds(values, "integer", "floating", "date", "timestamp"):
        return table
    found, read = values.type, []
    if holds(values, "null"):
        read = [pyarrow.float64()]
    elif holds(values, "string", "large_string"):
        values = without(values, MISSING)
        read = [pyarrow.timestamp("us"), pyarrow.timestamp("us", "UTC")]
    for target in read:
        try:
            return replaced(table, time, values.cast(target))
        except pyarrow.ArrowInvalid as error:
            found = f"strings: {error}"
    raise ValueError(
        f"{path}: column {time!r} must hold times, got {found}. Write numbers of seconds, or dates "
        "like 2026-01-31 18:30:00, all of them with a zone or none; `skmars fit --no-time` makes "
        "do without times."
    )


def _time_column(table: Any, path: Path, columns: Columns) -> str | None:
    """Return the column of the times by the rule of `Impressions.from_log`."""
    if columns.time != DEFAULT_TIME:
        _require(table, path, {"--time": columns.time})
        return columns.time
    used = {columns.user, columns.item, columns.label, columns.order}
    found = time_candidates(Table(table, str(path)), used)
    if len(found) > 1:
        raise ValueError(
            f"{path} has no column {DEFAULT_TIME!r}, but several that may hold the times: "
            f"{', '.join(map(repr, found))}. Name one with `skmars fit --time COLUMN`, or pass "
            "--no-time if the order of the rows is that of the events."
        )
    return found[0] if found else DEFAULT_TIME


def _item_table(path: Path, columns: Columns, kind: str | None) -> Any:
    names = {name: getattr(columns, name) for name in ("title", "text", "image")}
    texts = [column or name for name, column in names.items()]
    table = read_table(path, {columns.item: kind}, texts)
    options = {f"--{name}": column for name, column in names.items()}
    _require(table, path, {"--item": columns.item, **options})
    return table


def _ids(model: Model) -> dict[str, str | None]:
    """Return the columns of ids, and whether those of the model are integers or strings."""
    known = {model.columns.user: model.histories.users}
    known[model.columns.item] = model.histories.catalog.ids
    return {k: "strings" if ids.dtype == object else "integers" for k, ids in known.items()}


def _require(table: Any, path: Path, columns: Mapping[str, str | None]) -> None:
    """Raise ValueError if a column is missing; the message has the option that names it."""
    for option, column in columns.items():
        if column is not None and column not in table.column_names:
            found = ", ".join(map(repr, table.column_names))
            raise ValueError(
                f"{path} has no column {column!r}; it has {found}. `skmars fit` takes the name of "
                f"this column with {option}."
            )


def _named(path: Path, read: Any, *arguments: Any, **options: Any) -> Any:
    """Call a function; name the file in the message of a TypeError or ValueError that it raises."""
    try:
        return read(*arguments, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
