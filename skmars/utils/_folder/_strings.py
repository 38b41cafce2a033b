"""Strings as one file of Arrow's IPC format: a record batch for each array of strings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray


def are_storable(values: Iterable[Any]) -> bool:
    """Return whether all values are strings that are text, or None."""
    return all(v is None or (type(v) is str and is_text(v)) for v in values)


def is_text(value: str) -> bool:
    """Return whether UTF-8 can hold a string: it can't hold halves of characters."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_strings(file: IO[bytes], columns: Iterable[Sequence[str | None]]) -> None:
    """Write sequences of strings; None is a missing one."""
    import pyarrow

    schema = _schema()
    with pyarrow.ipc.new_file(file, schema) as sink:
        for column in columns:
            array = pyarrow.array(column, schema.field(0).type)
            sink.write_batch(pyarrow.record_batch([array], schema=schema))


class StringFile:
    """A file that `write_strings` wrote."""

    def __init__(self, path: Path) -> None:
        import pyarrow

        self._file = pyarrow.ipc.open_file(pyarrow.memory_map(str(path)))
        if self._file.schema != _schema():
            raise ValueError(f"its columns are {self._file.schema}, not one of strings")

    def read(self, number: int, length: int) -> NDArray[Any]:
        """Return strings as objects, None where one is missing; ValueError if there are none."""
        if not 0 <= number < self._file.num_record_batches:
            raise ValueError(f"it has no record batch {number}")
        batch = self._file.get_batch(number)
        batch.validate(full=True)
        if batch.num_rows != length:
            raise ValueError(
                f"record batch {number} has {batch.num_rows} strings, where the manifest has "
                f"{length}"
            )
        strings = np.empty(length, dtype=object)
        strings[:] = batch.column(0).to_numpy(zero_copy_only=False)
        return strings


def _schema() -> Any:
    import pyarrow

    return pyarrow.schema([("strings", pyarrow.large_string())])
