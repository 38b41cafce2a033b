"""All events of a store in the order of arrival, a part at a time in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.serving.scoring._rows import Stored, until
from skmars.serving.store._store import EVENT, Store
from skmars.utils._ids import Ids, as_ids

PART = 4_000_000


def by_arrival(store: Store, size: int = PART) -> Iterator[tuple[Ids, Ids, NDArray[Any]]]:
    """Yield users, items and events of a store, as it is now, in the order of arrival.

    A store keeps events user by user, so that all of it is read once for each part.

    Parameters
    ----------
    store : Store
    size : int
        How many events are held at once, and yielded together.

    Yields
    ------
    users, items : ndarray of shape (n,)
        Ids.
    events : ndarray of shape (n,), of dtype `EVENT`
    """
    end = store.position
    names = as_ids(store.item_ids(), "the items of the store")
    for begin in range(0, end, size):
        users, lengths, parts = [], [], []
        for ids, stored in store.users():
            for user, events in zip(ids, _beyond(until(stored, min(begin + size, end)), begin)):
                if len(events):
                    users.append(user)
                    lengths.append(len(events))
                    parts.append(events.copy())  # not a view of all that the user did
        every = np.concatenate([np.zeros(0, dtype=EVENT), *parts])
        order = np.argsort(every["position"])
        who = np.repeat(np.arange(len(users)), lengths)[order]
        events = every[order]
        yield as_ids(users, "the users of the store")[who], names[events["item"]], events


def _beyond(stored: list[Stored], position: int) -> list[Stored]:
    return [events[np.searchsorted(events["position"], position, "right") :] for events in stored]
