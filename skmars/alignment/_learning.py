"""The parts of training that impressions and plain arrays have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from skmars.alignment._modalities import measure_views
from skmars.alignment._parameters import AlignerParameters
from skmars.alignment._stein import SteinObjective
from skmars.data import Impressions
from skmars.data._holdout import hold_out
from skmars.utils._torch import new_generator, resolve_device
from skmars.utils._training import EpochCallbacks, TrainingResult, check_finite, train

# batch_size="auto" aims at this many steps an epoch, within these bounds.
AUTO_STEPS, AUTO_SMALLEST, AUTO_LARGEST = 16, 128, 4096

Network = TypeVar("Network", bound=nn.Module)
Batch = TypeVar("Batch")
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Sampling:
    """The rows to train on and to validate on, the batch size, and the random generators.

    `weight` says how often each row counts, None where all do once.
    """

    train: Rows
    valid: Rows
    batch_size: int
    rng: np.random.RandomState
    device: torch.device
    weight: NDArray[np.float64] | None = None

    @classmethod
    def of(
        cls,
        X: Impressions | NDArray[Any],
        y: NDArray[np.float32] | None,
        parameters: AlignerParameters,
        seeds: tuple[int, int],
        weight: NDArray[np.float64] | None = None,
    ) -> Sampling:
        """Choose them; the first seed is for the rows to set aside, the second for all else.

        Rows of weight zero are in neither.
        """
        train = np.arange(len(X)) if weight is None else np.flatnonzero(weight)
        valid = train[:0]
        if parameters.early_stopping:
            fraction, name = parameters.validation_fraction, type(parameters).__name__
            rng = np.random.RandomState(seeds[0])
            if isinstance(X, Impressions):
                assert y is not None
                parts = hold_out(X[train], y[train], "auto", fraction, rng, name)
                train, valid = (
                    (train, valid) if parts is None else (train[parts[0]], train[parts[1]])
                )
            else:
                n_valid = int(np.clip(np.ceil(fraction * len(train)), 1, len(train) - 1))
                train, valid = train_test_split(train, test_size=n_valid, random_state=rng)
        batch_size = parameters.batch_size
        if isinstance(batch_size, str):
            batch_size = int(np.clip(len(train) // AUTO_STEPS, AUTO_SMALLEST, AUTO_LARGEST))
        rng = np.random.RandomState(seeds[1])
        return cls(train, valid, batch_size, rng, resolve_device(parameters.device), weight)


class Objective(ABC, Generic[Network, Batch]):
    """A network with its training objective; `train` changes the network in place."""

    def __init__(self, network: Network, sampling: Sampling, stein: SteinObjective) -> None:
        self.network = network.to(sampling.device)
        self.sampling, self.stein = sampling, stein
        self.generator = new_generator(sampling.rng, sampling.device)

    @abstractmethod
    def batches(self, epoch: int) -> Iterator[Batch]: ...
    @abstractmethod
    def loss(self, batch: Batch) -> Tensor: ...
    @abstractmethod
    def evaluate(self) -> float: ...
    @abstractmethod
    def embed_sample(self) -> tuple[list[Tensor], list[Tensor]]: ...

    def train(
        self, parameters: AlignerParameters, max_iter: int, callbacks: EpochCallbacks | None
    ) -> tuple[TrainingResult, tuple[float, float, float]]:
        """Train the network, and measure the space.

        Raises
        ------
        FloatingPointError
            If the loss or what was learned is not finite.
        """
        name = type(parameters).__name__
        optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=parameters.learning_rate,
            weight_decay=parameters.weight_decay,
            fused=True,
        )
        result = train(
            self.network,
            self.batches,
            self.loss,
            optimizer,
            max_iter=max_iter,
            evaluate=self.evaluate if len(self.sampling.valid) else None,
            n_iter_no_change=parameters.n_iter_no_change,
            tol=parameters.tol,
            callbacks=callbacks,
            name=name,
            verbose=parameters.verbose,
        )
        with torch.no_grad():
            embeddings, present = self.embed_sample()
            loss = self.loss(next(iter(self.batches(result.n_iter))))
        check_finite([loss, *embeddings], optimizer, epoch=result.n_iter - 1, name=name)
        return result, measure_space(embeddings, present)


def measure_space(embeddings: list[Tensor], present: list[Tensor]) -> tuple[float, float, float]:
    """Return alignment, uniformity and effective rank of embeddings, see `measure_views`."""
    unit = [F.normalize(e.double(), dim=1).cpu().numpy() for e in embeddings]
    return measure_views(unit, [p.cpu().numpy() for p in present])
