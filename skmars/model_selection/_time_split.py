"""Splits at moments that all users share: train on what came before, test on what came after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import BaseCrossValidator

from skmars.data import Impressions
from skmars.data._checks import require_impressions
from skmars.model_selection._rows import check_raw, known_times
from skmars.model_selection._split import Rows
from skmars.utils._parameters import Number, check_number
from skmars.utils._values import as_objects, as_seconds

Cutoff = float | str | date | np.datetime64
Duration = float | timedelta | np.timedelta64


def _iso(seconds: float) -> str:
    """Return a time for messages, with its date where it looks like seconds since 1970."""
    if not 1e8 <= seconds < 1e10:
        return f"{seconds:.10g}"
    return f"{seconds:.10g} ({np.datetime64(int(seconds), 's')})"


def _as_cutoff(cutoff: Any, time: NDArray[np.float64]) -> float:
    """Return a cutoff in seconds; see `time_split`."""
    if isinstance(cutoff, str):
        try:
            cutoff = datetime.fromisoformat(cutoff)
        except ValueError as error:
            raise ValueError(
                f"cutoff must be a date or time in ISO format, such as '2026-09-01' or "
                f"'2026-09-01T12:00', got {cutoff!r}."
            ) from error
    number = isinstance(cutoff, Real) and not isinstance(cutoff, bool | np.bool_)
    if not number and not isinstance(cutoff, date | np.datetime64):
        raise TypeError(
            "cutoff must be a date, a datetime, a string in ISO format, a number of seconds, or a "
            f"fraction of the rows between 0 and 1, got {cutoff!r}."
        )
    seconds = float(as_seconds(as_objects([cutoff]), "cutoff")[0])
    if not np.isfinite(seconds):
        raise ValueError(f"cutoff must be a moment, got {cutoff!r}.")
    if number and 0 < seconds < 1:
        return _quantile(time, seconds)
    return seconds


def _quantile(time: NDArray[np.float64], fraction: float) -> float:
    """Return a moment before which this fraction of the rows lies, or less where times are tied."""
    place = min(round(fraction * len(time)), len(time) - 1)
    return float(np.partition(time, place)[place])


def _as_duration(value: Any, name: str, *, zero: bool) -> float:
    """Return a number of seconds, or a timedelta, as seconds."""
    if isinstance(value, np.timedelta64):
        seconds: Any = value / np.timedelta64(1, "s")
    else:
        seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not isinstance(seconds, Real) or isinstance(seconds, bool | np.bool_):
        raise TypeError(
            f"{name} must be a number of seconds or a datetime.timedelta, got {value!r}."
        )
    seconds = float(seconds)
    if not (0 <= seconds < np.inf and (zero or seconds > 0)):
        raise ValueError(
            f"{name} must be {'zero or more' if zero else 'more than zero'} seconds, got {value!r}."
        )
    return seconds


def _part(
    time: NDArray[np.float64], start: float, stop: float, name: str, of: str = "time_split"
) -> Rows:
    rows = np.flatnonzero((time >= start) & (time < stop))
    if len(rows) == 0:
        first = "" if start == -np.inf else f" from {_iso(start)}"
        last = "" if stop == np.inf else f" before {_iso(stop)}"
        raise ValueError(
            f"{of} finds no row of X{first}{last} for the {name} part; its times reach "
            f"from {_iso(time.min())} to {_iso(time.max())}. Choose another cutoff, gap or "
            "horizon, and see that the times of the log are seconds or datetimes."
        )
    return rows


def time_split(
    X: Any, *cutoffs: Cutoff, gap: Duration = 0, horizon: Duration | None = None
) -> tuple[Rows, ...]:
    """Split impressions at moments: train before the first cutoff, evaluate from there on.

    Parameters
    ----------
    X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table
        Impressions in any order, each of a known time.
    *cutoffs : date, datetime, numpy.datetime64, str or float
        One or more, increasing. A string is in ISO format ("2026-09-01"). Without a time zone,
        UTC is meant; a date is its midnight. A number is a time in seconds, as in `X.time`,
        except that one between 0 and 1 is a fraction of the rows: 0.8 is the moment before which
        (nearly) 80 % of them lie, rows of one moment staying together.
    gap : float or timedelta, default=0
        Seconds before each cutoff whose rows are in no part: the time that it takes, say, until
        a model is trained and in use.
    horizon : float or timedelta, default=None
        Seconds after its cutoff that a part reaches at most. None is up to the next cutoff, or to
        the end.

    Returns
    -------
    parts : tuple of ndarray of int64
        One more than there are cutoffs: ``train, test`` for one, ``train, valid, test`` for two.
        Row numbers, in increasing order.

    Raises
    ------
    TypeError
        If `X` holds no impressions, or a cutoff, `gap` or `horizon` is of another type.
    ValueError
        If a time is unknown or there are none, a part is empty, or the cutoffs do not increase.

    See Also
    --------
    TimeSplit : The same as a cross-validation splitter.
    leave_last_out : Splits each user's impressions apart; needs no times.
    freeze_histories : Histories as they were at a cutoff.

    Notes
    -----
    A row belongs to the part of its time; its history is what its user did strictly before the
    row. So nothing of a training row is later than the first cutoff, while the history of a test
    row also holds what its user did between the cutoff and the row, as that of a live service
    would. For a service that updates histories only now and then, pass the rows to
    `freeze_histories`.

    Where `Impressions.from_log` was given `order=`, the time of a row is the latest moment before
    which it can't have happened: it may have happened later.

    Examples
    --------
    >>> import pandas as pd
    >>> from skmars import Impressions, time_split
    >>> log = pd.DataFrame({
    ...     "user_id": [7, 7, 7, 8, 8],
    ...     "item_id": [1, 2, 3, 1, 4],
    ...     "date": pd.to_datetime(
    ...         ["2026-08-01", "2026-09-10", "2026-10-02", "2026-08-20", "2026-10-05"]),
    ... })
    >>> X, _ = Impressions.from_log(log)
    >>> train, valid, test = time_split(X, "2026-09-01", "2026-10-01")
    >>> train, valid, test
    (array([0, 3]), array([1]), array([2, 4]))
    """
    X = require_impressions(X, estimator_name="time_split")
    time = known_times(X, "time_split", "leave_last_out(X)")
    if len(cutoffs) == 0:
        raise TypeError("time_split needs a cutoff, for example time_split(X, '2026-09-01').")
    if len(X) == 0:
        raise ValueError("X has no rows; nothing can be split.")
    gap_seconds = _as_duration(gap, "gap", zero=True)
    longest = np.inf if horizon is None else _as_duration(horizon, "horizon", zero=False)
    starts = [-np.inf, *(_as_cutoff(cutoff, time) for cutoff in cutoffs)]
    if not all(a < b for a, b in zip(starts[:-1], starts[1:])):
        raise ValueError(
            "cutoffs must increase, got " + ", ".join(_iso(start) for start in starts[1:]) + "."
        )
    stops = [*(start - gap_seconds for start in starts[1:]), np.inf]
    names = ["training", *["validation"] * (len(cutoffs) - 1), "test"]
    return tuple(
        _part(time, start, min(stop, start + longest) if i else stop, name)
        for i, (start, stop, name) in enumerate(zip(starts, stops, names))
    )


class TimeSplit(BaseCrossValidator):
    """Cross-validation along one line of time that all users share.

    Each fold tests on a period and trains on everything before it. Periods follow one another,
    and the last one ends with the last row, so that training parts grow from fold to fold, as in
    scikit-learn's `TimeSeriesSplit`. The rows of `X` may be in any order, and rows of one moment
    stay together.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds.
    gap : float or timedelta, default=0
        Seconds before each test period whose rows are not trained on.
    horizon : float or timedelta, default=None
        Length of the test periods in seconds. None makes periods of (nearly) equal numbers of
        rows, ``n_rows / (n_splits + 1)`` each.

    Raises
    ------
    TypeError
        If a parameter is of another type; on splitting, if `X` holds no impressions.
    ValueError
        If a parameter is out of range; on splitting, if a time is unknown or there are none, or
        a part of a fold is empty.

    See Also
    --------
    time_split : Row numbers for training, validation and test at given moments.
    LeaveLastOut : Tests on the last impressions of each user; needs no times.

    Notes
    -----
    Test parts do not cover all rows, so that `cross_val_predict` can't be used with it;
    `cross_validate`, `GridSearchCV` and `learning_curve` can. What histories hold is said at
    `time_split`.

    Examples
    --------
    >>> import pandas as pd
    >>> from skmars import Impressions, TimeSplit
    >>> times = [5, 10, 15, 20, 25, 30]
    >>> log = pd.DataFrame({"user_id": 7, "item_id": range(6), "timestamp": times})
    >>> X, _ = Impressions.from_log(log)
    >>> for train, test in TimeSplit(n_splits=2).split(X):
    ...     print(train, test)
    [0 1] [2 3]
    [0 1 2 3] [4 5]
    >>> for train, test in TimeSplit(n_splits=2, gap=5, horizon=5).split(X):
    ...     print(train, test)
    [0 1 2] [4]
    [0 1 2 3] [5]
    """

    def __init__(
        self, n_splits: int = 5, *, gap: Duration = 0, horizon: Duration | None = None
    ) -> None:
        if not isinstance(n_splits, Integral) or isinstance(n_splits, bool):
            raise TypeError(f"n_splits must be an integer, got {n_splits!r}.")
        check_number(n_splits, Number(Integral, 1, None, closed="left"), "n_splits", "TimeSplit")
        _as_duration(gap, "gap", zero=True)
        if horizon is not None:
            _as_duration(horizon, "horizon", zero=False)
        self.n_splits: int = n_splits
        self.gap: Duration = gap
        self.horizon: Duration | None = horizon

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Rows, Rows]]:
        """Generate row numbers to train and to test on, fold by fold.

        Parameters
        ----------
        X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table
            Impressions in any order, each of a known time.
        y : ignored
        groups : ignored

        Yields
        ------
        train, test : ndarray of int64
            Row numbers, in increasing order.
        """
        X = require_impressions(X, estimator_name="TimeSplit")
        time = known_times(X, "TimeSplit", "LeaveLastOut()")
        n, n_distinct = self.n_splits, len(np.unique(time))
        if n_distinct <= n:
            raise ValueError(
                f"TimeSplit(n_splits={n}) needs rows of at least {n + 1} different times, but X "
                f"has {n_distinct}. Lower n_splits."
            )
        gap = _as_duration(self.gap, "gap", zero=True)
        # A period ends right after a moment, so that the last one ends with the last row.
        if self.horizon is None:
            starts = [_quantile(time, (i + 1) / (n + 1)) for i in range(n)]
        else:
            horizon = _as_duration(self.horizon, "horizon", zero=False)
            starts = [np.nextafter(time.max() - (n - i) * horizon, np.inf) for i in range(n)]
        stops = [*starts[1:], np.inf]
        for fold, (start, stop) in enumerate(zip(starts, stops)):
            of = f"Fold {fold} of TimeSplit"
            train = _part(time, -np.inf, start - gap, "training", of)
            yield train, _part(time, start, stop, "test", of)

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


def freeze_histories(X: Impressions, cutoff: Cutoff) -> Impressions:
    """Cut histories to what happened before a moment, as a service sees them that stands still.

    Parameters
    ----------
    X : Impressions
        Their histories carry times, as those of `Impressions.from_log` do.
    cutoff : date, datetime, numpy.datetime64, str or float
        As for `time_split`. A fraction is one of the rows of `X`.

    Returns
    -------
    Impressions
        The same rows and views. Of each history, what happened at the cutoff or later, or at an
        unknown time, is gone.

    Raises
    ------
    TypeError
        If `X` is not `Impressions`, or `cutoff` of another type.
    ValueError
        If histories have no times, or do not stand from the oldest to the newest event, or a step
        of a pipeline has added to the rows what it learnt from whole histories.

    See Also
    --------
    time_split : Splits rows at a moment.

    Examples
    --------
    >>> import pandas as pd
    >>> from skmars import Impressions
    >>> from skmars.model_selection import freeze_histories
    >>> times = [5, 10, 15, 20, 25, 30]
    >>> log = pd.DataFrame({"user_id": 7, "item_id": range(6), "timestamp": times})
    >>> X, _ = Impressions.from_log(log)
    >>> X.history.length, freeze_histories(X, 20).history.length
    (array([0, 1, 2, 3, 4, 5], dtype=int32), array([0, 1, 2, 3, 3, 3], dtype=int32))
    """
    if not isinstance(X, Impressions):
        raise TypeError(
            f"freeze_histories needs Impressions, got {type(X).__name__}. A table becomes "
            "impressions with Impressions.from_frame(table, catalog)."
        )
    check_raw(X, "freeze_histories")
    history, end = X.history, X.history.start + X.history.length
    some, time = history.length > 0, history.time
    if time is not None and X.time is not None and some.any():
        # A table without a column of these times is read as if all had happened at its rows.
        first, last = time[history.start[some]], time[end[some] - 1]
        if (first == X.time[some]).all() and (last == X.time[some]).all():
            time = None
    if time is None:
        raise ValueError(
            "freeze_histories needs the times of what histories hold, but X has none. Read the log "
            "with the column of its times, or the table with a column 'history_timestamp'."
        )
    falls = np.append(0, np.cumsum(np.append(time[1:] < time[:-1], False)))
    unsorted = some & (falls[np.maximum(end - 1, 0)] > falls[history.start])
    if unsorted.any():
        raise ValueError(
            f"histories must stand from the oldest to the newest event, but that of row "
            f"{int(np.argmax(unsorted))} does not. Sort each by its times."
        )
    moment = _as_cutoff(cutoff, np.zeros(1) if X.time is None else X.time)
    before = np.append(0, np.cumsum(time < moment))
    length = (before[end] - before[history.start]).astype(np.int32)
    return replace(X, history=replace(history, length=length), _log=None)
