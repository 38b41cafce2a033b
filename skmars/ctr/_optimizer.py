"""The optimiser of a DIN network. Imports torch: import it lazily."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OptimizerState = list[dict[int, dict[str, Any]]]


class NetworkOptimizer:
    """AdamW for the layers, its lazy variant for the embedding tables.

    A step leaves the embeddings that the batch lacks alone: neither cost nor momentum.

    Parameters
    ----------
    network : nn.Module
        Its embedding tables have sparse gradients.
    learning_rate : float
    """

    def __init__(self, network: nn.Module, learning_rate: float) -> None:
        tables = {
            f"{name}.weight": module.weight
            for name, module in network.named_modules()
            if isinstance(module, nn.Embedding) and module.sparse
        }
        dense = [p for name, p in network.named_parameters() if name not in tables]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(dense, lr=learning_rate, fused=True)
        ]
        if tables:
            self.parts.append(torch.optim.SparseAdam(list(tables.values()), lr=learning_rate))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.parts[0].param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self) -> None:
        """Take one step."""
        for part in self.parts:
            part.step()

    def state(self) -> OptimizerState:
        """Return the moments, on the CPU, for `restore`, which leaves them as they are."""
        return [
            {k: {n: _cpu(v) for n, v in s.items()} for k, s in part.state_dict()["state"].items()}
            for part in self.parts
        ]

    def restore(self, states: OptimizerState) -> None:
        """Continue with earlier moments; tables may have grown rows since."""
        for part, state in zip(self.parts, states):
            current = part.state_dict()
            parameters = part.param_groups[0]["params"]
            # Copies: steps change moments in place, and a fit that fails must not have.
            own = {
                k: {n: _copied(v, parameters[k]) for n, v in s.items()} for k, s in state.items()
            }
            part.load_state_dict({**current, "state": own})


def _cpu(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _copied(value: Any, parameter: Tensor) -> Any:
    """Return a copy of what is kept of a parameter, which may have grown rows."""
    if not isinstance(value, Tensor):
        return value
    if value.ndim == 0 or value.shape == parameter.shape:
        return value.clone()
    return F.pad(value, (0, 0, 0, len(parameter) - len(value)))
