"""The command `skmars export`: the events of a store as a log."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from skmars.cli._arguments import add_deployment
from skmars.persistence import Columns
from skmars.persistence._tables._arrow import arrow
from skmars.utils._files import write_whole


def add_export(sub: argparse.ArgumentParser) -> None:
    """Add the arguments of `skmars export`."""
    add_deployment(sub)
    sub.add_argument("--out", metavar="FILE", type=Path, required=True, help="a .parquet file")
    sub.add_argument("--quiet", action="store_true", help="say nothing")


def run(arguments: argparse.Namespace, results: TextIO) -> None:
    """Write all events of a store to a Parquet file, with the columns of the current model."""
    from skmars.persistence._saved import load_model
    from skmars.serving import open_store
    from skmars.serving.refits._arrival import by_arrival
    from skmars.serving.store._current import Current, version_folder

    if arguments.out.suffix.lower() != ".parquet":
        raise argparse.ArgumentTypeError(f"--out {arguments.out}: the name must end in .parquet")
    store = open_store(arguments.store)
    try:
        model = load_model(version_folder(arguments.model, Current.of(store).model))
        timed, n = model.histories.now is not None, 0

        def write(file: Any) -> None:
            nonlocal n
            writer = None
            for users, items, events in by_arrival(store):
                table = as_table(users, items, events, model.columns, timed)
                if writer is None:
                    writer = arrow("pyarrow.parquet").ParquetWriter(file, table.schema)
                writer.write_table(table, row_group_size=1 << 17)
                n += len(table)
            if writer is None:
                raise ValueError("the store has no events to export.")
            writer.close()

        write_whole(arguments.out, write)
    finally:
        store.close()
    if not arguments.quiet:
        print(f"skmars export: wrote {n:,} events to {arguments.out}", file=sys.stderr)


def as_table(
    users: NDArray[Any], items: NDArray[Any], events: NDArray[Any], columns: Columns, timed: bool
) -> Any:
    """Return events as the log of a model has them: read with its columns, they are the same."""
    pyarrow, least = arrow(), columns.click_from
    made = {columns.user: pyarrow.array(users), columns.item: pyarrow.array(items)}
    if timed and columns.time is not None:
        made[columns.time] = _times(events["time"], columns)
    clicked = events["clicked"].astype(np.int64)
    made[columns.label] = pyarrow.array(clicked if least is None else clicked - 1 + least)
    return pyarrow.table(made)


def _times(seconds: NDArray[np.float64], columns: Columns) -> Any:
    """Return times as seconds, or as datetimes where the log had dates of some clock or format."""
    pyarrow, unknown = arrow(), ~np.isfinite(seconds)
    if columns.absolute is not False and columns.time_format in (None, "seconds"):
        return pyarrow.array(np.where(unknown, np.nan, seconds))
    micro = np.round(np.where(unknown, 0.0, seconds) * 1e6).astype(np.int64)
    zone = None if columns.absolute is False else "UTC"
    return pyarrow.array(micro, mask=unknown).cast(pyarrow.timestamp("us", zone))
