"""Choose the rows that a fit holds out, for early stopping and calibration."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data._impressions import Impressions
from skmars.utils._on_disk import MANY, blocks, count_codes, cut_groups, release
from skmars.utils._ragged import offsets

Rows = NDArray[np.integer]

# By default a tenth of the rows is held out, but at least LEAST_ROWS, as fewer tell little (though
# no larger a share than LARGEST_SHARE), and at most MOST_ROWS, as more are better trained on.
SHARE, LEAST_ROWS, LARGEST_SHARE, MOST_ROWS = 0.1, 100, 0.3, 5000
# With fewer rows of a class, the score of held-out rows is mostly chance; a warning says so.
FEW = 5
# Moments are held out by `turn`: 0 is a user's last one, 1 the last but one. The first is never.
NEVER = np.iinfo(np.int32).max


def hold_out(
    X: Impressions,
    y: NDArray[Any],
    how: str,
    fraction: float | str,
    random_state: np.random.RandomState,
    name: str,
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Split rows into those to train on and those to hold out, which resemble future rows.

    Parameters
    ----------
    X : Impressions
    y : ndarray of shape (n_rows,)
        0 and 1.
    how : {"auto", "last", "users"}
        "last" holds out the last moments of users: of each user the last one, then of each the
        last but one, and so on (of the last round, a part at random). What was done at one moment
        stays together, and a user's first moment is trained on. "users" holds out all rows of
        some users. "auto" is "last", or "users" where too few users have a second moment.
    fraction : float or "auto"
        Share of the rows to hold out; "auto" is a tenth within bounds, see the constants.
    random_state : RandomState
    name : str
        Of the estimator, for messages.

    Returns
    -------
    train, held_out : ndarray of int64, or None
        Row numbers, ascending. Both classes are in each; None if a class has a single row.

    Raises
    ------
    ValueError
        If whole users are to be held out and there is only one.

    Warns
    -----
    UserWarning
        If hardly any held-out row is of one class, or none can be held out.
    """
    if isinstance(fraction, str):
        n_wanted = min(max(SHARE * len(X), min(LEAST_ROWS, LARGEST_SHARE * len(X))), MOST_ROWS)
    else:
        n_wanted = fraction * len(X)
    n_wanted = max(1, round(n_wanted))
    if how != "users":
        group, turn = moments_of(X, y)
        size = count_codes(group, len(turn)).astype(turn.dtype)
        n_later = size[turn < NEVER].sum()
        if how == "auto" and n_later < n_wanted / 2 and np.ptp(X.user) > 0:
            how = "users"
    if how == "users":
        size = count_codes(X.user, len(X.users))
        there = size > 0
        group, size = (np.cumsum(there) - 1)[X.user], size[there]
        turn = np.zeros(len(size), dtype=np.int64)
        if len(size) < 2:
            raise ValueError(
                f"{name} holds out all rows of some users to stop early, but X has only one user. "
                "Set holdout='last', pass X_val and y_val, or set early_stopping=False."
            )
    # Groups are held out by turn, and those of one turn at random.
    rank = random_state.permutation(len(size)).astype(turn.dtype)
    candidate = turn < NEVER
    # A group of more than the wanted rows would be all that is held out.
    small = candidate & (size <= n_wanted)
    candidate = small if small.any() else candidate
    n_of_turn = _sums(turn, size, candidate)
    last = np.searchsorted(np.cumsum(n_of_turn), n_wanted, side="right")
    candidates = np.flatnonzero(candidate & (turn <= last))
    candidates = candidates[np.lexsort((rank[candidates], turn[candidates]))]
    n_held = max(1, np.searchsorted(np.cumsum(size[candidates]), n_wanted, side="right"))
    chosen = np.zeros(len(size), dtype=bool)
    chosen[candidates[:n_held]] = True
    del size, candidate, small
    if not _share_classes(chosen, group, turn, rank, y):
        warnings.warn(
            f"{name} can't hold out rows to stop early: a class of y has too few rows to be "
            "both in what is trained on and in what is held out. It trains for max_iter epochs. "
            "Pass X_val and y_val, or lower max_iter.",
            UserWarning,
            stacklevel=5,
        )
        return None
    held = chosen[group]
    rarest = int(min(y[held].sum(), (1 - y[held]).sum()))
    if rarest < FEW:
        warnings.warn(
            f"{name} stops early by the score of {int(held.sum())} held-out rows, of which only "
            f"{rarest} are of one class, so that the score is mostly chance. Pass X_val and y_val "
            "with more of them, raise validation_fraction, or set early_stopping=False and "
            "max_iter.",
            UserWarning,
            stacklevel=5,
        )
    return np.flatnonzero(~held), np.flatnonzero(held)


