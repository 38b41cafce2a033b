"""A training step that several processes take together, each with some rows of the batch.

The result is that of one process, but for rounding: what the rows of a batch share is shared by all
processes. That is the statistics of Dice, forward and backward, and the gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skmars.ctr._row_encoder import EncodedRows
from skmars.utils._worker_group import WorkerGroup

# What the head computes for a row, in history positions.
HEAD_WORK = 4


def row_work(rows: EncodedRows) -> NDArray[np.int64]:
    """Return the arithmetic of each row, in history positions."""
    return rows.n_positions() + HEAD_WORK


def own_rows(work: NDArray[Any], group: WorkerGroup) -> slice:
    """Return the rows of this process: consecutive ones, so that all have about the same work.

    Parameters
    ----------
    work : ndarray of shape (n_rows,)
        Of each row, positive.
    group : WorkerGroup
    """
    ends = np.cumsum(work)
    # A row is of the process in whose part of the sum its middle lies.
    middle = (ends - work / 2) * group.size
    total = float(work.sum())
    start, stop = np.searchsorted(middle, [total * group.rank, total * (group.rank + 1)])
    return slice(int(start), int(stop))


def weighed_statistics(
    group: WorkerGroup, x: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return weighed mean and variance of the rows of all processes, with gradients."""
    if weight is None:
        weight = x.new_ones(len(x))
    weight = weight[:, None]
    sums = _SumOfAll.apply(torch.cat([(weight * x).sum(0), weight.sum(0)]), group)
    mean, total = sums[:-1] / sums[-1], sums[-1]
    var = _SumOfAll.apply((weight * (x - mean).square()).sum(0), group) / total
    return mean, var


class _SumOfAll(torch.autograd.Function):
    # What every process computes with the sum depends on what each of them put in.
    @staticmethod
    def forward(ctx, x, group):  # type: ignore[no-untyped-def, override]
        ctx.group = group
        return group.sum_(x.clone())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_sum):  # type: ignore[no-untyped-def, override]
        return ctx.group.sum_(d_sum.clone(memory_format=torch.contiguous_format)), None


def sum_gradients(
    network: nn.Module,
    tables: Sequence[nn.Embedding | None],
    used: Sequence[Tensor],
    loss: float,
    group: WorkerGroup,
) -> float:
    """Replace gradients by their sums over the processes; return the sum of the losses.

    It is one message. Of the embedding tables, it has the rows that the batch uses.

    Parameters
    ----------
    network : nn.Module
    tables : sequence of (nn.Embedding or None)
        Those of the network, whose gradients are sparse.
    used : sequence of Tensor
        The rows of each table that any process uses, ascending.
    loss : float
        Of this process.
    group : WorkerGroup
    """
    rows = {table.weight: ids for table, ids in zip(tables, used) if table is not None}
    parameters = list(network.parameters())
    # What has no gradient anywhere, a step leaves alone; a gradient of zeros would move it.
    has = [float(p.grad is not None) for p in parameters]
    parts = [parameters[0].new_tensor([loss, *has])]
    for p in parameters:
        ids, gradient = rows.get(p), p.grad
        if ids is not None:
            gradient = p.new_zeros((len(ids), p.shape[1]))
            if p.grad is not None:
                place = torch.searchsorted(ids, p.grad._indices()[0])
                gradient.index_add_(0, place, p.grad._values())
        elif gradient is None:
            gradient = torch.zeros_like(p)
        parts.append(gradient.flatten())
    summed = group.sum_(torch.cat(parts)).split([len(part) for part in parts])
    head, *gradients = summed
    number, *has = head.tolist()
    for p, gradient, there in zip(parameters, gradients, has):
        ids = rows.get(p)
        if not there:
            p.grad = None
        elif ids is None:
            p.grad = gradient.view_as(p)
        else:
            p.grad = torch.sparse_coo_tensor(
                ids[None],
                gradient.view(len(ids), -1),
                p.shape,
                is_coalesced=True,
                check_invariants=False,
            )
    return number
