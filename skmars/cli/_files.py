"""Parquet and CSV files as tables, and files that are there as a whole or not at all."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import narwhals.stable.v2 as nw

from skmars.utils._files import write_whole

# What reads and writes a kind of file, the best first. pandas needs pyarrow for Parquet.
LIBRARIES = {".parquet": ("pyarrow", "polars"), ".csv": ("pyarrow", "pandas", "polars")}


def library_for(path: Path) -> Any:
    """Return the name of the library that is to read or write a file.

    Raises
    ------
    ValueError
        If the name of the file does not end in ".parquet" or ".csv".
    ImportError
        If none of the libraries is installed.
    """
    libraries = LIBRARIES.get(path.suffix.lower())
    if libraries is None:
        raise ValueError(f"{path}: the name of a table must end in .parquet or .csv.")
    for library in libraries:
        if find_spec(library):
            return library
    raise ImportError(
        f"{path}: a {path.suffix} file needs {' or '.join(libraries)}, but none of them is "
        "installed: pip install pyarrow"
    )


def read_table(path: Path) -> nw.DataFrame[Any]:
    """Read a Parquet or CSV file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it can't be read.
    """
    library = library_for(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist (looked in {Path.cwd()}).")
    read = nw.read_parquet if path.suffix.lower() == ".parquet" else nw.read_csv
    try:
        return read(str(path), backend=library)
    except Exception as error:  # each library has errors of its own
        raise ValueError(f"{path} can't be read as {path.suffix[1:]}: {error}") from error


def parse_times(table: nw.DataFrame[Any], path: Path, time: str | None) -> nw.DataFrame[Any]:
    """Make datetimes of a column of times that holds strings, as it may in CSV files.

    Raises
    ------
    ValueError
        If a string is no time.
    """
    if time not in table.columns or table[time].dtype != nw.String:
        return table
    try:
        return table.with_columns(nw.col(time).str.to_datetime())
    except Exception as error:
        raise ValueError(
            f"{path}: column {time!r} holds strings that are no times (first: "
            f"{table[time][0]!r}). Write numbers, or dates like 2026-01-31 18:30:00; `skmars fit "
            "--no-time` makes do without times."
        ) from error


def check_target(path: Path) -> None:
    """Raise OSError if a file can't be written to `path`, before work is spent on it."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} can't be written: there is no folder {path.parent}.")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{path} can't be written: folder {path.parent} is read-only.")


def write_table(table: nw.DataFrame[Any], path: Path) -> None:
    """Write a table as Parquet or CSV, by the end of the name."""
    library = library_for(path)
    if str(table.implementation) != library:
        table = nw.from_dict({c: table[c].to_list() for c in table.columns}, backend=library)
    parquet = path.suffix.lower() == ".parquet"
    write_whole(path, table.write_parquet if parquet else table.write_csv)
