"""Random tables at the door: a clear error of ours, or what a slow reference makes of them.

    python -m benchmarks.fuzz.door --n 10000 --seed 0

Catalogues, logs and tables of impressions are made of random columns of random types in three
libraries, and some are spoilt. It prints how often what came of it. It fails with the seed of the
input where an error came from inside or names nothing, where it took too long, where bad input was
accepted, or where a result differs from that of the reference, which loops over Python values.
"""

from __future__ import annotations

import argparse
import datetime as dt
import math
import random
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from itertools import chain
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

import skmars
from skmars import Impressions, ItemCatalog

HOME = skmars.__path__[0]
LIBRARIES = ("pandas", "polars", "pyarrow")
SECONDS = 10  # that one input may take
NUMBER = (bool, int, float, Decimal)


class Refused(Exception):
    """The reference finds the input bad: it has to be refused."""


class Wrong(AssertionError):
    """What came of the input is neither right nor a clear error."""


# --- random columns ------------------------------------------------------------------------------


def instant(rng: random.Random) -> dt.datetime:
    return dt.datetime(2020, 1, 1) + dt.timedelta(seconds=rng.randrange(9), milliseconds=250)


VALUES: dict[str, Callable[[random.Random], Any]] = {
    "int": lambda rng: rng.randrange(5),
    "negative": lambda rng: rng.randrange(-3, 3),
    "huge": lambda rng: rng.choice([2**63 + 5, 2**63 + 6, 7]),
    "beyond": lambda rng: rng.choice([2**53, 2**53 + 1, 2**60 + 1, -(2**62)]),
    "gigantic": lambda rng: rng.choice([2**70, 1]),
    "str": lambda rng: rng.choice("abcd"),
    "digits": lambda rng: rng.choice("0123"),
    "odd str": lambda rng: rng.choice(["", " ", "a\0", "é", "nan", "a"]),
    "whole float": lambda rng: float(rng.randrange(5)),
    "float": lambda rng: rng.choice([0.5, 1.5, -2.25, 3.0]),
    "odd float": lambda rng: rng.choice([math.inf, -math.inf, math.nan, 1e300, -0.0]),
    "Decimal": lambda rng: Decimal(rng.randrange(5)),
    "odd Decimal": lambda rng: rng.choice([Decimal("1.5"), Decimal("NaN"), Decimal("1E+400")]),
    "bool": lambda rng: rng.random() < 0.5,
    "UUID": lambda rng: UUID(int=rng.randrange(4)),
    "bytes": lambda rng: rng.choice([b"a", b"", b"\xff"]),
    "datetime": instant,
    "aware": lambda rng: instant(rng).replace(tzinfo=dt.UTC),
    "date": lambda rng: dt.date(2020, 1, 1 + rng.randrange(5)),
    "time": lambda rng: dt.time(rng.randrange(5)),
    "timedelta": lambda rng: dt.timedelta(rng.randrange(5)),
    "dict": lambda rng: {"a": rng.randrange(3)},
    "None": lambda rng: None,
}
IDS = ("int", "negative", "huge", "beyond", "str", "whole float", "Decimal", "UUID")
TIMES = ("int", "float", "datetime", "aware", "date", "Decimal")
LABELS = ("label", "bool")
VALUES["label"] = lambda rng: rng.randrange(2)


def values_of(rng: random.Random, kind: str, n: int, missing: float = 0.0) -> list[Any]:
    return [None if rng.random() < missing else VALUES[kind](rng) for _ in range(n)]


def spoilt(rng: random.Random, n: int) -> list[Any]:
    """A column of anything, perhaps of several kinds, perhaps of lists."""
    kind = rng.choice(list(VALUES))
    values = values_of(rng, kind, n, rng.choice([0, 0, 0.3]))
    if n and rng.random() < 0.2:
        values[rng.randrange(n)] = VALUES[rng.choice(list(VALUES))](rng)
    if rng.random() < 0.2:
        values = [[v] * rng.randrange(3) for v in values]
    return values


