"""Mixup of histories with changed ones, and of rows of a batch. Imports torch: import lazily."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
import torch
from numpy.random import RandomState
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from skmars.baselines._auxiliary import FeatureLookup, Network, TrainingBatch
from skmars.baselines._views import ItemChoice, T, View, same_length_view


@dataclass(frozen=True)
class MixedHistories(Generic[T]):
    """The random draws by which the histories of a batch are mixed with changed ones."""

    view: View[T]  # a changed history of each row, position by position
    share: T  # of its own history that a row keeps: (n_rows,)
    weight: T  # of a row: (n_rows,)


@dataclass(frozen=True)
class MixedRows(Generic[T]):
    """The random draws by which the rows of a batch are mixed with one another."""

    other: T  # the row that each is mixed with: (n_rows,)
    share: T  # of itself that a row keeps: one, or one for each unit, (n_rows, 1 or width)


@dataclass(frozen=True)
class Mixture(Generic[T]):
    """All random draws for a batch: two changed histories a row, and two other rows."""

    first: MixedHistories[T]
    second: MixedHistories[T]
    by_row: MixedRows[T]
    by_unit: MixedRows[T]


def row_weights(
    share: NDArray[np.float64], rate: NDArray[np.float64], reweighting: str
) -> NDArray[np.float64]:
    """Return the weight of each row with a mixed history; see `BASRec`.

    >>> share, rate = np.array([0.5, 0.25, 1.0]), np.array([0.5, 0.5, 0.5])
    >>> row_weights(share, rate, "row").round(3)
    array([0.333, 1.   , 0.   ])
    >>> row_weights(share, rate, "batch").round(3)
    array([1.333, 1.333, 1.333])
    >>> row_weights(share[:1], rate[:1], "row")
    array([1.])
    """
    value = 1 / np.maximum(share * rate, np.finfo(np.float32).tiny)
    low, high = value.min(), value.max()
    if high == low:
        return np.ones_like(value)
    weight = (value - low) / (high - low)
    return weight if reweighting == "row" else np.full_like(weight, weight.sum())


@dataclass(eq=False)
class MixupLoss:
    """Mixup within and between the rows of a batch; see `BASRec` for the parameters."""

    width: int  # of the network's item vectors
    choice: ItemChoice
    weight: float
    low_rate: float
    high_rate: float
    concentration: float
    reweighting: str
    module: None = None
    pretrains: bool = True

    def begin_epoch(self, epoch: int, network: Network, features: FeatureLookup | None) -> None:
        """Prepare nothing."""

    def draw(
        self, batch: TrainingBatch[NDArray[Any]], random_state: RandomState
    ) -> Mixture[NDArray[Any]]:
        """Draw what is mixed, and in which shares, for a batch of arrays."""
        n, c = len(batch.target), self.concentration

        def histories() -> MixedHistories[NDArray[Any]]:
            rate = random_state.uniform(self.low_rate, self.high_rate, n)
            share = random_state.beta(c, c, n)
            view = same_length_view(batch, rate, self.choice, random_state)
            return MixedHistories(view, share, row_weights(share, rate, self.reweighting))

        def rows(width: int) -> MixedRows[NDArray[Any]]:
            return MixedRows(random_state.permutation(n), random_state.beta(c, c, (n, width)))

        return Mixture(histories(), histories(), rows(1), rows(self.width))

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
        bce = F.binary_cross_entropy_with_logits
        losses = []
        for part in (drawn.first, drawn.second):
            changed = network.keys(part.view.items, part.view.codes, part.view, features)
            mix = _towards(changed, part.share[batch.history.row][:, None])
            mixed = network.represent(batch, features, weight, mix=mix)
            row_weight = part.weight if weight is None else part.weight * weight
            losses.append(bce(network.score(mixed, weight), target, weight=row_weight))
        for rows in (drawn.by_row, drawn.by_unit):
            label, w = _soft(target, rows), None if weight is None else _soft(weight, rows)
            score = network.score(seen.mixed(rows.other, rows.share), w)
            losses.append(bce(score, label, weight=w))
        return self.weight * torch.stack(losses).sum()


def _towards(changed: Tensor, share: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function that mixes embedded positions with changed ones."""
    return lambda key: share * key + (1 - share) * changed


def _soft(value: Tensor, rows: MixedRows[Tensor]) -> Tensor:
    share = rows.share.mean(dim=1)
    return share * value + (1 - share) * value[rows.other]
