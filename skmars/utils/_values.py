"""Convert the values of a column: missing values, numbers, times in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

# Rows of a large matrix that are worked on at a time.
BLOCK = 1 << 16
# Up to this number, floats hold every integer exactly.
EXACT_FLOATS = 2**53
NUMBERS = {"bool", "int", "float", "Decimal"}
_NAMES: dict[str, type | tuple[type, ...]] = {
    "bool": (bool, np.bool_),
    "int": (int, np.integer),
    "float": (float, np.floating),
    "str": (str, UUID),
    "datetime": (datetime, np.datetime64),
}
_NEVER_MISSING = {bool, int, str, bytes, UUID, list, tuple, np.ndarray, np.str_, np.int64}
_EPOCH, _EPOCH_UTC = datetime(1970, 1, 1), datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6}


def as_objects(values: Iterable[Any]) -> NDArray[Any]:
    """Return values as an array of objects, in which lists stay lists."""
    values = list(values)
    return np.fromiter(values, dtype=object, count=len(values))


def is_sequence(value: Any) -> bool:
    """Return whether a value is a sequence or array of others, and no text, set or table."""
    other = isinstance(value, str | bytes | Mapping | Set) or hasattr(value, "columns")
    return not other and hasattr(value, "__len__") and getattr(value, "ndim", 1) > 0


def is_missing(value: Any) -> bool:
    """Return whether a value is missing: None, NaN, NaT or pandas.NA."""
    if isinstance(value, float | np.floating):
        return bool(np.isnan(value))
    if isinstance(value, np.datetime64):
        return bool(np.isnat(value))
    if isinstance(value, Decimal):
        return value.is_nan()
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which values of a column are missing."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind in "Mm":
        return np.isnat(values)
    types = set(map(type, values)) if values.dtype.kind == "O" else set()
    if types <= _NEVER_MISSING:
        return np.zeros(len(values), dtype=bool)
    if types <= {float, type(None)}:
        return np.isnan(values.astype(np.float64))
    return np.fromiter(map(is_missing, values), dtype=bool, count=len(values))


def type_names(values: NDArray[Any]) -> set[str]:
    """Return the names of the types of objects: "bool", "int", "float", "str", "datetime", ..."""
    return {
        next((name for name, types in _NAMES.items() if issubclass(t, types)), t.__name__)
        for t in set(map(type, values))
    }


def holds_dates(values: NDArray[Any]) -> bool:
    """Return whether a column holds datetimes or dates."""
    return values.dtype.kind == "M" or (
        values.dtype == object and bool(type_names(values[~missing(values)]) & {"datetime", "date"})
    )


def in_words(found: Iterable[str]) -> str:
    return " and ".join(sorted(found)) or "nothing"


def exact_integers(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Return Python integers as int64, or as uint64 where one is larger than int64 can hold."""
    low, high = min(values), max(values)
    if low >= np.iinfo(np.int64).min and high <= np.iinfo(np.int64).max:
        return values.astype(np.int64)
    if low >= 0 and high <= np.iinfo(np.uint64).max:
        return values.astype(np.uint64)
    raise ValueError(
        f"{name} holds integers from {low} to {high}, which 64 bits can't hold. Convert them to "
        "strings, for example with .astype(str)."
    )


def as_numbers(values: NDArray[Any], name: str, *, exact: bool = True) -> NDArray[Any]:
    """Return a column of numbers as booleans, integers or floats, NaN where one is missing.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Of any type; objects may be numbers of any kind, None where one is missing.
    name : str
        What they are, for messages: ``"column 'hour' of log"``.
    exact : bool, default=True
        Whether to refuse integers that must become floats and are too large to be exact.

    Raises
    ------
    TypeError
        If these are no numbers.
    ValueError
        If an integer is too large to be known exactly.
    """
    if values.dtype.kind in "biuf":
        return values
    if values.dtype.kind != "O":
        raise TypeError(f"{name} must hold numbers, got dtype {values.dtype}.")
    there = ~missing(values)
    known = values[there]
    found = type_names(known)
    if not found <= NUMBERS:
        raise TypeError(f"{name} must hold numbers, got {in_words(found)}.")
    if len(known) == len(values) > 0:
        if found == {"bool"}:
            return values.astype(bool)
        if found <= {"bool", "int"}:
            return exact_integers(as_objects(map(int, known)), name)
    for number in known if exact and found & {"int"} else ():
        if isinstance(number, int | np.integer) and abs(int(number)) > EXACT_FLOATS:
            raise ValueError(
                f"{name} holds integers beyond 2**53 (such as {number}) together with fractions or "
                "missing values, so that they would have to become floats, which can't tell them "
                "apart. Fill the missing values, or convert the column to strings."
            )
    numbers = np.full(len(values), np.nan)
    try:
        numbers[there] = [float(number) for number in known]
    except OverflowError as error:
        raise ValueError(f"{name} holds a number that is too large for a float.") from error
    return numbers


