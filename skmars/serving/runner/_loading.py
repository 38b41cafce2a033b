"""Bring a log into a store: every row once, also after a crash, and then what is new in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skmars.serving.scoring._rows import Stored, until
from skmars.serving.store._numbered_folder import Publish
from skmars.serving.store._store import EVENT, Events, ItemId, Store
from skmars.utils._ids import as_ids, factorize

# What the store knows of each file of the log, and how far the log is loaded.
POINTER, LOADED = "runner/log/{}", "runner/loaded"
MAX_NAME_BYTES = 300
# Told after each batch: the file, how many rows of it are loaded, and how many it has.
Progress = Callable[[str, int, int], Any]


class LogFile(Protocol):
    """A file of a log, whose rows never change; further ones may come behind them."""

    @property
    def name(self) -> str:
        """What the store remembers it by: unique in its log."""
        ...

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def n_rows(self) -> int: ...

    def mark(self, rows: int, size: int) -> str:
        """Return a digest that tells whether the first rows, or bytes, are what they were."""
        ...

    def batches(self, begin: int) -> Iterator[Events]:
        """Yield all rows from the row `begin` on, in order."""
        ...


@dataclass(frozen=True)
class _Place:
    """How far a file is loaded."""

    rows: int = 0
    size: int = 0
    mark: str = ""
    position: int = 0  # of the store behind these rows
    begin: int = 0  # of the store before the first of them


@dataclass(frozen=True)
class Loaded:
    """What was done: rows read, those that repeat one of their file, those that were kept.

    And the number of files that had new rows.
    """

    rows: int = 0
    repeated: int = 0
    kept: int = 0
    files: int = 0


def load_log(
    files: Iterable[LogFile],
    store: Store,
    publish: Publish,
    told: Progress = lambda name, rows, n_rows: None,
) -> Loaded:
    """Append the rows of a log to a store, from where the last call ended.

    Parameters
    ----------
    files : iterable of LogFile
        In the order of their events.
    store : Store
    publish : callable
        Lets a pointer of the store point to something, if the caller may still do so.
    told : callable
        Called after each batch.

    Returns
    -------
    Loaded

    Raises
    ------
    ValueError
        If rows that were loaded have changed since, or a row can't be read.
    """
    places = [(file, _place(store, file)) for file in files]
    # Behind all batches that were loaded completely. One that was interrupted lies beyond it, is
    # read again, and gets the same ids as before.
    position = max([int(store.pointer(LOADED) or 0), *(place.position for _, place in places)])
    numbering, done = _Numbering(store), Loaded()
    for file, place in places:
        if place.rows == file.n_rows:
            continue
        rows, begin = place.rows, place.begin if place.rows else position
        for batch in file.batches(rows):
            events, n_repeated = numbering.numbered(batch, begin, position)
            end, n_new = store.append_counted(events, streamed=False)
            position = max(position, end)
            rows += len(batch)
            now = _Place(rows, file.size, file.mark(rows, file.size), position, begin)
            publish(_pointer(file), json.dumps(vars(now)))
            done = replace(
                done,
                rows=done.rows + len(batch),
                repeated=done.repeated + n_repeated,
                kept=done.kept + n_new,
            )
            told(file.name, rows, file.n_rows)
        publish(LOADED, str(position))
        done = replace(done, files=done.files + 1)
    return done


def _pointer(file: LogFile) -> str:
    name = file.name.encode()
    short = len(name) <= MAX_NAME_BYTES
    return POINTER.format(file.name if short else blake2b(name, digest_size=16).hexdigest())


def _place(store: Store, file: LogFile) -> _Place:
    """Return how far a file is loaded; ValueError if that part of it has changed."""
    text = store.pointer(_pointer(file))
    if text is None:
        return _Place()
    place = _Place(**json.loads(text))
    if file.n_rows < place.rows or file.mark(place.rows, place.size) != place.mark:
        raise ValueError(
            f"{file.name} has changed: the first {place.rows} rows of a file of this name were "
            "loaded, and are no longer what they were. Give another file another name (files are "
            "known by their names in the log), and write new events into a further file, "
            "or behind the row groups that it had."
        )
    return place


class _Numbering:
    """Tells events of a file that look alike apart, so that each is kept as often as it says.

    The first of its kind has the id that a store makes itself, so that an event that came through
    the service and stands in the log, too, is one. Those that repeat it in the same file are
    numbered. An event of another file with the same user, item, time and click is the same event: a
    file that was renamed or converted, or overlaps with another, counts once. Only where the time
    is unknown, it can't be the same for sure, and is one more.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._numbers: dict[ItemId, int] = {}

    def numbered(self, batch: Events, begin: int, position: int) -> tuple[Events, int]:
        """Return events with ids, and how many of them repeat one.

        Those of the log up to a position count, with a known time only those beyond `begin`, where
        the file began.
        """
        if batch.ids is not None:
            return batch, 0
        nth = self._count(batch, begin, position)
        n_repeated = int(np.count_nonzero(nth))
        if n_repeated == 0:
            return batch, 0
        columns = zip(batch.user_ids, batch.item_ids, batch.time.tolist(), batch.clicked, nth)
        ids = [f"{u!r} {i!r} {t!r} {c} {n}" if n else None for u, i, t, c, n in columns]
        return replace(batch, ids=ids), n_repeated

    def _count(self, batch: Events, begin: int, position: int) -> NDArray[np.int64]:
        """Return for each event how many before it are alike."""
        users, user = factorize(as_ids(batch.user_ids, "the user ids"))
        item = self._items(batch.item_ids)
        stored: list[Stored] = []
        if position:
            stored = until(self._store.histories(users.tolist())[0], position)
        before = np.concatenate([np.zeros(0, dtype=EVENT), *stored])
        owner = np.repeat(np.arange(len(stored)), [len(events) for events in stored])
        counts = before["streamed"] == 0
        counts &= (before["position"] > begin) | ~np.isfinite(before["time"])
        before, owner = before[counts], owner[counts]
        time = np.concatenate([before["time"], batch.time])
        columns = [
            np.concatenate([owner, user]),
            np.concatenate([before["item"].astype(np.int64), item]),
            np.where(np.isfinite(time), time, -np.inf),
            np.concatenate([before["clicked"], batch.clicked]),
        ]
        return _rank_among_equal(columns)[len(before) :]

    def _items(self, ids: Sequence[ItemId]) -> NDArray[np.int64]:
        """Return the store's number of each item; items that are new to it have further ones."""
        for item in self._store.item_ids(len(self._numbers)):
            self._numbers[item] = len(self._numbers)
        numbers, known = self._numbers, len(self._numbers)
        new = {item: known + i for i, item in enumerate(dict.fromkeys(ids))}
        return np.array([numbers.get(item, new[item]) for item in ids], dtype=np.int64)


def _rank_among_equal(columns: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """Return for each row how many rows before it are equal to it."""
    order = np.lexsort(columns)
    begins = np.ones(len(order), dtype=bool)
    if len(order):
        begins[1:] = np.logical_or.reduce([c[order][1:] != c[order][:-1] for c in columns])
    first = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - first
    return rank
