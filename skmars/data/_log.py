"""Convert an interaction log to impressions whose histories are views."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skmars.data._catalog import ItemCatalog, require_catalog
from skmars.data._columns import LOOKALIKES, RESERVED
from skmars.data._fields import Fields
from skmars.data._frames import Table
from skmars.data._histories import Timeline
from skmars.data._sequences import Sequences
from skmars.data._user_columns import is_user_column
from skmars.utils._ids import check_same_kind, factorize
from skmars.utils._values import NUMBERS, as_numbers, missing, type_names

if TYPE_CHECKING:
    from skmars.data._frames import Frame

# The default column of times, which may be missing.
DEFAULT_TIME = "timestamp"
# Other usual names of columns of times, in lower case.
TIME_NAMES = {
    *("timestamp", "time", "ts", "date", "datetime", "created_at"),
    *("event_time", "event_timestamp", "event_date"),
    *("unixreviewtime", "unix_time", "unix_timestamp"),
}


def read_log(
    log: Frame,
    catalog: ItemCatalog | None,
    *,
    user: str,
    item: str,
    time: str | None,
    order: str | None,
    label: str | None,
    history: str,
    context: Iterable[str],
    duplicates: str,
) -> tuple[Fields, NDArray[np.int64] | None]:
    """Return the fields and labels for `Impressions.from_log`, which describes the parameters."""
    _check_choice("history", history, ("positive", "all"))
    _check_choice("duplicates", duplicates, ("warn", "keep", "drop"))
    roles = {"user": user, "item": item, "label": label, "order": order}
    context = _check_names({**roles, "time": time}, context)
    table = Table(log, "log")
    time = _time_column(table, time, used=roles.values())
    _check_roles(table, {**roles, "time": time}, context)
    users, user_code = factorize(table.ids(user))
    item_ids = table.ids(item)
    if len(table) == 0:
        raise ValueError("log has no rows; impressions need at least one event.")
    y = None if label is None else _binary(table, label)
    seconds = None if time is None else _seconds(table, time)
    place = None if order is None else table.ranks(order)
    extra = {name: table.context(name) for name in context}

    keep = _first_of_duplicates(user_code, item_ids, seconds, duplicates)
    if keep is not None:
        user_code, item_ids = user_code[keep], item_ids[keep]
        y = None if y is None else y[keep]
        seconds = None if seconds is None else seconds[keep]
        place = None if place is None else place[keep]
        extra = {name: column[keep] for name, column in extra.items()}

    catalog = _catalog_of(item_ids, catalog, table.describe(item))
    moment, row_time, event_time = _moments(user_code, seconds, place)
    kept = np.flatnonzero((moment > -np.inf) & (True if y is None or history == "all" else y == 1))
    timeline = Timeline(user_code[kept], moment[kept], len(users))
    event = kept[timeline.order]
    codes = catalog.codes(item_ids)
    past = Sequences(
        codes[event],
        timeline.start[user_code],
        timeline.count_before(user_code, moment).astype(np.int32),
        feedback=y[event].astype(np.int8) if history == "all" and y is not None else None,
        time=None if event_time is None else event_time[event],
    )
    fields: Fields = {
        "catalog": catalog,
        "users": users,
        "user": user_code,
        "target": codes,
        "history": past,
        "time": row_time,
        "context": extra,
        "_checked": True,
    }
    return fields, y


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        words = ", ".join(map(repr, choices[:-1])) + f" or {choices[-1]!r}"
        raise ValueError(f"{name} must be {words}, got {value!r}.")


def _check_names(roles: Mapping[str, Any], context: Any) -> list[str]:
    """Return the context columns; TypeError if a parameter can't be the name of a column."""
    if isinstance(context, str | bytes | Mapping) or not isinstance(context, Iterable):
        raise TypeError(f"context must be a list of columns, got {context!r}.")
    names = list(context)
    for role, column in (*roles.items(), *(("context", column) for column in names)):
        optional = role in ("label", "order", "time") and column is None
        if not optional and (not isinstance(column, str | int) or isinstance(column, bool)):
            raise TypeError(f"{role} must be the name of a column of the log, got {column!r}.")
    return names


def _check_roles(table: Table, roles: Mapping[str, str | None], context: list[str]) -> None:
    """Raise ValueError if a column is named twice, or context has the name of something else."""
    role_of: dict[str, str] = {}
    for role, column in (*roles.items(), *(("context", column) for column in context)):
        if column is None:
            continue
        # The times may also be the order.
        if column in role_of and (role_of[column], role) != ("order", "time"):
            raise ValueError(
                f"{table.describe(column)} is named twice: as {role_of[column]} and as {role}. "
                "A column has one meaning; name another one, or leave one of them out."
            )
        role_of[column] = role
    for column in context:
        if column in (*RESERVED, *LOOKALIKES) or is_user_column(column):
            raise ValueError(
                f"{table.describe(column)} can't be context: impressions have a column of this "
                "name, which means something else. Rename it."
            )


