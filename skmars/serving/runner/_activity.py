"""How long the histories of a store are, and how that changes with new events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skmars.data import ItemCatalog
from skmars.data._activity import UserActivity
from skmars.data._log import LogFormat
from skmars.serving.scoring._rows import Stored, as_log, as_rows, until
from skmars.serving.store._store import Store, UserId
from skmars.utils._ids import check_same_kind, joined

# Users whose events are read at a time.
BLOCK = 4096
# As the built-in one with one sequence: results in order. What maps is plain, and can be pickled.
Map: TypeAlias = Callable[[Callable[[list[UserId]], Any], Iterable[list[UserId]]], Iterable[Any]]


def blocks_of(user_ids: Sequence[UserId]) -> Iterable[list[UserId]]:
    """Yield users in blocks that are read together."""
    return (list(user_ids[i : i + BLOCK]) for i in range(0, len(user_ids), BLOCK))


@dataclass(frozen=True, eq=False)
class Activity:
    """The lengths of the histories of all events up to a position of the store.

    Parameters
    ----------
    position : int
    n_items : int
        How many items these events have, which a store numbers in order of arrival.
    users : ndarray of shape (n_users,)
        Ids of the users with an event, ascending.
    longest : ndarray of shape (n_users,), int32
        The length of the longest history of each.
    rows : ndarray of shape (n,), int64
        How many events have a history of 0, 1, 2, ... items.
    """

    position: int
    n_items: int
    users: NDArray[Any]
    longest: NDArray[np.int32]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, store: Store, position: int, form: LogFormat, map: Map = map) -> Activity:
        """Return the activity at a position, of all users."""
        nothing = np.zeros(0, dtype=np.int64)
        begin = cls(0, 0, nothing, nothing.astype(np.int32), nothing)
        return begin.brought_forward(store, position, form, map)

    def brought_forward(
        self, store: Store, position: int, form: LogFormat, map: Map = map
    ) -> Activity:
        """Return the activity at a later position, at a cost of the users who did something.

        `map` reads them in blocks, here or elsewhere.
        """
        rows, n_items, parts = self.rows, self.n_items, []
        read = partial(_change, store, self.position, position, form)
        # In the order of their ids, those of a block lie side by side in the store.
        touched = sorted(store.touched(self.position))  # type: ignore[type-var]
        for earlier, now, active, n in map(read, blocks_of(touched)):
            rows, n_items = _sum(_sum(rows, -earlier), now), max(n_items, n)
            parts.append(active)
        users, longest = self._merged(parts)
        return Activity(position, n_items, users, longest, rows)

    def _merged(self, parts: Sequence[UserActivity]) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """Return all users and their longest histories; `parts` replace what was known."""
        fresh = [part for part in parts if len(part)]
        if not fresh:
            return self.users, self.longest
        ids = joined(*(part.ids for part in fresh))
        longest = np.concatenate([part.longest for part in fresh])
        check_same_kind(ids, "user_id of new events", self.users, "earlier ones")
        # Of one type, since NumPy would compare int64 and uint64 as floats.
        both = joined(self.users, ids)
        users, ids = both[: len(self.users)], both[len(self.users) :]
        result = self.longest.copy()
        at = np.searchsorted(users, ids)
        known = np.zeros(len(ids), dtype=bool)
        inside = at < len(users)
        known[inside] = users[at[inside]] == ids[inside]
        result[at[known]] = longest[known]
        users = np.concatenate([users, ids[~known]])
        order = np.argsort(users, kind="stable")
        return users[order], np.concatenate([result, longest[~known]])[order]


def _change(
    store: Store, since: int, position: int, form: LogFormat, ids: list[UserId]
) -> tuple[NDArray[np.int64], NDArray[np.int64], UserActivity, int]:
    """Return how many rows had which length, and what `_measured` returns of the present ones."""
    stored = store.histories(ids)[0]
    earlier = np.zeros(0, dtype=np.int64)
    if since:
        earlier, _, _ = _measured(ids, until(stored, since), form)
    return earlier, *_measured(ids, until(stored, position), form)


def _measured(
    ids: Sequence[UserId], stored: Sequence[Stored], form: LogFormat
) -> tuple[NDArray[np.int64], UserActivity, int]:
    """Return how many rows have which length, the activity of users, and the number of items."""
    log = as_log(ids, stored, form)
    X = as_rows(log, ItemCatalog(np.zeros(0, dtype=np.int64)), form)
    n_items = int(log.target.max(initial=-1)) + 1
    return np.bincount(X.history.length), UserActivity.of(X)[0], n_items


def _sum(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    result = np.zeros(max(len(a), len(b)), dtype=np.int64)
    result[: len(a)] += a
    result[: len(b)] += b
    return np.trim_zeros(result, "b")