def realised(rng: random.Random, values: list[Any], library: str) -> Any:
    """Put values into a column of a library, of a type that can hold them."""
    lists = any(isinstance(v, list) for v in values)
    warnings.simplefilter("ignore")
    for _ in range(20):
        try:
            if library == "pandas":
                return pandas_column(rng, values, lists)
            if library == "polars":
                return polars_column(rng, values, lists)
            return arrow_column(rng, values, lists)
        except Exception:
            continue
    raise Impossible


class Impossible(Exception):
    """The library has no column for these values."""


def pandas_column(rng: random.Random, values: list[Any], lists: bool) -> pd.Series:
    how = rng.randrange(6)
    if how == 0:
        return pd.Series(arrow_column(rng, values, lists), dtype=None).convert_dtypes(
            dtype_backend="pyarrow"
        )
    if lists:
        rows = [rng.choice([list, tuple])(v) if isinstance(v, list) else v for v in values]
        if how == 1:
            rows = [np.array(v) if isinstance(v, list | tuple) else v for v in rows]
        return pd.Series(rows, dtype=object)
    if how == 1:
        return pd.Series(values, dtype=object)
    if how == 2:
        return pd.Series(values, dtype=rng.choice(["Int64", "string", "boolean", "UInt64"]))
    if how == 3:
        return pd.Series(values).astype("category")
    if how == 4:
        dtype = rng.choice(["float32", "int8", "uint64", "float64"])
        column = pd.Series(values).astype(dtype)
        if not all(a == b for a, b in zip(column.tolist(), values)):
            raise Impossible
        return column
    return pd.Series(values)


def polars_column(rng: random.Random, values: list[Any], lists: bool) -> pl.Series:
    if any(isinstance(v, Decimal) and not -1e9 < v < 1e9 for v in chain(*as_lists(values))):
        raise Impossible  # polars panics
    column = pl.Series(values, strict=True)
    inner = column.dtype.inner if lists and column.dtype == pl.List else column.dtype
    other = rng.choice(
        [pl.Int8, pl.UInt64, pl.Int128, pl.Float32, pl.Categorical, pl.Object, inner, inner, inner]
    )
    if inner.is_temporal():
        other = inner
    if other == pl.Object:
        return pl.Series(values, dtype=pl.Object)
    if lists and len({len(v) for v in values if v is not None}) == 1 and rng.random() < 0.5:
        return column.cast(pl.Array(other, len(next(v for v in values if v is not None))))
    cast = column.cast(pl.List(other) if lists else other)
    if cast.to_list() != values:
        raise Impossible
    return cast


def as_lists(values: list[Any]) -> list[list[Any]]:
    return [v if isinstance(v, list) else [v] for v in values]


def arrow_column(rng: random.Random, values: list[Any], lists: bool) -> Any:
    array = pa.array(values)
    how = rng.randrange(5)
    if lists and pa.types.is_list(array.type):
        inner = array.type.value_type
        wanted = rng.choice([pa.large_list, pa.list_view, pa.large_list_view, pa.list_])
        return pa.array(values, type=wanted(inner))
    if how == 0:
        return array.dictionary_encode()
    if how == 1:
        return array.cast(rng.choice([pa.int8(), pa.uint64(), pa.large_string(), pa.float64()]))
    if how == 2 and len(values) > 1:
        return pa.chunked_array([pa.array(values[:1], type=array.type), array[1:]])
    return array


def table_of(rng: random.Random, columns: dict[Any, list[Any]]) -> tuple[Any, dict[Any, list[Any]]]:
    """Return a table of a random library, and its values as that library tells them."""
    library = rng.choice(LIBRARIES)
    made = {name: realised(rng, values, library) for name, values in columns.items()}
    if library == "pandas":
        frame: Any = pd.DataFrame({name: column.array for name, column in made.items()})
        if rng.random() < 0.2:
            frame.index = range(5, 5 + len(frame))
        told = {name: frame[name].tolist() for name in made}
    elif library == "polars":
        frame = pl.DataFrame(made)
        told = {name: frame[name].to_list() for name in made}
    else:
        frame = pa.table(made)
        told = {name: frame[name].to_pylist() for name in made}
    return frame, {name: [plain(v) for v in values] for name, values in told.items()}


