"""From an interaction log to impressions whose histories are views."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data.catalog import ItemCatalog
from skmars.data.frames import Table
from skmars.data.ids import check_same_kind, factorize
from skmars.data.sequences import Sequences

# Columns that need not be there as long as they go by their usual names.
DEFAULT_TIME, DEFAULT_ORDER = "timestamp", "position"


def read_log(
    cls: Any,
    log: Any,
    catalog: ItemCatalog | None,
    *,
    user: str,
    item: str,
    time: str,
    order: str,
    label: str | None,
    history: str,
    context: Any,
    duplicates: str,
) -> tuple[Any, NDArray[np.int64] | None]:
    """Do what `Impressions.from_log` promises."""
    if history not in ("positive", "all"):
        raise ValueError(f"history must be 'positive' or 'all', got {history!r}.")
    if duplicates not in ("warn", "keep", "drop"):
        raise ValueError(f"duplicates must be 'warn', 'keep' or 'drop', got {duplicates!r}.")
    if isinstance(context, str):
        raise TypeError(f"context must be a list of columns, got the string {context!r}.")
    table = Table(log, "log")
    users, user_code = factorize(table.ids(user))
    item_ids = table.ids(item)
    if len(table) == 0:
        raise ValueError("log has no rows; impressions need at least one event.")
    y = None if label is None else _binary(table, label)
    seconds = _optional(table, time, DEFAULT_TIME)
    position = _optional(table, order, DEFAULT_ORDER)
    extra = {name: table.context(name) for name in context}

    keep = _first_of_duplicates(user_code, item_ids, seconds, duplicates)
    if keep is not None:
        user_code, item_ids = user_code[keep], item_ids[keep]
        y = None if y is None else y[keep]
        seconds = None if seconds is None else seconds[keep]
        position = None if position is None else position[keep]
        extra = {name: column[keep] for name, column in extra.items()}

    catalog = _catalog_of(item_ids, catalog, table.describe(item))
    sort = _chronological(user_code, seconds, position)
    liked = np.ones(len(sort), dtype=bool) if y is None else y[sort] == 1
    before, after = _time_bounds(user_code[sort], None if seconds is None else seconds[sort])
    views = _prefix_views(user_code[sort], liked if history == "positive" else None)

    in_history = liked if history == "positive" else slice(None)
    codes = catalog.codes(item_ids)
    unsort = np.empty_like(sort)
    unsort[sort] = np.arange(len(sort))
    X = cls(
        catalog,
        users,
        user_code,
        codes,
        Sequences(
            codes[sort][in_history],
            views[0][unsort],
            views[1][unsort],
            feedback=liked.astype(np.int8) if history == "all" and y is not None else None,
            time=None if after is None else after[in_history],
        ),
        time=None if before is None else before[unsort],
        context=extra,
    )
    return X, y


def _optional(table: Table, column: str, default: str) -> NDArray[np.float64] | None:
    if column == default and column not in table.columns:
        return None
    return table.seconds(column)


def _binary(table: Table, label: str) -> NDArray[np.int64]:
    """Return a column of 0 and 1, or say what it holds instead."""
    if table.is_numeric(label):  # millions of rows need no Python object each
        numbers = table.context(label)
        if np.isin(numbers, (0, 1)).all():
            return numbers.astype(np.int64)
    values = table.objects(label)
    missing = np.array([v is None for v in values], dtype=bool)
    if missing.any():
        raise ValueError(
            f"{table.describe(label)} is missing in {np.count_nonzero(missing)} rows (first: row "
            f"{int(np.argmax(missing))}). Drop these rows, or leave label=None."
        )
    distinct = set(values)
    if not distinct <= {0, 1}:
        shown = ", ".join(sorted(map(repr, distinct))[:5])
        raise ValueError(
            f"{table.describe(label)} must be binary (0 and 1, or booleans), got {len(distinct)} "
            f"distinct values ({shown}). Make it so, for example log['liked'] = log['rating'] >= 4."
        )
    return values.astype(np.int64)


def _first_of_duplicates(
    user: NDArray[np.int32],
    item: NDArray[Any],
    seconds: NDArray[np.float64] | None,
    duplicates: str,
) -> NDArray[np.int64] | None:
    """Return the rows to keep, or None for all of them."""
    # Without times a repeated item may well be a second visit.
    if seconds is None or duplicates == "keep":
        return None
    keys = np.stack([user, factorize(item)[1], np.nan_to_num(seconds, nan=-np.inf)], axis=1)
    order = np.lexsort(keys.T)
    same = (keys[order][1:] == keys[order][:-1]).all(axis=1)
    same &= ~np.isnan(seconds[order][1:])
    n_repeated = int(np.count_nonzero(same))
    if n_repeated == 0:
        return None
    if duplicates == "warn":
        warnings.warn(
            f"{n_repeated} rows of log repeat the user, item and time of another row. They are "
            "kept; pass duplicates='drop' to leave them out or duplicates='keep' to say that "
            "they are meant.",
            UserWarning,
            stacklevel=4,
        )
        return None
    repeated = np.zeros(len(user), dtype=bool)
    repeated[order[1:][same]] = True
    return np.flatnonzero(~repeated)


def _catalog_of(item_ids: NDArray[Any], catalog: ItemCatalog | None, name: str) -> ItemCatalog:
    """Return a catalogue that has all items of the log."""
    if catalog is None:
        return ItemCatalog(factorize(item_ids)[0])
    if not isinstance(catalog, ItemCatalog):
        raise TypeError(
            f"catalog must be an ItemCatalog, got {type(catalog).__name__}. "
            "Build one with ItemCatalog.from_frame(items)."
        )
    check_same_kind(item_ids, name, catalog.ids, "the catalogue")
    extended = catalog.extend(item_ids)
    new = extended.ids[len(catalog) :]
    if len(new):
        shown = ", ".join(map(repr, new[:3].tolist()))
        warnings.warn(
            f"{len(new)} items of log are not in the catalogue ({shown}{', ...' * (len(new) > 3)}) "
            "and are added to it without content. Add them to the catalogue, or drop their rows, "
            "if that is not meant.",
            UserWarning,
            stacklevel=4,
        )
    return extended


def _chronological(
    user: NDArray[np.int32],
    seconds: NDArray[np.float64] | None,
    position: NDArray[np.float64] | None,
) -> NDArray[np.int64]:
    """Return the rows sorted by user, then by position or time, then as they stand."""
    if position is not None:
        missing = np.isnan(position)
        if missing.any():
            raise ValueError(
                f"The order column is missing in {np.count_nonzero(missing)} rows (first: row "
                f"{int(np.argmax(missing))}). Fill it, or pass the time column alone."
            )
        return np.lexsort((position, user))
    by_user = np.argsort(user, kind="stable")
    if seconds is None:
        return by_user
    # An event without a time keeps its place behind the one that stands before it in the log.
    filled = _fill_forward(user[by_user], seconds[by_user])
    return by_user[np.lexsort((filled, user[by_user]))]


def _fill_forward(user: NDArray[np.int32], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give missing times the last known one of the same user, -inf if there is none."""
    rows = np.arange(len(user))
    last_known = np.maximum.accumulate(np.where(np.isnan(seconds), -1, rows))
    found = (last_known >= 0) & (user[last_known] == user)
    return np.where(found, seconds[last_known], -np.inf)


def _time_bounds(
    user: NDArray[np.int32], seconds: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Return each event's time rounded down (as an impression) and up (as a donated event).

    Between the two, an event of unknown time never reaches somebody's past by accident.
    """
    if seconds is None:
        return None, None
    down = _fill_forward(user, seconds)
    up = -_fill_forward(user[::-1], -seconds[::-1])[::-1]
    return down, up


def _prefix_views(
    user: NDArray[np.int32], kept: NDArray[np.bool_] | None
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return start and length of each sorted row's history in the flat array of kept events.

    The history of row t is the slice from its user's first event to just before t.
    """
    n = len(user)
    before = np.arange(n) if kept is None else np.cumsum(kept) - kept
    new_user = np.ones(n, dtype=bool)
    new_user[1:] = user[1:] != user[:-1]
    first_row = np.maximum.accumulate(np.where(new_user, np.arange(n), 0))
    start = before[first_row].astype(np.int64)
    return start, (before - start).astype(np.int32)
