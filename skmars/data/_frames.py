"""Read and write pandas, polars and pyarrow tables, through narwhals."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import narwhals.stable.v2 as nw
import numpy as np
from narwhals.exceptions import DuplicateError
from numpy.typing import NDArray

from skmars.data._attributes import Attribute, as_attribute, lists_of_categories
from skmars.utils import _ragged as ragged
from skmars.utils._ids import Ids, as_ids, check_text
from skmars.utils._values import (
    NUMBERS,
    as_numbers,
    as_objects,
    as_seconds,
    holds_dates,
    in_words,
    is_missing,
    is_sequence,
    missing,
    type_names,
)

if TYPE_CHECKING:
    from narwhals.stable.v2.typing import IntoDataFrame

    Frame: TypeAlias = IntoDataFrame

FRAMES = ("pandas", "polars", "pyarrow")
# A list column: its values, row after row, and the length of each row.
Lists = tuple[NDArray[Any], NDArray[np.int64]]


def is_frame(X: Any) -> bool:
    """Return whether `X` is a pandas, polars or pyarrow table."""
    try:
        return isinstance(nw.from_native(X, pass_through=True), nw.DataFrame | nw.LazyFrame)
    except DuplicateError:  # two columns have one name
        return True


def column_names(frame: Any, name: str) -> list[Any]:
    """Return the names of the columns of a table, also where they repeat."""
    if hasattr(frame, "collect"):
        raise TypeError(f"{name} is a lazy frame; pass {name}.collect().")
    return list(frame.column_names if hasattr(frame, "column_names") else frame.columns)


class Table:
    """Columns of any supported table as NumPy arrays.

    Parameters
    ----------
    frame : pandas.DataFrame, polars.DataFrame or pyarrow.Table
    name : str
        What to call the table in messages.
    advice : str
        What to do where a column is missing.

    Raises
    ------
    TypeError
        If `frame` is not such a table, is lazy, or has columns of several levels.
    ValueError
        If several columns have one name.
    """

    def __init__(self, frame: Frame, name: str, advice: str = "Rename a column.") -> None:
        try:
            table: Any = nw.from_native(frame, pass_through=True)
            self.columns: list[str] = list(getattr(table, "columns", ()))
        except DuplicateError as error:
            names = column_names(frame, name)
            several = [c for c in dict.fromkeys(names) if names.count(c) > 1]
            raise ValueError(
                f"{name} has several columns of the name {several[0]!r}. Rename or drop all but "
                "one of them."
            ) from error
        if isinstance(table, nw.LazyFrame):
            raise TypeError(f"{name} is a lazy frame; pass {name}.collect().")
        if not isinstance(table, nw.DataFrame):
            raise TypeError(
                f"{name} must be a pandas, polars or pyarrow table, got {type(frame).__name__}. "
                "Build one, for example with pandas.DataFrame(...)."
            )
        odd = [c for c in self.columns if not isinstance(c, str | int)]
        if odd:
            raise TypeError(
                f"{name} has a column of the name {odd[0]!r}, but names of columns must be "
                "strings. Rename the columns; of several levels, keep one."
            )
        self.name, self._advice = name, advice
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def series(self, column: str) -> nw.Series[Any]:
        """Return a column; ValueError names it and the columns there are, if it is missing."""
        if not isinstance(column, str | int):
            raise TypeError(
                f"a column of {self.name} is named by a string, but {column!r} was passed."
            )
        if column not in self.columns:
            found = ", ".join(map(repr, self.columns)) or "no column"
            raise ValueError(
                f"{self.name} has no column {column!r}; it has {found}. {self._advice}"
            )
        return self._table.get_column(column)

    def take(self, rows: NDArray[np.integer]) -> Any:
        """Return some rows, as a table of the kind that was given."""
        return self._table[rows].to_native()

    def describe(self, column: str) -> str:
        """Return the name of a column for messages."""
        return f"column {column!r} of {self.name}"

    def values(self, column: str) -> NDArray[Any]:
        """Return a column as numbers, datetimes or objects; see `_values`."""
        return _values(self.series(column))

    def ids(self, column: str) -> Ids:
        """Return a column of ids; see `skmars.utils._ids.as_ids` for the errors."""
        ids = as_ids(self.values(column), self.describe(column))
        # Without rows, the type of the column tells whether ids are strings.
        return ids.astype(object) if len(ids) == 0 and _is_text(self.series(column)) else ids

    def objects(self, column: str) -> NDArray[Any]:
        """Return a column as objects, None where a value is missing."""
        return _objects(self.series(column))

    def seconds(self, column: str) -> NDArray[np.float64]:
        """Return a column of times in seconds, NaN where missing; see `as_seconds`."""
        return as_seconds(self.values(column), self.describe(column))

    def zone(self, column: str) -> str | None:
        """Return the time zone of a column of datetimes; None without one, or if it has no name."""
        dtype = self.series(column).dtype
        zone = dtype.time_zone if isinstance(dtype, nw.Datetime) else None
        try:
            return zone and ZoneInfo(zone).key
        except (ValueError, OSError, ZoneInfoNotFoundError):  # an offset such as +01:00
            return None

    def has_zone(self, column: str) -> bool | None:
        """Return whether a column of dates tells their time zone; None if it holds no dates."""
        if not self.holds_dates(column):
            return None
        series = self.series(column)
        if isinstance(series.dtype, nw.Datetime):
            return series.dtype.time_zone is not None
        return getattr(series.drop_nulls().to_list()[0], "tzinfo", None) is not None

    def places(self, column: str) -> NDArray[Any]:
        """Return a column by whose values the rows are ordered: integers, or else seconds.

        Raises
        ------
        ValueError
            If a value is missing.
        """
        values, name = self.values(column), self.describe(column)
        absent = missing(values)
        if absent.any():
            raise ValueError(
                f"{name} orders the events, but is missing in {np.count_nonzero(absent)} rows "
                f"(first: row {int(np.argmax(absent))}). Fill it, or drop these rows."
            )
        if values.dtype.kind == "O" and type_names(values) == {"int"}:
            values = as_numbers(values, name)
        if values.dtype.kind not in "iu":  # floats would not tell large integers apart
            values = as_seconds(values, name)
        return values

    def holds_dates(self, column: str) -> bool:
        """Return whether a column holds dates or datetimes."""
        series = self.series(column)
        if series.dtype.is_numeric() or series.dtype in (nw.String, nw.Boolean):
            return False
        return holds_dates(_values(series.drop_nulls().head(1)))

    def context(self, column: str) -> NDArray[Any]:
        """Return a context column: numbers, or strings as objects ("" where one is missing).

        Raises
        ------
        TypeError
            If it holds neither, or both.
        ValueError
            If a number is infinite, or too large to be known exactly.
        """
        series, name = self.series(column), self.describe(column)
        if not isinstance(column, str):
            raise TypeError(f"{name} is context, whose names must be strings. Rename it.")
        values = _values(series)
        known = values[~missing(values)]
        found = {"bool"} if values.dtype.kind in "biuf" else type_names(known)
        if found == {"str"} or (len(known) == 0 < len(values) and values.dtype == object):
            texts = as_objects("" if v is None else str(v) for v in values)
            check_text(texts, name)
            return texts
        if not found <= NUMBERS:
            raise TypeError(
                f"{name} holds {in_words(found)} ({series.dtype}); context columns hold numbers, "
                "or strings. Convert it, for example a time to its hour, or drop it."
            )
        categories = series.dtype in (nw.Categorical, nw.Enum)
        numbers = as_numbers(values, name, exact=not categories)
        if np.isinf(numbers).any():
            raise ValueError(
                f"{name} holds infinite numbers (first: row {int(np.argmax(np.isinf(numbers)))}). "
                "Replace them, or drop these rows."
            )
        if categories:
            return as_objects("" if is_missing(v) else str(v) for v in values)
        return numbers

    def attribute(self, column: str) -> Attribute:
        """Return a column as an attribute; see `as_attribute` for the errors."""
        return _attribute(self.series(column), self.describe(column))

    def lists(self, column: str) -> Lists:
        """Return a list column as its values, row after row, and the length of each row.

        Raises
        ------
        TypeError
            If a row is not a list.
        """
        series, name = self.series(column), self.describe(column)
        if _is_list(series):
            return _typed_lists(series)
        rows: list[Any] = [() if v is None else v for v in _objects(series)]
        for i, row in enumerate(rows):
            if not is_sequence(row):
                raise TypeError(
                    f"{name} must hold a list in every row, got {row!r} at row {i}. Gather the "
                    "items of each history into one list, oldest first."
                )
        length = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        filled = [row.to_pylist() if hasattr(row, "to_pylist") else row for row in rows if len(row)]
        arrays = all(isinstance(row, np.ndarray) and row.ndim == 1 for row in filled)
        if filled and arrays and len({row.dtype for row in filled}) == 1:
            flat = np.concatenate(filled)
            return (flat.astype(object) if flat.dtype.kind in "UT" else flat), length
        return as_objects(chain.from_iterable(filled)), length

    def vectors(self, column: str | list[str]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return vectors as a matrix, and a mask of the rows that have none.

        Parameters
        ----------
        column : str or list of str
            A list column of equally long vectors, a column of numbers (vectors of length one),
            or several of these, whose numbers stand side by side.
        """
        if isinstance(column, list | tuple):
            if not column:
                raise ValueError(
                    f"the list of columns of {self.name} that make a vector is empty. Name one at "
                    "least."
                )
            parts = [self.vectors(c) for c in column]
            absent = np.logical_or.reduce([mask for _, mask in parts])
            return np.concatenate([matrix for matrix, _ in parts], axis=1), absent
        series, name = self.series(column), self.describe(column)
        values = None if _is_list(series) else _values(series)
        if values is not None and (
            values.dtype.kind in "biuf"
            or (values.dtype.kind == "O" and type_names(values[~missing(values)]) <= NUMBERS)
        ):
            numbers = as_numbers(values, name, exact=False)[:, None]
            absent = missing(numbers[:, 0])
            return np.where(absent[:, None], 0, numbers), absent
        flat, length = self.lists(column)
        sizes = np.unique(length[length > 0])
        if len(sizes) != 1:
            found = "no vector at all" if len(sizes) == 0 else f"lengths {sizes.tolist()}"
            raise ValueError(f"{name} must hold vectors of one length, got {found}.")
        filled = as_numbers(flat, f"the vectors of {name}", exact=False).reshape(-1, sizes[0])
        matrix = np.zeros((len(length), sizes[0]), dtype=filled.dtype)
        matrix[length > 0] = filled
        return matrix, length == 0


