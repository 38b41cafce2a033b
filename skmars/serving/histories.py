"""What every user has done so far: the history of an impression that is still to come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions, ItemCatalog, Sequences
from skmars.data.ids import Lookup, check_same_kind, factorize


@dataclass(frozen=True, eq=False)
class UserHistories:
    """The events of each user, from which impressions of new (user, item) pairs are made.

    Parameters
    ----------
    catalog : ItemCatalog
    users : ndarray of shape (n_users,)
        User ids.
    events : Sequences of n_users rows
        All events of each user that a history may hold, oldest first.
    now : float or None
        When the latest event happened, in seconds; None without times.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame({"user_id": ["ann", "ann", "bob"], "item_id": [1, 2, 1]})
    >>> histories = UserHistories.of(*Impressions.from_log(log))
    >>> histories.impressions(np.array(["ann", "cid"], dtype=object), np.array([3, 1]))
    Impressions(2 rows, 2 users, 3 items, history 0-2)
    """

    catalog: ItemCatalog
    users: NDArray[Any]
    events: Sequences
    now: float | None

    @classmethod
    def of(cls, X: Impressions, y: NDArray[Any] | None) -> UserHistories:
        """Gather the events of all rows that `Impressions.from_log` returned."""
        # Histories of a user are prefixes of one slice, which all kept events of the user fill.
        kept = np.ones(len(X)) if y is None or X.history.feedback is not None else y
        start = np.zeros(len(X.users), dtype=np.int64)
        start[X.user] = X.history.start
        length = np.bincount(X.user, weights=kept, minlength=len(X.users)).astype(np.int32)
        now = None if X.time is None else float(X.time.max())
        return cls(X.catalog, X.users, replace(X.history, start=start, length=length), now)

    def with_catalog(self, catalog: ItemCatalog) -> UserHistories:
        """Return the same histories over another catalogue, to which unknown items are added."""
        check_same_kind(catalog.ids, "the catalogue", self.catalog.ids, "the log")
        catalog = catalog.extend(self.catalog.ids)
        return replace(
            self, catalog=catalog, events=self.events.recode(catalog.codes(self.catalog.ids))
        )

    def impressions(
        self, user_ids: NDArray[Any], item_ids: NDArray[Any], time: Any = None
    ) -> Impressions:
        """Return impressions of these users and items.

        Parameters
        ----------
        user_ids, item_ids : ndarray of shape (n_rows,)
            Users and items may be unknown.
        time : ndarray of shape (n_rows,), float64, default=None
            Seconds. A history ends before this time; where it is NaN, and without times, it holds
            all that the user has done.

        Returns
        -------
        Impressions of n_rows rows

        Raises
        ------
        TypeError
            If ids are strings here and integers in the log, or the other way round.
        ValueError
            If times are passed, but the log has none.
        """
        check_same_kind(user_ids, "the user column of the rows", self.users, "that of the log")
        check_same_kind(item_ids, "the item column of the rows", self.catalog.ids, "the catalogue")
        who = Lookup(self.users)(user_ids)
        known = who >= 0
        length = np.where(known, self.events.length[who], 0)
        seconds = None
        if time is not None:
            if self.now is None:
                raise ValueError(
                    "the rows have times, but the log has none, so that nobody can tell which "
                    "events came before. Leave the time column out, or take a log with times."
                )
            dated = known & ~np.isnan(time)
            length[dated] = self._count_before(who[dated], time[dated])
        if self.now is not None:
            seconds = np.full(len(who), self.now)
            if time is not None:
                seconds = np.where(np.isnan(time), self.now, time)
        catalog = self.catalog.extend(item_ids)
        users, user = factorize(user_ids)
        history = replace(
            self.events,
            start=np.where(known, self.events.start[who], 0),
            length=length.astype(np.int32),
        )
        return Impressions(catalog, users, user, catalog.codes(item_ids), history, time=seconds)

    def _count_before(self, who: NDArray[np.int32], time: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return how many events of each of these users came before each of these times."""
        events = self.events
        owner = np.repeat(np.arange(len(self.users)), events.length)
        # Where order and times of a log disagree, an event is as late as the latest one before it.
        times, rank = np.unique(events.time[events.positions()], return_inverse=True)  # type: ignore[index]
        event_time = times[np.maximum.accumulate(owner * len(times) + rank) % max(1, len(times))]
        user, at = np.concatenate([who, owner]), np.concatenate([time, event_time])
        is_event = np.arange(len(user)) >= len(who)
        # Sorted by user and time, where a row stands before the events of the same moment.
        order = np.lexsort((is_event, at, user))
        count = np.empty(len(user), dtype=np.int64)
        count[order] = np.cumsum(is_event[order])
        return count[: len(who)] - events.offsets[who]
