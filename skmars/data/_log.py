"""Convert an interaction log to impressions whose histories are views."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skmars.data._catalog import ItemCatalog, require_catalog
from skmars.data._columns import MADE, RESERVED
from skmars.data._fields import Fields
from skmars.data._frames import Table
from skmars.data._histories import Timeline
from skmars.data._sequences import Sequences
from skmars.data._user_columns import is_user_column
from skmars.utils._ids import check_same_kind, factorize, joined
from skmars.utils._values import NUMBERS, as_numbers, check_same_unit, missing, type_names

if TYPE_CHECKING:
    from skmars.data._frames import Frame
    from skmars.data._known_users import KnownUsers

# The default column of times, which may be missing.
DEFAULT_TIME = "timestamp"
# Other usual names of columns of times, in lower case.
TIME_NAMES = {
    *("timestamp", "time", "ts", "date", "datetime", "created_at"),
    *("event_time", "event_timestamp", "event_date"),
    *("unixreviewtime", "unix_time", "unix_timestamp"),
}


@dataclass(frozen=True)
class LogFormat:
    """What `Impressions.from_log` is told of a log, which describes these fields."""

    user: str
    item: str
    time: str | None
    order: str | None
    label: str | None
    history: str
    context: tuple[str, ...]
    duplicates: str


@dataclass(frozen=True)
class LogRecord:
    """What impressions keep of their log, besides their own columns, to append a further one."""

    format: LogFormat
    label: NDArray[np.int8] | None
    place: NDArray[Any] | None  # values of the column `order`
    seconds: NDArray[np.float64] | None  # of logs with an order; else they are the time of a row
    zoned: bool | None  # whether dates told their zone; None for numbers
    known: KnownUsers | None = None  # where more users have attributes than have rows


@dataclass(frozen=True)
class Events:
    """The rows of a log as columns, in their order; items are codes of a catalogue."""

    users: NDArray[Any]
    user: NDArray[np.int32]
    target: NDArray[np.int32]
    label: NDArray[np.int64] | None
    seconds: NDArray[np.float64] | None  # NaN where unknown
    place: NDArray[Any] | None
    context: dict[str, NDArray[Any]]
    zoned: bool | None = None  # see `LogRecord`

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: NDArray[np.int64]) -> Events:
        """Return some of the rows."""
        return Events(
            self.users,
            self.user[rows],
            self.target[rows],
            None if self.label is None else self.label[rows],
            None if self.seconds is None else self.seconds[rows],
            None if self.place is None else self.place[rows],
            {name: column[rows] for name, column in self.context.items()},
            self.zoned,
        )


RENAME = "Rename a column, or say which one is meant, for example user='customer' or item='sku'."


def read_log(
    log: Frame, catalog: ItemCatalog | None, form: LogFormat, behind: Events | None = None
) -> tuple[Fields, NDArray[np.int64] | None]:
    """Return the fields and labels for `Impressions.from_log`, which describes the parameters.

    The rows of `log` come behind those of an earlier one, `behind`, whose items have the codes of
    `catalog` (see `Impressions.append`).
    """
    check_format(form)
    table = Table(log, "log", RENAME if behind is None else "The columns are those of from_log.")
    roles = roles_of(table, form)
    users, user = factorize(table.ids(form.user))
    item_ids = table.ids(form.item)
    if len(table) == 0:
        if behind is not None:
            assert catalog is not None
            return log_fields(behind, catalog, form)
        raise ValueError("log has no rows; impressions need at least one event.")
    time = roles["time"]
    label, seconds, place = moments_and_labels(table, roles)
    if seconds is not None:
        check_some_time(bool(np.isfinite(seconds).any()), table, time)
    context = {name: table.context(name) for name in form.context}
    catalog = catalog_of(item_ids, catalog, table.describe(form.item), further=behind is not None)
    zoned = None if time is None else table.has_zone(time)
    events = Events(users, user, catalog.codes(item_ids), label, seconds, place, context, zoned)
    if behind is not None:
        events = _joined(behind, events, {k: table.describe(v or k) for k, v in roles.items()})
    n_before = 0 if behind is None else len(behind)
    if seconds is not None and place is None:
        warn_of_unknown_times(int(np.count_nonzero(np.isnan(seconds))))
    keep = first_of_duplicates(events, form.duplicates, n_before)
    fields, y = log_fields(events if keep is None else events.take(keep), catalog, form)
    fields["_zone"] = None if time is None else table.zone(time)
    return fields, y


def log_fields(
    events: Events, catalog: ItemCatalog, form: LogFormat
) -> tuple[Fields, NDArray[np.int64] | None]:
    """Return the fields of `Impressions`, one row an event, and the labels."""
    row_time, past = histories_of(events, form)
    y = events.label
    record = LogRecord(
        form,
        None if y is None else y.astype(np.int8),
        events.place,
        None if events.place is None else events.seconds,
        events.zoned,
    )
    fields: Fields = {
        "catalog": catalog,
        "users": events.users,
        "user": events.user,
        "target": events.target,
        "history": past,
        "time": row_time,
        "context": events.context,
        "_log": record,
        "_checked": True,
    }
    return fields, y


def histories_of(events: Events, form: LogFormat) -> tuple[NDArray[np.float64] | None, Sequences]:
    """Return the time of each row of a log, None without times, and its history.

    They depend on the rows of the same user alone. The flat arrays of the histories hold what each
    user has done, user after user.
    """
    moment, row_time, timeline, done, _ = _gathered(events, form)
    length = timeline.count_before(events.user, moment).astype(np.int32)
    return row_time, replace(done, start=done.start[events.user], length=length)


def events_of_users(events: Events, form: LogFormat) -> tuple[Sequences, NDArray[np.int64]]:
    """Return what each user of a log has done that a history may hold, oldest first.

    And the row of the log that each of these events is.
    """
    return _gathered(events, form)[-2:]


def _gathered(
    events: Events, form: LogFormat
) -> tuple[NDArray[Any], NDArray[np.float64] | None, Timeline, Sequences, NDArray[np.int64]]:
    """Return the moments of rows and their times, and what histories may hold, user by user.

    The last two are sequences of events, and the row that each event is.
    """
    y = events.label
    place = None if events.place is None else np.unique(events.place, return_inverse=True)[1]
    moment, row_time, event_time = _moments(events.user, events.seconds, place)
    all_kept = y is None or form.history == "all"
    kept = np.flatnonzero((moment > -np.inf) & (True if all_kept else y == 1))
    timeline = Timeline(events.user[kept], moment[kept], len(events.users))
    event = kept[timeline.order]
    done = Sequences(
        events.target[event],
        timeline.start[:-1],
        np.diff(timeline.start).astype(np.int32),
        feedback=y[event].astype(np.int8) if form.history == "all" and y is not None else None,
        time=None if event_time is None else event_time[event],
    )
    return moment, row_time, timeline, done, event


def _joined(old: Events, new: Events, names: Mapping[str, str]) -> Events:
    """Return the rows of one log and those of a further one behind them.

    `names` describes the columns of the further log, for messages.
    """
    if old.seconds is None or new.seconds is None:
        if (old.seconds is None) != (new.seconds is None):
            with_times, without = ("X", "log") if new.seconds is None else ("log", "X")
            raise ValueError(
                f"{with_times} has times, but {without} has none, so that nobody can tell what "
                "came first. Read both logs with times, or both with time=None."
            )
        seconds = None
    else:
        check_same_unit(new.seconds, names["time"], old.seconds, "X")
        if {old.zoned, new.zoned} == {True, False}:
            which = ["dates without a time zone", "dates with a time zone"]
            raise ValueError(
                f"{names['time']} holds {which[bool(new.zoned)]}, but that of X held "
                f"{which[bool(old.zoned)]}, so that nobody can tell what came first. Bring both to "
                "one zone, for example with .dt.tz_localize or .dt.tz_convert."
            )
        seconds = np.concatenate([old.seconds, new.seconds])
    check_same_kind(new.users, names["user"], old.users, "X")
    users, code = factorize(joined(old.users, new.users))
    n = len(old.users)
    label = place = None
    if old.label is not None and new.label is not None:
        label = np.concatenate([old.label, new.label])
    if old.place is not None and new.place is not None:
        if (old.place.dtype.kind == "f") != (new.place.dtype.kind == "f"):
            raise TypeError(
                f"{names['order']} orders the events, but whole numbers can't be compared with "
                "times or fractions: X was read with the one, and log has the other. Convert it."
            )
        place = _behind(old.place, new.place, names["order"])
    return Events(
        users,
        np.concatenate([code[:n][old.user], code[n:][new.user]]),
        np.concatenate([old.target, new.target]),
        label,
        seconds,
        place,
        {
            name: _behind(old.context[name], column, f"column {name!r} of log")
            for name, column in new.context.items()
        },
        old.zoned if new.zoned is None else new.zoned,
    )


def _behind(old: NDArray[Any], new: NDArray[Any], name: str) -> NDArray[Any]:
    """Return the values of two columns of one kind, one behind the other."""
    if (old.dtype == object) != (new.dtype == object):
        kinds = ["numbers", "strings"]
        raise TypeError(
            f"{name} holds {kinds[new.dtype == object]}, but that of X held "
            f"{kinds[old.dtype == object]}. Convert it."
        )
    whole = {values.dtype.kind in "iu" for values in (old, new)}
    return joined(old, new) if whole == {True} else np.concatenate([old, new])


def check_format(form: LogFormat) -> None:
    """Raise ValueError or TypeError if what is told of a log can't be meant."""
    _check_choice("history", form.history, ("positive", "all"))
    _check_choice("duplicates", form.duplicates, ("warn", "keep", "drop"))
    roles = {"user": form.user, "item": form.item, "label": form.label, "order": form.order}
    _check_names({**roles, "time": form.time}, form.context)


