"""All events of a store as the rows that a model is fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions, ItemCatalog
from skmars.data._known_users import KnownUsers
from skmars.data._log import first_of_duplicates
from skmars.persistence import Model
from skmars.serving.scoring._rows import Stored, as_log, as_rows, log_format, until
from skmars.serving.store._store import Store, UserId
from skmars.utils._ids import as_ids, check_same_kind


def events_until(store: Store, position: int) -> tuple[list[UserId], list[Stored]]:
    """Return the users with an event up to a position, and these events, user by user."""
    users: list[UserId] = []
    events: list[Stored] = []
    for ids, stored in store.users():
        known = [(user, part) for user, part in zip(ids, until(stored, position)) if len(part)]
        users += [user for user, _ in known]
        events += [part for _, part in known]
    return users, events


def rows_of(
    users: Sequence[UserId],
    events: Sequence[Stored],
    catalog: ItemCatalog,
    item_ids: NDArray[Any],
    model: Model,
    known: KnownUsers,
) -> tuple[Impressions, NDArray[np.int64]]:
    """Return events as `Impressions.from_log` reads them from a log in the order of arrival.

    Parameters
    ----------
    users : sequence of n_users int or str
    events : sequence of n_users ndarrays of dtype `EVENT`
        One at least each.
    catalog : ItemCatalog
        Those of its items that the events have come from `extend`, or were there before.
    item_ids : ndarray of shape (n_items,)
        By the numbers that items have in the store.
    model : Model
        Says what its log and its histories hold. It has no context.
    known : KnownUsers
        Attributes of users.

    Returns
    -------
    X : Impressions
    y : ndarray of shape (n_rows,), int64
        Whether the item was clicked, also where the log of the model had clicks alone.
    """
    form = log_format(model)
    log = as_log(users, events, replace(form, duplicates="keep"))
    check_same_kind(log.users, "the users of the store", model.histories.users, "the model")
    every = np.concatenate(events)
    order = np.argsort(every["position"], kind="stable")
    codes = catalog.codes(item_ids, "the items of the store")
    log, clicked = log.take(order), every["clicked"][order].astype(np.int64)
    log = replace(log, target=codes[log.target])
    if form.duplicates == "drop":
        first = first_of_duplicates(log, "drop", 0)
        if first is not None:
            log, clicked = log.take(first), clicked[first]
    X = as_rows(log, catalog, form)
    return replace(X, user_attributes=known.of(X.users, "the store")), clicked


def items_of(store: Store, events: Sequence[Stored]) -> NDArray[Any]:
    """Return the ids of the items that events have, which a store numbers in order of arrival."""
    n = 1 + max(int(part["item"].max()) for part in events)
    return as_ids(store.item_ids()[:n], "the items of the store")
