"""Where in the stream a model begins to learn: behind what its fit knew."""

from __future__ import annotations

from skmars.persistence import Model
from skmars.serving.store._current import AS_SAVED, POSITION, below
from skmars.serving.store._store import Store, Streamed, StreamTrimmed

BLOCK = 4096  # events that are read at a time


def beginning(name: str, model: Model, store: Store) -> int:
    """Return the position of the stream behind which a model learns, that never did.

    Parameters
    ----------
    name : str
        "." for the model as it was saved first, or else a folder such as "fits/1", whose position a
        pointer of the store tells.
    model : Model
    store : Store

    Raises
    ------
    StreamTrimmed
        If events behind the position that the store tells are gone.
    """
    told = None if name == AS_SAVED else store.pointer(below(name, POSITION))
    if told is None:
        return known_position(model, store)
    store.stream(int(told), 1)  # raises where it was trimmed
    return int(told)


def known_position(model: Model, store: Store) -> int:
    """Return the position up to which a model knows the stream, if nobody has told it.

    A log has no positions. What is earlier than the end of the log that the model was trained on
    counts as known, the rest as new, and the position is the one that is wrong for the fewest
    events: some came late, and some clocks are wrong. What was trimmed counts as known. Without
    times, all that is there now does.
    """
    end = model.histories.now if model.split_at is None else model.split_at
    last = store.position
    if end is None:
        return last
    position, block = _first(store)
    if not block:
        return last
    best = wrong = 0
    since = position
    while block:
        for event in block:
            wrong += (event.time >= end) - (event.time < end)  # neither, where it is unknown
            if wrong < best:
                best, position = wrong, event.position
        since = block[-1].position
        block = store.stream(since, BLOCK)
    return position


def _first(store: Store) -> tuple[int, list[Streamed]]:
    """Return the first events that the stream has, and a position before them."""
    since = 0
    while True:
        try:
            return since, store.stream(since, BLOCK)
        except StreamTrimmed as error:  # again, if more is trimmed meanwhile
            since = error.begin - 1
