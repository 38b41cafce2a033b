"""What the rows of a fit tell of the click rates of users and items, as of any moment."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions, ItemCatalog
from skmars.data._columns import RATES
from skmars.data._memo import Memo
from skmars.rates._counts import Counts, Events, Smoothing, out_of_fold
from skmars.utils._ids import Lookup
from skmars.utils._stacked import take_rows

Codes = NDArray[np.int32]
Columns = dict[str, NDArray[np.float64]]


class Rates:
    """Impressions and clicks of the users and items of some rows, and their smoothing.

    Parameters
    ----------
    X : Impressions
    clicked : ndarray of shape (n_rows,)
        0 and 1, both.
    smooth : float or "auto"
        See `Smoothing`.

    Attributes
    ----------
    timed : bool
        Whether moments are times, for users and items alike. Else those of users are the lengths
        of their histories, and items have none.
    smoothing : dict of str to Smoothing
        For "user" and "item".
    """

    def __init__(self, X: Impressions, clicked: NDArray[Any], smooth: float | str) -> None:
        seen = np.flatnonzero(np.bincount(X.user, minlength=len(X.users)))
        self._users = Lookup(X.users[seen], "user_id of the rows of fit")
        shown = np.flatnonzero(np.bincount(X.target, minlength=len(X.catalog)))
        self._items = Lookup(X.catalog.ids[shown], "item_id of the rows of fit")
        self._item_codes: Memo[Codes] = Memo()
        self.timed = X.time is not None and bool(np.isfinite(X.time).any())

        codes = self._codes(X)
        self.smoothing = {of: Smoothing.of(code, clicked, smooth) for of, code in codes.items()}
        self._longest = np.full(len(self._users), -1, dtype=np.int32)
        np.maximum.at(self._longest, codes["user"], X.history.length)
        # What happened at an unknown time may have happened later than any row.
        known = np.flatnonzero(self._time(X) > -np.inf)
        past, moments, clicked = X[known], self._moments(X[known]), clicked[known]
        self._events = {
            of: Events(code, moments[of], clicked, len(lookup))
            for of, code, lookup in zip(
                codes, self._codes(past).values(), (self._users, self._items)
            )
        }

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [name for name in RATES if name.split("_")[0] in self.smoothing]

    def counts(self, X: Impressions) -> dict[str, tuple[Counts, Counts]]:
        """Return the impressions and clicks of each row's user and item before the row."""
        codes, moments = self._codes(X), self._moments(X)
        counts = {of: self._events[of].before(code, moments[of]) for of, code in codes.items()}
        if not self.timed:
            counts["item"] = self._events["item"].in_all(codes["item"])
        return counts

    def of(self, X: Impressions) -> Columns:
        """Return the columns of rows, made of all events before them."""
        return self._columns(self.counts(X))

    def out_of_fold(self, X: Impressions, clicked: NDArray[Any], fold: NDArray[np.int8]) -> Columns:
        """Return the columns of the rows of the fit, where there are no times.

        Events of an item are those of users of other folds than the row's.
        """
        counts = self.counts(X)
        counts["item"] = out_of_fold(self._codes(X)["item"], fold, clicked)
        columns = self._columns(counts)
        # A fold has fewer events than all rows have, as which new rows are counted.
        n_others = len(X) - np.bincount(fold, minlength=128)[fold]
        share = np.maximum(n_others, 1) / len(X)
        columns["item_log_impressions"] = np.log1p(counts["item"][0] / share)
        return columns

    def has_later_events(self, X: Impressions) -> NDArray[np.bool_]:
        """Return for each row whether its user has events that are not known to be before it."""
        user, length = self._codes(X)["user"], X.history.length
        longest = np.append(self._longest, np.int32(-1))
        return length <= longest[user]

    def _columns(self, counts: dict[str, tuple[Counts, Counts]]) -> Columns:
        columns: Columns = {}
        for of, (n, clicks) in counts.items():
            columns[f"{of}_click_logit"] = self.smoothing[of].log_odds(n, clicks)
            columns[f"{of}_log_impressions"] = np.log1p(n)
        return columns

    def _codes(self, X: Impressions) -> dict[str, Codes]:
        """Return the user and the item of each row as a code of the fit, -1 if unknown to it."""
        if len(X) < len(X.users):
            user = self._users(X.user_ids, "user_id of X")
        else:
            user = self._users(X.users, "user_id of X")[X.user]

        def look_up(part: ItemCatalog) -> Codes:
            return self._items(part.ids, "item_id of X")

        item_codes = [self._item_codes.get(part, look_up) for part in X.catalog.parts]
        return {"user": user, "item": take_rows(item_codes, X.target)}

    def _time(self, X: Impressions) -> NDArray[np.float64]:
        if not self.timed:
            return np.zeros(len(X))
        return np.full(len(X), np.inf) if X.time is None else X.time

    def _moments(self, X: Impressions) -> dict[str, NDArray[Any]]:
        time = self._time(X)
        # Complex numbers are ordered by the real part, and then by the imaginary one.
        of_user = np.empty(len(X), dtype=np.complex128)
        of_user.real, of_user.imag = time, X.history.length
        return {"user": of_user, "item": time}
