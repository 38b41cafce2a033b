"""Devices, seeds and the way back to the CPU. Imports torch: import this file lazily."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

Module = TypeVar("Module", bound=torch.nn.Module)


def resolve_device(device: str) -> torch.device:
    """Return the torch device that the parameter `device` asks for.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"} or "cuda:N"
        "auto" is CUDA where PyTorch finds it and the CPU elsewhere.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If `device` is not one of these.
    RuntimeError
        If CUDA is asked for and PyTorch finds none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        return torch.device("cpu")
    if isinstance(device, str) and device.partition(":")[0] == "cuda":
        if not torch.cuda.is_available():
            raise RuntimeError(
                f"device={device!r}: PyTorch finds no CUDA device here. "
                "Pass device='auto' or device='cpu'."
            )
        return torch.device(device)
    raise ValueError(f"device must be 'auto', 'cpu' or 'cuda', got {device!r}.")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the block; the caller's random state is untouched afterwards."""
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=list(cuda)):
        torch.manual_seed(seed)
        yield


def to_cpu(module: Module) -> Module:
    """Move a trained module to the CPU, in evaluation mode and without gradients."""
    module.to("cpu").eval()
    for parameter in module.parameters():
        parameter.grad = None
    return module