def read_attribute(values: Any, name: str) -> Attribute:
    """Return a series of any library, an array or a list as an attribute.

    Parameters
    ----------
    values : Series, array-like or Attribute
    name : str
        What it is, for messages.

    Raises
    ------
    TypeError, ValueError
        As for `as_attribute`; also if it is no sequence at all.
    """
    if isinstance(values, Attribute):
        return values
    if not is_sequence(values):
        what = type(values).__name__ if hasattr(values, "columns") else repr(values)
        raise TypeError(f"{name} must be a sequence with one entry each, got {what}.")
    if isinstance(values, np.ma.MaskedArray):
        array = np.array(values, dtype=object)
        array[np.ma.getmaskarray(values)] = None
        return as_attribute(array, name)
    if isinstance(values, np.ndarray):
        return as_attribute(values, name)
    if hasattr(values, "to_pylist") and not hasattr(values, "chunks"):  # an array of Arrow
        values = import_module("pyarrow").chunked_array([values])
    series: Any = nw.from_native(values, series_only=True, pass_through=True)
    if isinstance(series, nw.Series):
        return _attribute(series, name)
    return as_attribute(as_objects(values), name)


def _attribute(series: nw.Series[Any], name: str) -> Attribute:
    if _is_list(series):
        return lists_of_categories(*_typed_lists(series), name)
    values = _values(series)
    if series.dtype in (nw.Categorical, nw.Enum):
        values = as_objects(map(_category, values))
    return as_attribute(values, name)


