"""A bounded queue before one thread, which takes all that waits at once."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class QueueFull(Exception):
    """As many jobs wait as may wait."""


class _Waiting(NamedTuple):
    job: Any
    size: int
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class BatchQueue(Generic[Job, Result]):
    """Jobs that one thread works off in batches, without waiting for a batch to fill.

    Parameters
    ----------
    work : callable
        Called with a list of jobs, in that thread; returns one result each. If it raises, it is
        called again with each job alone, so that a bad job fails by itself.
    capacity : int
        How many jobs may wait.
    max_batch : int
        How many jobs a batch has at most.
    max_size : int
        A batch takes no further job once the sizes of its jobs sum to this.
    name : str
        Of the thread.
    observe : callable, default=None
        Called with the number of jobs in a batch, and of those that still wait.
    """

    def __init__(
        self,
        work: Callable[[list[Job]], Sequence[Result]],
        *,
        capacity: int,
        max_batch: int,
        max_size: int,
        name: str,
        observe: Callable[[int, int], Any] | None = None,
    ) -> None:
        self._work = work
        self._observe = observe or (lambda _batch, _waiting: None)
        self.capacity, self.max_batch, self.max_size = capacity, max_batch, max_size
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, job: Job, size: int = 1) -> asyncio.Future[Result]:
        """Let a job wait, and return the future of its result; call it in an event loop.

        Raises
        ------
        QueueFull
            If too many wait, or the queue is closed.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        with self._changed:
            if self._closed or len(self._waiting) >= self.capacity:
                raise QueueFull
            self._waiting.append(_Waiting(job, size, future, loop))
            self._changed.notify()
        return future

    def close(self, timeout: float = 30.0) -> None:
        """Refuse further jobs, finish those that wait, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)

    def _take(self) -> list[_Waiting]:
        """Return what waits, one job at least, or nothing if the queue is closed and empty."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            batch: list[_Waiting] = []
            size = 0
            while self._waiting and len(batch) < self.max_batch and size < self.max_size:
                waiting = self._waiting.popleft()
                batch.append(waiting)
                size += waiting.size
            return batch

    def _run(self) -> None:
        while taken := self._take():
            # Whoever gave up needs no result. (The flag may be read from any thread.)
            batch = [waiting for waiting in taken if not waiting.future.cancelled()]
            self._observe(len(taken), len(self._waiting))
            if batch:
                _deliver(batch, self._results([waiting.job for waiting in batch]))

    def _results(self, jobs: list[Job]) -> list[Result | Exception]:
        try:
            return list(self._work(jobs))
        except Exception as error:
            if len(jobs) == 1:
                return [error]
            return [result for job in jobs for result in self._results([job])]


def _deliver(batch: list[_Waiting], results: list[Any]) -> None:
    """Set the results in the event loops that wait for them, with one call a loop."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for waiting, result in zip(batch, results, strict=True):
        loops.setdefault(waiting.loop, []).append((waiting.future, result))
    for loop, pairs in loops.items():
        try:
            loop.call_soon_threadsafe(_set, pairs)
        except RuntimeError:  # the loop is closed: nobody waits any longer
            continue


def _set(pairs: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in pairs:
        if future.done():  # cancelled meanwhile
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
