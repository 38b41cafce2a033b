"""Choose the rows that a fit holds out, for early stopping and calibration."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data._impressions import Impressions

Rows = NDArray[np.int64]

# By default a tenth of the rows is held out, but at least LEAST_ROWS, as fewer tell little (though
# no larger a share than LARGEST_SHARE), and at most MOST_ROWS, as more are better trained on.
SHARE, LEAST_ROWS, LARGEST_SHARE, MOST_ROWS = 0.1, 100, 0.3, 5000
# With fewer rows of a class, the score of held-out rows is mostly chance; a warning says so.
FEW = 5
# Moments are held out by `turn`: 0 is a user's last one, 1 the last but one. The first is never.
NEVER = np.iinfo(np.int64).max


def hold_out(
    X: Impressions,
    y: NDArray[Any],
    how: str,
    fraction: float | str,
    random_state: np.random.RandomState,
    name: str,
) -> tuple[Rows, Rows] | None:
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
        n_later = np.count_nonzero(turn[group] < NEVER)
        if how == "auto" and n_later < n_wanted / 2 and np.ptp(X.user) > 0:
            how = "users"
    if how == "users":
        users, group = np.unique(X.user, return_inverse=True)
        turn = np.zeros(len(users), dtype=np.int64)
        if len(users) < 2:
            raise ValueError(
                f"{name} holds out all rows of some users to stop early, but X has only one user. "
                "Set holdout='last', pass X_val and y_val, or set early_stopping=False."
            )
    size = np.bincount(group)
    order = np.lexsort((random_state.permutation(len(size)), turn))
    candidates = order[turn[order] < NEVER]
    # A group of more than the wanted rows would be all that is held out.
    small = candidates[size[candidates] <= n_wanted]
    candidates = small if len(small) else candidates
    n_held = max(1, np.searchsorted(np.cumsum(size[candidates]), n_wanted, side="right"))
    chosen = np.zeros(len(size), dtype=bool)
    chosen[candidates[:n_held]] = True
    if not _share_classes(chosen, group, order, y):
        warnings.warn(
            f"{name} can't hold out rows to stop early: a class of y has too few rows to be "
            "both in what is trained on and in what is held out. It trains for max_iter epochs. "
            "Pass X_val and y_val, or lower max_iter.",
            UserWarning,
            stacklevel=5,
        )
        return None
    held = chosen[group]
    rarest = min(int(y[held].sum()), int((1 - y[held]).sum()))
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
    length = X.history.length
    time = np.zeros(len(X)) if X.time is None else X.time
    order = np.lexsort((np.arange(len(X)), length, time, X.user))
    user, length, time = X.user[order], length[order], time[order]
    new_user = np.append(True, user[1:] != user[:-1])
    new_history = new_user | np.append(True, length[1:] != length[:-1])
    if X.time is not None:
        # One moment has one history. With an order, times are bounds that several moments share.
        new = new_history | np.append(True, time[1:] != time[:-1])
    else:
        # Rows of one history follow one another, unless the first of them should be in the
        # history of the next (a click, or any event of histories with feedback), or unless
        # each has a copy of it, as in tables.
        start = X.history.start[order]
        clicks = np.cumsum(y[order]) - y[order]
        first = np.maximum.accumulate(np.where(new_history, np.arange(len(X)), 0))
        copied = start != start[first]
        new = new_history | ((clicks == clicks[first]) & ~copied & (X.history.feedback is None))
    number = np.cumsum(new) - 1
    moment = np.empty(len(X), dtype=np.int64)
    moment[order] = number
    n_of_user = np.bincount(user[new], minlength=len(X.users))
    last = np.cumsum(n_of_user)[user[new]] - 1
    turn = last - np.arange(len(last))
    turn[new_user[new]] = NEVER
    return moment, turn


def _share_classes(chosen: NDArray[np.bool_], group: Rows, order: Rows, y: NDArray[Any]) -> bool:
    """Change `chosen` in place so that both parts hold both classes; False if that fails."""
    for label in (0, 1):
        n = np.bincount(group, y == label, minlength=len(chosen))
        some = order[(n[order] > 0) & (n[order] < n.sum())]
        if len(some) == 0:
            return False
        if not n[chosen].any():
            chosen[some[0]] = True
        elif not n[~chosen].any():
            chosen[some[-1]] = False
    held = chosen[group]
    return len(np.unique(y[held])) == 2 == len(np.unique(y[~held]))