def _category(value: Any) -> str | None:
    """Return the name of a category, which pandas lets be anything, None where it is missing."""
    if is_missing(value):
        return None
    # Integers become floats as soon as one is missing.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _values(series: nw.Series[Any]) -> NDArray[Any]:
    """Return a column as the NumPy array that loses nothing.

    Integers, booleans and floats (NaN where missing) as such, datetimes and dates in
    microseconds; all else, and integers and booleans of which some are missing, as objects with
    None for what is missing.
    """
    dtype = series.dtype
    if dtype in (nw.Date, nw.Datetime):
        series = series.cast(nw.Datetime("us")) if dtype == nw.Date else series
        microseconds = series.dt.timestamp("us").fill_null(np.iinfo(np.int64).min)
        return microseconds.to_numpy().astype(np.int64).view("M8[us]")
    whole = (dtype.is_integer() and dtype not in (nw.Int128, nw.UInt128)) or dtype == nw.Boolean
    if dtype.is_float() or (whole and not series.null_count()):
        values = series.to_numpy()
        if values.dtype.kind in "biuf":
            return values
    return _objects(series)


def _objects(series: nw.Series[Any]) -> NDArray[Any]:
    values = as_objects(series.to_list())
    values[missing(values)] = None
    return values


def _is_list(series: nw.Series[Any]) -> bool:
    # narwhals does not know Arrow's list-view type.
    return series.dtype in (nw.List, nw.Array) or "list_view" in str(_arrow_type(series))


