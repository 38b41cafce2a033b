"""Convert a table with one row an impression to impressions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skmars.data._catalog import ItemCatalog, require_catalog
from skmars.data._columns import REQUIRED, RESERVED
from skmars.data._fields import Fields, as_fold
from skmars.data._frames import Lists, Table
from skmars.data._sequences import Sequences
from skmars.data._user_columns import is_user_column, of_rows, prefixed
from skmars.utils import _ragged as ragged
from skmars.utils._ids import as_ids, check_same_kind, factorize, joined
from skmars.utils._values import (
    as_matrix,
    as_numbers,
    as_seconds,
    check_same_unit,
    holds_dates,
    missing,
)

if TYPE_CHECKING:
    from skmars.data._frames import Frame


def read_rows(frame: Frame, catalog: ItemCatalog | None) -> Fields:
    """Return the fields for `Impressions.from_frame`, which describes the parameters."""
    table = Table(frame, "X")
    for name in REQUIRED:
        table.series(name)
    users, user = factorize(table.ids("user_id"))
    target = table.ids("item_id")
    lists = {name: table.lists(name) for name in ("history", "borrowed") if name in table.columns}
    ids = {name: as_ids(flat, table.describe(name), "value") for name, (flat, _) in lists.items()}
    # Without any item, the type of a list column does not matter.
    ids = {name: found if len(found) else target[:0] for name, found in ids.items()}
    if catalog is None:
        for name, found in ids.items():
            check_same_kind(found, table.describe(name), target, table.describe("item_id"))
        catalog = ItemCatalog(factorize(joined(target, *ids.values()))[0])
    else:
        require_catalog(catalog)
        known = catalog.parts[0].ids
        for name, found in (("item_id", target), *ids.items()):
            check_same_kind(found, table.describe(name), known, "the catalogue")
            catalog = catalog.extend(found)

    time = table.seconds("timestamp") if "timestamp" in table.columns else None
    sequences = {}
    for name, (_, length) in lists.items():
        sequences[name] = Sequences(
            catalog.codes(ids[name]),
            ragged.offsets(length)[:-1],
            length.astype(np.int32),
            feedback=_feedback(table, f"{name}_feedback", length),
            time=_event_times(table, f"{name}_timestamp", length, time),
        )
    # A table repeats a history in each row that has it; as one, it is also searched and embedded
    # once.
    sequences["history"] = sequences["history"].sharing(user)
    if "borrowed" in sequences:
        sequences["borrowed"] = _with_provenance(table, sequences["borrowed"])
    context = [c for c in table.columns if c not in RESERVED and not is_user_column(c)]
    return {
        "catalog": catalog,
        "users": users,
        "user": user,
        "target": catalog.codes(target),
        "history": sequences["history"],
        "time": None if time is None else np.where(np.isnan(time), -np.inf, time),
        "context": {c: table.context(c) for c in context},
        "borrowed": sequences.get("borrowed"),
        "fold": _fold(table) if "user_fold" in table.columns else None,
        "user_attributes": of_rows(table, prefixed(table.columns), user, len(users)),
        "_embedding": _embedding(table) if "user_embedding" in table.columns else None,
        "_zone": None if time is None else table.zone("timestamp"),
        "_checked": True,
    }


def _fold(table: Table) -> NDArray[np.int8] | None:
    name = table.describe("user_fold")
    values = as_numbers(table.values("user_fold"), name)
    if (missing(values) | (values != np.trunc(values))).any():
        raise ValueError(f"{name} must hold whole numbers, as to_frame writes them.")
    return as_fold(values.astype(np.int64))


def _embedding(table: Table) -> NDArray[np.float32]:
    name = table.describe("user_embedding")
    if len(table) == 0:
        return np.zeros((0, 0), dtype=np.float32)
    vectors, absent = table.vectors("user_embedding")
    if absent.any():
        raise ValueError(
            f"{name} is missing in {np.count_nonzero(absent)} rows (first: row "
            f"{int(np.argmax(absent))}). Drop the column, or these rows."
        )
    return as_matrix(vectors, name, len(table))


def _aligned(table: Table, column: str, length: NDArray[np.int64]) -> NDArray[Any] | None:
    """Return the values of a list column whose lists have these lengths; None if it is missing."""
    if column not in table.columns:
        return None
    flat, found = table.lists(column)
    if not np.array_equal(found, length):
        row = int(np.argmax(found != length))
        raise ValueError(
            f"{table.describe(column)} must have one entry for each item of its list; row {row} "
            f"has {found[row]} for {length[row]} items."
        )
    return flat


def _numbers(table: Table, column: str, length: NDArray[np.int64]) -> NDArray[Any] | None:
    flat = _aligned(table, column, length)
    return None if flat is None else as_numbers(flat, table.describe(column))


def _feedback(table: Table, column: str, length: NDArray[np.int64]) -> NDArray[np.int8] | None:
    values = _numbers(table, column, length)
    if values is None:
        return None
    if not np.isin(values, (0, 1)).all():
        wrong = values[~np.isin(values, (0, 1))][0]
        raise ValueError(f"{table.describe(column)} must hold 0 and 1 only, got {wrong}.")
    return values.astype(np.int8)


def _event_times(
    table: Table, column: str, length: NDArray[np.int64], time: NDArray[np.float64] | None
) -> NDArray[np.float64] | None:
    flat = _aligned(table, column, length)
    if flat is not None:
        seconds = as_seconds(flat, table.describe(column))
        if time is not None and column == "history_timestamp":
            _check_order(table, (flat, length), seconds, time)
    elif time is not None and column == "history_timestamp":
        # All that is known of a history is that it lies before its impression.
        seconds = np.repeat(time, length)
    else:
        return None
    return np.where(np.isnan(seconds), np.inf, seconds)


def _check_order(
    table: Table, lists: Lists, seconds: NDArray[np.float64], time: NDArray[np.float64]
) -> None:
    """Raise ValueError where the times of histories can't be those of events before their rows."""
    names = table.describe("history_timestamp"), table.describe("timestamp")
    check_same_unit(seconds, names[0], time, names[1])
    flat, length = lists
    row = np.repeat(np.arange(len(time)), length)
    known = np.isfinite(seconds) & np.isfinite(time[row])
    if not known.any():
        return
    ago = (time[row] - seconds)[known]
    # Datetimes became seconds since 1970; the size of numbers shows whether they are that, too.
    dates = [holds_dates(values) for values in (flat, table.values("timestamp"))]
    typical = np.median(np.abs(time[row][known]))
    odd_kinds = dates[0] != dates[1] and np.median(np.abs(ago)) > max(0.9 * typical, 1e8)
    if odd_kinds or ((ago < 0).all() and (dates[0] != dates[1] or len(np.unique(row[known])) > 1)):
        raise ValueError(
            f"{names[0]} (such as {seconds[known][0]:.10g}) does not go with {names[1]} (such as "
            f"{time[row][known][0]:.10g}, in seconds): what a history holds happened before its "
            "row. Bring both to one unit, for example to datetimes."
        )


def _with_provenance(table: Table, borrowed: Sequences) -> Sequences:
    length = borrowed.length.astype(np.int64)
    changes: dict[str, Any] = {}
    donor = _aligned(table, "borrowed_donor", length)
    if donor is not None:
        donors, codes = factorize(as_ids(donor, table.describe("borrowed_donor"), "value"))
        changes |= {"donors": donors, "donor": codes}
    for name in ("similarity", "donor_similarity"):
        values = _numbers(table, f"borrowed_{name}", length)
        if values is not None:
            changes[name] = values.astype(np.float32)
    return replace(borrowed, **changes)
