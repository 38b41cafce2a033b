"""Read Parquet files batch by batch, as tables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from skmars.data._frames import Table
from skmars.utils._files import check_readable

# Rows that are read at a time.
BATCH = 1 << 18


class ParquetFiles:
    """The rows of one or more Parquet files, one file after the other, as if they were one table.

    Parameters
    ----------
    files : str or Path, or list of these
        A folder stands for the files in it whose names end in ``.parquet``, in the order of their
        names.
    name : str
        What to call the table in messages.
    advice : str
        What to do where a column is missing.

    Attributes
    ----------
    head : Table
        All columns, without rows.
    n_rows : int

    Raises
    ------
    OSError
        If there is no such file, or it can't be read.
    ValueError
        If a file is no Parquet file or cut short, or they differ in their columns.
    ImportError
        If pyarrow is not installed.
    """

    def __init__(self, files: Any, name: str, advice: str) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise ImportError("Parquet files need pyarrow: pip install pyarrow") from error
        self._arrow: Any = pyarrow
        self.paths = _paths(files)
        self._advice = advice
        self.schema: Any = None
        self.n_rows = 0
        for path in self.paths:
            with self._open(path) as file:
                self.n_rows += file.metadata.num_rows
                schema = file.schema_arrow
            if self.schema is None:
                self.schema = schema
        self.head = Table(self.schema.empty_table(), name, advice)

    def check_same_types(self, columns: Iterable[str]) -> None:
        """Raise ValueError unless all files have these columns, with the types of the first one."""
        for path in self.paths[1:]:
            with self._open(path) as file:
                schema = file.schema_arrow
            for column in columns:
                Table(schema.empty_table(), str(path), self._advice).series(column)
                here, first = schema.field(column).type, self.schema.field(column).type
                if here != first:
                    raise ValueError(
                        f"column {column!r} holds {here} in {path}, but {first} in "
                        f"{self.paths[0]}. Write all files with one type."
                    )

    def batches(self, columns: Iterable[str]) -> Iterator[Table]:
        """Return the rows, some at a time, with these columns alone.

        Messages about such a table name its file and its first row.
        """
        columns = list(dict.fromkeys(columns))
        for path in self.paths:
            n_before = 0
            with self._open(path) as file:
                batches = file.iter_batches(BATCH, columns=columns)
                while True:
                    try:
                        batch = next(batches, None)
                    except (self._arrow.ArrowException, OSError) as error:
                        raise _damaged(path, error) from error
                    if batch is None:
                        break
                    if len(batch):
                        table = self._arrow.Table.from_batches([batch])
                        name = f"{path} (rows from {n_before} on)" if n_before else str(path)
                        yield Table(table, name, self._advice)
                        n_before += len(batch)

    def _open(self, path: Path) -> Any:
        try:
            # Read through a small buffer, as row groups may be of any size.
            return self._arrow.parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
        except (self._arrow.ArrowException, OSError) as error:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} is no Parquet file, or is damaged or cut short ({str(error).rstrip('.')}). Write "
        "it again."
    )


def _paths(files: Any) -> list[Path]:
    several = not isinstance(files, str | os.PathLike)
    if several and (isinstance(files, bytes) or not isinstance(files, Iterable)):
        raise TypeError(f"files must be a path or a list of paths, got {files!r}.")
    paths: list[Path] = []
    for each in files if several else [files]:
        if not isinstance(each, str | os.PathLike):
            raise TypeError(
                f"files must be a path or a list of paths, got {type(each).__name__}. A table in "
                "memory is read by Impressions.from_log."
            )
        path = Path(each)
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix == ".parquet" and p.is_file())
            if not found:
                raise FileNotFoundError(f"{path} is a folder without any file *.parquet.")
            paths += found
        else:
            check_readable(path, "Name a Parquet file, or a folder of such.")
            paths.append(path)
    if not paths:
        raise ValueError("files is an empty list. Name a Parquet file at least.")
    return paths