def plain(value: Any) -> Any:
    """A value as a Python object, None if it is missing."""
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if (
        value is pd.NA
        or value is pd.NaT
        or (isinstance(value, float | np.floating) and value != value)
    ):
        return None
    if isinstance(value, Decimal) and value.is_nan():
        return None
    return value.item() if isinstance(value, np.generic) else value


# --- the reference: loops over Python values ---------------------------------------------------


def ids(values: list[Any]) -> list[Any]:
    kinds = {UUID: str}
    found = {kinds.get(type(v), type(v)) for v in values}
    if len(found) > 1 or not found <= {int, float, Decimal, str}:
        raise Refused(f"ids of {found}")
    if found == {str}:
        if "" in map(str, values):
            raise Refused("empty")
        return [str(v) for v in values]
    if any(not math.isfinite(v) or v != int(v) for v in values):
        raise Refused("fractions")
    if found == {float} and any(abs(v) >= 2**53 for v in values):
        raise Refused("large floats")
    whole = [int(v) for v in values]
    if whole and not (
        (min(whole) >= -(2**63) and max(whole) < 2**63) or (min(whole) >= 0 and max(whole) < 2**64)
    ):
        raise Refused("64 bits")
    return whole


def one_kind(*parts: list[Any]) -> None:
    whole = [v for part in parts for v in part]
    if len({type(v) for v in whole}) > 1:
        raise Refused("kinds")
    if whole and type(whole[0]) is int:
        ids(whole)


def seconds(values: list[Any]) -> list[float]:
    known = [v for v in values if v is not None]
    if any(isinstance(v, bool) for v in known):
        raise Refused("bool")
    if all(isinstance(v, NUMBER) for v in known):
        try:
            return [math.nan if v is None else float(v) for v in values]
        except OverflowError as error:
            raise Refused("overflow") from error
    if not all(isinstance(v, dt.date) for v in known):
        raise Refused("no times")
    return [math.nan if v is None else since_1970(v) for v in values]


def since_1970(value: Any) -> float:
    if not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day)
    if value.tzinfo is None:
        value = value.replace(tzinfo=dt.UTC)
    return ((value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)) / 1e6


def context(values: list[Any]) -> list[Any]:
    known = [v for v in values if v is not None]
    if all(isinstance(v, str | UUID) for v in known):
        return ["" if v is None else str(v) for v in values]
    if not all(isinstance(v, NUMBER) for v in known):
        raise Refused("no context")
    if any(not isinstance(v, int) and math.isinf(float(v)) for v in known):
        raise Refused("infinite")
    return values


def label(values: list[Any]) -> list[int]:
    if any(not isinstance(v, NUMBER) or v not in (0, 1) for v in values):
        raise Refused("label")
    return [int(v) for v in values]


def rows_of_lists(values: list[Any]) -> list[list[Any]]:
    if not all(v is None or isinstance(v, list) for v in values):
        raise Refused("no lists")
    return [v or [] for v in values]


# --- comparison ----------------------------------------------------------------------------------


def agree(got: Any, wanted: Any, what: str) -> None:
    """Raise Wrong if values differ; NaN agrees with NaN, and None, and numbers by value."""
    got, wanted = list(got), list(wanted)
    if len(got) != len(wanted) or not all(map(same, got, wanted)):
        raise Wrong(f"{what}: got {got}, but the reference {wanted}")


