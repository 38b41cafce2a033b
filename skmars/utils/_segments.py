"""Sums and softmax over consecutive segments of a tensor. Imports torch: import lazily."""

from __future__ import annotations

import torch
from torch import Tensor


def segment_sum(x: Tensor, length: Tensor) -> Tensor:
    """Sum `x` (n_positions, ...) over consecutive segments of the given lengths.

    `torch.segment_reduce` runs through memory once, in order: deterministic, and exact where the
    difference of cumulative sums is not.
    """
    if len(x) == 0:
        return x.new_zeros((len(length), *x.shape[1:])) + x.sum()
    return torch.segment_reduce(x, "sum", lengths=length, axis=0)


def segment_softmax(score: Tensor, row: Tensor, length: Tensor) -> Tensor:
    """Softmax of `score` (n_positions,) within each segment."""
    if len(score) == 0:
        return score
    top = torch.segment_reduce(score.detach(), "max", lengths=length, axis=0)
    exp = torch.exp(score - top.index_select(0, row))
    return exp / segment_sum(exp, length).index_select(0, row)
