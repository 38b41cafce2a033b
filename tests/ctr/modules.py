"""Modules to test."""

from __future__ import annotations

import torch


def randomized(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """All parameters and statistics off their initial values, so that none can hide."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    return module
