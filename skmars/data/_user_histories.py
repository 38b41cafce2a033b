"""The events of all users so far, from which the histories of future impressions are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data._catalog import ItemCatalog
from skmars.data._impressions import Impressions
from skmars.data._known_users import NOBODY, KnownUsers
from skmars.data._sequences import Sequences
from skmars.utils import _ragged as ragged
from skmars.utils._ids import Lookup, as_ids, check_same_kind, factorize
from skmars.utils._values import as_seconds, check_same_unit


@dataclass(frozen=True, eq=False)
class UserHistories:
    """The events of each user, from which impressions of new (user, item) pairs are made.

    Parameters
    ----------
    catalog : ItemCatalog
    users : ndarray of shape (n_users,)
        User ids, distinct unless `latest` alone is to be called.
    events : Sequences of n_users rows
        All events of each user that a history may hold, oldest first.
    now : float or None
        A moment after all events of the log, in seconds; None without times.
    known : KnownUsers
        Attributes of users, also of those who have not done anything yet.

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
    known: KnownUsers = NOBODY

    @classmethod
    def of(cls, X: Impressions) -> UserHistories:
        """Gather the events of all rows that `Impressions.from_log` returned.

        Raises
        ------
        ValueError
            If these are not all rows of a log: a selection, say, or what a table was read as.
        """
        events, now = X._events_of_users()
        return cls(X.catalog, X.users, events, now, X._known_users)

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

    def with_users(
        self, users: NDArray[Any], events: Sequences, catalog: ItemCatalog
    ) -> UserHistories:
        """Return the histories of other users, with the attributes that are known of them.

        Parameters
        ----------
        users : ndarray of shape (n_users,)
            User ids, of whom some may be unknown.
        events : Sequences of n_users rows
            As of the constructor, with times if the present ones have them.
        catalog : ItemCatalog
            That of `events`.

        Returns
        -------
        UserHistories
            All these events came before now.

        Raises
        ------
        TypeError
            If ids are strings here and integers in the log, or the other way round.
        """
        check_same_kind(users, "user_id", self.users, "the log")
        now = None if self.now is None else np.inf
        return UserHistories(catalog, users, events, now, self.known)

    def impressions(
        self,
        user_ids: NDArray[Any],
        item_ids: NDArray[Any],
        time: Any = None,
        context: Mapping[str, NDArray[Any]] | None = None,
    ) -> Impressions:
        """Return impressions of these users and items.

        Parameters
        ----------
        user_ids, item_ids : ndarray of shape (n_rows,)
            Users and items may be unknown.
        time : ndarray of shape (n_rows,), float64, default=None
            Seconds. A history holds what the user did strictly before this time; where it is NaN,
            and without times, all that the user has done.
        context : mapping of str to ndarray of shape (n_rows,), default=None
            Further columns: numbers, or strings as objects.

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
        seconds = self._seconds(time, len(user_ids))
        user_ids = as_ids(user_ids, "the user column of the rows")
        entry = self._lookup(user_ids, "the user column of the rows")
        known = np.flatnonzero(entry >= 0)
        start, length = np.zeros(len(entry), dtype=np.int64), np.zeros(len(entry), dtype=np.int32)
        start[known] = self.events.start[entry[known]]
        length[known] = self.events.length[entry[known]]
        catalog = self.catalog.extend(item_ids)
        target = catalog.codes(item_ids, "the item column of the rows")
        X = self._rows(user_ids, start, length, seconds)
        return replace(X, catalog=catalog, target=target, context=dict(context or {}))

    def latest(self, time: Any = None) -> Impressions:
        """Return one row for each entry of `users`, in their order.

        Parameters
        ----------
        time : ndarray of shape (n_users,), float64, default=None
            As for `impressions`.

        Returns
        -------
        Impressions of n_users rows
            The target is a placeholder, the first item of the catalogue.

        Raises
        ------
        ValueError
            As of `impressions`.
        """
        seconds = self._seconds(time, len(self.users))
        return self._rows(self.users, self.events.start, self.events.length, seconds)

    def _seconds(self, time: Any, n_rows: int) -> NDArray[np.float64] | None:
        """Return the moment of each row; None where the log has no times."""
        if self.now is None:
            if time is None:
                return None
            raise ValueError(
                "the rows have times, but the log has none, so that nobody can tell which "
                "events came before. Leave the time column out, or take a log with times."
            )
        if time is None:
            return np.full(n_rows, self.now)
        time = as_seconds(np.asarray(time), "the time column of the rows")
        if self.now < np.inf:
            known = np.array([self.now])
            check_same_unit(time, "the time column of the rows", known, "the log")
        return np.where(np.isnan(time), self.now, time)

    def _rows(
        self,
        user_ids: NDArray[Any],
        start: NDArray[np.int64],
        length: NDArray[np.int32],
        seconds: NDArray[np.float64] | None,
    ) -> Impressions:
        """Return rows of these users up to a moment.

        `start` and `length` are those of all that they have done.
        """
        times = self.events.time
        if seconds is not None and self.now is not None and times is not None:
            # All that the log holds came before now, also what has no known time.
            earlier = np.flatnonzero(seconds < self.now)
            if len(earlier):
                length, limit = length.copy(), seconds[earlier]
                length[earlier] = ragged.count_below(times, start[earlier], length[earlier], limit)
        users, user = factorize(user_ids)
        # Known to be valid; a check would read all events.
        return Impressions(
            self.catalog,
            users,
            user,
            np.zeros(len(user), dtype=np.int32),
            replace(self.events, start=start, length=length),
            time=seconds,
            user_attributes=self.known.of(users, "user_id"),
            _checked=True,
        )
