"""Report progress: tasks of scikit-learn's callbacks, lines on the terminal, a log."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

Part = TypeVar("Part")

logger = logging.getLogger("skmars")


def report(line: str, verbose: bool | int, level: int = logging.INFO) -> None:
    """Log a line to the logger "skmars", and print it if `verbose` is true."""
    logger.log(level, line)
    if verbose:
        print(line, flush=True)


def as_tasks(
    parts: Sequence[Part], name: str, part_name: str, estimator: Any, context: Any = None
) -> Iterator[Part]:
    """Yield the parts of some work, each as a callback task within a task for the whole.

    `name` and `part_name` are the names of these tasks. The context is that of
    ``estimator._init_callback_context``, None without callbacks.
    """
    if context is None:
        yield from parts
        return
    whole = context.subcontext(name, max_subtasks=len(parts))
    whole.call_on_fit_task_begin(estimator=estimator)
    for part in parts:
        task = whole.subcontext(part_name).call_on_fit_task_begin(estimator=estimator)
        yield part
        task.call_on_fit_task_end(estimator=estimator)
    whole.call_on_fit_task_end(estimator=estimator)
