"""The columns of a model in further tables: times, context and ids as they were in its log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from skmars.persistence._model import Columns, Model
from skmars.persistence._tables._arrow import Origin, arrow, holds, replaced
from skmars.persistence._tables._times import check_same_clock, with_times
from skmars.persistence._tables._typed import typed_columns


def prepared(table: Any, path: Origin, columns: Columns) -> tuple[Any, dict[str, str | None]]:
    """Return the table with times and context as the model has them, and the kinds of context."""
    table = with_times(table, path, columns.time, columns.time_format)
    check_same_clock(table, path, columns.time, columns.absolute)
    return typed_columns(table, path, columns.context, "--context")


def with_history_times(table: Any, path: Origin, columns: Columns) -> Any:
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


def ids_of(model: Model) -> dict[str, str | None]:
    """Return the columns of ids, and whether those of the model are integers or strings."""
    known = {model.columns.user: model.histories.users}
    known[model.columns.item] = model.histories.catalog.ids
    return {k: "strings" if ids.dtype == object else "integers" for k, ids in known.items()}


def require(table: Any, path: Origin, columns: Iterable[tuple[str, str | None]]) -> None:
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


def named(path: Origin, read: Any, *arguments: Any, **options: Any) -> Any:
    """Call a function; name the file in the message of a TypeError or ValueError that it raises."""
    try:
        return read(*arguments, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
