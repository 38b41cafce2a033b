"""Blocks of NumPy's work on threads of our own, each of which computes alone.

A matrix product that BLAS shares out over its threads waits for all of them each time. Where
another process keeps a core busy, that is for the thread that has none. Whole blocks of the work,
taken by whichever thread is free, wait seldom, and all that is between products runs in parallel,
too.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import TypeVar

from joblib import cpu_count, effective_n_jobs
from threadpoolctl import ThreadpoolController

Block = TypeVar("Block")
Result = TypeVar("Result")

_BUSY = threading.Lock()  # held while there are threads of our own


@contextmanager
def in_threads(
    function: Callable[[Block], Result], blocks: Iterable[Block], n_jobs: int | None
) -> Iterator[Iterator[Result]]:
    """Compute a function of each block, and yield an iterator of the results in their order.

    Blocks are made by the calling thread, few ahead of the result that is waited for. BLAS has
    one thread meanwhile. A single block, and those of a call within a block, are computed by the
    calling thread.

    Parameters
    ----------
    function : callable
        It should depend on nothing but its block, so that the number of threads does not matter.
    blocks : iterable
    n_jobs : int or None
        Number of threads, in the manner of joblib; None for as many as BLAS has.

    Examples
    --------
    >>> with in_threads(lambda x: x * x, range(5), n_jobs=2) as squares:
    ...     list(squares)
    [0, 1, 4, 9, 16]
    """
    waiting = iter(blocks)
    first = list(islice(waiting, 2))
    if len(first) < 2 or not _BUSY.acquire(blocking=False):
        yield (function(block) for block in _chained(first, waiting))
        return
    try:
        blas = _blas()
        n_threads = _n_threads(blas, n_jobs)
        with blas.limit(limits=1):
            if n_threads == 1:
                yield (function(block) for block in _chained(first, waiting))
                return
            executor = ThreadPoolExecutor(n_threads)
            try:
                yield _results(executor, function, _chained(first, waiting), 2 * n_threads)
            finally:
                executor.shutdown(cancel_futures=True)
    finally:
        _BUSY.release()


def _chained(first: list[Block], rest: Iterator[Block]) -> Iterator[Block]:
    yield from first
    yield from rest


def _results(
    executor: ThreadPoolExecutor,
    function: Callable[[Block], Result],
    blocks: Iterator[Block],
    n_ahead: int,
) -> Iterator[Result]:
    running: deque[Future[Result]] = deque()
    for block in blocks:
        running.append(executor.submit(function, block))
        if len(running) > n_ahead:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


@cache
def _blas() -> ThreadpoolController:
    """Return what controls the threads of BLAS; to look for it takes longer than a small search."""
    return ThreadpoolController().select(user_api="blas")


def _n_threads(blas: ThreadpoolController, n_jobs: int | None) -> int:
    n = effective_n_jobs(n_jobs)
    if n_jobs is None and n == 1:
        n = min((library.num_threads for library in blas.lib_controllers), default=1)
    return min(n, cpu_count())
