"""The history of a row: the events of its user strictly before the moment of the row.

This is the one definition, for training, evaluation, the command line and serving. Events
of the same moment (a page, a slate) are in none of each other's histories: when one was shown,
nobody knew yet whether another would be clicked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.utils import _ragged as ragged


class Timeline:
    """The events of each user, from the first to the last, and how many lie before a moment.

    Parameters
    ----------
    user : ndarray of shape (n_events,), int
        The user of each event, from 0 to ``n_users - 1``.
    moment : ndarray of shape (n_events,)
        When it was: a time, or a place in an order.
    n_users : int

    Attributes
    ----------
    order : ndarray of shape (n_events,), int64
        The events sorted by user and moment; those of one moment keep their order.
    start : ndarray of shape (n_users + 1,), int64
        Where the events of each user begin in `order`, and where the last ones end.

    Examples
    --------
    >>> import numpy as np
    >>> timeline = Timeline(np.array([0, 1, 0, 0]), np.array([30.0, 5.0, 10.0, 30.0]), n_users=2)
    >>> timeline.order
    array([2, 0, 3, 1])
    >>> timeline.count_before(np.array([0, 0, 1]), np.array([30.0, 31.0, 5.0]))
    array([1, 3, 0])
    """

    def __init__(self, user: NDArray[Any], moment: NDArray[Any], n_users: int) -> None:
        self.order = np.lexsort((moment, user))
        self.start = ragged.offsets(np.bincount(user, minlength=n_users))
        self._moments, rank = np.unique(moment[self.order], return_inverse=True)
        # User and moment in one integer, so that one binary search finds both.
        self._keys = self._key(user[self.order], rank)

    def _key(self, user: NDArray[Any], rank: NDArray[np.int64]) -> NDArray[np.int64]:
        return user.astype(np.int64) * (len(self._moments) + 1) + rank

    def count_before(self, user: NDArray[Any], moment: NDArray[Any]) -> NDArray[np.int64]:
        """Return how many events of each of these users lie strictly before each moment."""
        key = self._key(user, np.searchsorted(self._moments, moment))
        return np.searchsorted(self._keys, key) - self.start[user]
