"""The rows that a trainer learns from: what a user was shown, with what was known by then."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions
from skmars.persistence import Model
from skmars.serving.scoring._histories import ItemNumbers
from skmars.serving.scoring._request import Asked, context_columns
from skmars.serving.scoring._rows import log_and_positions, log_format, until
from skmars.serving.scoring._served_rows import candidate_rows, served_rows
from skmars.serving.store._payload import decode
from skmars.serving.store._store import Store, Streamed
from skmars.utils._ids import as_ids, check_same_kind, factorize

log = logging.getLogger(__name__)


def training_rows(
    model: Model, numbers: ItemNumbers, events: Sequence[Streamed], store: Store
) -> tuple[Impressions, NDArray[np.int64]]:
    """Return the rows that the users of some events were shown, and what became of them.

    A history is what a scorer would have made at that moment, by the same function: it knows the
    events of the user before this one in the stream or, where the event tells which answer it
    belongs to, those that this answer knew; and of these, what happened strictly before the time
    of the event.

    Parameters
    ----------
    model : Model
        Says what a history holds.
    numbers : ItemNumbers
        Of the store.
    events : sequence of n_events Streamed
        One at least, in the order of the stream.
    store : Store
        It has these events; those that came later do not matter.

    Returns
    -------
    X : Impressions of n_rows rows
        In the order of the events. An event is left out, and a line of the log of the process says
        so, if it lacks a context column that the model predicts from or has a value of another
        kind, or repeats an earlier one in a log whose repetitions the model drops.
    y : ndarray of shape (n_rows,), int64
        1 where the item was clicked, else 0.

    Raises
    ------
    ValueError
        If there are no events, or the store lacks some of them.
    TypeError
        If ids of the store are strings and those of the model integers, or the other way round.

    Notes
    -----
    An event of unknown time has no history, as in `Impressions.from_log`.
    """
    if not len(events):
        raise ValueError("events holds none, and there are no rows of no event.")
    users, owner = factorize(as_ids([event.user_id for event in events], "the users of events"))
    check_same_kind(users, "the users of events", model.histories.users, "the log of the model")
    stored, _ = store.histories(users.tolist())
    context, shown, fits = _payloads(events, model.columns.context)
    position = np.array([event.position for event in events], dtype=np.uint64)
    form = log_format(model)
    # Not even the items of what came later: whoever looks earlier does not know them.
    stored = until(stored, int(position.max()))
    there = np.concatenate([mine["position"] for mine in stored])
    _require(np.isin(position, there), events)
    if form.duplicates == "drop":
        fits &= np.isin(position, log_and_positions(users, stored, form)[1])
    if not fits.all():
        log.warning(
            "%d of %d events are not learnt: a context column of the model (%s) is missing or of "
            "another kind, or they repeat others. The first one is at position %d.",
            np.count_nonzero(~fits),
            len(events),
            ", ".join(model.columns.context) or "it has none",
            position[~fits][0],
        )
    items = as_ids([event.item_id for event in events], "the items of events")
    check_same_kind(
        items, "the items of events", model.histories.catalog.parts[0].ids, "the catalogue"
    )
    asked = Asked(
        users[owner],
        _moments(events) if form.time is not None else None,
        np.ones(len(events), dtype=np.int64),
        items,
        context,
    )
    known = np.minimum(position - np.uint64(1), shown)
    X = candidate_rows(served_rows(model, numbers, asked, stored, owner, known), asked)
    y = np.array([event.clicked for event in events], dtype=np.int64)
    return (X, y) if fits.all() else (X[fits], y[fits])


def _moments(events: Sequence[Streamed]) -> NDArray[np.float64]:
    """Return the times of events; nothing comes before one that is unknown."""
    time = np.array([event.time for event in events], dtype=np.float64)
    return np.where(np.isfinite(time), time, -np.inf)


def _require(there: NDArray[np.bool_], events: Sequence[Streamed]) -> None:
    if not there.all():
        lacking = events[int(np.argmin(there))]
        raise ValueError(
            f"the store lacks the event at position {lacking.position} in the history of user "
            f"{lacking.user_id!r}. Pass the store whose stream was read."
        )


def _payloads(
    events: Sequence[Streamed], kinds: Mapping[str, str | None]
) -> tuple[dict[str, NDArray[Any]], NDArray[np.uint64], NDArray[np.bool_]]:
    """Return the context of events, the positions that they were shown at, and which are usable.

    Where no position is told, it is the largest there can be.
    """
    n = len(events)
    shown, fits = np.full(n, np.iinfo(np.uint64).max), np.ones(n, dtype=bool)
    given: list[dict[str, Any]] = []
    anything = {name: 0.0 if kind == "numbers" else "" for name, kind in kinds.items()}
    for i, event in enumerate(events):
        told: Mapping[str, Any] = {}
        try:
            told, at = decode(event.payload)
        except ValueError:
            fits[i] = False
        else:
            if at is not None:
                shown[i] = at
        fits[i] &= told.keys() >= kinds.keys()
        given.append({name: told[name] for name in kinds} if fits[i] else anything)
    one = np.ones(1, dtype=np.int64)
    try:
        return context_columns(given, np.ones(n, dtype=np.int64), kinds), shown, fits
    except (TypeError, ValueError):
        for i, mine in enumerate(given):
            try:
                context_columns([mine], one, kinds)
            except (TypeError, ValueError):
                fits[i], given[i] = False, anything
    return context_columns(given, np.ones(n, dtype=np.int64), kinds), shown, fits
