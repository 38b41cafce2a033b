"""Processes that train one network together. Imports torch: import this file lazily."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, distributed


class WorkerGroup:
    """The processes of the default group of `torch.distributed`, as one of them sees it.

    All of them call the same methods in the same order, or they wait for each other. All get the
    same bits, so that whatever they decide by these, they decide alike. ConnectionError is raised
    if one of them has ended.

    Attributes
    ----------
    rank : int
        Of this process, from 0 on.
    size : int
        Number of processes.
    """

    def __init__(self) -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()

    def sum_(self, values: Tensor) -> Tensor:
        """Replace a contiguous tensor by its sum over the processes."""
        with _peers():
            distributed.all_reduce(values)
        return values

    def gather(self, values: Tensor) -> list[Tensor]:
        """Return the tensors of all processes, which have one shape, by rank."""
        found = list(values.new_empty((self.size, *values.shape)).unbind())
        with _peers():
            distributed.all_gather(found, values)
        return found

    def agreed(self, value: float) -> float:
        """Return the number that the process of rank 0 has."""
        number = torch.tensor(value, dtype=torch.float64)
        with _peers():
            distributed.broadcast(number, 0)
        return float(number)


@contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError(f"another process that trains along has ended: {error}") from error


_GROUP: ContextVar[WorkerGroup | None] = ContextVar("_GROUP", default=None)


def current_group() -> WorkerGroup | None:
    """Return the processes with which this one trains; None if it trains alone."""
    return _GROUP.get()


@contextmanager
def training_together() -> Iterator[WorkerGroup]:
    """Let trainings in the block be those of all processes of `torch.distributed` together.

    Each process makes the same calls with the same data.
    """
    group = WorkerGroup()
    token = _GROUP.set(group)
    try:
        yield group
    finally:
        _GROUP.reset(token)
