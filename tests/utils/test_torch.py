"""Devices and random numbers."""

from __future__ import annotations

from threading import Thread

import numpy as np
import pytest
import torch

from skmars.utils._torch import DrawFrom, new_generator, resolve_device, to_cpu


def test_devices() -> None:
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu' or 'cuda', got 'gpu'"):
        resolve_device("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda() -> None:
    with pytest.raises(RuntimeError, match="no CUDA device.*device='cpu'"):
        resolve_device("cuda")


def weights() -> torch.Tensor:
    """Initial weights of all that networks of skmars are made of."""
    module = torch.nn.ModuleList(
        [
            torch.nn.Linear(3, 4),
            torch.nn.Embedding(5, 2),
            torch.nn.LayerNorm(3),
            torch.nn.PReLU(2),
            torch.nn.TransformerEncoderLayer(4, nhead=1, dim_feedforward=4),
            torch.nn.ParameterList([torch.randn(2, 3)]),
        ]
    )
    torch.nn.init.normal_(module[1].weight, std=0.1)
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach()


def test_modules_draw_from_the_generator_what_they_would_from_the_global_one() -> None:
    torch.manual_seed(7)
    expected, state = weights(), torch.get_rng_state()
    with DrawFrom(torch.Generator().manual_seed(7)):
        drawn = weights()
    assert torch.equal(drawn, expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_other_threads_draw_from_the_global_generator() -> None:
    torch.manual_seed(7)
    expected, drawn = torch.rand(3), []
    torch.manual_seed(7)
    with DrawFrom(torch.Generator()):
        thread = Thread(target=lambda: drawn.append(torch.rand(3)))
        thread.start()
        thread.join()
    assert torch.equal(drawn[0], expected)


def test_seeds_of_generators_follow_the_random_state() -> None:
    random_state = np.random.RandomState(0)
    first, second = (torch.rand(3, generator=new_generator(random_state)) for _ in range(2))
    again = torch.rand(3, generator=new_generator(np.random.RandomState(0)))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_to_cpu_leaves_no_gradient_behind() -> None:
    layer = torch.nn.Linear(2, 1)
    layer(torch.ones(1, 2)).sum().backward()
    assert all(p.grad is None for p in to_cpu(layer).parameters())
    assert not layer.training
