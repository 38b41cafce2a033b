"""The local activation unit of the Deep Interest Network, on ragged histories.

All positions of all rows of a batch stand one after another in one matrix; `row` says to which
row each belongs. Nothing is padded, so that neither arithmetic nor statistics see padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skmars.ctr._perceptron import Perceptron

NORMALIZATIONS = (None, "softmax", "sqrt")


class LocalActivationUnit(Perceptron):
    """How relevant a history item (key) is for the target item (query): one score a position.

    A perceptron on ``[q, k, q - k, q * k]``, whose first layer is evaluated in the factored form
    ``W [q, k, q - k, q * k] = (W1 + W3) q + (W2 - W3) k + W4 (q * k)``: the same function, with
    three quarters of the arithmetic and without the concatenation of four.

    Parameters
    ----------
    n_features : int
        Width of queries and keys.
    units : sequence of int
        Width of each hidden layer.
    activation : {"dice", "prelu", "relu", "sigmoid"}
    """

    def __init__(self, n_features: int, units: Sequence[int], activation: str) -> None:
        super().__init__(4 * n_features, units, activation)

    def forward(  # type: ignore[override]
        self, query: Tensor, key: Tensor, row: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Score all positions.

        Parameters
        ----------
        query : Tensor of shape (n_rows, n_features)
        key : Tensor of shape (n_positions, n_features)
        row : LongTensor of shape (n_positions,)
            The row to which each position belongs.
        weight : Tensor of shape (n_rows,), optional
            Row weights in the batch statistics.

        Returns
        -------
        Tensor of shape (n_positions,)
        """
        layer: Any = self.layers[0] if len(self.layers) else self.output
        w1, w2, w3, w4 = layer.weight.chunk(4, dim=1)
        q = query.index_select(0, row)
        # One matrix product over [k, q * k, q]: for embeddings of usual width it is cheaper
        # to repeat q than to repeat its (wider) projection.
        x = torch.cat([key, q * key, q], dim=1)
        if weight is not None:
            weight = weight.index_select(0, row)
        first = torch.cat([w2 - w3, w4, w1 + w3], dim=1)
        return super().forward(x, weight, first).squeeze(1)


class AttentionPooling(nn.Module):
    """Interest vectors: attention-weighted sums of the history, `v(q) = sum_j a(e_j, q) e_j`.

    Parameters
    ----------
    n_features, units, activation
        See `LocalActivationUnit`.
    normalization : {None, "softmax", "sqrt"}
        What becomes of the scores `a` before the sum. None: nothing, as in the paper. "softmax":
        they sum to one within a history. "sqrt": they are divided by the square root of the
        history's length, which keeps the scale of the sum alike for short and long histories.
    """

    def __init__(
        self,
        n_features: int,
        units: Sequence[int],
        activation: str,
        normalization: str | None = None,
    ) -> None:
        super().__init__()
        self.unit = LocalActivationUnit(n_features, units, activation)
        # Training starts from the plain sum of the history. Scores that start around 0, of either
        # sign, can hide the history from the head for epochs.
        nn.init.ones_(self.unit.output.bias)
        self.normalization = normalization

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        row: Tensor,
        length: Tensor,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Pool each row's keys; a row without any position gets zeros.

        Parameters
        ----------
        query : Tensor of shape (n_rows, n_features)
        key : Tensor of shape (n_positions, n_features)
            Row after row.
        row : LongTensor of shape (n_positions,)
        length : LongTensor of shape (n_rows,)
            Number of positions of each row.
        weight : Tensor of shape (n_rows,), optional

        Returns
        -------
        Tensor of shape (n_rows, n_features)
        """
        score = self.unit(query, key, row, weight)
        if self.normalization == "softmax":
            score = segment_softmax(score, row, length)
        pooled = segment_sum(score[:, None] * key, length)
        if self.normalization == "sqrt":
            pooled = pooled * length.clamp(min=1).to(pooled.dtype).rsqrt()[:, None]
        return pooled


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
