"""Read and write Parquet and CSV files as Arrow tables, without changing ids."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from skmars.cli._source import Source, Words
from skmars.utils._files import check_readable, write_whole

ENDINGS = (".csv", ".parquet")
# The columns that predictions add to the rows.
PROBABILITY = "probability"
MADE = (PROBABILITY, "rank", "row")
SEPARATORS = ",;\t"
# How a missing value is written among integers and times; as a string, it may be an id.
MISSING = ["", "NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null", "None"]
# Integers that are written back as the same text.
INTEGER = r"^(0|-?[1-9][0-9]*)$"
# Largest number of bytes of a row of a CSV file.
BLOCK = 1 << 26


def arrow(module: str = "pyarrow") -> Any:
    """Return pyarrow, or a module of it; ImportError says how to get it."""
    if not find_spec("pyarrow"):
        raise ImportError("the command needs pyarrow to read tables: pip install pyarrow")
    return import_module(module)


def read_table(
    path: Source,
    ids: Mapping[str, str | None],
    texts: Iterable[str] | None = (),
    *,
    to_strings: bool = False,
) -> Any:
    """Read a Parquet or CSV file.

    Parameters
    ----------
    path : Path or StandardInput
    ids : mapping of str to {"integers", "strings", None}
        Columns of ids, and the kind of these ids in other tables. A column of a CSV file becomes
        integers if that changes no id and they are not strings in other tables; otherwise it
        holds strings as written.
    texts : iterable of str or None, default=()
        Columns of a CSV file that hold strings as written; None for all.
    to_strings : bool, default=False
        Whether integers of a Parquet file become the strings that a CSV file would hold, where
        ids are strings in other tables.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If it can't be read, has two columns of one name, or ids of another kind.
    """
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"{path}: the name of a table must end in .parquet or .csv.")
    if isinstance(path, Path):
        check_readable(path)
    arrow()
    csv_file = is_csv(path)
    try:
        if csv_file:
            table = _read_csv(path, None if texts is None else [*ids, *texts])
        else:
            with path.open("rb") as file:
                table = arrow("pyarrow.parquet").read_table(file, use_threads=False)
    except Exception as error:  # an error of whichever layer of Arrow
        rule = " (UTF-8 text with a header line)" if csv_file else ""
        raise ValueError(
            f"{path} can't be read as {path.suffix[1:]}{rule}: {error}. Write the file again."
        ) from error
    repeated = [name for name, n in Counter(table.column_names).items() if n > 1]
    if repeated:
        raise ValueError(f"{path} has several columns {repeated[0]!r}. Rename or drop them.")
    return with_ids(table, path, ids, written=csv_file, to_strings=to_strings)


def with_ids(
    table: Any,
    path: Source | Words,
    ids: Mapping[str, str | None],
    *,
    written: bool,
    to_strings: bool = False,
) -> Any:
    """Return the table with ids of these kinds; see `read_table`.

    Parameters
    ----------
    table : pyarrow.Table
    path : Path or StandardInput or Words
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


def is_csv(path: Source | Words) -> bool:
    """Tell whether a table is CSV, whose columns have no types."""
    return path.suffix.lower() == ".csv"


def _read_csv(path: Source, texts: Iterable[str] | None) -> Any:
    pyarrow, reader = arrow(), arrow("pyarrow.csv")
    with path.open("rb") as file:
        header = file.readline(BLOCK).decode("utf-8-sig", "replace")
    separator = next((s for s in SEPARATORS if s in header), SEPARATORS[0])
    if texts is None:
        texts = next(csv.reader([header], delimiter=separator), ())
    with path.open("rb") as file:
        table = reader.read_csv(
            file,
            # Threads of Arrow that read ahead can abort Python when it ends after an error.
            read_options=reader.ReadOptions(block_size=BLOCK, use_threads=False),
            parse_options=reader.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=reader.ConvertOptions(
                column_types={text: pyarrow.string() for text in texts}
            ),
        )
    _check_quotes(table, path, separator)
    return table


def _check_quotes(table: Any, path: Source, separator: str) -> None:
    """Raise csv.Error if a quote is never closed, which makes one value of several lines."""
    pyarrow, compute = arrow(), arrow("pyarrow.compute")
    strings = [c for c in table.columns if c.type in (pyarrow.string(), pyarrow.binary())]
    if any(compute.any(compute.match_substring(c, "\n")).as_py() for c in strings):
        csv.field_size_limit(BLOCK)
        with path.open("rb") as file:
            lines = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
            for _ in csv.reader(lines, delimiter=separator, strict=True):
                pass


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


def _other_kind(table: Any, path: Source | Words, column: str, kind: str) -> str:
    shown = ""
    if kind == "integers":
        compute, texts = arrow("pyarrow.compute"), table[column].cast("string")
        row = compute.index(compute.match_substring_regex(texts, INTEGER), False).as_py()
        shown = f" (such as {texts[max(row, 0)].as_py()!r}, row {max(row, 0)})"
    return (
        f"{path}: column {column!r} holds {kind_of(table, column)}{shown}, but these ids are "
        f"{kind} in the model or the items: nothing would match. Write ids alike in all tables, "
        "or fit with --ids strings, which makes strings of all."
    )


def csv_of(table: Any) -> str:
    """Return a table as the text of a CSV file."""
    sink = arrow().BufferOutputStream()
    arrow("pyarrow.csv").write_csv(table, sink)
    return str(sink.getvalue().to_pybytes(), "utf-8")


def write_table(table: Any, path: Path) -> None:
    """Write a table as Parquet or CSV, by the suffix of the path."""
    text = is_csv(path)
    module = arrow("pyarrow.csv" if text else "pyarrow.parquet")
    write_whole(path, partial(module.write_csv if text else module.write_table, table))
