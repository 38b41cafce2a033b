"""Processes that train together through torch.distributed, without a cluster."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from skmars.utils._worker_group import training_together


class Processes:
    """Some processes of one group; a call runs the same function in all of them."""

    def __init__(self, n: int, folder: Path) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload(["tests.serving.preloaded"])
        self._pools = [
            ProcessPoolExecutor(1, context, _join, (rank, n, str(folder / f"of-{n}")))
            for rank in range(n)
        ]

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Return the result of each process, by rank."""
        running = [pool.submit(function, *args, **kwargs) for pool in self._pools]
        return [each.result() for each in running]

    def close(self) -> None:
        for pool in self._pools:
            pool.shutdown()


def _join(rank: int, n: int, file: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", f"file://{file}", rank=rank, world_size=n, timeout=timedelta(seconds=60)
    )


def fitted(
    classifier: Any, X: Any, y: Any, *, together: bool, dtype: Any = torch.float64, **kwargs: Any
) -> Any:
    """Fit a classifier, whose network has this type, with the other processes or alone."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with training_together() if together else nullcontext():
            fit = classifier.partial_fit if kwargs.pop("partial", False) else classifier.fit
            return fit(X, y, **kwargs)
    finally:
        torch.set_default_dtype(before)