def same(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    a, b = (None if isinstance(v, float) and v != v else v for v in (a, b))
    if isinstance(a, str) and isinstance(b, NUMBER):
        return a == str(b)  # categories
    if (a == "" or a is None) and (b == "" or b is None):
        return True
    return bool(a == b or (isinstance(b, Decimal) and a == float(b)))


def clear(error: BaseException, columns: list[Any]) -> bool:
    """Tell whether an error is ours, and names a column or a parameter."""
    frames = traceback.extract_tb(error.__traceback__)
    words = [*map(repr, columns), "user", "item", "time", "order", "label", "history", "context"]
    words += ["duplicates", "catalog", "content", "features", "ids", "log", "items", "X "]
    return (
        isinstance(error, TypeError | ValueError)
        and frames[-1].filename.startswith(HOME)
        and len(str(error)) > 20
        and any(word in str(error) for word in words)
    )


def judge(
    read: Callable[[], Any],
    reference: Callable[[], Callable[[Any], None]],
    columns: list[Any],
    *,
    sound: bool,
) -> str:
    """Return what came of an input in a word; raise Wrong if that is not right."""
    try:
        compare = reference()
    except Refused as reason:
        compare, bad = None, str(reason)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = read()
        except Exception as error:
            if not clear(error, columns):
                raise Wrong(f"no clear error: {type(error).__name__}: {error}") from error
            if sound and compare is not None:
                raise Wrong(f"sound input is refused: {error}") from error
            return "refused"
    if compare is None:
        raise Wrong(f"bad input is accepted ({bad})")
    compare(result)
    return "read"


# --- what is read ------------------------------------------------------------------------------


def spoil(rng: random.Random, columns: dict[Any, list[Any]], n: int) -> bool:
    """Perhaps spoil a column, or leave it out; say whether."""
    if rng.random() < 0.4:
        return False
    name = rng.choice(list(columns))
    if rng.random() < 0.15:
        del columns[name]
    else:
        columns[name] = spoilt(rng, n)
    return True


def catalogue(rng: random.Random) -> str:
    n = rng.choice([0, 1, 3, 6])
    kind = rng.choice(IDS)
    found = list(dict.fromkeys(values_of(rng, kind, 3 * n)))[:n]
    n = len(found)
    size = rng.randrange(1, 3)
    columns: dict[Any, list[Any]] = {
        "item_id": found,
        "title": values_of(rng, "str", n, 0.2),
        "vector": [
            None if i and rng.random() < 0.2 else values_of(rng, "float", size) for i in range(n)
        ],
        "price": values_of(rng, rng.choice(["int", "float"]), n, 0.2),
    }
    sound = not spoil(rng, columns, n) and n > 0
    frame, told = table_of(rng, columns)
    features = {"v": "vector", "p": "price"}

    def reference() -> Callable[[Any], None]:
        missing = {"item_id", "vector", "price"} - told.keys()
        if missing:
            raise Refused(f"no {missing}")
        wanted = ids(told["item_id"])
        if len(set(wanted)) < len(wanted):
            raise Refused("repeated")
        scalars = [v for v in told["price"] if v is not None]
        if not all(isinstance(v, NUMBER) for v in scalars):
            scalars = [v for row in rows_of_lists(told["price"]) for v in row]
            if not all(v is None or isinstance(v, NUMBER) for v in scalars):
                raise Refused("price")
        if all(isinstance(v, NUMBER) for v in told["vector"]) and told["vector"]:
            vectors = [[v] for v in told["vector"]]
        elif all(v is None or isinstance(v, NUMBER) for v in told["vector"]):
            vectors = [[] if v is None else [v] for v in told["vector"]]
        else:
            vectors = rows_of_lists(told["vector"])
        flat = [v for row in vectors for v in row]
        if not all(v is None or isinstance(v, NUMBER) for v in flat):
            raise Refused("vector")
        if len({len(v) for v in vectors if v}) > 1:
            raise Refused("lengths")

        def compare(catalog: ItemCatalog) -> None:
            agree(catalog.ids.tolist(), wanted, "ids")
            if "title" in told:
                agree(map(plain, catalog.content["title"]), told["title"], "title")
            agree(catalog.missing["v"].tolist(), [not v for v in vectors], "missing")
            for row, vector in zip(catalog.features["v"].tolist(), vectors):
                if vector:
                    agree(
                        row, [math.nan if v is None else float(np.float32(v)) for v in vector], "v"
                    )
            agree(catalog.codes(wanted).tolist(), range(n), "codes")

        return compare

    return judge(
        lambda: ItemCatalog.from_frame(frame, features=features), reference, list(told), sound=sound
    )


def some_catalog(rng: random.Random, kind: str) -> ItemCatalog | None:
    """A catalogue of some items of a kind, mostly this one."""
    if rng.random() < 0.5:
        return None
    kind = kind if rng.random() < 0.8 else rng.choice(IDS)
    return ItemCatalog(list(dict.fromkeys(values_of(rng, kind, 3))))


def log(rng: random.Random) -> str:
    n = rng.choice([0, 1, 4, 9])
    kind = rng.choice(IDS)
    columns: dict[Any, list[Any]] = {
        "user_id": values_of(rng, rng.choice(IDS), n),
        "item_id": values_of(rng, kind, n),
    }
    if rng.random() < 0.7:
        columns["timestamp"] = values_of(rng, rng.choice(TIMES), n, rng.choice([0, 0.2]))
    columns["step"] = values_of(rng, rng.choice(TIMES), n)
    columns["clicked"] = values_of(rng, rng.choice(LABELS), n)
    columns["extra"] = values_of(rng, rng.choice(["int", "str", "float", "bool"]), n, 0.2)
    options: dict[str, Any] = {
        "label": rng.choice([None, "clicked"]),
        "order": rng.choice([None, None, "step"]),
        "history": rng.choice(["positive", "all"]),
        "context": rng.choice([(), ["extra"]]),
        "duplicates": rng.choice(["keep", "warn", "drop"]),
    }
    sound = not spoil(rng, columns, n) and n > 0
    if rng.random() < 0.1:
        sound = False
        name = rng.choice([*options, "user", "item", "time"])
        options[name] = rng.choice([True, "user_id", "clicked", ["extra"], 3.5, "nowhere", None])
    catalog = some_catalog(rng, kind)
    frame, told = table_of(rng, columns)
    known = [] if catalog is None else catalog.ids.tolist()
    sound = sound and not (told.get("timestamp") and set(told["timestamp"]) == {None})

    def reference() -> Callable[[Any], None]:
        return reference_of_log(told, known, options)

    return judge(
        lambda: Impressions.from_log(frame, catalog, **options), reference, list(told), sound=sound
    )


def reference_of_log(
    told: dict[Any, list[Any]], known: list[Any], options: dict[str, Any]
) -> Callable[[Any], None]:
    roles = {"user": "user_id", "item": "item_id", "time": "timestamp", **options}
    extra = roles["context"]
    if not isinstance(extra, list | tuple):
        raise Refused("context")
    named = [roles[r] for r in ("user", "item", "label", "order") if roles[r] is not None]
    if any(not isinstance(v, str) or v not in told for v in [*named, *extra]):
        raise Refused("columns")
    if roles["user"] is None or roles["item"] is None:
        raise Refused("no key")
    if roles["history"] not in ("positive", "all") or roles["duplicates"] not in (
        "keep",
        "warn",
        "drop",
    ):
        raise Refused("choices")
    time = roles["time"]
    if time == "timestamp" and time not in told:
        time = None
        dates = [c for c in told if c not in named and told[c] and is_dates(told[c])]
        if len(dates) > 1:
            raise Refused("several")
        time = dates[0] if dates else None
    if time is not None and (not isinstance(time, str) or time not in told):
        raise Refused("time")
    if time is not None and time != roles["order"]:
        named.append(time)
    if len({*named, *extra}) < len(named) + len(extra):
        raise Refused("named twice")
    user, item = ids(told[roles["user"]]), ids(told[roles["item"]])
    if not user:
        raise Refused("no rows")
    one_kind(item, known)
    y = None if roles["label"] is None else label(told[roles["label"]])
    when = None if time is None else seconds(told[time])
    if when is not None:
        when = [t if math.isfinite(t) else math.nan for t in when]
        if all(t != t for t in when):
            raise Refused("no time")
    moment: list[Any] = list(range(len(user))) if when is None else when
    if roles["order"] is not None:
        moment = told[roles["order"]]
        if any(v is None for v in moment):
            raise Refused("order")
        if not all(type(v) is int for v in moment):
            moment = seconds(moment)
        else:
            ids(moment)
    columns = {c: context(told[c]) for c in extra}
    keep = list(range(len(user)))
    if roles["duplicates"] == "drop" and when is not None:
        keep = [
            i
            for i in keep
            if when[i] != when[i]
            or not any((user[j], item[j], when[j]) == (user[i], item[i], when[i]) for j in range(i))
        ]

    def history(i: int) -> list[int]:
        before = [
            j
            for j in keep
            if user[j] == user[i]
            and moment[j] < moment[i]
            and (roles["order"] is not None or moment[j] != -math.inf)
            and (y is None or roles["history"] == "all" or y[j])
        ]
        return sorted(before, key=lambda j: moment[j])

    def compare(result: Any) -> None:
        X, labels = result
        agree(X.user_ids.tolist(), [user[i] for i in keep], "user_ids")
        agree(X.item_ids.tolist(), [item[i] for i in keep], "item_ids")
        if y is not None:
            agree(labels.tolist(), [y[i] for i in keep], "y")
        elif labels is not None:
            raise Wrong("y without labels")
        for row, i in enumerate(keep):
            past = history(i)
            agree(X.catalog.ids[X.history.row(row)].tolist(), [item[j] for j in past], f"row {i}")
            if y is not None and roles["history"] == "all":
                at = X.history[[row]].positions()
                agree(X.history.feedback[at].tolist(), [y[j] for j in past], f"feedback {i}")
        if when is not None and roles["order"] is None:
            agree(
                X.time.tolist(), [-math.inf if when[i] != when[i] else when[i] for i in keep], "t"
            )
        for name, values in columns.items():
            agree(X.context[name].tolist(), [values[i] for i in keep], name)
        there_and_back(X)

    return compare


def is_dates(values: list[Any]) -> bool:
    known = [v for v in values if v is not None]
    return bool(known) and all(isinstance(v, dt.date) for v in known)


def rows(rng: random.Random) -> str:
    n = rng.choice([0, 1, 3, 6])
    kind = rng.choice(IDS)
    length = [rng.randrange(4) for _ in range(n)]
    late, early = rng.choice([(None, None), ("datetime", "datetime"), ("int", "int")])
    columns: dict[Any, list[Any]] = {
        "user_id": values_of(rng, rng.choice(IDS), n),
        "item_id": values_of(rng, kind, n),
        "history": [values_of(rng, kind, m) for m in length],
    }
    if late is not None:
        columns["timestamp"] = [later(VALUES[late](rng)) for _ in range(n)]
        if rng.random() < 0.5:
            columns["history_timestamp"] = [values_of(rng, early, m, 0.1) for m in length]
    if rng.random() < 0.5:
        columns["history_feedback"] = [values_of(rng, rng.choice(LABELS), m) for m in length]
    if rng.random() < 0.5:
        columns["extra"] = values_of(rng, rng.choice(["int", "str", "float", "bool"]), n, 0.2)
    sound = not spoil(rng, columns, n) and n > 0
    catalog = some_catalog(rng, kind)
    frame, told = table_of(rng, columns)
    known = [] if catalog is None else catalog.ids.tolist()

    def reference() -> Callable[[Any], None]:
        return reference_of_rows(told, known)

    return judge(lambda: Impressions.from_frame(frame, catalog), reference, list(told), sound=sound)


def later(value: Any) -> Any:
    return value + (dt.timedelta(1) if isinstance(value, dt.datetime) else 10)


def reference_of_rows(told: dict[Any, list[Any]], known: list[Any]) -> Callable[[Any], None]:
    if not {"user_id", "item_id", "history"} <= told.keys():
        raise Refused("columns")
    user, item, lists = ids(told["user_id"]), ids(told["item_id"]), rows_of_lists(told["history"])
    flat = ids([v for row in lists for v in row])
    one_kind(item, flat, known)
    beside = {}
    for name in ("history_timestamp", "history_feedback"):
        if name in told:
            beside[name] = rows_of_lists(told[name])
            if [len(v) for v in beside[name]] != [len(v) for v in lists]:
                raise Refused("lengths")
    when = seconds(told["timestamp"]) if "timestamp" in told else None
    past: list[float] | None = None
    if "history_timestamp" in beside:
        past = seconds([v for row in beside["history_timestamp"] for v in row])
    elif when is not None:
        past = [t for t, row in zip(when, lists) for _ in row]
    feedback = None
    if "history_feedback" in beside:
        feedback = label([v for row in beside["history_feedback"] for v in row])
    columns = {c: context(told[c]) for c in told if c in ("extra",)}

    def compare(X: Impressions) -> None:
        agree(X.user_ids.tolist(), user, "user_ids")
        agree(X.item_ids.tolist(), item, "item_ids")
        agree(X.history.length.tolist(), map(len, lists), "length")
        agree(X.catalog.ids[X.history.items].tolist(), flat, "history")
        if when is not None:
            agree(X.time.tolist(), [-math.inf if t != t else t for t in when], "time")
        if past is not None:
            agree(X.history.time.tolist(), [math.inf if t != t else t for t in past], "past")
        if feedback is not None:
            agree(X.history.feedback.tolist(), feedback, "feedback")
        for name, values in columns.items():
            agree(X.context[name].tolist(), values, name)
        there_and_back(X)

    return compare


def there_and_back(X: Impressions) -> None:
    """Write impressions as a table and read them again, in each library."""
    for library in LIBRARIES:
        Z = Impressions.from_frame(X.to_frame(library), X.catalog)
        first, second = (T.to_frame("pyarrow").to_pydict() for T in (X, Z))
        if list(first) != list(second):
            raise Wrong(f"{library}: columns {list(first)} became {list(second)}")
        for name, values in first.items():
            agree(second[name], values, f"{library}, there and back, {name}")


DOORS: dict[str, Callable[[random.Random], str]] = {
    "catalogue": catalogue,
    "log": log,
    "rows": rows,
}


def attempt(door: str, rng: random.Random) -> str:
    """Return what came of one random input; raise Wrong if that is not right."""
    try:
        return DOORS[door](rng)
    except Impossible:
        return "impossible"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--n", type=int, default=10_000, help="inputs of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--door", choices=DOORS, help="only this one")
    parser.add_argument("--failures", type=int, default=1, help="how many to show")
    options = parser.parse_args()

    def too_long(*_: Any) -> None:
        raise Wrong(f"took more than {SECONDS} seconds")

    signal.signal(signal.SIGALRM, too_long)
    failures = 0
    for door in [options.door] if options.door else DOORS:
        count: Counter[str] = Counter()
        for seed in range(options.seed, options.seed + options.n):
            signal.alarm(SECONDS)
            try:
                count[attempt(door, random.Random(seed))] += 1
            except Exception as error:
                count["wrong"] += 1
                failures += 1
                print(f"python -m benchmarks.fuzz.door --door {door} --n 1 --seed {seed}")
                if options.n == 1:
                    traceback.print_exc()
                print(f"    {type(error).__name__}: {str(error)[:400]}", flush=True)
                if failures >= options.failures:
                    break
            finally:
                signal.alarm(0)
        print(f"{door}: " + ", ".join(f"{n} {word}" for word, n in count.most_common()), flush=True)
        if failures >= options.failures:
            break
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
