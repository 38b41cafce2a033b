"""The rows that a model is asked about: what a user had done, and what they are shown.

Whoever predicts (the scorer) and whoever learns (the trainer) makes rows here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions, Sequences
from skmars.persistence import Model
from skmars.serving.scoring._histories import ItemNumbers, user_histories
from skmars.serving.scoring._request import Asked
from skmars.utils import _ragged as ragged


def served_rows(
    model: Model,
    numbers: ItemNumbers,
    asked: Asked,
    events: Sequence[NDArray[Any]],
    owner: NDArray[Any] | None = None,
    position: NDArray[np.uint64] | None = None,
) -> Impressions:
    """Return one row a request, without context; its target is a placeholder.

    Parameters
    ----------
    model : Model
        Says what a history holds.
    numbers : ItemNumbers
    asked : Asked
    events : sequence of ndarrays of dtype `EVENT`
        Those of the user of each request, in the order of arrival; or of each user, see `owner`.
    owner : ndarray of shape (n_requests,), int64, default=None
        Where several requests share a user: whose events are those of each request. Every user
        has a request. All histories of a user are then views of the same array, wherever that is
        possible.
    position : ndarray of shape (n_requests,), uint64, default=None
        Of the store: a history knows the events up to it. None knows all.

    Returns
    -------
    Impressions of n_requests rows
        Items that the catalogue of the model lacks are added to it.
    """
    owner = np.arange(len(events)) if owner is None else owner
    first = np.unique(owner, return_index=True)[1]
    histories, arrived = user_histories(asked.users[first], events, numbers, model)
    done = histories.events
    X = histories.with_users(asked.users, done[owner], histories.catalog).latest(asked.time)
    if position is None:
        return X
    return replace(X, history=_known(X.history, done.start, arrived, position))


def _known(
    history: Sequences,
    begin: NDArray[np.int64],
    arrived: NDArray[np.uint64],
    position: NDArray[np.uint64],
) -> Sequences:
    """Return histories without the events that arrived after a position.

    Parameters
    ----------
    history : Sequences of n_rows rows
        Each holds the first events of a user.
    begin : ndarray of shape (n_users,), int64
        Where the events of each user begin, ascending.
    arrived : ndarray of shape (n_values,), uint64
        Position of each event.
    position : ndarray of shape (n_rows,), uint64

    Returns
    -------
    Sequences of n_rows rows
        Views as before, but for the rows from whose midst a late event has to be left out: they
        stand behind the others.
    """
    start, length = history.start, history.length
    # So many of the first events arrived in time, each of them.
    latest = _running_maximum(arrived, begin)
    ahead = ragged.count_below(latest, start, length, position + np.uint64(1)).astype(np.int32)
    shorter = np.flatnonzero(ahead < length)
    behind = length[shorter] - ahead[shorter]
    known = arrived[ragged.ranges(start[shorter] + ahead[shorter], behind)]
    # Some that follow one that was late may have been in time.
    torn = np.unique(np.repeat(shorter, behind)[known <= np.repeat(position[shorter], behind)])
    if len(torn) == 0:
        return replace(history, length=ahead)
    place = history[torn].positions()
    row = np.repeat(np.arange(len(torn)), length[torn])
    kept = arrived[place] <= position[torn][row]
    place, n_each = place[kept], np.bincount(row[kept], minlength=len(torn))
    start, length = start.copy(), ahead
    start[torn] = len(history.items) + ragged.offsets(n_each)[:-1]
    length[torn] = n_each
    flat: Any = {
        name: np.concatenate([column, column[place]])
        for name in ("items", "feedback", "time")
        if (column := getattr(history, name)) is not None
    }
    return replace(history, start=start, length=length, **flat)


def _running_maximum(values: NDArray[np.uint64], start: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the largest value so far since the last `start`, which ascends."""
    # Ranks, and the number of the stretch above them, in one integer.
    levels, rank = np.unique(values, return_inverse=True)
    stretch = np.searchsorted(start, np.arange(len(values)), side="right")
    highest = np.maximum.accumulate(stretch * len(levels) + rank)
    return levels[highest % max(len(levels), 1)]


def candidate_rows(X: Impressions, asked: Asked) -> Impressions:
    """Return one row a candidate, from one row a request."""
    catalog = X.catalog
    target = catalog.codes(asked.items)
    if (target < 0).any():
        unknown = asked.items[target < 0]
        catalog = catalog.extend(unknown)
        target[target < 0] = catalog.codes(unknown)
    row = np.repeat(np.arange(len(X)), asked.count)
    return replace(
        X,
        catalog=catalog,
        user=X.user[row],
        target=target,
        history=X.history[row],
        time=None if X.time is None else X.time[row],
        context=asked.context,
    )
