"""Dropout whose random numbers cost little on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Set a share of the numbers to zero in training, and scale the others up.

    On the CPU, PyTorch draws a number in double precision for each element, one after another.
    A random byte is enough; `p` is then a multiple of 1/256.

    Parameters
    ----------
    p : float
        Share that becomes zero, in [0, 1).

    Attributes
    ----------
    generator : torch.Generator or None
        Where random numbers come from, on the device of what passes through: of one training,
        and no part of copies and pickles. None is torch's global one.
    """

    generator: torch.Generator | None

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p, self.generator = p, None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "generator": None}

    def forward(self, x: Tensor) -> Tensor:
        """Drop numbers of `x`, in training."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            kept = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.generator)
            return x * kept.div_(1 - self.p)
        threshold = min(max(round(256 * self.p), 1), 255)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64)
        words.random_(-(2**63), None, generator=self.generator)
        byte = words.view(torch.uint8)[: x.numel()].view(x.shape)
        return x * (byte >= threshold).to(x.dtype).mul_(256 / (256 - threshold))
