"""A model that was fitted elsewhere: whether it fits a deployment, and which events it knows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from skmars.persistence import Model
from skmars.serving.scoring._rows import Stored, log_format
from skmars.serving.store._store import Store
from skmars.utils._ids import as_ids, check_same_kind

# Columns of the log that the runner reads with the columns of the current model.
OF_LOG = ("user", "item", "time", "label", "click_from", "time_format", "absolute", "ids")


def check_fits(model: Model, current: Model, store: Store) -> None:
    """Check that a model can take the place of another one, for the same log, store and clients.

    Raises
    ------
    ValueError
        If it reads other columns, takes other context, or has times where the other has none.
    TypeError
        If its ids are integers and those of the store are strings, or the other way round.
    """
    log_format(model)  # raises where a store can't keep what orders the events
    ours, theirs = model.columns, current.columns
    for name in OF_LOG:
        if getattr(ours, name) != getattr(theirs, name):
            raise ValueError(
                f"the fitted model reads logs with {name}={getattr(ours, name)!r}, and the current "
                f"one with {name}={getattr(theirs, name)!r}: the runner could not go on with its "
                "log. Fit it with the columns of the current one, or make a deployment of its own."
            )
    if dict(ours.context) != dict(theirs.context):
        raise ValueError(
            f"the fitted model takes the context {_told(ours.context)}, and the current one "
            f"{_told(theirs.context)}: requests that are right for one are refused by the other. "
            "Fit it with the same context, or make a deployment of its own."
        )
    if (model.histories.now is None) != (current.histories.now is None):
        raise ValueError(
            "one of the fitted model and the current one has times, and the other has none. Fit it "
            "as the current one was fitted."
        )
    users = next(iter(store.users()), ([], []))[0]
    if len(users):
        name = "the users of the store"
        check_same_kind(as_ids(users, name), name, model.histories.users, "the fitted model")
    items = store.item_ids()
    if items:
        name = "the items of the store"
        check_same_kind(as_ids(items, name), name, model.histories.catalog.ids, "the fitted model")


def _told(context: Any) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in context.items()) or "of no columns"


def known_position(model: Model, store: Store) -> int:
    """Return the position of the store up to which a model knows the streamed events.

    A log has no positions. Whatever is earlier than the end of the log counts as known, the rest
    as new, and the position is the one that is wrong for the fewest events: some came late, and
    some clocks are wrong. Without times, all that is there now counts as known.
    """
    end = model.histories.now if model.split_at is None else model.split_at
    if end is None:
        return store.position
    stored = chain.from_iterable(events for _, events in store.users())
    return _fewest_wrong([events[events["streamed"] == 1] for events in stored], end)


def _fewest_wrong(stored: Sequence[Stored], end: float) -> int:
    events = np.concatenate(
        [np.zeros(0, dtype=[("position", "u8"), ("time", "f8")])]
        + [events[["position", "time"]] for events in stored if len(events)]
    )
    events = events[np.argsort(events["position"])]
    new = events["time"] >= end
    known = events["time"] < end  # neither, where the time is unknown
    # How many more are wrong if these are known than if none is.
    wrong = np.cumsum(np.append(0, new.astype(np.int64) - known))
    first = int(np.argmin(wrong))
    return int(events["position"][first - 1]) if first else 0
