"""The layers of DIN: Dice, the perceptron, and attention to a target on ragged histories.

All history positions of all rows of a batch stand one after another in one matrix; `row` says to
which row each belongs. Nothing is padded, so that neither arithmetic nor statistics see padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skmars.ctr._compiled import Histories, Layers, Result, attention, can_run, perceptron
from skmars.ctr._together import weighed_statistics
from skmars.utils._segments import segment_softmax, segment_sum
from skmars.utils._worker_group import WorkerGroup

ACTIVATIONS = ("dice", "prelu", "relu", "sigmoid")
NORMALIZATIONS = (None, "softmax", "sqrt")
# Numbers in the widest layer's activations that prediction has at a time: a megabyte of float32.
SLICE_NUMBERS = 1 << 18


class Dice(nn.Module):
    r"""Data-adaptive activation (DIN, section 5.3).

    .. math::
        f(x) = p x + (1 - p) \alpha x, \quad
        p = \sigma\Bigl(\frac{x - E[x]}{\sqrt{Var[x] + \epsilon}}\Bigr)

    `E` and `Var` (biased) are those of the batch in training; in evaluation they are running
    averages, updated by ``running += momentum * (batch - running)``.

    Parameters
    ----------
    n_units : int
        Width of the input; each unit has its own statistics and its own alpha (0 at first).
    eps : float, default=1e-8
        Added to the variance.
    momentum : float, default=0.1
        Weight of a new batch in the running statistics.
    """

    running_mean: Tensor
    running_var: Tensor
    group: WorkerGroup | None = None  # see `shared_statistics`

    def __init__(self, n_units: int, eps: float = 1e-8, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.alpha = nn.Parameter(torch.zeros(n_units))
        self.register_buffer("running_mean", torch.zeros(n_units))
        self.register_buffer("running_var", torch.ones(n_units))

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Activate `x` of shape (n, n_units).

        `weight` of shape (n,), nonnegative, counts a row that often in the batch statistics:
        a row of weight 2 is a row that stands there twice.
        """
        if not self.training:
            return self.evaluator()(x)
        if len(x) == 0 and self.group is None:
            return x
        if self.group is not None:
            mean, var = weighed_statistics(self.group, x, weight)
        elif weight is None:
            var, mean = torch.var_mean(x, 0, correction=0)
        else:
            share = (weight / weight.sum())[:, None]
            mean = (share * x).sum(0)
            var = (share * (x - mean).square()).sum(0)
        self.remember(mean, var)
        p = torch.sigmoid((x - mean) * torch.rsqrt(var + self.eps))
        return x * (self.alpha + (1 - self.alpha) * p)

    def evaluator(self) -> Callable[[Tensor], Tensor]:
        """Return the function of `x` in evaluation, for many calls one after another."""
        scale = torch.rsqrt(self.running_var + self.eps)
        shift, alpha, gain = -self.running_mean * scale, self.alpha, 1 - self.alpha

        def evaluate(x: Tensor) -> Tensor:
            p = torch.addcmul(shift, x, scale).sigmoid_()
            return torch.addcmul(alpha, p, gain).mul_(x)

        return evaluate

    @torch.no_grad()
    def remember(self, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics towards those of a batch, unless no process has any row."""
        if self.group is not None and bool(mean.isnan().all()):
            return
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var, self.momentum)


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Leave the running statistics as they are: what passes through is not what is predicted."""
    dice = [module for module in network.modules() if isinstance(module, Dice)]
    momenta = [module.momentum for module in dice]
    for module in dice:
        module.momentum = 0.0
    try:
        yield
    finally:
        for module, momentum in zip(dice, momenta):
            module.momentum = momentum


@contextmanager
def shared_statistics(group: WorkerGroup, modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let the rows that pass through these modules be a part of a batch, the others' part of which
    other processes have: statistics are those of the whole batch.
    """
    sharing = [
        part for m in modules for part in m.modules() if isinstance(part, (Dice, Perceptron))
    ]
    for module in sharing:
        module.group = group
    try:
        yield
    finally:
        for module in sharing:
            del module.group


class Perceptron(nn.Module):
    """Linear layers with an activation after each; `n_outputs` adds a linear layer at the end.

    Parameters
    ----------
    n_inputs : int
    units : sequence of int
        Width of each hidden layer.
    activation : {"dice", "prelu", "relu", "sigmoid"}
    n_outputs : int
        Width of the last, linear layer.
    """

    group: WorkerGroup | None = None  # see `shared_statistics`

    def __init__(
        self, n_inputs: int, units: Sequence[int], activation: str, n_outputs: int = 1
    ) -> None:
        super().__init__()
        widths = [n_inputs, *units]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:]))
        self.activations = nn.ModuleList(_activation(activation, b) for b in units)
        self.output = nn.Linear(widths[-1], n_outputs)

    def forward(
        self, x: Tensor, weight: Tensor | None = None, first: Tensor | None = None
    ) -> Tensor:
        """Map (n, n_inputs) to (n, n_outputs).

        `weight` (n,) is for the batch statistics; `first` stands in for the first layer's matrix.
        """
        if layers := self.compiled(x, first):
            return self.learnt(perceptron(x, layers, weight if self.training else None))
        matrices, biases = self._matrices(first)
        if self.training:
            return self._layers(x, weight, matrices, biases)
        parts = slices(len(x), max(len(bias) for bias in biases))
        return torch.cat([self._layers(x[s], None, matrices, biases) for s in parts])

    def compiled(self, x: Tensor, first: Tensor | None) -> Layers | None:
        """Return what the compiled code needs, if it can do this; parameters as for `forward`."""
        dice = [module for module in self.activations if isinstance(module, Dice)]
        if not len(dice) == len(self.activations) > 0 or (len(x) == 0 and self.group is None):
            return None
        statistics = None
        if not self.training:
            statistics = ([d.running_mean for d in dice], [d.running_var for d in dice])
        alphas = [module.alpha for module in dice]
        layers = Layers(*self._matrices(first), alphas, dice[0].eps, statistics, self.group)
        return layers if can_run(layers, x) else None

    def learnt(self, result: Result) -> Tensor:
        """Remember the statistics of a compiled result; return its output."""
        for module, mean, var in zip(self.activations, result.means, result.variances):
            cast("Dice", module).remember(mean, var)
        return result.output

    def _matrices(self, first: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
        layers: list[Any] = [*self.layers, self.output]
        matrices = [layer.weight for layer in layers]
        if first is not None:
            matrices[0] = first
        return matrices, [layer.bias for layer in layers]

    def _layers(
        self, x: Tensor, weight: Tensor | None, matrices: list[Tensor], biases: list[Tensor]
    ) -> Tensor:
        for activation, W, b in zip(self.activations, matrices, biases):
            x = F.linear(x, W, b)
            x = activation(x, weight) if isinstance(activation, Dice) else activation(x)
        return F.linear(x, matrices[-1], biases[-1])


def _activation(name: str, n_units: int) -> nn.Module:
    if name == "dice":
        return Dice(n_units)
    if name == "prelu":
        return nn.PReLU(n_units)
    return nn.ReLU() if name == "relu" else nn.Sigmoid()


class LocalActivationUnit(Perceptron):
    """How relevant a history item (key) is for the target item (query): one score a position.

    A perceptron on ``[q, k, q - k, q * k]``, whose first layer is evaluated in the factored form
    ``W [q, k, q - k, q * k] = (W1 + W3) q + (W2 - W3) k + W4 (q * k)``: the same function, with
    three quarters of the arithmetic and without the concatenation of four.

    Parameters
    ----------
    n_features : int
        Width of queries and keys.
    units, activation
        See `Perceptron`.
    """

    def __init__(self, n_features: int, units: Sequence[int], activation: str) -> None:
        super().__init__(4 * n_features, units, activation)

    def forward(  # type: ignore[override]
        self, query: Tensor, key: Tensor, row: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Score all positions, shape (n_positions,); parameters are those of the pooling."""
        q = query.index_select(0, row)
        # One matrix product over [k, q * k, q]: for embeddings of usual width it is cheaper
        # to repeat q than to repeat its (wider) projection.
        x = torch.cat([key, q * key, q], dim=1)
        if weight is not None:
            weight = weight.index_select(0, row)
        return super().forward(x, weight, self.first()).squeeze(1)

    def first(self) -> Tensor:
        """Return the matrix of ``[k, q * k, q]``."""
        layer: Any = self.layers[0] if len(self.layers) else self.output
        w1, w2, w3, w4 = layer.weight.chunk(4, dim=1)
        return torch.cat([w2 - w3, w4, w1 + w3], dim=1)

    def scores(self, queries: Sequence[Tensor], keys: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield for each history, in evaluation, the scores of all its keys for its queries.

        Their shape is (n_queries, n_keys). For a given key the first layer is linear in the query,
        so that it takes one matrix product without the products of queries and keys.
        """
        layers: list[Any] = [*self.layers, self.output]
        matrices, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
        n_units = max(bias.shape[0] for bias in biases)
        w1, w2, w3, w4 = matrices[0].chunk(4, dim=1)
        w_key, w_query, w_both = (w2 - w3).T, (w1 + w3).T[:, None], w4.T[:, None]
        activations: list[Any] = [
            each.evaluator() if isinstance(each, Dice) else each for each in self.activations
        ]
        for query, key in zip(queries, keys):
            of_key = torch.addmm(biases[0], key, w_key).flatten()
            of_query = torch.addcmul(w_query, key.T[:, :, None], w_both).flatten(1)
            parts = []
            for s in slices(query.shape[0], max(1, key.shape[0]) * n_units):
                x = torch.addmm(of_key, query[s], of_query).view(-1, biases[0].shape[0])
                for activation, W, b in zip(activations, matrices[1:], biases[1:]):
                    x = F.linear(activation(x), W, b)
                parts.append(x)
            score = parts[0] if len(parts) == 1 else torch.cat(parts)
            yield score.view(query.shape[0], key.shape[0])


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
        at: Tensor | None = None,
    ) -> Tensor:
        """Pool each row's keys; a row without any position gets zeros.

        Parameters
        ----------
        query : Tensor of shape (n_rows, n_features)
        key : Tensor of shape (n_positions, n_features)
            Row after row; with `at` in any order, each once or more.
        row : LongTensor of shape (n_positions,)
            The row to which each position belongs.
        length : LongTensor of shape (n_rows,)
            Number of positions of each row.
        weight : Tensor of shape (n_rows,), optional
            Row weights in the batch statistics.
        at : LongTensor of shape (n_positions,), optional
            The key of each position.

        Returns
        -------
        Tensor of shape (n_rows, n_features)
        """
        layers = self._compiled(query) if len(row) or self.unit.group else None
        if layers is not None:
            histories = Histories(key, at, torch.cumsum(length, 0) - length, length)
            result = attention(query, histories, layers, weight if self.training else None)
            pooled = self.unit.learnt(result)
        else:
            key = key if at is None else key.index_select(0, at)
            score = self.unit(query, key, row, weight)
            if self.normalization == "softmax":
                score = segment_softmax(score, row, length)
            pooled = segment_sum(score[:, None] * key, length)
        return self._scaled(pooled, length)

    def _compiled(self, query: Tensor) -> Layers | None:
        if self.normalization == "softmax":
            return None
        return self.unit.compiled(query, self.unit.first())

    def _scaled(self, pooled: Tensor, length: Tensor) -> Tensor:
        if self.normalization == "sqrt":
            return pooled * length.clamp(min=1).to(pooled.dtype).rsqrt()[:, None]
        return pooled

    def shared(
        self, query: Tensor, key: Tensor, n_rows: Tensor, length: Tensor, at: Tensor | None = None
    ) -> Tensor:
        """Do as `forward` in evaluation, where consecutive rows share a history.

        Parameters
        ----------
        query : Tensor of shape (n_rows, n_features)
        key : Tensor of shape (n_positions, n_features)
            History after history; with `at` as for `forward`.
        n_rows, length : LongTensor of shape (n_histories,)
            Number of rows that share a history, and of its positions.
        at : LongTensor of shape (n_positions,), optional

        Returns
        -------
        Tensor of shape (n_rows, n_features)
        """
        if layers := self._compiled(query):
            of_row = (torch.cumsum(length, 0) - length).repeat_interleave(n_rows)
            length = length.repeat_interleave(n_rows)
            result = attention(query, Histories(key, at, of_row, length), layers)
            return self._scaled(result.output, length)
        key = key if at is None else key.index_select(0, at)
        keys = key.split(length.tolist())
        pooled = []
        for k, score in zip(keys, self.unit.scores(query.split(n_rows.tolist()), keys)):
            share = score.softmax(1) if self.normalization == "softmax" else score
            scale = max(1, k.shape[0]) ** -0.5 if self.normalization == "sqrt" else 1.0
            pooled.append(share @ (k * scale))  # zeros for an empty history
        return torch.cat(pooled)


def slices(n: int, width: int) -> list[slice]:
    """Cut n rows into slices that fit the cache, where the widest layer has so many units."""
    rows = max(1, SLICE_NUMBERS // width)
    return [slice(i, min(i + rows, n)) for i in range(0, max(n, 1), rows)]
