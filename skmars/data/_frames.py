"""pandas, polars and pyarrow tables, in and out, through narwhals."""

from __future__ import annotations

from importlib import import_module
from itertools import chain
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray

from skmars.utils import _ragged as ragged
from skmars.utils._ids import Ids, as_ids

FRAMES = ("pandas", "polars", "pyarrow")


def is_frame(X: Any) -> bool:
    """Say whether `X` is a pandas, polars or pyarrow table."""
    return isinstance(nw.from_native(X, pass_through=True), nw.DataFrame | nw.LazyFrame)


class Table:
    """Columns of any supported table as NumPy arrays.

    Parameters
    ----------
    frame : pandas.DataFrame, polars.DataFrame or pyarrow.Table
    name : str
        What to call the table in messages.

    Raises
    ------
    TypeError
        If `frame` is not such a table, or is lazy.
    """

    def __init__(self, frame: Any, name: str) -> None:
        table = nw.from_native(frame, pass_through=True)
        if isinstance(table, nw.LazyFrame):
            raise TypeError(f"{name} is a lazy frame; pass {name}.collect().")
        if not isinstance(table, nw.DataFrame):
            raise TypeError(
                f"{name} must be a pandas, polars or pyarrow table, got {type(frame).__name__}. "
                "Build one, for example with pandas.DataFrame(...)."
            )
        self.name = name
        self.columns: list[str] = list(table.columns)
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def series(self, column: str) -> nw.Series[Any]:
        """Return a column; ValueError names it and the columns there are, if it is missing."""
        if column not in self.columns:
            found = ", ".join(map(repr, self.columns))
            raise ValueError(
                f"{self.name} has no column {column!r}; it has {found}. Rename a column, or pass "
                "the name that it has here."
            )
        return self._table[column]

    def describe(self, column: str) -> str:
        """Name a column in a message."""
        return f"column {column!r} of {self.name}"

    def ids(self, column: str) -> Ids:
        """Return a column of ids; see `skmars.utils._ids.as_ids` for the errors."""
        series = self.series(column)
        return as_ids(_plain(series), self.describe(column))

    def objects(self, column: str) -> NDArray[Any]:
        """Return a column as objects, None where a value is missing."""
        result = np.empty(len(self), dtype=object)
        series = self.series(column)
        result[:] = series.to_list()
        missing = [v is None or (isinstance(v, float) and v != v) for v in result]
        # pandas.NA is neither None nor a float.
        result[np.array(missing, dtype=bool) | series.is_null().to_numpy()] = None
        return result

    def seconds(self, column: str) -> NDArray[np.float64]:
        """Return a column of times in seconds, NaN where missing; numbers stay as they are."""
        series = self.series(column)
        if series.dtype == nw.Date:
            series = series.cast(nw.Datetime("us"))
        if series.dtype == nw.Datetime:
            return np.asarray(_floats(series.dt.timestamp("us"))) / 1e6
        if not self.holds_times(column):
            raise TypeError(
                f"{self.describe(column)} must hold numbers or datetimes, got {series.dtype}. "
                "Parse it first, for example with pandas.to_datetime."
            )
        return _floats(series)

    def places(self, column: str) -> NDArray[np.int64]:
        """Return the place of each row in the order of a column; equal values share one.

        Raises
        ------
        ValueError
            If a value is missing.
        """
        series = self.series(column)
        exact = series.dtype.is_integer() and not series.null_count()
        values = series.to_numpy() if exact else self.seconds(column)
        missing = np.isnan(values)
        if missing.any():
            raise ValueError(
                f"{self.describe(column)} is missing in {np.count_nonzero(missing)} rows (first: "
                f"row {int(np.argmax(missing))}), but it is to order the events. Fill it, or drop "
                "these rows."
            )
        return np.unique(values, return_inverse=True)[1]

    def is_datetime(self, column: str) -> bool:
        """Tell whether a column holds dates or datetimes by its type."""
        return self.series(column).dtype in (nw.Date, nw.Datetime)

    def holds_times(self, column: str) -> bool:
        """Tell whether `seconds` can read a column."""
        return self.is_datetime(column) or self.series(column).dtype.is_numeric()

    def is_numeric(self, column: str) -> bool:
        """Tell whether a column holds numbers or booleans by its type."""
        dtype = self.series(column).dtype
        return dtype == nw.Boolean or dtype.is_numeric()

    def context(self, column: str) -> NDArray[Any]:
        """Return a context column: numbers as numbers, everything else as strings."""
        series = self.series(column)
        if self.is_numeric(column):
            if series.null_count() or series.dtype.is_float():
                return _floats(series)
            return series.to_numpy()
        if _is_list(series):
            raise TypeError(
                f"{self.describe(column)} is a list column; context columns hold one number or "
                "string a row. Drop it, or spread it over columns."
            )
        values = self.objects(column)
        return np.array(["" if v is None else str(v) for v in values], dtype=object)

    def lists(self, column: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return a list column as its values, row after row, and the length of each row.

        Raises
        ------
        TypeError
            If a row is not a list.
        """
        series = self.series(column)
        native = series.to_native()
        if series.implementation.is_polars() and _is_list(series):
            length = native.list.len().fill_null(0).to_numpy().astype(np.int64)
            return native.filter(length > 0).explode().to_numpy(), length
        if series.implementation.is_pyarrow() and _is_list(series):
            compute = import_module("pyarrow.compute")
            length = compute.fill_null(compute.list_value_length(native), 0)
            flat = compute.list_flatten(native)
            return flat.to_numpy(), np.asarray(length).astype(np.int64)
        rows = [() if v is None else v for v in self.objects(column)]
        for i, row in enumerate(rows):
            if isinstance(row, str | bytes) or not hasattr(row, "__len__"):
                raise TypeError(
                    f"{self.describe(column)} must hold a list in every row, got {row!r} at row "
                    f"{i}. Gather the items of each history into one list, oldest first."
                )
        length = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
        flat = list(chain.from_iterable(rows))
        if not flat or any(isinstance(v, str) for v in flat):
            objects = np.empty(len(flat), dtype=object)
            objects[:] = flat
            return objects, length
        return np.asarray(flat), length

    def vectors(self, column: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return a column of equally long vectors as a matrix, and which rows have none."""
        flat, length = self.lists(column)
        sizes = np.unique(length[length > 0])
        if len(sizes) != 1:
            found = "no vector at all" if len(sizes) == 0 else f"lengths {sizes.tolist()}"
            raise ValueError(
                f"{self.describe(column)} must hold vectors of one length, got {found}."
            )
        matrix = np.zeros((len(length), sizes[0]), dtype=np.float32)
        matrix[length > 0] = np.asarray(flat, dtype=np.float32).reshape(-1, sizes[0])
        return matrix, length == 0


def _is_list(series: nw.Series[Any]) -> bool:
    return series.dtype in (nw.List, nw.Array)


def _floats(series: nw.Series[Any]) -> NDArray[np.float64]:
    return np.asarray(series.cast(nw.Float64).to_numpy(), dtype=np.float64)


def _plain(series: nw.Series[Any]) -> NDArray[Any]:
    """Integers without a missing value as they are; everything else as objects or floats."""
    if series.dtype.is_integer():
        return _floats(series) if series.null_count() else series.to_numpy()
    if series.dtype.is_float():
        return _floats(series)
    values = np.empty(len(series), dtype=object)
    values[:] = series.to_list()
    return values


def make_frame(columns: dict[str, Any], kind: str) -> Any:
    """Build a table from arrays and from ragged columns given as ``(values, length)``.

    Parameters
    ----------
    columns : dict of str to ndarray of shape (n_rows,) or (n_rows, d), or (values, length)
    kind : {"pandas", "polars", "pyarrow"}

    Raises
    ------
    ValueError
        If `kind` is none of these.
    ImportError
        If the library is not installed.
    """
    if kind not in FRAMES:
        raise ValueError(f"frame must be one of {', '.join(map(repr, FRAMES))}, got {kind!r}.")
    try:
        library = import_module(kind)
    except ImportError as error:
        raise ImportError(f"A {kind} frame needs {kind}: pip install {kind}") from error
    if kind == "pyarrow":
        return library.table({k: _arrow_column(library, v) for k, v in columns.items()})
    data = {k: _list_column(v) for k, v in columns.items()}
    if kind == "pandas":
        return library.DataFrame(
            {
                k: library.Series(v, dtype=object) if isinstance(v, list) else v
                for k, v in data.items()
            }
        )
    return library.DataFrame({k: _polars_column(library, v, columns[k]) for k, v in data.items()})


def _ragged(column: Any) -> tuple[NDArray[Any], NDArray[Any]] | None:
    if isinstance(column, tuple):
        return column
    if column.ndim == 2:
        return column.reshape(-1), np.full(len(column), column.shape[1])
    return None


def _list_column(column: Any) -> Any:
    ragged_column = _ragged(column)
    if ragged_column is None:
        return column
    values, length = ragged_column
    ends, values = ragged.offsets(length), values.tolist()
    return [values[a:b] for a, b in zip(ends[:-1], ends[1:])]


def _polars_column(polars: Any, column: Any, source: Any) -> Any:
    if not isinstance(column, list):
        return polars.Series(column.tolist() if column.dtype == object else column)
    values = source[0] if isinstance(source, tuple) else source
    inner = polars.String if values.dtype == object else polars.Series(values[:0].ravel()).dtype
    return polars.Series(column, dtype=polars.List(inner))


def _arrow_column(pyarrow: Any, column: Any) -> Any:
    def array(values: NDArray[Any]) -> Any:
        return pyarrow.array(values, type=pyarrow.string() if values.dtype == object else None)

    ragged_column = _ragged(column)
    if ragged_column is None:
        return array(column)
    values, length = ragged_column
    return pyarrow.LargeListArray.from_arrays(ragged.offsets(length), array(values))
