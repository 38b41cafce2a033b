"""Convert a log that is larger than memory to impressions whose arrays are files.

The files are read twice: first for the ids, then for the rows, which go into one file a column, in
the order of the log, and into buckets of users. What is done for a log in memory is then done for
each bucket: all that is in a history was done by one user. Last, what was found for the rows of
each bucket is put in the order of the log again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from skmars.data._catalog import ItemCatalog
from skmars.data._fields import Fields
from skmars.data._frames import Table
from skmars.data._log import (
    RENAME,
    Events,
    LogFormat,
    LogRecord,
    catalog_of,
    check_format,
    check_some_time,
    histories_of,
    moments_and_labels,
    repeated_rows,
    roles_of,
    warn_of_duplicates,
    warn_of_unknown_times,
)
from skmars.data._parquet import ParquetFiles
from skmars.data._sequences import Sequences
from skmars.utils._ids import Ids, Lookup, factorize, joined
from skmars.utils._on_disk import ArrayFile, Disk, blocks, cut_groups, not_written
from skmars.utils._ragged import offsets
from skmars.utils._values import as_objects

Columns = dict[str, NDArray[Any] | None]
# Rows of the users of a bucket, at most (or those of one user), and number of buckets, at most.
BUCKET_ROWS, MOST_BUCKETS = 1 << 21, 256
# Ids that were not counted together yet are, when they are so many.
MANY_IDS = 1 << 21


def read_parquet_log(
    files: Any, catalog: ItemCatalog | None, form: LogFormat, folder: Any
) -> tuple[Fields, NDArray[np.int64] | None]:
    """Return the fields and labels for `Impressions.from_parquet`, which describes the parameters.

    They are those of `read_log` for the table that the files hold.
    """
    check_format(form)
    source = ParquetFiles(files, "log", RENAME)
    roles = roles_of(source.head, form)
    columns = [c for c in (*roles.values(), *form.context) if c is not None]
    for column in columns:
        source.head.series(column)
    source.check_same_types(columns)
    if source.n_rows == 0:
        raise ValueError("log has no rows; impressions need at least one event.")
    with _new_folder(folder) as (work, final):
        users, items, examples = _scan(source, form)
        catalog = catalog_of(items.ids, catalog, source.head.describe(form.item), further=False)
        rows = _Rows(work, form, users, offsets(users.count), roles["time"])
        rows.read(source, roles, items.ids, catalog.codes(items.ids), examples)
        if roles["time"] is not None:
            check_some_time(rows.n_timed > 0, source.head, roles["time"])
            if form.order is None:
                warn_of_unknown_times(rows.n_rows - rows.n_timed)
        n_repeated = rows.find_histories()
        if n_repeated and form.duplicates == "warn":
            warn_of_duplicates(n_repeated, stacklevel=4)
        rows.order_histories()
    column = rows.mapped(final, temporary=folder is None)
    record = LogRecord(
        form,
        column.get("label"),
        column.get("place"),
        column.get("seconds"),
        rows.zoned,
    )
    history = Sequences(
        column["items"],
        column["start"],
        column["length"],
        feedback=column.get("feedback"),
        time=column.get("event_time"),
        _checked=True,
    )
    fields: Fields = {
        "catalog": catalog,
        "users": users.ids,
        "user": column["user"],
        "target": column["target"],
        "history": history,
        "time": column.get("time"),
        "context": {name: column[f"context {name}"] for name in form.context},
        "_log": record,
        "_zone": None if roles["time"] is None else source.head.zone(roles["time"]),
        "_disk": Disk(str(final)),
        "_checked": True,
    }
    return fields, column.get("y")


class _CountedIds:
    """The distinct ids of a column, sorted, and how often each occurs."""

    def __init__(self) -> None:
        self._parts: list[tuple[Ids, NDArray[np.int64]]] = []
        self._n_new = 0

    def add(self, ids: Ids) -> None:
        distinct, code = factorize(ids)
        self._parts.append((distinct, np.bincount(code)))
        self._n_new += len(distinct)
        if self._n_new > max(MANY_IDS, len(self._parts[0][0])):
            self._parts, self._n_new = [(self.ids, self.count)], 0

    def _merge(self) -> tuple[Ids, NDArray[np.int64]]:
        if len(self._parts) > 1:
            ids, code = factorize(joined(*(ids for ids, _ in self._parts)))
            count = np.zeros(len(ids), dtype=np.int64)
            np.add.at(count, code, np.concatenate([n for _, n in self._parts]))
            self._parts = [(ids, count)]
        return self._parts[0]

    @property
    def ids(self) -> Ids:
        return self._merge()[0]

    @property
    def count(self) -> NDArray[np.int64]:
        return self._merge()[1]


def _scan(
    source: ParquetFiles, form: LogFormat
) -> tuple[_CountedIds, _CountedIds, dict[str, list[Any]]]:
    """Return users, items, and examples of context columns whose type depends on what is missing.

    Put behind a batch, they give it the type that the whole column has.
    """
    from pyarrow import types

    nullable = [
        name
        for name in form.context
        if any(
            of_kind(source.schema.field(name).type)
            for of_kind in (types.is_integer, types.is_boolean, types.is_decimal)
        )
    ]
    users, items = _CountedIds(), _CountedIds()
    n_missing = dict.fromkeys(nullable, 0)
    for table in source.batches([form.user, form.item, *nullable]):
        users.add(table.ids(form.user))
        items.add(table.ids(form.item))
        for name in nullable:
            n_missing[name] += table.series(name).null_count()
    examples = {}
    for name, n in n_missing.items():
        if n:
            zero = False if types.is_boolean(source.schema.field(name).type) else 0
            examples[name] = [None] if n == source.n_rows else [None, zero]
    return users, items, examples


class _Rows:
    """The rows of a log as files of a folder, one for each column of the impressions."""

    def __init__(
        self,
        folder: Path,
        form: LogFormat,
        users: _CountedIds,
        ends: NDArray[np.int64],
        time: str | None,
    ) -> None:
        self.folder, self.form, self.time = folder, form, time
        self.users, self.n_rows = users.ids, int(ends[-1])
        self.first_user = cut_groups(ends, max(BUCKET_ROWS, self.n_rows // MOST_BUCKETS))
        self._n_rows_of_bucket = np.diff(ends[self.first_user])
        n_each = np.diff(self.first_user)
        self.bucket_of = np.repeat(np.arange(len(n_each), dtype=np.int16), n_each)
        self.n_timed = 0
        self.zoned: bool | None = None
        self._files: dict[str, ArrayFile] = {}
        self._texts: dict[str, list[NDArray[Any]]] = {}
        self._found: list[str] = []  # what is found of the rows of each bucket

    def read(
        self,
        source: ParquetFiles,
        roles: dict[str, Any],
        item_ids: Ids,
        item_codes: NDArray[np.int32],
        examples: dict[str, list[Any]],
    ) -> None:
        """Write the columns, and what decides histories into the file of the users' bucket."""
        form, time = self.form, roles["time"]
        user_of, item_of = Lookup(self.users, "log"), Lookup(item_ids, "log")
        texts: dict[str, str] = {}
        n_read = np.zeros_like(self._n_rows_of_bucket)
        columns = [c for c in (*roles.values(), *form.context) if c is not None]
        with ExitStack() as stack:
            buckets = [
                stack.enter_context(self._bucket(b).open("xb"))
                for b in range(len(self.first_user) - 1)
            ]
            for table in source.batches(columns):
                user = _codes(table.ids(form.user), user_of)
                target = item_codes[_codes(table.ids(form.item), item_of)]
                label, seconds, place = moments_and_labels(table, roles)
                if seconds is not None:
                    n_timed = int(np.count_nonzero(np.isfinite(seconds)))
                    if n_timed and not self.n_timed:
                        self.zoned = table.has_zone(time)
                    self.n_timed += n_timed
                decides: Columns = {"user": user, "target": target, "place": place}
                decides |= {"seconds": seconds if place is not None else None, "y": label}
                decides["label"] = None if label is None else label.astype(np.int8)
                for name, values in decides.items():
                    if values is not None:
                        self._append(name, values)
                for name in form.context:
                    column = _context(table, name, examples.get(name))
                    if column.dtype == object:
                        # A text that occurs a million times is kept once.
                        distinct, code = factorize(column)
                        column = as_objects(texts.setdefault(t, t) for t in distinct)[code]
                        self._texts.setdefault(f"context {name}", []).append(column)
                    else:
                        self._append(f"context {name}", column)
                records = _records({**decides, "y": None, "seconds": seconds})
                bucket = self.bucket_of[user]
                records = records[np.argsort(bucket, kind="stable")]
                n_each = np.bincount(bucket, minlength=len(buckets))
                n_read += n_each
                ends = np.cumsum(n_each)
                for file, part in zip(buckets, np.split(records, ends[:-1])):
                    file.write(part.data)
                self._bucket_type = records.dtype
        for column_file in self._files.values():
            column_file.close()
        if not np.array_equal(n_read, self._n_rows_of_bucket):
            raise _changed()

    def find_histories(self) -> int:
        """Find the histories of all rows, bucket by bucket; return the number of repeated rows."""
        n_repeated = n_before = 0
        for b, first in enumerate(self.first_user[:-1]):
            records = np.fromfile(self._bucket(b), self._bucket_type)
            self._bucket(b).unlink()
            known = set(records.dtype.names or ())
            events = Events(
                self.users[first : self.first_user[b + 1]],
                records["user"] - np.int32(first),
                records["target"].copy(),
                records["label"].astype(np.int64) if "label" in known else None,
                records["seconds"].copy() if "seconds" in known else None,
                records["place"].copy() if "place" in known else None,
                {},
            )
            kept = np.ones(len(events), dtype=bool)
            if self.form.duplicates != "keep":
                repeated = repeated_rows(events)
                n_repeated += int(np.count_nonzero(repeated))
                if self.form.duplicates == "drop":
                    kept = ~repeated
                    events = events.take(np.flatnonzero(kept))
            time, history = histories_of(events, self.form)
            flat: Columns = {"items": history.items, "feedback": history.feedback}
            flat["event_time"] = history.time
            for name, values in flat.items():
                if values is not None:
                    self._append(name, values)
            start = history.start + n_before
            n_before += len(history.items)
            rows = _records({"start": start, "length": history.length, "time": time})
            self._found = list(rows.dtype.names or ())
            records = np.zeros(len(kept), dtype=[*rows.dtype.descr, ("kept", "?")])
            records["kept"] = kept
            for name in self._found:
                records[name][kept] = rows[name]
            self._found_type = records.dtype
            with self._bucket(b).open("xb") as file:
                file.write(records.data)
        return n_repeated

    def order_histories(self) -> None:
        """Write what was found for the rows of the buckets in the order of the log."""
        user = self._files["user"].mapped()
        kept = np.ones(self.n_rows, dtype=bool)
        with ExitStack() as stack:
            buckets = [
                stack.enter_context(self._bucket(b).open("rb"))
                for b in range(len(self.first_user) - 1)
            ]
            for block in blocks(self.n_rows):
                bucket = self.bucket_of[user[block]]
                n_each = np.bincount(bucket, minlength=len(buckets))
                # The rows of a bucket are in the order of the log.
                parts = [np.fromfile(file, self._found_type, n) for file, n in zip(buckets, n_each)]
                records = np.empty(len(bucket), dtype=self._found_type)
                records[np.argsort(bucket, kind="stable")] = np.concatenate(parts)
                kept[block] = records["kept"]
                records = records[records["kept"]]
                for name in self._found:
                    self._append(name, records[name])
        for b in range(len(buckets)):
            self._bucket(b).unlink()
        for file in self._files.values():
            file.close()
        if not kept.all():
            self._drop(kept)

    def _drop(self, kept: NDArray[np.bool_]) -> None:
        """Leave rows out of the columns that were read."""
        found = {*self._found, "items", "feedback", "event_time"}
        for name, old in self._files.items():
            if name not in found:
                values = old.mapped()
                new = ArrayFile(old.path.with_suffix(".kept"))
                for block in blocks(self.n_rows):
                    new.append(values[block][kept[block]])
                new.close()
                del values
                old.path.unlink()
                self._files[name] = new
        for name, parts in self._texts.items():
            self._texts[name] = [np.concatenate(parts)[kept]]

    def mapped(self, folder: Path, *, temporary: bool) -> dict[str, NDArray[Any]]:
        """Return the columns, whose files are in this folder now."""
        columns = {name: np.concatenate(parts) for name, parts in self._texts.items()}
        for name, file in self._files.items():
            columns[name] = file.mapped(folder / file.path.name, temporary=temporary)
        return columns

    def _append(self, name: str, values: NDArray[Any]) -> None:
        if name not in self._files:
            # Names of columns may hold what those of files may not.
            self._files[name] = ArrayFile(self.folder / f"{len(self._files)}.rows")
        self._files[name].append(values)

    def _bucket(self, b: int) -> Path:
        return self.folder / f"{b}.bucket"


