"""Mixup of histories with changed ones, and of rows of a batch. Imports torch: import lazily."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from skmars.baselines._auxiliary import FeatureLookup, Network, TrainingBatch
from skmars.baselines._views import ItemChoice, T, View, same_length_view


@dataclass(frozen=True)
class Mixture(Generic[T]):
    """The random draws for a batch, of shape (n_rows,) unless noted otherwise."""

    view: View[T]  # a changed history of each row, position by position
    share: T  # of its own history that a row keeps
    relevance: T  # weight of a row with the mixed history
    other: T  # the row that each is mixed with
    share_of_row: T  # of itself that a row keeps: (n_rows, 1)
    share_of_unit: T  # one share for each unit of its vectors: (n_rows, width)


def relevance(share: NDArray[np.float64], rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``1 / (share * rate)``, scaled to [0, 1] over the batch; 1 where all are alike.

    >>> relevance(np.array([0.5, 0.25, 1.0]), np.array([0.5, 0.5, 0.5])).round(3)
    array([0.333, 1.   , 0.   ])
    >>> relevance(np.array([0.5]), np.array([0.3]))
    array([1.])
    """
    value = 1 / np.maximum(share * rate, np.finfo(np.float32).tiny)
    low, high = value.min(), value.max()
    return (value - low) / (high - low) if high > low else np.ones_like(value)


@dataclass(eq=False)
class MixupLoss:
    """Mixup within and between the rows of a batch; see `BASRec` for the parameters."""

    width: int  # of the network's item vectors
    choice: ItemChoice
    weight: float
    low_rate: float
    high_rate: float
    concentration: float
    module: None = None
    pretrains: bool = True

    def begin_epoch(self, epoch: int, network: Network, features: FeatureLookup | None) -> None:
        """Prepare nothing."""

    def draw(
        self, batch: TrainingBatch[NDArray[Any]], random_state: RandomState
    ) -> Mixture[NDArray[Any]]:
        """Draw what is mixed, and in which shares, for a batch of arrays."""
        n, c = len(batch.target), self.concentration
        rate = random_state.uniform(self.low_rate, self.high_rate, n)
        share = random_state.beta(c, c, n)
        view = same_length_view(batch, rate, self.choice, random_state)
        other = random_state.permutation(n)
        by_row, by_unit = (random_state.beta(c, c, (n, width)) for width in (1, self.width))
        return Mixture(view, share, relevance(share, rate), other, by_row, by_unit)

    def loss(
        self,
        network: Network,
        batch: TrainingBatch[Tensor],
        features: FeatureLookup | None,
        target: Tensor,
        weight: Tensor | None,
        seen: Any,
        drawn: Mixture[Tensor],
    ) -> Tensor:
        """Return the weighted loss of a batch of tensors."""
        changed = network.keys(drawn.view.items, drawn.view.codes, drawn.view, features)
        share = drawn.share[batch.history.row][:, None]
        mixed = network.represent(
            batch, features, weight, mix=lambda key: share * key + (1 - share) * changed
        )
        row_weight = drawn.relevance if weight is None else drawn.relevance * weight
        bce = F.binary_cross_entropy_with_logits
        total = bce(network.score(mixed, weight), target, weight=row_weight)
        for shares in (drawn.share_of_row, drawn.share_of_unit):
            label, w = _soft(target, shares, drawn.other), None
            if weight is not None:
                w = _soft(weight, shares, drawn.other)
            total = total + bce(network.score(seen.mixed(drawn.other, shares), w), label, weight=w)
        return self.weight * total


def _soft(value: Tensor, shares: Tensor, other: Tensor) -> Tensor:
    share = shares.mean(dim=1)
    return share * value + (1 - share) * value[other]