def as_seconds(values: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Return a column of times in seconds, NaN where one is missing.

    Datetimes (of a time zone, or else of UTC) and dates become seconds since 1970, to the
    microsecond; numbers stay as they are.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Of any type; objects may be numbers, datetimes or dates.
    name : str
        What they are, for messages.

    Raises
    ------
    TypeError
        If these are no times, or numbers and datetimes are mixed.
    """
    if values.dtype.kind == "M":
        return _seconds_since_1970(values, name)
    if values.dtype.kind in "iuf":
        return values.astype(np.float64)
    there = ~missing(values)
    found = type_names(values[there]) if values.dtype.kind == "O" else {f"dtype {values.dtype}"}
    if found <= NUMBERS - {"bool"}:
        return as_numbers(values, name, exact=False).astype(np.float64)
    if not found <= {"datetime", "date"}:
        raise TypeError(
            f"{name} must hold numbers or datetimes, got {in_words(found)}. Parse it first, for "
            "example with pandas.to_datetime."
        )
    seconds = np.full(len(values), np.nan)
    seconds[there] = [_since_1970(value, name) for value in values[there]]
    return seconds


def _seconds_since_1970(values: NDArray[np.datetime64], name: str) -> NDArray[np.float64]:
    unit, step = np.datetime_data(values.dtype)
    if unit == "generic":
        raise TypeError(f"{name} holds datetimes of no unit. Convert them to datetime64[us].")
    if unit not in _PER_SECOND or step != 1:
        unit = "s" if unit in ("Y", "M", "W", "D", "h", "m") else "us"
        values = values.astype(f"M8[{unit}]")
    # Whole microseconds are exact in a float, so that equal times are equal whatever the unit.
    seconds = values.astype(np.int64) / _PER_SECOND[unit]
    return np.where(np.isnat(values), np.nan, seconds)


def _since_1970(value: Any, name: str) -> float:
    if isinstance(value, np.datetime64):
        return float(_seconds_since_1970(np.array([value]), name)[0])
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    since = value - (_EPOCH if value.tzinfo is None else _EPOCH_UTC)
    return (since // _MICROSECOND) / 1e6


def as_dates(seconds: NDArray[np.float64]) -> NDArray[Any]:
    """Return times as datetimes of UTC, if they are seconds since 1970; else as they are.

    They are if all that are known lie in the years 1973 to 9999: smaller numbers count something
    else, larger ones are of another unit. What is not finite becomes NaT.
    """
    known = np.isfinite(seconds)
    if not known.any() or seconds[known].min() < 1e8 or seconds[known].max() > 2.5e11:
        return seconds
    microseconds = np.full(len(seconds), np.datetime64("NaT", "us"))
    microseconds[known] = np.round(seconds[known] * 1e6).astype(np.int64).view("M8[us]")
    return microseconds


def as_column(values: Any, dtype: Any, name: str) -> NDArray[Any]:
    """Return numbers, one a row, as an array of a type that holds them exactly; raise otherwise."""
    array = np.asarray(values)
    dtype = np.dtype(dtype)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}.")
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in ("iu" if dtype.kind == "i" else "iuf") and len(array):
        raise TypeError(f"{name} must hold {dtype} numbers, got dtype {array.dtype}.")
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    if (converted != array).any() and dtype.kind == "i":
        raise ValueError(f"{name} holds {array[converted != array][0]}, too large for {dtype}.")
    return converted


def as_matrix(values: Any, name: str, n_rows: int) -> NDArray[np.float32]:
    """Return vectors of numbers, one a row, as float32; raise for numbers beyond its range."""
    try:
        given = np.asarray(values)
        if isinstance(values, np.ma.MaskedArray):
            given = np.ma.filled(values.astype(np.float64), np.nan)
        if given.dtype.kind == "O":
            given = as_numbers(given.reshape(-1), name, exact=False).reshape(given.shape)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must have one vector of numbers a row, all of one length: {error}"
        ) from error
    if given.dtype.kind not in "iufb":
        raise TypeError(f"{name} must hold numbers, got dtype {given.dtype}.")
    if given.ndim != 2 or len(given) != n_rows:
        raise ValueError(
            f"{name} must have shape ({n_rows}, n_features), one row each; got shape {given.shape}."
        )
    if given.shape[1] == 0:
        raise ValueError(f"{name} must have at least one column, got shape {given.shape}.")
    if given.dtype == np.float32:
        return given
    with np.errstate(over="ignore"):
        converted = given.astype(np.float32)
    beyond = np.isinf(converted) & np.isfinite(given)
    if beyond.any():
        row, column = np.argwhere(beyond)[0]
        raise ValueError(
            f"{name} holds {given[row, column]:g} in row {row}, which float32 can't hold. Scale "
            "the vectors."
        )
    return converted


def rows_not_finite(matrix: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the numbers of the rows that hold NaN or infinity; it needs little memory."""
    found = [
        at + np.flatnonzero(~np.isfinite(matrix[at : at + BLOCK]).all(axis=1))
        for at in range(0, len(matrix), BLOCK)
    ]
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])


def check_same_unit(
    seconds: NDArray[np.float64], name: str, others: NDArray[np.float64], other_name: str
) -> None:
    """Raise ValueError if two columns hold times in different units, such as milliseconds.

    Units differ recognisably if both are times since 1970, of present years.
    """
    both = [times[np.isfinite(times)] for times in (seconds, others)]
    if not all(
        len(times) and times.min() > 1e8 and times.max() < 10 * times.min() for times in both
    ):
        return
    here, there = (float(np.median(times)) for times in both)
    ratio = max(here, there) / min(here, there)
    for factor in (1e3, 1e6, 1e9):
        if factor / 4 < ratio < factor * 4:
            raise ValueError(
                f"{name} holds times of about {here:.4g}, but {other_name} of about {there:.4g}: "
                f"one is in seconds, the other not (a factor of {factor:.0e}). Divide the larger, "
                "or convert both to datetimes."
            )