def _codes(ids: Ids, lookup: Lookup) -> NDArray[np.int32]:
    """Return codes of ids that repeat: each distinct one is looked up once."""
    distinct, code = factorize(ids)
    found = lookup(distinct, "log")
    if (found < 0).any():
        raise _changed()
    return found[code]


def _changed() -> ValueError:
    return ValueError(
        "the files of the log were changed between their first and second reading. Read them again "
        "when they are complete."
    )


def _records(columns: Columns) -> NDArray[Any]:
    """Return columns, without those that are None, as one array of records."""
    there = {name: values for name, values in columns.items() if values is not None}
    types = [(name, values.dtype) for name, values in there.items()]
    records = np.empty(len(next(iter(there.values()))), dtype=types)
    for name, values in there.items():
        records[name] = values
    return records


def _context(table: Table, name: str, examples: Sequence[Any] | None) -> NDArray[Any]:
    """Return a context column, with the type that it has if examples stand behind it."""
    if examples is None:
        return table.context(name)
    import pyarrow

    chunks = table.series(name).to_native().chunks
    chunks.append(pyarrow.array(examples, chunks[0].type))
    column = pyarrow.table({name: pyarrow.chunked_array(chunks)})
    return Table(column, table.name).context(name)[: -len(examples)]


@contextmanager
def _new_folder(folder: Any) -> Iterator[tuple[Path, Path]]:
    """Make a folder to work in, and yield it with its final name, which it gets in the end.

    Nothing of it stays if the block fails.
    """
    if folder is None:
        work = final = Path(tempfile.mkdtemp(prefix="skmars-"))
    else:
        if not isinstance(folder, str | os.PathLike):
            raise TypeError(f"folder must be a path, got {folder!r}.")
        final = Path(folder).resolve()
        if final.is_dir() and any(final.iterdir()):
            raise FileExistsError(f"{final} exists and is not empty. Name a new folder.")
        if final.exists() and not final.is_dir():
            raise FileExistsError(f"{final} is a file. Name a new folder.")
        work = final.with_name(f".{final.name}-{uuid4().hex}.part")
        try:
            work.mkdir()
        except OSError as error:
            raise not_written(final, error) from error
    try:
        yield work, final
        if work != final:
            with suppress(FileNotFoundError):
                final.rmdir()  # an empty one
            work.rename(final)
    except BaseException as error:
        shutil.rmtree(work, ignore_errors=True)
        if isinstance(error, OSError) and error.filename is None:
            raise not_written(final, error) from error
        raise
