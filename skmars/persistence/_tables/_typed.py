"""Columns of numbers, categories or lists: of one kind in all tables of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skmars.persistence._tables._arrow import (
    MISSING,
    Origin,
    arrow,
    holds,
    is_csv,
    replaced,
    without,
)

# Numbers that are no codes: 007 and +7 are texts.
NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$"
TRUTH = ["true", "false", "True", "False", "TRUE", "FALSE"]
KINDS = {
    "numbers": ("integer", "floating", "decimal"),
    "booleans": ("boolean",),
    "strings": ("string", "large_string", "string_view", "dictionary"),
    "lists": ("list", "large_list", "list_view", "fixed_size_list"),
}
Kinds = Mapping[str, str | None]


def typed_columns(
    table: Any, path: Origin, kinds: Kinds, option: str, separator: str | None = None
) -> tuple[Any, dict[str, str | None]]:
    """Return the table with columns of these kinds, and the kinds found.

    Parameters
    ----------
    table : pyarrow.Table
        These columns hold strings as written, if it comes from a CSV file.
    path : Origin
    kinds : mapping of str to {"numbers", "booleans", "strings", "lists", None}
        The columns, and their kind in the model. Where that is None, a column of a CSV file holds
        numbers if all its values are numbers (no 007), booleans if all are true or false.
    option : str
        The option that names the columns, for messages.
    separator : str, default=None
        What separates the strings of a list; a column in which it occurs holds lists.

    Raises
    ------
    ValueError
        If a column holds something else.
    """
    found: dict[str, str | None] = {}
    for column, kind in kinds.items():
        values = table[column]
        if separator is not None and holds(values, "string", "large_string"):
            values = _split(values, kind, separator)
        if is_csv(path) and not holds(values, *KINDS["lists"]):
            values = _typed(values, kind)
        here = found[column] = _kind_of(values)
        name = f"{path}: column {column!r}, named by `skmars fit {option}`,"
        if here is None and not holds(values, "null"):
            raise ValueError(
                f"{name} holds {values.type}, but must hold numbers, booleans or strings. Convert "
                "it, for example a time to its hour, or leave it out."
            )
        if None not in (kind, here) and kind != here:
            raise ValueError(
                f"{name} holds {here}, such as {_odd(values, kind)}, but it held {kind} when the "
                "model was fitted. Write it alike in all tables."
            )
        if here is None:  # no value at all
            values = values.cast(arrow().float64() if kind == "numbers" else arrow().string())
        elif here == "booleans":  # categories, of which some may be missing
            values = arrow("pyarrow.compute").if_else(values, "True", "False")
        table = replaced(table, column, values)
    return table, found


def _split(texts: Any, kind: str | None, separator: str) -> Any:
    """Return texts as lists if the separator occurs, or the model has lists."""
    compute = arrow("pyarrow.compute")
    occurs = compute.any(compute.match_substring(texts, separator)).as_py()
    if kind == "lists" or (kind is None and occurs):
        return compute.split_pattern(texts, separator)
    return texts


def _kind_of(values: Any) -> str | None:
    """Return the kind of a context column; None if it can be none."""
    return next((kind for kind, types in KINDS.items() if holds(values, *types)), None)


def _typed(texts: Any, kind: str | None) -> Any:
    """Return texts of a CSV file as numbers, booleans or strings; as datetimes if they are."""
    pyarrow, compute = arrow(), arrow("pyarrow.compute")
    if kind == "strings":
        return texts
    known = without(texts, MISSING)
    if known.null_count == len(known):
        return known if kind is None else known.cast(pyarrow.null())
    if compute.all(compute.match_substring_regex(known, NUMBER)).as_py():
        return known.cast(pyarrow.float64())
    if compute.all(compute.is_in(known.drop_null(), value_set=pyarrow.array(TRUTH))).as_py():
        return compute.utf8_lower(known).cast(pyarrow.bool_())
    try:
        return known.cast(pyarrow.timestamp("us"))
    except pyarrow.ArrowInvalid:
        return texts


def _odd(values: Any, kind: str | None) -> str:
    """Return a value that is not of this kind, and its row."""
    row = 0
    if holds(values, *KINDS["lists"]):
        return f"{values[row].as_py()!r} in row {row}"
    compute, texts = arrow("pyarrow.compute"), values.cast(arrow().string())
    if kind == "numbers":
        texts = without(texts, MISSING)
        row = max(compute.index(compute.match_substring_regex(texts, NUMBER), False).as_py(), 0)
    return f"{texts[row].as_py()!r} in row {row}"