def roles_of(table: Table, form: LogFormat) -> dict[str, Any]:
    """Return which columns of a log hold users, items, labels, order and times, None for none.

    Raises
    ------
    ValueError
        If a column is named twice, or there are several that may hold the times.
    """
    roles = {"user": form.user, "item": form.item, "label": form.label, "order": form.order}
    roles["time"] = _time_column(table, form.time, used=roles.values())
    _check_roles(table, roles, form.context)
    return roles


def moments_and_labels(
    table: Table, roles: Mapping[str, Any]
) -> tuple[NDArray[np.int64] | None, NDArray[np.float64] | None, NDArray[Any] | None]:
    """Return the labels of a log, its times (NaN where unknown) and what orders it.

    None for what it does not have.
    """
    label, time, order = roles["label"], roles["time"], roles["order"]
    return (
        None if label is None else _binary(table, label),
        None if time is None else _seconds(table, time),
        None if order is None else table.places(order),
    )


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        words = ", ".join(map(repr, choices[:-1])) + f" or {choices[-1]!r}"
        raise ValueError(f"{name} must be {words}, got {value!r}.")


def column_names(context: Any) -> tuple[str, ...]:
    """Return the context columns; TypeError if they are no list."""
    if isinstance(context, str | bytes | Mapping) or not isinstance(context, Iterable):
        advice = f" Pass [{context!r}]." if isinstance(context, str) else ""
        raise TypeError(f"context must be a list of columns, got {context!r}.{advice}")
    return tuple(context)


