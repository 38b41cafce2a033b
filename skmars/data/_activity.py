"""Activity of users, the length of their histories: who is low-active and who is high-active."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data._impressions import Impressions
from skmars.utils import _ragged as ragged
from skmars.utils._ids import Lookup


class UserActivity:
    """The activity of each user of `fit`: the length of the longest history among their rows.

    Parameters
    ----------
    ids : ndarray of shape (n_users,)
        Distinct user ids.
    longest : ndarray of shape (n_users,), int32
        Their activity.
    last : ndarray of shape (n_users,), float64, or None
        The time of the last row of each, where rows have times.
    """

    def __init__(
        self,
        ids: NDArray[Any],
        longest: NDArray[np.int32],
        last: NDArray[np.float64] | None = None,
    ) -> None:
        self.ids, self.longest, self.last = ids, longest, last

    @classmethod
    def of(cls, X: Impressions) -> tuple[UserActivity, NDArray[np.int64]]:
        """Return the activity of each user who has a row in `X`, and the row of that history.

        Users are sorted by id, so that the numbers of donors depend neither on the order of
        ``X.users`` nor on that of the rows.
        """
        row = ragged.longest(X.user, X.history.length)
        ids = X.users[X.user[row]]
        order = np.argsort(ids, kind="stable")
        row = row[order]
        last = None
        if X.time is not None:
            last = np.full(len(X.users), -np.inf)
            np.maximum.at(last, X.user, X.time)
            last = last[X.user[row]]
        return cls(ids[order], X.history.length[row], last), row

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self.ids, "user_id of the rows of fit")

    def __getstate__(self) -> dict[str, Any]:
        # A lookup is rebuilt faster than it is read.
        return {"ids": self.ids, "longest": self.longest, "last": self.last}

    def codes(self, X: Impressions) -> NDArray[np.int32]:
        """Return for each row of `X` the position of its user in `ids`, -1 if unknown to `fit`."""
        if len(X) < len(X.users):
            return self._lookup(X.user_ids, "user_id of X")
        return self._lookup(X.users, "user_id of X")[X.user]

    def has_later_events(self, X: Impressions) -> NDArray[np.bool_]:
        """Return for each row of `X` whether its user has a longer history in `fit`.

        What was learnt in `fit` may then know whether the row was clicked.
        """
        return np.asarray(X.history.length < _at(self.longest, self.codes(X), np.int32(0)))

    def has_seen(self, X: Impressions) -> NDArray[np.bool_]:
        """Return for each row of `X` whether its user has a row in `fit` that is no earlier.

        Without times, whether the user has a longer history in `fit`.
        """
        if self.last is None or X.time is None:
            return self.has_later_events(X)
        last = _at(self.last, self.codes(X), -np.inf)
        return np.asarray(X.time <= last) & np.isfinite(X.time)

    def check_goes_on(self, X: Impressions, name: str) -> None:
        """Raise ValueError unless `X` holds what these users did, and what came later."""
        found, _ = UserActivity.of(X)
        codes = found._lookup(self.ids, "user_id of the rows of fit")
        longest = _at(found.longest, codes, np.int32(-1))
        lacking = np.flatnonzero(longest < self.longest)
        if len(lacking):
            raise ValueError(
                f"X lacks rows of {len(lacking)} of the {len(self)} users that {name} knows "
                f"(first: {self.ids[lacking[:1]].tolist()[0]!r}), or has shorter histories of "
                "them. Pass all rows: those that it was fitted to, and the new ones."
            )


def _at(values: NDArray[Any], at: NDArray[np.int32], otherwise: Any) -> NDArray[Any]:
    """Return the values at some positions, and `otherwise` at -1, at a cost of these alone."""
    result = np.full(len(at), otherwise, dtype=values.dtype)
    there = np.flatnonzero(at >= 0)
    result[there] = values[at[there]]
    return result


def thresholds(
    activity: NDArray[np.int32], low_quantile: float, high_quantile: float
) -> tuple[float, float]:
    """Return the largest activity of low-active users, and the least one of high-active users.

    Both are inclusive: users who tie at a threshold are all in.
    """
    return thresholds_of_counts(np.bincount(activity), low_quantile, high_quantile)


def thresholds_of_counts(
    count: NDArray[np.int64], low_quantile: float, high_quantile: float
) -> tuple[float, float]:
    """Do as `thresholds`, where ``count[n]`` tells how many activities are `n`.

    The cost depends on the largest activity, and not on how many there are.
    """
    ends = np.cumsum(count)

    def quantile(q: float) -> float:
        place = q * (ends[-1] - 1)
        below = int(place)
        neighbors = np.searchsorted(ends, [below, min(below + 1, ends[-1] - 1)], side="right")
        return float(np.quantile(neighbors, place - below))

    return quantile(low_quantile), quantile(high_quantile)


def is_low(activity: NDArray[np.int32], low: float) -> NDArray[np.bool_]:
    """Return who is low-active: whose activity is at most the low threshold."""
    return activity <= low


def is_high(activity: NDArray[np.int32], low: float, high: float) -> NDArray[np.bool_]:
    """Return who is high-active: at least at the high threshold, and not low-active.

    Where both thresholds are equal, users at them are low-active.
    """
    return (activity >= high) & ~is_low(activity, low)