def time_candidates(table: Table, used: Collection[str | None]) -> list[str]:
    """Return the columns that may hold the times: the usual one, or else all that look like it."""
    if DEFAULT_TIME in table.columns:
        return [DEFAULT_TIME]
    return [
        column
        for column in table.columns
        if column not in used and (str(column).lower() in TIME_NAMES or table.holds_dates(column))
    ]


def _time_column(table: Table, time: str | None, used: Collection[str | None]) -> str | None:
    """Return the column of the times; None if the log has none."""
    if time != DEFAULT_TIME:
        return time
    found = time_candidates(table, used)
    if len(found) > 1:
        raise ValueError(
            f"{table.name} has no column {time!r}, but several that may hold the times: "
            f"{', '.join(map(repr, found))}. Say which one, for example time={found[0]!r}, or "
            "pass time=None if the order of the log is that of the events."
        )
    return found[0] if found else None


def _seconds(table: Table, time: str) -> NDArray[np.float64]:
    """Return the times of the events, NaN where unknown."""
    try:
        seconds = table.seconds(time)
    except TypeError as error:
        raise TypeError(
            f"{error} Pass time=None if the order of the log is that of the events."
        ) from error
    seconds = np.where(np.isfinite(seconds), seconds, np.nan)
    if np.isnan(seconds).all():
        raise ValueError(
            f"{table.describe(time)} holds no time at all. Fill it, or pass time=None if the order "
            "of the log is that of the events."
        )
    return seconds


def _binary(table: Table, label: str) -> NDArray[np.int64]:
    """Return a column of 0 and 1; ValueError if it holds anything else."""
    values, name = table.values(label), table.describe(label)
    absent = missing(values)
    if absent.any():
        raise ValueError(
            f"{name} is missing in {np.count_nonzero(absent)} rows (first: row "
            f"{int(np.argmax(absent))}). Drop these rows, or leave label=None."
        )
    if values.dtype.kind == "O" and type_names(values) <= NUMBERS:
        values = as_numbers(values, name, exact=False)
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        distinct = set(map(repr, values.tolist()))
        raise ValueError(
            f"{name} must be binary (0 and 1, or booleans), got {len(distinct)} distinct values "
            f"({', '.join(sorted(distinct)[:5])}). Make it binary, for example "
            "log['liked'] = log['rating'] >= 4."
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
            "kept. Pass duplicates='drop' to leave them out, or duplicates='keep' if they are "
            "intended.",
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
    check_same_kind(item_ids, name, require_catalog(catalog).parts[0].ids, "the catalogue")
    extended = catalog.extend(item_ids)
    new = extended.ids[len(catalog) :]
    if len(new):
        shown = ", ".join(map(repr, new[:3].tolist()))
        warnings.warn(
            f"{len(new)} items of log are not in the catalogue ({shown}{', ...' * (len(new) > 3)}) "
            "and are added to it without content. To avoid that, add them to the catalogue with "
            "content, or drop their rows.",
            UserWarning,
            stacklevel=4,
        )
    return extended


def _moments(
    user: NDArray[np.int32],
    seconds: NDArray[np.float64] | None,
    place: NDArray[np.int64] | None,
) -> tuple[NDArray[Any], NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Return the moment of each row, its time as an impression, and its time as an event.

    Moments decide what is in a history, times what may be borrowed. Nothing comes before a
    moment, or a time of an impression, of -inf.
    """
    if seconds is None:
        return (np.arange(len(user)) if place is None else place), None, None
    if place is not None:
        return place, *_time_bounds(user, place, seconds)
    n_unknown = int(np.count_nonzero(np.isnan(seconds)))
    if n_unknown:
        warnings.warn(
            f"{n_unknown} rows of log have no time. What came before and after them is unknown, so "
            "their histories are empty, and they are in no history. Fill the times, or name a "
            "column that orders the events of each user with order=.",
            UserWarning,
            stacklevel=4,
        )
    seconds = np.where(np.isnan(seconds), -np.inf, seconds)
    return seconds, seconds, seconds


def _time_bounds(
    user: NDArray[np.int32], place: NDArray[np.int64], seconds: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return times that do not contradict the order: rounded down (as impressions), and up.

    An impression is no earlier than what its user did before it or with it, an event no later
    than what its user did after it or with it. So nobody borrows an event that may have happened
    later, and rows of one moment have one time.
    """
    key = user.astype(np.int64) * (place.max() + 1) + place
    sort = np.argsort(key)
    key, user, seconds = key[sort], user[sort], seconds[sort]
    unknown = np.isnan(seconds)
    down = _running_maximum(user, np.where(unknown, -np.inf, seconds))
    up = -_running_maximum(-user[::-1], np.where(unknown, -np.inf, -seconds)[::-1])[::-1]
    unsort = np.empty_like(sort)
    unsort[sort] = np.arange(len(sort))
    first, last = np.searchsorted(key, key), np.searchsorted(key, key, side="right") - 1
    return down[last][unsort], up[first][unsort]


def _running_maximum(user: NDArray[np.int32], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest value so far of the same user; users stand in increasing order."""
    levels, rank = np.unique(values, return_inverse=True)
    highest = np.maximum.accumulate(user.astype(np.int64) * len(levels) + rank)
    return levels[highest % len(levels)]
