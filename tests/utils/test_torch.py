"""Devices and seeds."""

from __future__ import annotations

import pytest
import torch

from skmars.utils.torch import resolve_device, seeded, to_cpu


def test_devices() -> None:
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu' or 'cuda', got 'gpu'"):
        resolve_device("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda() -> None:
    with pytest.raises(RuntimeError, match="no CUDA device.*device='cpu'"):
        resolve_device("cuda")


def test_seeded_repeats_and_leaves_the_callers_state_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with seeded(7):
        first = torch.rand(2)
    with seeded(7):
        second = torch.rand(2)
    assert torch.equal(first, second)
    assert torch.equal(torch.rand(3), expected)


def test_to_cpu_leaves_no_gradient_behind() -> None:
    layer = torch.nn.Linear(2, 1)
    layer(torch.ones(1, 2)).sum().backward()
    assert all(p.grad is None for p in to_cpu(layer).parameters())
    assert not layer.training
