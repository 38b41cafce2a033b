"""Read and write Parquet and CSV files as Arrow tables, without changing ids."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from skmars.cli._source import Source
from skmars.persistence._tables._arrow import arrow, is_csv, with_ids
from skmars.persistence._tables._rows import PROBABILITY
from skmars.utils._files import check_readable, write_whole

ENDINGS = (".csv", ".parquet")
# The columns that predictions and recommendations add to the rows.
MADE = (PROBABILITY, "rank", "row")
SEPARATORS = ",;\t"
# Largest number of bytes of a row of a CSV file.
BLOCK = 1 << 26


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
