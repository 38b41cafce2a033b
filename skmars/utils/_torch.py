"""Devices, random generators, and moving modules to the CPU. Imports torch: import lazily."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

Module = TypeVar("Module", bound=torch.nn.Module)


def resolve_device(device: str) -> torch.device:
    """Return the device for "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".

    Raises
    ------
    ValueError
        If `device` is not one of these.
    RuntimeError
        If CUDA is requested and PyTorch finds none.
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


def new_generator(
    random_state: np.random.RandomState, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a generator of torch on a device, with a seed that `random_state` draws."""
    seed = int(random_state.randint(np.iinfo(np.int32).max))
    return torch.Generator(device).manual_seed(seed)


class DrawFrom(TorchFunctionMode):
    """Context in which new modules draw their initial weights from a given generator.

    They draw the same numbers, in the same order, as from torch's global generator with that
    state. The global one is shared by all threads, and is neither read nor changed; the context
    affects this thread alone. The generator is on the CPU, where modules are made.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # The functions of `torch.nn.init` hand a generator on, which modules leave at None.
        if "generator" in kwargs or func in (torch.randn, torch.rand):
            kwargs = {**kwargs, "generator": self.generator}
        return func(*args, **kwargs)


def to_cpu(module: Module) -> Module:
    """Move a trained module to the CPU, in evaluation mode and without gradients."""
    module.to("cpu").eval()
    for parameter in module.parameters():
        parameter.grad = None
    return module
