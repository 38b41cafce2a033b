"""Read a column of times: dates in ISO 8601 or in a format that is told, or numbers of a unit."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import numpy as np

from skmars.persistence._tables._arrow import MISSING, Origin, arrow, holds, replaced, without

# Units of numbers, and how many of them make a second.
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
# Seconds since 1970 between which a moment of present days lies: from 1973 to 2286.
PRESENT = 1e8, 1e10
# What may be a date, with or without a time behind it.
DATE = r"^[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}([ T,].*)?$"
# Dates as a number, such as 20260131 and 20260131183000.
COMPACT = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


def check_format(text: str) -> str:
    """Return a value of --time-format; ValueError if it names no moment, or not only one."""
    if text in UNITS:
        return text
    used = set(re.findall(r"%[-:]?(.)", text.replace("%%", "")))
    units = ", ".join(UNITS)
    if not used:
        raise ValueError(f"write a format such as %d/%m/%Y, or one of {units}; got {text!r}")
    if "Z" in used:
        raise ValueError(
            f"%Z is the name of a zone, and such names mean several zones: use %z (+01:00), got "
            f"{text!r}"
        )
    day = (used & set("mbB") and "d" in used) or "j" in used or (used & set("UWV"))
    if not used & set("YyG") or (not day and used & set("dHIMSf")):
        raise ValueError(f"a format has year, month and day, such as %d/%m/%Y; got {text!r}")
    if "I" in used and "p" not in used:
        raise ValueError(f"%I (hours to 12) needs %p (AM or PM), or write %H; got {text!r}")
    try:
        datetime.strptime(datetime(2026, 1, 31, 18, 30, tzinfo=UTC).strftime(text), text)
    except (ValueError, KeyError, IndexError, OverflowError, re.error) as error:
        raise ValueError(f"Python's strptime can't read {text!r}: {error}") from error
    return text


def is_pattern(form: str | None) -> bool:
    """Tell whether a format is a pattern of dates, so that times have to be read as texts."""
    return form is not None and form not in UNITS


def with_times(table: Any, path: Origin, time: str | None, form: str | None) -> Any:
    """Return the table with a column of times that holds datetimes, or numbers of seconds.

    Parameters
    ----------
    table : pyarrow.Table
    path : Origin
        Where it comes from, for messages.
    time : str or None
        Its column of times, which may be missing.
    form : str or None
        Format of `datetime.strptime`, or the unit of numbers. None for seconds and ISO 8601.

    Raises
    ------
    ValueError
        If it holds something else, such as strings that are no dates in this format.
    """
    if time is None or time not in table.column_names:
        return table
    values, name = table[time], f"{path}: column {time!r}"
    if holds(values, "date", "timestamp"):
        return table
    if holds(values, "null"):
        return replaced(table, time, values.cast(arrow().float64()))
    if holds(values, "dictionary"):
        values = values.cast(values.type.value_type)
    text = holds(values, "string", "large_string")
    if form is not None and form not in UNITS and (text or holds(values, "integer")):
        read = _parsed(values.cast(arrow().string()), form, name)
    elif text and form is None:
        read = _iso(values, name)
    elif holds(values, "integer", "floating") and not is_pattern(form):
        read = _seconds(values, form, name)
    else:
        raise ValueError(_refused(name, f"values of type {values.type}", form))
    return replaced(table, time, read)


def looks_dated(values: Any) -> bool:
    """Tell whether a column of strings holds what may be dates, all of them."""
    if not holds(values, "string", "large_string"):
        return False
    compute = arrow("pyarrow.compute")
    known = without(values, MISSING).drop_null()
    return len(known) > 0 and compute.all(compute.match_substring_regex(known, DATE)).as_py()


def is_absolute(table: Any, time: str | None) -> bool | None:
    """Tell whether times are moments of the world: numbers, or dates with a zone.

    Dates without a zone may be those of any clock, and None stands for no times at all.
    """
    if time is None or time not in table.column_names:
        return None
    values = table[time]
    if values.null_count == len(values):
        return None
    return not holds(values, "date") and (not holds(values, "timestamp") or bool(values.type.tz))


def check_same_clock(table: Any, path: Origin, time: str | None, absolute: bool | None) -> None:
    """Raise ValueError if a table has dates without a zone and the model other times, or so."""
    here = is_absolute(table, time)
    if None not in (here, absolute) and here != absolute:
        kinds = ("dates without a zone", "numbers, or dates with a zone")
        raise ValueError(
            f"{path}: column {time!r} holds {kinds[bool(here)]}, but the log of the model holds "
            f"{kinds[bool(absolute)]}: how many hours lie between them is unknown. Write times "
            "alike in all tables."
        )


def _iso(texts: Any, name: str) -> Any:
    pyarrow, found = arrow(), []
    texts = without(texts, MISSING)
    for target in (pyarrow.timestamp("us"), pyarrow.timestamp("us", "UTC")):
        try:
            return texts.cast(target)
        except pyarrow.ArrowInvalid as error:
            found += re.findall(r"string: ('.*') as a scalar", str(error))
    # A value that is a time with a zone or without one is told together with one that is not.
    raise ValueError(_refused(name, f"strings such as {' and '.join(dict.fromkeys(found))}", None))


def _parsed(texts: Any, form: str, name: str) -> Any:
    """Return texts as datetimes."""
    pyarrow = arrow()
    coded = without(texts, MISSING).combine_chunks().dictionary_encode()
    moments = []
    for text in coded.dictionary.to_pylist():
        try:
            moments.append(datetime.strptime(text, form))
        except ValueError as error:
            row = arrow("pyarrow.compute").index(texts, text).as_py()
            found = f"{text!r} in row {row}"
            raise ValueError(_refused(name, found, form)) from error
    zone = "UTC" if any(moment.tzinfo for moment in moments) else None
    read = pyarrow.array(moments, pyarrow.timestamp("us", zone)).take(coded.indices)
    return pyarrow.chunked_array([read])


def _seconds(values: Any, unit: str | None, name: str) -> Any:
    """Return numbers as seconds; ValueError if they can't be of this unit."""
    pyarrow = arrow()
    numbers = values.cast(pyarrow.float64(), safe=False)
    known = np.asarray(numbers.drop_null())
    known = known[np.isfinite(known)]
    if len(known):
        if unit is None:
            _check_no_dates(known, name)
        _check_unit(known, unit or "seconds", name)
    if unit is None or unit == "seconds":
        return values
    return arrow("pyarrow.compute").divide(numbers, float(UNITS[unit]))


