"""Batches as tasks of scikit-learn callbacks, and as printed lines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from skmars.encoding._encode import Chunks, Watch


def watcher(estimator: Any, name: str, context: Any = None) -> Watch:
    """Return what passes the batches of a modality on and reports on them.

    Parameters
    ----------
    estimator : MultimodalEncoder
    name : str
        The modality.
    context : CallbackContext, default=None
        That of `fit`; None where no callback listens.
    """

    def watch(chunks: Chunks) -> Iterator[list[int]]:
        n, done, start = sum(map(len, chunks)), 0, time.perf_counter()
        tasks = context and context.subcontext(f"encode {name}", max_subtasks=len(chunks))
        if tasks:
            tasks.call_on_fit_task_begin(estimator=estimator)
        for chunk in chunks:
            task = tasks and tasks.subcontext("batch").call_on_fit_task_begin(estimator=estimator)
            yield chunk
            if task:
                task.call_on_fit_task_end(estimator=estimator)
            done += len(chunk)
            if estimator.verbose > 1:
                print(f"[MultimodalEncoder] {name}: {done} of {n} items")
        if tasks:
            tasks.call_on_fit_task_end(estimator=estimator)
        if estimator.verbose:
            seconds = time.perf_counter() - start
            print(f"[MultimodalEncoder] {name}: encoded {n} items in {seconds:.1f} s")

    return watch
