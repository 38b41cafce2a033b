"""Columns of logs: read them from files, and tell clicks from what was not clicked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skmars.cli._source import Source
from skmars.cli._tables import read_table
from skmars.persistence import Columns
from skmars.persistence._tables._arrow import arrow, holds, replaced
from skmars.persistence._tables._columns import require
from skmars.persistence._tables._times import is_pattern


def read(path: Source, ids: Mapping[str, str | None], columns: Columns) -> Any:
    """Read a log or rows; what `prepared` interprets stays as it is written."""
    texts = list(columns.context)
    if is_pattern(columns.time_format) and columns.time is not None:
        texts.append(columns.time)
    return read_table(path, ids, texts, to_strings=columns.ids == "strings")


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