def _check_names(roles: Mapping[str, Any], context: Iterable[str]) -> None:
    """Raise TypeError if a parameter can't be the name of a column."""
    for role, column in (*roles.items(), *(("context", column) for column in context)):
        optional = role in ("label", "order", "time") and column is None
        if not optional and (not isinstance(column, str | int) or isinstance(column, bool)):
            raise TypeError(f"{role} must be the name of a column of the log, got {column!r}.")


def _check_roles(table: Table, roles: Mapping[str, str | None], context: Iterable[str]) -> None:
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
        taken = column in (*RESERVED, *MADE)
        if taken or is_user_column(column):
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
    return np.where(np.isfinite(seconds), seconds, np.nan)


def check_some_time(known: bool, table: Table, time: str) -> None:
    """Raise ValueError unless some time of a log is known."""
    if not known:
        raise ValueError(
            f"{table.describe(time)} holds no time at all. Fill it, or pass time=None if the order "
            "of the log is that of the events."
        )


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


def first_of_duplicates(events: Events, duplicates: str, n_before: int) -> NDArray[np.int64] | None:
    """Return the rows to keep, or None for all of them.

    Of rows that were read before, the first `n_before`, nothing is said again.
    """
    if duplicates == "keep":
        return None
    repeated = repeated_rows(events)
    n_repeated = int(np.count_nonzero(repeated[n_before:]))
    if n_repeated == 0:
        return None
    if duplicates == "warn":
        warn_of_duplicates(n_repeated, stacklevel=5)
        return None
    return np.flatnonzero(~repeated)


def repeated_rows(events: Events) -> NDArray[np.bool_]:
    """Return which rows repeat user, item and time of an earlier row."""
    repeated = np.zeros(len(events), dtype=bool)
    # Without times a repeated item may well be a second visit.
    seconds = events.seconds
    if seconds is None:
        return repeated
    keys = np.stack([events.user, events.target, np.nan_to_num(seconds, nan=-np.inf)], axis=1)
    order = np.lexsort(keys.T)
    same = (keys[order][1:] == keys[order][:-1]).all(axis=1)
    same &= ~np.isnan(seconds[order][1:])
    repeated[order[1:][same]] = True
    return repeated


def warn_of_duplicates(n_repeated: int, *, stacklevel: int) -> None:
    """Say how many rows of a log repeat others."""
    warnings.warn(
        f"{n_repeated} rows of log repeat the user, item and time of another row. They are "
        "kept. Pass duplicates='drop' to leave them out, or duplicates='keep' if they are "
        "intended.",
        UserWarning,
        stacklevel=stacklevel,
    )


def catalog_of(
    item_ids: NDArray[Any], catalog: ItemCatalog | None, name: str, *, further: bool
) -> ItemCatalog:
    """Return a catalogue that has all items of the log."""
    if catalog is None:
        return ItemCatalog(factorize(item_ids)[0])
    check_same_kind(item_ids, name, require_catalog(catalog).parts[0].ids, "the catalogue")
    extended = catalog.extend(item_ids)
    new = extended.ids[len(catalog) :]
    # Where the first log made the catalogue, a further one goes on with it.
    if len(new) and not (further and not catalog.content and not catalog.widths):
        shown = ", ".join(map(repr, new[:3].tolist()))
        warnings.warn(
            f"{len(new)} items of log are not in the catalogue ({shown}{', ...' * (len(new) > 3)}) "
            "and are added to it without content. To avoid that, add them to the catalogue with "
            "content, or drop their rows.",
            UserWarning,
            stacklevel=4,
        )
    return extended


def warn_of_unknown_times(n_unknown: int) -> None:
    """Say how many rows of a log have no time."""
    if n_unknown:
        warnings.warn(
            f"{n_unknown} rows of log have no time. What came before and after them is unknown, so "
            "their histories are empty, and they are in no history. Fill the times, or name a "
            "column that orders the events of each user with order=.",
            UserWarning,
            stacklevel=4,
        )


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
