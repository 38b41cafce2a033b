"""Perceptrons with the data-adaptive activation Dice, for activation unit and head of DIN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skmars.ctr._fused import dice_perceptron, dice_perceptron_of

ACTIVATIONS = ("dice", "prelu", "relu", "sigmoid")


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
            scale = torch.rsqrt(self.running_var + self.eps)
            p = torch.addcmul(-self.running_mean * scale, x, scale).sigmoid_()
            return torch.addcmul(self.alpha, p, 1 - self.alpha).mul_(x)
        if len(x) == 0:
            return x
        if weight is None:
            var, mean = torch.var_mean(x, 0, correction=0)
        else:
            share = (weight / weight.sum())[:, None]
            mean = (share * x).sum(0)
            var = (share * (x - mean).square()).sum(0)
        self.remember(mean, var)
        p = torch.sigmoid((x - mean) * torch.rsqrt(var + self.eps))
        return x * (self.alpha + (1 - self.alpha) * p)

    @torch.no_grad()
    def remember(self, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics towards those of a batch."""
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
        layers: list[Any] = [*self.layers, self.output]
        matrices = [layer.weight for layer in layers]
        if first is not None:
            matrices[0] = first
        biases = [layer.bias for layer in layers]
        dice = [module for module in self.activations if isinstance(module, Dice)]
        if (
            x.device.type != "cpu"
            or weight is not None
            or not len(dice) == len(self.activations) > 0
            or len(x) == 0
            or (not self.training and torch.is_grad_enabled())
        ):
            return self._layers(x, weight, matrices, biases)
        alphas = [module.alpha for module in dice]
        if self.training:
            x, means, variances = dice_perceptron(x, matrices, biases, alphas, dice[0].eps)
            for module, mean, var in zip(dice, means, variances):
                module.remember(mean, var)
            return x
        means = [module.running_mean for module in dice]
        variances = [module.running_var for module in dice]
        return dice_perceptron_of(x, matrices, biases, alphas, dice[0].eps, means, variances)

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
