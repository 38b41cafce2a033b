"""The events of all users so far, from which the histories of future impressions are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data._attributes import Attribute, take_known
from skmars.data._catalog import ItemCatalog
from skmars.data._histories import Timeline
from skmars.data._impressions import Impressions
from skmars.data._sequences import Sequences
from skmars.utils._ids import Lookup, as_ids, factorize
from skmars.utils._values import as_seconds, check_same_unit


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
        A moment after all events of the log, in seconds; None without times.
    user_attributes : mapping of str to Attribute
        Of the users, see `Impressions`.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame({"user_id": ["ann", "ann", "bob"], "item_id": [1, 2, 1]})
    >>> histories = UserHistories.of(Impressions.from_log(log)[0])
    >>> histories.impressions(np.array(["ann", "cid"], dtype=object), np.array([3, 1]))
    Impressions(2 rows, 2 users, 3 items, history 0-2)
    """

    catalog: ItemCatalog
    users: NDArray[Any]
    events: Sequences
    now: float | None
    user_attributes: Mapping[str, Attribute] = field(default_factory=dict)

    @classmethod
    def of(cls, X: Impressions) -> UserHistories:
        """Gather the events of all rows that `Impressions.from_log` returned.

        Raises
        ------
        ValueError
            If these are not all rows of a log: a selection, say, or what a table was read as.
        """
        events, now = X._events_of_users()
        return cls(X.catalog, X.users, events, now, X.user_attributes)

    @cached_property
    def _timeline(self) -> Timeline:
        """The events sorted by user and moment."""
        events = self.events
        owner = np.repeat(np.arange(len(self.users)), events.length)
        if events.time is None or self.now is None:
            moment = np.full(len(owner), -np.inf)
        else:
            # Events of unknown time happened before now, too.
            moment = np.minimum(events.time[events.positions()], np.nextafter(self.now, -np.inf))
        return Timeline(owner, moment, len(self.users))

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self.users, "the log")

    def __getstate__(self) -> dict[str, Any]:
        # Cached properties are computed again faster than they are read.
        return {name: value for name, value in vars(self).items() if name[0] != "_"}

    def with_catalog(self, catalog: ItemCatalog) -> UserHistories:
        """Return the same histories over another catalogue, to which unknown items are added."""
        catalog = catalog.extend(self.catalog.ids)
        codes = catalog.codes(self.catalog.ids, "the log")
        return replace(self, catalog=catalog, events=self.events.recode(codes))

    def impressions(
        self, user_ids: NDArray[Any], item_ids: NDArray[Any], time: Any = None
    ) -> Impressions:
        """Return impressions of these users and items.

        Parameters
        ----------
        user_ids, item_ids : ndarray of shape (n_rows,)
            Users and items may be unknown.
        time : ndarray of shape (n_rows,), float64, default=None
            Seconds. A history holds what the user did strictly before this time; where it is NaN,
            and without times, all that the user has done.

        Returns
        -------
        Impressions of n_rows rows

        Raises
        ------
        TypeError
            If ids are strings here and integers in the log, or the other way round.
        ValueError
            If times are passed, but the log has none, or has them in another unit.
        """
        if time is not None and self.now is None:
            raise ValueError(
                "the rows have times, but the log has none, so that nobody can tell which "
                "events came before. Leave the time column out, or take a log with times."
            )
        seconds = None
        if self.now is not None:
            seconds = np.full(len(user_ids), self.now)
            if time is not None:
                time = as_seconds(np.asarray(time), "the time column of the rows")
                known = np.array([self.now])
                check_same_unit(time, "the time column of the rows", known, "the log")
                seconds = np.where(np.isnan(time), self.now, time)
        user_ids = as_ids(user_ids, "the user column of the rows")
        who = self._lookup(user_ids, "the user column of the rows")
        known = np.flatnonzero(who >= 0)
        start, length = np.zeros(len(who), dtype=np.int64), np.zeros(len(who), dtype=np.int32)
        start[known] = self.events.start[who[known]]
        # Without times, every row is later than all that the log holds.
        moment = np.zeros(len(who)) if seconds is None else seconds
        length[known] = self._timeline.count_before(who[known], moment[known])
        catalog = self.catalog.extend(item_ids)
        target = catalog.codes(item_ids, "the item column of the rows")
        users, user = factorize(user_ids)
        history = replace(self.events, start=start, length=length)
        row = np.zeros(len(users), dtype=np.int64)
        row[user] = who
        # Known to be valid; a check would read all events.
        return Impressions(
            catalog,
            users,
            user,
            target,
            history,
            time=seconds,
            user_attributes={k: take_known(v, row) for k, v in self.user_attributes.items()},
            _checked=True,
        )
