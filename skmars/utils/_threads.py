"""Threads of our own, each of which computes alone. Imports torch: import this file lazily.

Torch would share out every operator over its threads, and wait for all of them each time: hundreds
of times a training step. Where another process keeps a core busy, each of these waits for the
thread that has none. Whole slices of the work, taken by whichever thread is free, wait seldom.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch


@dataclass
class _Block:
    """The blocks that are open: the thread of each, and of which all threads of our own are."""

    open: list[int] = field(default_factory=list)
    owner: int = 0
    n_threads: int = 1


_LOCK, _BLOCK = threading.Lock(), _Block()


def _only_this_thread() -> None:
    """Forget the blocks of threads that a fork of the process does not have."""
    global _LOCK
    _LOCK, here = threading.Lock(), threading.get_ident()
    if _BLOCK.open:
        _BLOCK.open = [thread for thread in _BLOCK.open if thread == here]
        if not _BLOCK.open:
            torch.set_num_threads(_BLOCK.n_threads)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_only_this_thread)


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
        if not _BLOCK.open:
            _BLOCK.owner, _BLOCK.n_threads = here, torch.get_num_threads()
        _BLOCK.open.append(here)
        n_threads = _BLOCK.n_threads if _BLOCK.owner == here else 1
        # Torch keeps this for each thread; one that is new gets what was set last.
        torch.set_num_threads(1)
    try:
        yield n_threads
    finally:
        with _LOCK:
            _BLOCK.open.remove(here)
            if here not in _BLOCK.open:
                torch.set_num_threads(_BLOCK.n_threads)
