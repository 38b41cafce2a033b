"""Columns of logs and rows, by the names and kinds that a model has for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from skmars.cli._source import Source, Words
from skmars.cli._tables import arrow, holds, read_table, replaced
from skmars.cli._times import check_same_clock, is_pattern, with_times
from skmars.cli._typed import typed_columns
from skmars.persistence import Columns, Model


def read(path: Source, ids: Mapping[str, str | None], columns: Columns) -> Any:
    """Read a log or rows; what `prepared` interprets stays as it is written."""
    texts = list(columns.context)
    if is_pattern(columns.time_format) and columns.time is not None:
        texts.append(columns.time)
    return read_table(path, ids, texts, to_strings=columns.ids == "strings")


def prepared(
    table: Any, path: Source | Words, columns: Columns
) -> tuple[Any, dict[str, str | None]]:
    """Return the table with times and context as the model has them, and the kinds of context."""
    table = with_times(table, path, columns.time, columns.time_format)
    check_same_clock(table, path, columns.time, columns.absolute)
    return typed_columns(table, path, columns.context, "--context")


def with_history_times(table: Any, path: Source | Words, columns: Columns) -> Any:
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


def require_log(table: Any, path: Source, columns: Columns) -> None:
    label = label_of(table, columns)
    needed = [("--user", columns.user), ("--item", columns.item), ("--label", label)]
    needed += [("--context", name) for name in columns.context]
    require(table, path, [*needed, ("--order", columns.order)])


def label_of(table: Any, columns: Columns) -> str | None:
    """Return the column of labels; None where all rows of a log are clicks."""
    named = columns.label in table.column_names or columns.label != Columns.label
    return columns.label if named or not columns.clicks_alone else None


def with_clicks(table: Any, path: Source, columns: Columns) -> Any:
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
            clicks = " Of a log of clicks alone, --negatives N makes rows that are not clicked."
            raise ValueError(
                f"{path} has no column {column!r}; it has {found}. `skmars fit` and `skmars "
                f"compare` take the name of this column with {option}."
                f"{clicks * (option == '--label')}"
            )


def named(path: Source | Words, read: Any, *arguments: Any, **options: Any) -> Any:
    """Call a function; name the file in the message of a TypeError or ValueError that it raises."""
    try:
        return read(*arguments, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
