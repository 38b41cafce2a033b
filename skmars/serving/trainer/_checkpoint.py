"""Where training goes on from, and what was learnt so far."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from skmars.serving.scoring._parameters import Parameters
from skmars.serving.store._current import OF_FIT
from skmars.serving.store._store import Store, Streamed, StreamTrimmed

CHECKPOINT = "checkpoint"  # in the folder ``params`` of a model
WINDOW = 10_000  # events whose hashes are kept


def resumed(params: Path, current: Path | None, digest: str) -> tuple[Parameters | None, list[str]]:
    """Return what was learnt last, and what can't be used, in words.

    It is the checkpoint, or the current version where that has learnt more: then the trainer was
    killed between publishing and its checkpoint.

    Parameters
    ----------
    params : Path
        Folder of parameters.
    current : Path or None
        Folder of the current version, None where that is the model as it was fitted.
    digest : str
        Of the model. What another one has learnt is left alone.
    """
    found: list[Parameters] = []
    amiss: list[str] = []
    for path in (current, params / CHECKPOINT):
        if path is None:
            continue
        try:
            read = Parameters.load(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except ValueError as error:
            amiss.append(f"{path} can't be used, and is left out: {error}")
            continue
        if read.model == digest:
            found.append(read)
    return max(found, key=lambda read: read.position, default=None), amiss


def begun(classifier: BaseEstimator, digest: str, position: int) -> Parameters:
    """Return the parameters of a model as it was fitted, which go on from a position."""
    # What learns may change arrays that the fitted model uses still.
    return Parameters(deepcopy(classifier), digest, position, np.zeros(0, np.uint64), OF_FIT)


def hashes(events: Sequence[Streamed]) -> NDArray[np.uint64]:
    """Return a hash of the id of each event, and of its user, in whose events the id is unique."""
    digests = [
        blake2b(f"{event.id} {event.user_id!r}".encode(), digest_size=8).digest()
        for event in events
    ]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def with_hashes(learnt: NDArray[np.uint64], new: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the window of hashes after further events."""
    return np.concatenate([learnt, new])[-WINDOW:]


def next_events(store: Store, state: Parameters, limit: int) -> list[Streamed]:
    """Return at most `limit` events of the stream behind those that were learnt.

    Raises
    ------
    ValueError
        If the store is not the one whose stream was learnt.
    StreamTrimmed
        If some of the events are gone.
    """
    end = store.position
    if end == 0 < state.position:
        raise ValueError(
            f"the store {store!r} is empty: is its address right? The parameters have learnt up "
            f"to position {state.position} of the store's stream."
        )
    if end < state.position:
        raise _another_store(f"it ends with position {end}")
    if not len(state.learnt):
        return _stream(store, state, limit)
    try:
        # The last event that was learnt, too, to see that it is the same.
        events = store.stream(state.position - 1, limit + 1)
    except StreamTrimmed:
        return _stream(store, state, limit)
    same = len(events) > 0 and events[0].position == state.position
    if not same or hashes(events[:1])[0] != state.learnt[-1]:
        raise _another_store("it has another event there")
    return events[1:]


def _stream(store: Store, state: Parameters, limit: int) -> list[Streamed]:
    try:
        return store.stream(state.position, limit)
    except StreamTrimmed as error:
        raise StreamTrimmed(
            f"the stream was trimmed before it was learnt: it begins with position {error.begin}, "
            f"and was learnt up to {state.position}. Fit the model anew (`skmars refit`), which "
            "learns from the histories, and trim only what the trainer has learnt.",
            error.begin,
        ) from error


def _another_store(found: str) -> ValueError:
    return ValueError(
        "the store is not the one whose stream the parameters have learnt up to their position: "
        f"{found}. It was replaced, or an older copy was restored. To go on with it, remove the "
        "folder params of the model and let the store's pointer params be '.', so that training "
        "begins again from the fit; or put the store back."
    )
