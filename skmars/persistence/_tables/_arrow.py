"""Columns of Arrow tables: what they hold, and ids that are integers or strings in all tables."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

# How a missing value is written among integers and times; as a string, it may be an id.
MISSING = ["", "NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null", "None"]
# Integers that are written back as the same text.
INTEGER = r"^(0|-?[1-9][0-9]*)$"


class Origin(Protocol):
    """Where a table comes from: what messages call it, and how its name ends."""

    @property
    def suffix(self) -> str: ...


def arrow(module: str = "pyarrow") -> Any:
    """Return pyarrow, or a module of it; ImportError says how to get it."""
    if not find_spec("pyarrow"):
        raise ImportError("tables are read with pyarrow: pip install pyarrow")
    return import_module(module)


def with_ids(
    table: Any,
    path: Origin,
    ids: Mapping[str, str | None],
    *,
    written: bool,
    to_strings: bool = False,
) -> Any:
    """Return the table with ids of these kinds; see `read_table`.

    Parameters
    ----------
    table : pyarrow.Table
    path : Origin
        What to call it in messages.
    ids : mapping of str to {"integers", "strings", None}
    written : bool
        Whether ids are strings as written, which may stand for integers.
    to_strings : bool, default=False
    """
    for column, kind in ids.items():
        if column not in table.column_names:
            continue
        values = table[column]
        if written:
            values = _exact(values, kind)
        elif getattr(values.type, "extension_name", None) == "arrow.uuid":
            uuids = [None if u is None else str(u) for u in values.to_pylist()]
            values = arrow().array(uuids, arrow().string())
        elif to_strings and kind == "strings" and holds(values, "integer"):
            values = values.cast(arrow().string())
        table = replaced(table, column, values)
        if kind is not None and kind_of(table, column) not in (kind, None):
            raise ValueError(_other_kind(table, path, column, kind))
    return table


def is_csv(path: Origin) -> bool:
    """Tell whether a table is CSV, whose columns have no types."""
    return path.suffix.lower() == ".csv"


def _exact(texts: Any, kind: str | None) -> Any:
    """Convert ids that were read as strings to integers, if that changes none of them."""
    pyarrow, compute = arrow(), arrow("pyarrow.compute")
    known = without(texts, MISSING)
    whole = compute.all(compute.match_substring_regex(known, INTEGER), min_count=0)
    if kind != "strings" and whole.as_py():
        # Ids beyond int64 stay strings, unless the other tables have (unsigned) integers.
        widths = [pyarrow.int64()] if kind is None else [pyarrow.int64(), pyarrow.uint64()]
        for width in widths:
            with suppress(pyarrow.ArrowInvalid):  # beyond it
                return known.cast(width)
    return without(texts, [""])


def without(texts: Any, missing: list[str]) -> Any:
    """Return a column of strings with null in place of those that stand for a missing value."""
    pyarrow, compute = arrow(), arrow("pyarrow.compute")
    found = compute.is_in(texts, value_set=pyarrow.array(missing, texts.type))
    return compute.if_else(found, pyarrow.scalar(None, texts.type), texts)


def replaced(table: Any, column: str, values: Any) -> Any:
    """Return a table with other values in a column."""
    return table.set_column(table.column_names.index(column), column, values)


def holds(values: Any, *kinds: str) -> bool:
    """Tell whether a column is of one of these kinds, as `pyarrow.types` calls them."""
    return any(getattr(arrow().types, f"is_{kind}")(values.type) for kind in kinds)


def kind_of(table: Any, column: str) -> str | None:
    """Return the kind of the ids of a column, "integers" or "strings"; None if it is neither."""
    if column not in table.column_names:
        return None
    values = table[column]
    if holds(values, "dictionary"):
        values = values.cast(values.type.value_type)
    if holds(values, "integer", "floating"):
        return "integers"
    return "strings" if holds(values, "string", "large_string", "string_view") else None


def _other_kind(table: Any, path: Origin, column: str, kind: str) -> str:
    shown = ""
    if kind == "integers" and len(table):
        compute, texts = arrow("pyarrow.compute"), table[column].cast("string")
        row = compute.index(compute.match_substring_regex(texts, INTEGER), False).as_py()
        shown = f" (such as {texts[max(row, 0)].as_py()!r}, row {max(row, 0)})"
    return (
        f"{path}: column {column!r} holds {kind_of(table, column)}{shown}, but these ids are "
        f"{kind} in the model or the items: nothing would match. Write ids alike in all tables, "
        "or fit with --ids strings, which makes strings of all."
    )
