"""Dice, and the perceptron with it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from skmars.ctr import _layers
from skmars.ctr._layers import Dice, Perceptron

from .modules import randomized


def test_gradients_of_dice() -> None:
    dice = Dice(3).double().train()
    x = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    alpha = torch.rand(3, dtype=torch.float64, requires_grad=True)

    def activate(x: Tensor, alpha: Tensor) -> Tensor:
        return torch.func.functional_call(dice, {"alpha": alpha}, (x,))

    assert torch.autograd.gradcheck(activate, (x, alpha))


def test_dice_is_the_published_formula() -> None:
    dice = randomized(Dice(3)).train()
    x = torch.randn(11, 3, dtype=torch.float64)
    before = dice.running_mean.clone(), dice.running_var.clone()
    p = torch.sigmoid((x - x.mean(0)) / (x.var(0, unbiased=False) + dice.eps).sqrt())
    torch.testing.assert_close(dice(x), p * x + (1 - p) * dice.alpha * x)
    torch.testing.assert_close(dice.running_mean, 0.9 * before[0] + 0.1 * x.mean(0))
    torch.testing.assert_close(dice.running_var, 0.9 * before[1] + 0.1 * x.var(0, unbiased=False))
    dice.eval()
    p = torch.sigmoid((x - dice.running_mean) / (dice.running_var + dice.eps).sqrt())
    torch.testing.assert_close(dice(x), p * x + (1 - p) * dice.alpha * x)


def test_dice_counts_a_row_of_weight_two_twice() -> None:
    weight = torch.tensor([1, 2, 0, 3])
    x = torch.randn(4, 3, dtype=torch.float64)
    weighted, repeated = randomized(Dice(3)).train(), randomized(Dice(3)).train()
    result = weighted(x, weight.double()).repeat_interleave(weight, dim=0)
    torch.testing.assert_close(result, repeated(x.repeat_interleave(weight, dim=0)))
    torch.testing.assert_close(weighted.running_var, repeated.running_var)


@pytest.mark.parametrize("n", [0, 1])
def test_dice_of_hardly_any_rows_is_finite(n: int) -> None:
    dice = Dice(3).train()
    x = torch.randn(n, 3)
    # One row is its own mean: p is one half. No row changes nothing.
    torch.testing.assert_close(dice(x), x / 2)
    torch.testing.assert_close(dice.running_var, torch.full((3,), 0.9 if n else 1.0))


def test_gradients_of_the_perceptron() -> None:
    network = randomized(Perceptron(3, (4, 2), "dice")).train()
    x = torch.randn(11, 3, dtype=torch.float64, requires_grad=True)
    names, values = zip(*network.named_parameters())

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(network, dict(zip(names, values)), (x,))

    assert torch.autograd.gradcheck(run, (x, *values))


def test_single_precision_with_a_large_mean() -> None:
    """Statistics are taken about the mean: a small spread about a large mean survives."""
    torch.manual_seed(0)
    network = Perceptron(8, (16, 8), "dice").train()
    x = 1000 + torch.randn(5000, 8)
    exact = randomized(Perceptron(8, (16, 8), "dice"))
    exact.load_state_dict(network.state_dict())
    torch.testing.assert_close(network(x), exact.train()(x.double()).float(), rtol=0, atol=1e-2)
    for fast, slow in zip(network.buffers(), exact.buffers()):
        torch.testing.assert_close(fast, slow.float(), rtol=1e-3, atol=1e-3)


def test_prediction_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_layers, "SLICE_NUMBERS", 16)
    network = randomized(Perceptron(3, (4, 2), "dice")).eval()
    x = torch.randn(11, 3, dtype=torch.float64)
    layers = [*network.layers, network.output]
    whole = network._layers(x, None, [a.weight for a in layers], [a.bias for a in layers])
    torch.testing.assert_close(network(x), whole)
