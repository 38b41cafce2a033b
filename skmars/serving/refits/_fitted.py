"""Whether a model that was fitted elsewhere fits a deployment."""

from __future__ import annotations

from typing import Any

from skmars.persistence import Model
from skmars.serving.scoring._rows import log_format
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
