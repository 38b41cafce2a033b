"""Read a log of many files batch by batch, with the columns of the log of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from skmars.cli._columns import label_of, read, require_log, with_clicks
from skmars.cli._tables import ENDINGS
from skmars.data._frames import Table
from skmars.persistence import Model
from skmars.persistence._tables._arrow import arrow, is_csv, with_ids
from skmars.persistence._tables._columns import ids_of, named, prepared, require
from skmars.serving import Events, LogFile
from skmars.utils._files import check_readable
from skmars.utils._values import check_same_unit

# Rows that are read, and appended to a store, at a time.
BATCH = 50_000
# A column of this name tells events apart; a row that repeats an id is the same event.
EVENT_ID = "event_id"


class LogFiles:
    """The files of a log: a Parquet or CSV file, or all of those in a folder.

    Those of a folder come in the order of their names, with the folders that they are in. Names
    that begin with a dot or an underscore are left out: write a file under such a name, and rename
    it when it is complete.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError, ValueError
        If there is no such file, or it is no table.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            check_readable(path)
            _check_ending(path)
        self._path = path
        self._known: dict[Path, tuple[tuple[int, int], LogFile]] = {}

    def __call__(self, model: Model) -> list[LogFile]:
        """Return the files that there are now; the model knows the meaning of their columns."""
        return [self._file(path, model) for path in self._paths()]

    def _paths(self) -> list[Path]:
        if not self._path.is_dir():
            return [self._path]
        inside = (path.relative_to(self._path) for path in self._path.rglob("*"))
        shown = [p for p in inside if not any(part[0] in "._" for part in p.parts)]
        files = [self._path / p for p in shown if p.suffix.lower() in ENDINGS]
        return sorted(path for path in files if path.is_file())

    def _file(self, path: Path, model: Model) -> LogFile:
        """Return a file; what was known of it is kept as long as it does not change."""
        status = path.stat()
        state = status.st_size, status.st_mtime_ns
        if path not in self._known or self._known[path][0] != state:
            name = path.relative_to(self._path).as_posix() if path != self._path else path.name
            kind = CSVFile if is_csv(path) else ParquetFile
            self._known[path] = state, kind(path, name, status.st_size, model)
        return self._known[path][1]


@dataclass(frozen=True)
class Part:
    """Some rows of a file, as messages name them."""

    path: Path
    begin: int
    end: int

    @property
    def suffix(self) -> str:
        return self.path.suffix

    def __str__(self) -> str:
        return f"{self.path} (rows {self.begin} to {self.end}, counted from there)"


