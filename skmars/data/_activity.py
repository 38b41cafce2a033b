"""Who is low-active and who is high-active, by the length of the own history."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data._impressions import Impressions
from skmars.utils import _ragged as ragged
from skmars.utils._ids import Lookup


class UserActivity:
    """The longest history of each user of `fit`.

    Parameters
    ----------
    ids : ndarray of shape (n_users,)
        Distinct user ids.
    longest : ndarray of shape (n_users,), int32
        Their activity: length of the longest history among their rows.
    """

    def __init__(self, ids: NDArray[Any], longest: NDArray[np.int32]) -> None:
        self.ids, self.longest = ids, longest

    @classmethod
    def of(cls, X: Impressions) -> tuple[UserActivity, NDArray[np.int64]]:
        """Return the activity of each user who has a row in `X`, and the row it was read off.

        Users stand in the order of their ids, so that neither the vocabulary nor the order of
        the rows decides how donors are numbered.
        """
        row = ragged.longest(X.user, X.history.length)
        ids = X.users[X.user[row]]
        order = np.argsort(ids, kind="stable")
        row = row[order]
        return cls(ids[order], X.history.length[row]), row

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self.ids, "user_id of the rows of fit")

    def __getstate__(self) -> dict[str, Any]:
        # A lookup is rebuilt faster than it is read.
        return {"ids": self.ids, "longest": self.longest}

    def codes(self, X: Impressions) -> NDArray[np.int32]:
        """Return for each row of `X` the position of its user in `ids`, -1 if unknown to `fit`."""
        if len(X) < len(X.users):
            return self._lookup(X.user_ids, "user_id of X")
        return self._lookup(X.users, "user_id of X")[X.user]

    def outlasts(self, X: Impressions) -> NDArray[np.bool_]:
        """Tell of which rows of `X` the user is known to have done more than the row's history.

        What was learnt of these users then knows what became of such a row.
        """
        known = np.append(self.longest, np.int32(0))  # -1 takes the last entry
        return np.asarray(X.history.length < known[self.codes(X)])


def thresholds(
    activity: NDArray[np.int32], low_quantile: float, high_quantile: float
) -> tuple[float, float]:
    """Return the activity up to which one is low-active, and that from which high-active.

    Both are inclusive, so that ties at a threshold are all in.
    """
    low, high = np.quantile(activity, [low_quantile, high_quantile])
    return float(low), float(high)


def is_low(activity: NDArray[np.int32], low: float) -> NDArray[np.bool_]:
    """Tell who is low-active: at most at the low threshold."""
    return activity <= low


def is_high(activity: NDArray[np.int32], low: float, high: float) -> NDArray[np.bool_]:
    """Tell who is high-active: at least at the high threshold, and not low-active.

    Where both thresholds fall into one tie, its users are low-active.
    """
    return (activity >= high) & ~is_low(activity, low)
