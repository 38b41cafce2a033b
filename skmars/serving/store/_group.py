"""One durable write for all threads that wait for one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from skmars.serving.store._batch import BLOCK, Batch

# The position after a batch was written, and how many of its events were new.
Kept = tuple[int, int]


@dataclass(eq=False)
class _Waiting:
    """A thread's events that wait to be written, and what became of them."""

    batch: Batch
    outcome: Kept | Exception | None = None  # or why they were not kept


class Group:
    """Writes together what several threads append while the last write is under way.

    A write that is synced takes as long for one event as for a thousand.

    Parameters
    ----------
    write : callable
        Keeps a list of batches, and returns for each what became of it, or the error.
    """

    def __init__(self, write: Callable[[list[Batch]], list[Kept | Exception]]) -> None:
        self._write, self._pid = write, os.getpid()
        self._turn = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._writing = False

    def append(self, batch: Batch) -> Kept:
        """Return what became of a batch that was written, by this thread or another."""
        if self._pid != os.getpid():  # the threads that wait are those of the parent process
            self.__init__(self._write)  # type: ignore[misc]
        mine = _Waiting(batch)
        with self._turn:
            self._waiting.append(mine)
        try:
            while mine.outcome is None:
                self._wait_or_write(mine)
        finally:
            with self._turn:
                self._waiting = [one for one in self._waiting if one is not mine]
        if isinstance(mine.outcome, Exception):
            raise mine.outcome
        return mine.outcome

    def _wait_or_write(self, mine: _Waiting) -> None:
        with self._turn:
            while self._writing and mine.outcome is None:
                self._turn.wait()
            if mine.outcome is not None:
                return
            self._writing, group = True, self._first_waiting()
        try:
            outcomes: list[Kept | Exception]
            try:
                outcomes = self._write([one.batch for one in group])
            except Exception as error:
                outcomes = [error] * len(group)
            for one, outcome in zip(group, outcomes):
                one.outcome = outcome
        finally:
            with self._turn:
                self._waiting = [one for one in self._waiting if one.outcome is None]
                self._writing = False
                self._turn.notify_all()

    def _first_waiting(self) -> list[_Waiting]:
        """Return whose events are written next: of all who wait, up to a limit."""
        sizes = np.cumsum([len(one.batch) for one in self._waiting])
        return self._waiting[: max(1, int(np.searchsorted(sizes, BLOCK, side="right")))]
