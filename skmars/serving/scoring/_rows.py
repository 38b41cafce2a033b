"""The events that a store keeps, as the rows that `Impressions.from_log` would make of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions, ItemCatalog
from skmars.data._log import Events, LogFormat, first_of_duplicates, log_fields
from skmars.persistence import Model
from skmars.serving.store._store import EVENT, UserId
from skmars.utils._ids import Ids, as_ids

# Events of a user, of the dtype `EVENT`, in order of arrival.
Stored = NDArray[Any]


def log_format(model: Model) -> LogFormat:
    """Return what a model takes for histories, as `Impressions.from_log` was told.

    Raises
    ------
    ValueError
        If a column other than the times orders the events, since a store does not keep it.
    """
    columns, histories = model.columns, model.histories
    if columns.order not in (None, columns.time):
        raise ValueError(
            f"the model orders events by the column {columns.order!r}, which a store does not "
            "keep: it has their times and the order of arrival. Fit the model without order."
        )
    # A log without clicks has no feedback: every event counts.
    labelled = columns.history != "all" or histories.events.feedback is not None
    return LogFormat(
        columns.user,
        columns.item,
        None if histories.now is None else columns.time,
        None,
        columns.label if labelled else None,
        columns.history,
        (),
        columns.duplicates,
    )


def until(stored: Sequence[Stored], position: int) -> list[Stored]:
    """Return the events of each user up to a position of the store."""
    return [events[: np.searchsorted(events["position"], position, "right")] for events in stored]


def as_log(user_ids: Sequence[UserId] | Ids, stored: Sequence[Stored], form: LogFormat) -> Events:
    """Return events of a store as the rows of a log, user after user, in order of arrival.

    Parameters
    ----------
    user_ids : sequence or ndarray of n_users distinct int or str
    stored : sequence of n_users ndarray of dtype `EVENT`
    form : LogFormat
        See `log_format`.

    Returns
    -------
    Events
        Their items are the numbers that these have in the store.
    """
    return log_and_positions(user_ids, stored, form)[0]


def log_and_positions(
    user_ids: Sequence[UserId] | Ids, stored: Sequence[Stored], form: LogFormat
) -> tuple[Events, NDArray[np.uint64]]:
    """Do as `as_log`, and return the position in the store of each row of the log, too."""
    users = as_ids(user_ids, "the user ids of the store")
    lengths = [len(events) for events in stored]
    events = np.concatenate([np.zeros(0, dtype=EVENT), *stored])
    known = np.isfinite(events["time"])
    log = Events(
        users,
        np.repeat(np.arange(len(users), dtype=np.int32), lengths),
        events["item"].astype(np.int32),
        None if form.label is None else events["clicked"].astype(np.int64),
        None if form.time is None else np.where(known, events["time"], np.nan),
        None,
        {},
    )
    position = events["position"]
    first = first_of_duplicates(log, "drop", 0) if form.duplicates == "drop" else None
    return (log, position) if first is None else (log.take(first), position[first])


def as_rows(log: Events, catalog: ItemCatalog, form: LogFormat) -> Impressions:
    """Return the rows that `Impressions.from_log` makes of a log; items are codes of `catalog`."""
    return Impressions(**log_fields(log, catalog, form)[0])
