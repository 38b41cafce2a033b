"""Dropout whose random numbers cost little on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Dropout(nn.Module):
    """Set a share of the numbers to zero in training, and scale the others up.

    On the CPU, PyTorch draws a number in double precision for each element, one after another.
    A random byte is enough; `p` is then a multiple of 1/256.

    Parameters
    ----------
    p : float
        Share that becomes zero, in [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop numbers of `x`, in training."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        threshold = min(max(round(256 * self.p), 1), 255)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        byte = words.view(torch.uint8)[: x.numel()].view(x.shape)
        return x * (byte >= threshold).to(x.dtype).mul_(256 / (256 - threshold))
