"""Threads that take parts of a batch, one after another. Imports torch: import this file lazily."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch

from skmars.utils._threads import one_thread_each

Result = TypeVar("Result")


class Run(Protocol):
    """Does all tasks, and returns their results in order."""

    def __call__(self, tasks: Sequence[Callable[[], Result]]) -> list[Result]: ...


def in_turn(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """Do one task after another, in this thread."""
    return [task() for task in tasks]


@contextmanager
def workers(device: torch.device) -> Iterator[Run]:
    """Yield what does tasks, on as many threads as torch would use for its operators.

    Each thread takes the next task as soon as it is free; this thread is one of them. Within a
    task, operators use one thread. On a GPU, tasks are done in turn.
    """
    if device.type != "cpu":
        yield in_turn
        return
    with one_thread_each() as n_threads:
        if n_threads == 1:
            yield in_turn
            return
        with ThreadPoolExecutor(n_threads - 1, "skmars-aligner") as pool:

            def run(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
                results: list[Any] = [None] * len(tasks)
                left = iter(enumerate(tasks))  # `next` of it is atomic

                def work() -> None:
                    for k, task in left:
                        results[k] = task()

                helpers = [pool.submit(work) for _ in range(min(n_threads, len(tasks)) - 1)]
                try:
                    work()
                finally:
                    # Nobody may go on with this batch once its caller has left it.
                    for _ in left:
                        pass
                    wait(helpers)
                for helper in helpers:
                    helper.result()
                return results

            yield run