def _arrow_type(series: nw.Series[Any]) -> Any:
    return getattr(series.to_native(), "type", None)


def _is_text(series: nw.Series[Any]) -> bool:
    return series.dtype in (nw.String, nw.Categorical, nw.Enum)


def _typed_lists(series: nw.Series[Any]) -> Lists:
    """Read a column whose type says that it holds lists."""
    native: Any
    if series.implementation.is_polars():
        native = series.to_native()
        if series.dtype == nw.Array:
            native = native.arr.to_list()
        length = native.list.len().fill_null(0).to_numpy().astype(np.int64)
        flat = native.filter(length > 0).explode()
    else:
        compute, arrow = import_module("pyarrow.compute"), import_module("pyarrow")
        native = series.to_native() if series.implementation.is_pyarrow() else series.to_arrow()
        length = np.asarray(compute.fill_null(compute.list_value_length(native), 0))
        length = length.astype(np.int64)
        flat = compute.list_flatten(native)
        flat = flat if isinstance(flat, arrow.ChunkedArray) else arrow.chunked_array([flat])
    return _values(nw.from_native(flat, series_only=True)), length


def check_frame(kind: str | None) -> None:
    """Raise ValueError if `kind` is neither a kind of table nor None."""
    if kind is not None and kind not in FRAMES:
        raise ValueError(f"frame must be one of {', '.join(map(repr, FRAMES))}, got {kind!r}.")


def in_zone(frame: Any, column: str, zone: str | None) -> Any:
    """Return a table whose datetimes of UTC, in a column, are those of a time zone.

    Without such a column, or a zone, the table is returned as it is.
    """
    table = nw.from_native(frame)
    if zone is None or not isinstance(table.schema.get(column), nw.Datetime):
        return frame
    times = nw.col(column).dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    return table.with_columns(times).to_native()


def make_frame(columns: dict[str, Any], kind: str | None) -> Any:
    """Build a table from arrays and from ragged columns given as ``(values, length)``.

    Parameters
    ----------
    columns : dict of str to ndarray of shape (n_rows,) or (n_rows, d), or (values, length)
    kind : {"pandas", "polars", "pyarrow"} or None
        None takes the first of these that is installed.

    Raises
    ------
    ValueError
        If `kind` is none of these.
    ImportError
        If the library is not installed.
    """
    check_frame(kind)
    if kind is None:
        kind = next(filter(find_spec, FRAMES), None)
        if kind is None:
            raise ImportError("A table needs one of pandas, polars and pyarrow: install one.")
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
        if column.dtype == object:
            # Without values, polars can't infer the type.
            return polars.Series(column.tolist(), dtype=None if len(column) else polars.String)
        return polars.Series(column)
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
