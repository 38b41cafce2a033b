"""How far the encoding of a modality is."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

from skmars.encoding._encode import Chunks, Watch
from skmars.utils._progress import as_tasks, report


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
        for chunk in as_tasks(chunks, f"encode {name}", "batch", estimator, context):
            yield chunk
            done += len(chunk)
            line = f"[MultimodalEncoder] {name}: {done} of {n} items"
            report(line, estimator.verbose > 1, logging.DEBUG)
        seconds = time.perf_counter() - start
        line = f"[MultimodalEncoder] {name}: encoded {n} items in {seconds:.1f} s"
        report(line, estimator.verbose)

    return watch