def _check_unit(known: Any, unit: str, name: str) -> None:
    low, high = PRESENT
    likely = [u for u, n in UNITS.items() if known.min() > low * n and known.max() < high * n]
    if unit in likely or (not likely and known.max() < high * UNITS[unit]):
        return
    shown = f"{known.max():.17g}"
    if likely:
        told = f"which look like {likely[0]} since 1970. Say --time-format {likely[0]}"
    else:
        told = (
            "beyond the year 2286. Clean these rows, or say which unit it is with --time-format "
            f"({', '.join(UNITS)}, or a format such as %Y%m%d%H%M%S)"
        )
    raise ValueError(f"{name} holds numbers up to {shown}, as {unit} {told}.")


def _check_no_dates(known: Any, name: str) -> None:
    """Raise ValueError if all numbers are dates such as 20260131, which seconds are hardly."""
    length = len(f"{known[0]:.0f}")
    if length not in COMPACT or (known != np.round(known)).any():
        return
    form, distinct = COMPACT[length], np.unique(known)
    try:
        years = [datetime.strptime(f"{number:.0f}", form).year for number in distinct[:10_000]]
    except ValueError:
        return
    if min(years) >= 1900 and max(years) < 2100:
        raise ValueError(
            f"{name} holds numbers such as {known[0]:.0f}, which may be dates. Say --time-format "
            f"{form}, or --time-format seconds."
        )


def _refused(name: str, found: str, form: str | None) -> str:
    if form is None:
        return (
            f"{name} must hold times, got {found}. Write numbers of seconds, or dates like "
            "2026-01-31 18:30:00, all of them with a zone or none, or say how they are written: "
            "--time-format %d/%m/%Y where days come first, --time-format %m/%d/%Y where months "
            "do. `skmars fit --no-time` makes do without times."
        )
    return f"{name} must hold times as `skmars fit --time-format {form}` says, got {found}."
