"""Histories from the store within a deadline, or else what was last known of the users."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skmars.serving.store._store import EVENT, UserId

State = Literal["current", "stale", "missing"]
log = logging.getLogger(__name__)

Fetch = Callable[[Sequence[UserId]], tuple[list[NDArray[Any]], int]]

READERS = 4  # threads; as many readings may hang before none is tried
REMEMBERED = 64 * 2**20  # bytes of events
NOTHING = np.zeros(0, dtype=EVENT)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a user.

    Attributes
    ----------
    events : ndarray of shape (n_events,), dtype EVENT
    position : int or None
        Position in the stream up to which the events are complete; None if nothing is known.
    state : {"current", "stale", "missing"}
    """

    events: NDArray[Any]
    position: int | None
    state: State


class TimelyHistories:
    """Reads histories of a store, and answers in time also where the store does not.

    Parameters
    ----------
    fetch : callable
        Called with user ids; returns the events of each user, and the position of the store.
    deadline : float
        Seconds that the store has.
    missed : callable, default=None
        Called with "late", "error" or "busy" (all threads hang) when the store did not answer.
    remembered : int
        How many bytes of events are kept of the users who were read last.
    """

    def __init__(
        self,
        fetch: Fetch,
        deadline: float = 0.05,
        *,
        missed: Callable[[str], Any] | None = None,
        remembered: int = REMEMBERED,
    ) -> None:
        self._fetch, self.deadline, self.remembered = fetch, deadline, remembered
        self._missed = missed or (lambda _reason: None)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="skmars-store")
        self._free = threading.Semaphore(READERS)
        self._lock = threading.Lock()
        self._last: OrderedDict[UserId, tuple[NDArray[Any], int]] = OrderedDict()
        self._bytes = 0
        self._ailing = False

    def __call__(self, user_ids: Sequence[UserId]) -> list[Known]:
        """Return what is known of each user; it never raises because of the store."""
        reading = self._in_time(user_ids)
        if reading is None:
            return self._remembered(user_ids)
        events, position = reading
        return [Known(row, position, "current") for row in events]

    def answers(self) -> bool:
        """Return whether the store answers in time."""
        return self._in_time([]) is not None

    def _in_time(self, user_ids: Sequence[UserId]) -> tuple[list[NDArray[Any]], int] | None:
        if not self._free.acquire(blocking=False):
            self._miss("busy", "all threads wait for it")
            return None
        try:
            reading = self._readers.submit(self._read, user_ids)
        except RuntimeError:  # closed
            self._free.release()
            return None
        reading.add_done_callback(lambda _reading: self._free.release())
        try:
            found = reading.result(self.deadline)
        except Late:
            self._miss("late", f"it took longer than {self.deadline:g} seconds")
            return None
        except Exception as error:
            self._miss("error", f"{type(error).__name__}: {error}")
            return None
        if self._ailing:
            self._ailing = False
            log.info("The store answers again.")
        return found

    def _miss(self, reason: str, told: str) -> None:
        self._missed(reason)
        if not self._ailing:  # the metrics tell how often
            self._ailing = True
            log.warning("The store does not tell histories in time: %s", told)

    def close(self) -> None:
        """End the threads, without waiting for those that hang."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _read(self, user_ids: Sequence[UserId]) -> tuple[list[NDArray[Any]], int]:
        events, position = self._fetch(user_ids)
        self._remember(user_ids, events, position)  # also what comes too late
        return events, position

    def _remember(
        self, user_ids: Sequence[UserId], events: Sequence[NDArray[Any]], position: int
    ) -> None:
        with self._lock:
            last = self._last
            for user, row in zip(user_ids, events, strict=True):
                kept = (row, position)
                earlier = last.pop(user, None)
                if earlier is not None:
                    self._bytes -= _size(earlier[0])
                    if earlier[1] > position:  # this reading hung, and a later one was faster
                        kept = earlier
                last[user] = kept
                self._bytes += _size(kept[0])
            while self._bytes > self.remembered:
                _, (row, _at) = last.popitem(last=False)
                self._bytes -= _size(row)

    def _remembered(self, user_ids: Sequence[UserId]) -> list[Known]:
        with self._lock:
            found = [self._last.get(user) for user in user_ids]
        return [
            Known(NOTHING, None, "missing") if f is None else Known(f[0], f[1], "stale")
            for f in found
        ]


def _size(events: NDArray[Any]) -> int:
    """Return how many bytes are kept for a user: of the events, and about as many around them."""
    return events.nbytes + 500