def moments_of(X: Impressions, y: NDArray[Any]) -> tuple[Rows, Rows]:
    """Return the moment of each row, and for each moment how many later ones its user has.

    That number is `NEVER` for a user's first moment.
    """
    moment: Rows = np.empty(len(X), dtype=np.int32 if len(X) < NEVER else np.int64)
    turns: list[Rows] = []
    n_before = 0
    for rows in _rows_of_users(X):
        number, turn = _moments_of_users(X, y, rows)
        moment[rows] = number + n_before
        n_before += len(turn)
        turns.append(turn.astype(moment.dtype))
    return moment, np.concatenate(turns)


def _rows_of_users(X: Impressions) -> Iterator[Rows | slice]:
    """Return all rows; of many, those of some users at a time, in the order of the users."""
    if len(X) <= MANY:
        yield slice(None)
        return
    first = cut_groups(offsets(count_codes(X.user, len(X.users))), MANY)
    for low, high in zip(first[:-1], first[1:]):
        found = []
        for block in blocks(len(X)):
            user = X.user[block]
            found.append(np.flatnonzero((user >= low) & (user < high)) + block.start)
        release(X.user)
        yield np.concatenate(found)


def _moments_of_users(X: Impressions, y: NDArray[Any], rows: Rows | slice) -> tuple[Rows, Rows]:
    """Do as `moments_of` for all rows of some users."""

    def take(column: NDArray[Any]) -> NDArray[Any]:
        values = column[rows]
        release(column)
        return values

    user, length, y = take(X.user), take(X.history.length), take(y)
    n = len(user)
    time = np.zeros(n) if X.time is None else take(X.time)
    order = np.lexsort((np.arange(n), length, time, user))
    user, length, time = user[order], length[order], time[order]
    new_user = np.append(True, user[1:] != user[:-1])[:n]
    new_history = new_user | np.append(True, length[1:] != length[:-1])[:n]
    if X.time is not None:
        # One moment has one history. With an order, times are bounds that several moments share.
        new = new_history | np.append(True, time[1:] != time[:-1])[:n]
    else:
        # Rows of one history follow one another, unless the first of them should be in the
        # history of the next (a click, or any event of histories with feedback), or unless
        # each has a copy of it, as in tables.
        start = take(X.history.start)[order]
        clicks = np.cumsum(y[order]) - y[order]
        first = np.maximum.accumulate(np.where(new_history, np.arange(n), 0))
        copied = start != start[first]
        new = new_history | ((clicks == clicks[first]) & ~copied & (X.history.feedback is None))
    number = np.cumsum(new) - 1
    moment = np.empty(n, dtype=np.int64)
    moment[order] = number
    # Users count from the first of these rows, so that some users cost what they hold.
    of_user = np.cumsum(new_user) - 1
    n_of_user = np.bincount(of_user[new])
    last = np.cumsum(n_of_user)[of_user[new]] - 1
    turn = last - np.arange(len(last))
    turn[new_user[new]] = NEVER
    return moment, turn


def _sums(turn: Rows, size: Rows, candidate: NDArray[np.bool_]) -> Rows:
    """Return how many rows the candidates of each turn have."""
    sums = np.zeros(int(turn[candidate].max(initial=0)) + 1, dtype=np.int64)
    for block in blocks(len(turn)):
        kept = candidate[block]
        np.add.at(sums, turn[block][kept], size[block][kept])
    return sums


def _share_classes(
    chosen: NDArray[np.bool_], group: Rows, turn: Rows, rank: Rows, y: NDArray[Any]
) -> bool:
    """Change `chosen` in place so that both parts hold both classes; False if that fails.

    `turn`, and then `rank`, order the groups.
    """
    for label in (0, 1):
        n_rows, n_chosen = 0, 0
        for block in blocks(len(y)):
            of_label = y[block] == label
            n_rows += int(np.count_nonzero(of_label))
            n_chosen += int(np.count_nonzero(of_label & chosen[group[block]]))
        if 0 < n_chosen < n_rows:
            continue
        n = np.bincount(group, y == label, minlength=len(chosen))
        some = np.flatnonzero((n > 0) & (n < n.sum()))
        some = some[np.lexsort((rank[some], turn[some]))]
        if len(some) == 0:
            return False
        if n_chosen == 0:
            chosen[some[0]] = True
        else:
            chosen[some[-1]] = False
    held = chosen[group]
    parts = [part & (y == label) for part in (held, ~held) for label in (0, 1)]
    return all(part.any() for part in parts)
