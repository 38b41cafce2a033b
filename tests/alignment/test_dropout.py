"""Dropout by random bytes has the law of dropout."""

from __future__ import annotations

import pickle
from copy import deepcopy

import pytest
import torch

from skmars.alignment._network import Dropout


def dropout(p: float, seed: int = 0) -> Dropout:
    module = Dropout(p)
    module.generator = torch.Generator().manual_seed(seed)
    return module


@pytest.mark.parametrize("p", [0.1, 0.3, 0.9])
def test_share_and_scale(p: float) -> None:
    x = torch.ones(300, 1001, requires_grad=True)  # no multiple of eight numbers
    y = dropout(p)(x)
    assert (y == 0).float().mean() == pytest.approx(p, abs=0.005)
    assert y.mean().item() == pytest.approx(1.0, abs=0.02)  # unbiased
    assert len(y.unique()) == 2
    # Which numbers are dropped is independent along both axes.
    assert torch.corrcoef((y[:2] == 0).float())[0, 1].abs() < 0.1
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())


def test_nothing_is_dropped_in_prediction_or_for_zero() -> None:
    x = torch.randn(5, 3)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_follows_the_generator() -> None:
    first, again, other = (dropout(0.5, seed)(torch.ones(100)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_generator_is_no_part_of_copies_and_pickles() -> None:
    module = dropout(0.5)
    for copied in (deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert copied.generator is None
        assert copied.p == 0.5
    assert module.generator is not None
