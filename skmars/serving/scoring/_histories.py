"""From the events of users, as a store keeps them, to the histories that the library defines."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import ItemCatalog
from skmars.data._log import events_of_users
from skmars.data._user_histories import UserHistories
from skmars.persistence import Model
from skmars.serving.scoring._rows import log_and_positions, log_format
from skmars.serving.store._store import Store
from skmars.utils._growing import GrowingArray
from skmars.utils._ids import Ids, Lookup, as_ids

# Catalogues whose codes are kept: the present one, and one that is to come or has been.
N_CATALOGS = 2


class ItemNumbers:
    """The store-wide numbers of items, as ids and as codes of catalogues: tables that grow.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self._known = Lookup(np.zeros(0, dtype=np.int64), "the store")
        self._codes: OrderedDict[str, GrowingArray] = OrderedDict()

    def read(self, n: int = 1) -> None:
        """Read from the store the ids of the items that are not known yet, unless `n` items are."""
        if len(self._known) >= n:
            return
        with self._lock:
            new = self._store.item_ids(len(self._known))
            if new:
                self._known = self._known.extended(as_ids(new, "item ids of the store", "item"))

    def ids(self, numbers: NDArray[Any]) -> Ids:
        """Return the ids of these items."""
        return self._known.take(numbers)

    def all_ids(self) -> Ids:
        """Return the ids of all items that are known, by their numbers."""
        return self._known.ids

    def numbers(self, ids: Ids, name: str) -> NDArray[np.int32]:
        """Return the number of each item, -1 where it is not known; `name` is for messages."""
        return self._known(ids, name)

    def codes(self, catalog: ItemCatalog) -> NDArray[np.int32]:
        """Return the code of each item in a catalogue, -1 where it lacks the item.

        Raises
        ------
        TypeError
            If ids are integers in the store and strings in the catalogue, or the other way round.
        """
        key, known = catalog.fingerprint, self._known
        with self._lock:
            codes = self._codes.get(key) or GrowingArray(np.int32)
            if len(codes) < len(known):
                new = known.take(np.arange(len(codes), len(known)))
                codes.append(catalog.codes(new, "item ids of the store"))
                self._codes[key] = codes
            if key in self._codes:
                self._codes.move_to_end(key)
            if len(self._codes) > N_CATALOGS:
                self._codes.popitem(last=False)
            return codes.values


def user_histories(
    users: Ids, events: Sequence[NDArray[Any]], numbers: ItemNumbers, model: Model
) -> tuple[UserHistories, NDArray[np.uint64]]:
    """Return the histories of users as `Impressions.from_log` makes them of these events.

    Parameters
    ----------
    users : ndarray of shape (n_users,)
        One at least.
    events : sequence of n_users ndarrays of dtype `EVENT`
        All events of each user so far, in the order of arrival.
    numbers : ItemNumbers
    model : Model
        Says what a history holds.

    Returns
    -------
    histories : UserHistories
        Events are sorted by time, those of one time in the order of arrival; without times, in
        this order. Items that the catalogue of the model lacks are added to it.
    position : ndarray of shape (n_values,), uint64
        Position in the store of each event of the histories.
    """
    histories, form = model.histories, log_format(model)
    log, position = log_and_positions(users, events, form)
    numbers.read(int(log.target.max(initial=-1)) + 1)
    catalog = histories.catalog
    items = numbers.codes(catalog)[log.target]
    if (items < 0).any():
        unknown = np.flatnonzero(items < 0)
        ids = numbers.ids(log.target[unknown])
        catalog = catalog.extend(ids)
        items[unknown] = catalog.codes(ids)
    done, row = events_of_users(replace(log, target=items), form)
    return histories.with_users(users, done, catalog), position[row]