@dataclass(frozen=True)
class ParquetFile:
    """A Parquet file of a log."""

    path: Path
    name: str
    size: int
    model: Model

    @cached_property
    def _metadata(self) -> Any:
        with self._opened() as file:
            return file.metadata

    @property
    def n_rows(self) -> int:
        return int(self._metadata.num_rows)

    def mark(self, rows: int, size: int) -> str:
        """Return a digest of what the footer tells of the row groups with the first rows."""
        digest, begin = blake2b(digest_size=16), 0
        for i in range(self._metadata.num_row_groups):
            if begin >= rows:
                break
            group = self._metadata.row_group(i)
            begin += group.num_rows
            for j in range(group.num_columns):
                column = group.column(j)
                told = column.statistics
                bounds = (told.min_raw, told.max_raw) if told and told.has_min_max else ()
                sizes = column.total_compressed_size, column.total_uncompressed_size
                digest.update(repr((column.path_in_schema, group.num_rows, sizes, bounds)).encode())
        return digest.hexdigest()

    def batches(self, begin: int) -> Iterator[Events]:
        with self._opened() as file:
            names = _used(file.schema_arrow.empty_table(), self.path, self.model)
            first = 0
            for i in range(file.num_row_groups):
                n = self._metadata.row_group(i).num_rows
                if first + n > begin:
                    yield from self._group(file, i, names, first, begin)
                first += n

    def _group(
        self, file: Any, group: int, names: list[str], at: int, begin: int
    ) -> Iterator[Events]:
        """Yield the rows of a row group, whose first is the row `at`, from the row `begin` on."""
        read = file.iter_batches(BATCH, row_groups=[group], columns=names, use_threads=False)
        while (batch := self._checked(next, read, None)) is not None:
            end = at + batch.num_rows
            if end > begin:
                batch = batch.slice(max(0, begin - at))
                table = arrow().Table.from_batches([batch])
                yield _events(table, Part(self.path, end - len(table), end), self.model)
            at = end

    def _opened(self) -> Any:
        check_readable(self.path)
        return self._checked(arrow("pyarrow.parquet").ParquetFile, self.path)

    def _checked(self, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except Exception as error:  # an error of whichever layer of Arrow
            raise ValueError(
                f"{self.path} can't be read as Parquet: {error}. Write the file again."
            ) from error


@dataclass(frozen=True)
class CSVFile:
    """A CSV file of a log, which is read as a whole: its memory grows with the file."""

    path: Path
    name: str
    size: int
    model: Model

    @cached_property
    def n_rows(self) -> int:
        return len(self._table())

    def mark(self, rows: int, size: int) -> str:
        """Return a digest of the first bytes."""
        digest = blake2b(digest_size=16)
        with self.path.open("rb") as file:
            while size > 0 and (read := file.read(min(size, 1 << 20))):
                digest.update(read)
                size -= len(read)
        return digest.hexdigest()

    def batches(self, begin: int) -> Iterator[Events]:
        table = self._table()
        table = table.select(_used(table, self.path, self.model))
        for at in range(begin, len(table), BATCH):
            part = table.slice(at, BATCH)
            yield _events(part, Part(self.path, at, at + len(part)), self.model)

    def _table(self) -> Any:
        columns = replace(self.model.columns, context={})
        return read(self.path, {**ids_of(self.model), EVENT_ID: "strings"}, columns)


def _check_ending(path: Path) -> None:
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"{path}: the name of a log must end in .parquet or .csv.")


def _used(table: Any, path: Path, model: Model) -> list[str]:
    """Return the columns to read; ValueError if one is missing, or is there twice."""
    columns = replace(model.columns, context={})
    repeated = [name for name, n in Counter(table.column_names).items() if n > 1]
    if repeated:
        raise ValueError(f"{path} has several columns {repeated[0]!r}. Rename or drop them.")
    require_log(table, path, columns)
    time = None if model.histories.now is None else columns.time
    require(table, path, [("--time", time)])
    wanted = {columns.user, columns.item, time, label_of(table, columns), EVENT_ID}
    return [name for name in table.column_names if name in wanted]


def _events(table: Any, part: Any, model: Model) -> Events:
    """Return rows of a log as events of a store; ids, times and clicks mean what they do in fit."""
    columns = replace(model.columns, context={})
    ids = ids_of(model)
    if not is_csv(part):
        to_strings = columns.ids == "strings"
        table = with_ids(table, part, {**ids, EVENT_ID: None}, written=False, to_strings=to_strings)
    table, _ = prepared(table, part, columns)
    frame, n = Table(table, "log"), len(table)
    user, item = (named(part, frame.ids, name).tolist() for name in (columns.user, columns.item))
    time = np.full(n, np.nan)
    if model.histories.now is not None:
        time = named(part, frame.seconds, columns.time)
        time = np.where(np.isfinite(time), time, np.nan)
        known = np.array([model.histories.now])
        name = f"{part}: column {columns.time!r}"
        check_same_unit(time, name, known, "the log of the model")
    clicked = np.ones(n, dtype=np.uint8)
    if (label := label_of(table, columns)) is not None:
        values = with_clicks(table, part, columns)[label]
        if values.null_count:
            raise ValueError(
                f"{part}: column {label!r} is missing in {values.null_count} rows. Drop them."
            )
        clicked = np.asarray(values.cast(arrow().uint8()))
    event_ids = None
    if EVENT_ID in table.column_names and EVENT_ID not in ids:
        event_ids = list(map(str, named(part, frame.ids, EVENT_ID).tolist()))
    return Events(user, item, time, clicked, event_ids)
