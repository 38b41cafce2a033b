"""Threads of our own, each of which computes alone. Imports torch: import this file lazily.

Torch would share out every operator over its threads, and wait for all of them each time: hundreds
of times a training step. Where another process keeps a core busy, each of these waits for the
thread that has none. Whole slices of the work, taken by whichever thread is free, wait seldom.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass
class _Block:
    """The blocks of all threads that are open: their number, and the first one's thread."""

    n_open: int = 0
    owner: int = 0
    n_threads: int = 1


_LOCK, _BLOCK = threading.Lock(), _Block()


@contextmanager
def one_thread_each() -> Iterator[int]:
    """Let each operator of torch in the block use one thread.

    Yields
    ------
    int
        How many threads of our own may run: as many as torch used before
        (`torch.set_num_threads`). It is one where another thread is in such a block already.

    Examples
    --------
    >>> import torch
    >>> before = torch.get_num_threads()
    >>> with one_thread_each() as n_threads:
    ...     print(torch.get_num_threads(), n_threads == before)
    1 True
    >>> torch.get_num_threads() == before
    True
    """
    here = threading.get_ident()
    with _LOCK:
        if _BLOCK.n_open == 0:
            _BLOCK.owner, _BLOCK.n_threads = here, torch.get_num_threads()
            torch.set_num_threads(1)
        _BLOCK.n_open += 1
        n_threads = _BLOCK.n_threads if _BLOCK.owner == here else 1
    try:
        yield n_threads
    finally:
        with _LOCK:
            _BLOCK.n_open -= 1
            if _BLOCK.n_open == 0:
                torch.set_num_threads(_BLOCK.n_threads)
