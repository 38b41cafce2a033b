"""Leave-last-out: the last impression of each user is for testing."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import BaseCrossValidator

from skmars.data import Impressions
from skmars.data._checks import check_target, require_impressions
from skmars.data._holdout import NEVER, moments_of
from skmars.utils._parameters import check_choice

Rows = NDArray[np.int64]


def chronological(X: Impressions) -> Rows:
    """Return the rows of `X` sorted by user and, within a user, from oldest to newest.

    Time decides, where there is one. Among equal times, and without times, the row with the longer
    history is later, then the one that stands behind in `X`. Rows of unknown time come first.
    """
    time = np.zeros(len(X)) if X.time is None else X.time
    return np.lexsort((X.history.length, time, X.user))


def ranks(X: Impressions) -> tuple[Rows, Rows]:
    """Return how many rows of the same user come before and after each row of `X`."""
    order = chronological(X)
    size = np.bincount(X.user, minlength=len(X.users))
    place = np.empty(len(X), dtype=np.int64)
    place[order] = np.arange(len(X)) - np.repeat(np.cumsum(size) - size, size)
    return place, size[X.user] - 1 - place


def moment_ranks(X: Impressions, y: Any) -> tuple[Rows, Rows]:
    """Return how many moments of the same user come before and after that of each row of `X`."""
    if X.time is None and y is None:
        raise ValueError(
            "LeaveLastOut(unit='moment') can't tell the moments of rows that have no times without "
            "the clicks. Pass y, or take unit='row'."
        )
    clicked = np.zeros(len(X)) if y is None else _clicked(X, y)
    moment, turn = moments_of(X, clicked)
    n_of_user = np.zeros(len(X.users), dtype=np.int64)
    np.maximum.at(n_of_user, X.user, np.where(turn[moment] == NEVER, 0, turn[moment] + 1))
    from_end = np.minimum(turn[moment], n_of_user[X.user])
    return n_of_user[X.user] - from_end, from_end


def _clicked(X: Impressions, y: Any) -> NDArray[Any]:
    if len(np.unique(y)) == 1:  # clicks alone
        return np.ones(len(X))
    return check_target(y, len(X), estimator_name="LeaveLastOut")[0]


def leave_last_out(X: Any) -> tuple[Rows, Rows, Rows]:
    """Split impressions by time within each user: train, validation, test.

    The last impression of a user is for testing, the last but one for validation, all
    earlier ones are for training. The first impression of a user is always for training, so
    that nobody is tested who was never seen: a user with a single impression is in the
    training part only, one with two is in training and test.

    Parameters
    ----------
    X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table
        Impressions in any order; tables with columns `user_id`, `item_id`, `history`.

    Returns
    -------
    train, valid, test : ndarray of int64
        Row numbers, in increasing order. Together they are all rows, each once.

    Raises
    ------
    TypeError
        If `X` holds no impressions.

    See Also
    --------
    LeaveLastOut : The same as a cross-validation splitter.
    time_split : Splits at moments that all users share.

    Notes
    -----
    Where there are times, they decide which of a user's impressions is the last; an impression
    of unknown time comes before all others. Among equal times, and without times, the longer
    history is later, and then the row that stands behind.

    Examples
    --------
    >>> import pandas as pd
    >>> from skmars import Impressions, leave_last_out
    >>> log = pd.DataFrame({"user_id": [7, 7, 7, 8, 7], "item_id": [1, 2, 3, 1, 4]})
    >>> X, _ = Impressions.from_log(log)
    >>> train, valid, test = leave_last_out(X)
    >>> train, valid, test
    (array([0, 1, 3]), array([2]), array([4]))
    """
    place, from_end = ranks(require_impressions(X, estimator_name="leave_last_out"))
    test = (from_end == 0) & (place > 0)
    valid = (from_end == 1) & (place > 0)
    return np.flatnonzero(~(test | valid)), np.flatnonzero(valid), np.flatnonzero(test)


class LeaveLastOut(BaseCrossValidator):
    """Cross-validation on the last impressions of each user.

    Fold 1 tests on the last impression of each user and trains on all earlier ones, fold 2
    tests on the last but one and trains on what comes before that, and so on. The first
    impression of a user is always for training; users with too few impressions for a fold
    add to its training part alone.

    Parameters
    ----------
    n_splits : int, default=1
        Number of folds.
    unit : {"row", "moment"}, default="row"
        What is held out of each user: single rows, or all rows of a moment together: those of a
        page, or a click with the negatives that `sample_negatives` drew for it.

    Raises
    ------
    ValueError
        If `n_splits` is not positive or `unit` unknown; on splitting, if no user has enough
        impressions for a fold, or moments are asked of rows without times and without `y`.
    TypeError
        If `n_splits` is not an integer; on splitting, if `X` holds no impressions.

    See Also
    --------
    leave_last_out : Row numbers for training, validation and test.
    TimeSplit : Tests on periods; its test parts hold several rows a user.

    Notes
    -----
    Test parts do not cover all rows, so that `cross_val_predict` can't be used with it;
    `cross_validate`, `GridSearchCV` and `learning_curve` can. They hold one row a user, for which
    there is no score within users such as `gauc_scorer`. The order within a user is that
    of `leave_last_out`. Nothing of a user's own future is trained on, but another user's
    impressions in the training part may be later than a test impression.

    Examples
    --------
    >>> import pandas as pd
    >>> from skmars import Impressions, LeaveLastOut
    >>> log = pd.DataFrame({"user_id": [7, 7, 7, 8, 8], "item_id": [1, 2, 3, 1, 4]})
    >>> X, _ = Impressions.from_log(log)
    >>> cv = LeaveLastOut(n_splits=2)
    >>> for train, test in cv.split(X):
    ...     print(train, test)
    [0 1 3] [2 4]
    [0 3] [1]
    """

    def __init__(self, n_splits: int = 1, *, unit: str = "row") -> None:
        if not isinstance(n_splits, Integral) or isinstance(n_splits, bool):
            raise TypeError(f"n_splits must be an integer, got {n_splits!r}.")
        if n_splits < 1:
            raise ValueError(f"n_splits must be at least 1, got {n_splits}.")
        check_choice(unit, ("row", "moment"), "unit", "LeaveLastOut")
        self.n_splits: int = n_splits
        self.unit: str = unit

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Rows, Rows]]:
        """Generate row numbers to train and to test on, fold by fold.

        Parameters
        ----------
        X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table
            Impressions in any order.
        y : array-like of shape (n_rows,), default=None
            Clicks. Needed to tell moments where there are no times, ignored else.
        groups : ignored

        Yields
        ------
        train, test : ndarray of int64
            Row numbers, in increasing order.
        """
        rows = require_impressions(X, estimator_name="LeaveLastOut")
        place, from_end = ranks(rows) if self.unit == "row" else moment_ranks(rows, y)
        longest = int((place + from_end).max(initial=-1)) + 1
        if longest <= self.n_splits:
            what = "impressions" if self.unit == "row" else "moments"
            raise ValueError(
                f"LeaveLastOut(n_splits={self.n_splits}) needs a user with at least "
                f"{self.n_splits + 1} {what}, but the most that a user of X has is {longest}."
            )
        first = place == 0
        for fold in range(self.n_splits):
            train = np.flatnonzero((from_end > fold) | first)
            yield train, np.flatnonzero((from_end == fold) & ~first)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds.

        Parameters
        ----------
        X, y, groups : ignored

        Returns
        -------
        int
        """
        return self.n_splits
