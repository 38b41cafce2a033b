"""Align two or more views (blocks of columns) of a plain array, without clicks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from skmars.alignment._infonce import alignment_objective
from skmars.alignment._learning import Objective, Sampling
from skmars.alignment._modalities import block_sizes
from skmars.alignment._parameters import AlignerParameters
from skmars.alignment._stein import SteinObjective
from skmars.data._checks import check_range
from skmars.utils._torch import to_cpu

# Rows on which the space is measured, at most.
MAX_SAMPLE = 2000

Float = TypeVar("Float", bound=np.floating)


class MultiviewNetwork(nn.Module):
    """One linear projection a view (Eq. 3), onto the unit sphere if it is to `normalize`.

    Without a bias: rows are standardised, and one common direction would align everything.
    """

    def __init__(self, sizes: list[int], n_components: int, normalize: bool = True) -> None:
        super().__init__()
        self.sizes, self.n_components, self.normalize = sizes, n_components, normalize
        self.projections = nn.ModuleList(nn.Linear(n, n_components, bias=False) for n in sizes)

    def forward(self, X: Tensor) -> list[Tensor]:
        """Return the embedding of each view, shape (n_samples, n_components)."""
        views = X.split(self.sizes, dim=1)
        projected = [p(x) for p, x in zip(self.projections, views)]
        return [F.normalize(h, dim=1) for h in projected] if self.normalize else projected


class MultiviewEncoder:
    """Standardises rows and embeds them: the mean of the embeddings of their views."""

    def __init__(self, network: MultiviewNetwork, scaler: StandardScaler) -> None:
        self.network, self.scaler = network, scaler

    @classmethod
    def new(
        cls,
        X: NDArray[Float],
        sizes: Iterable[int] | None,
        n_components: int,
        normalize: bool = True,
        weight: NDArray[np.float64] | None = None,
    ) -> MultiviewEncoder:
        """Return an untrained encoder for columns like those of `X`."""
        # An array, whatever `set_config` sets as container.
        scaler = StandardScaler().set_output(transform="default")
        network = MultiviewNetwork(block_sizes(sizes, X.shape[1]), n_components, normalize)
        return cls(network, scaler.fit(X, sample_weight=weight))

    def standardize(self, X: NDArray[Float]) -> NDArray[np.float64]:
        """Return the columns of `X` standardised by the mean and the spread of fit."""
        standardized = self.scaler.transform(X.astype(np.float64))
        check_range(standardized, None, "is scaled to")
        return standardized

    @torch.no_grad()
    def embed_views(self, X: NDArray[Float]) -> list[NDArray[np.float64]]:
        """Return the embedding of each view, shape (n_samples, n_components)."""
        # In float64, so that a row's result does not depend on the rows beside it.
        network = deepcopy(self.network).double()
        return [view.numpy() for view in network(torch.from_numpy(self.standardize(X)))]

    def __call__(self, X: NDArray[Float]) -> NDArray[Float]:
        """Return the embeddings, shape (n_samples, n_components), in the dtype of `X`."""
        return np.mean(self.embed_views(X), axis=0).astype(X.dtype, copy=False)

    def __repr__(self) -> str:
        return f"MultiviewEncoder({self.network.sizes})"


class MultiviewObjective(Objective[MultiviewNetwork, Tensor]):
    """``L_stein`` over batches of rows."""

    def __init__(
        self,
        encoder: MultiviewEncoder,
        X: NDArray[Float],
        sampling: Sampling,
        stein: SteinObjective,
    ) -> None:
        super().__init__(encoder.network, sampling, stein)
        self._scaler = encoder.scaler
        # As precisely as rows come: weights and repeated rows give the same result.
        self._X = torch.from_numpy(encoder.standardize(X).astype(X.dtype)).to(sampling.device)
        self.network.to(self._X.dtype)
        self._weight = None
        if sampling.weight is not None:
            self._weight = torch.from_numpy(sampling.weight).to(self._X)

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """Shuffle the rows and group them."""
        rows = self.sampling.rng.permutation(self.sampling.train)
        n_batches = max(1, round(len(rows) / self.sampling.batch_size))
        for part in np.array_split(rows, n_batches):
            yield torch.from_numpy(part).to(self._X.device)

    def loss(self, batch: Tensor) -> Tensor:
        """Return the loss of the rows of a batch."""
        weight = None if self._weight is None else self._weight[batch]
        return self.stein(*self._embed(batch), self.generator, weight)

    @torch.no_grad()
    def evaluate(self) -> float:
        """Return minus the loss of the rows that are set aside."""
        loss = float(self.loss(torch.from_numpy(self.sampling.valid).to(self._X.device)))
        return -loss if np.isfinite(loss) else -np.inf

    def encoder(self) -> MultiviewEncoder:
        """Return the encoder as trained so far, a copy on the CPU."""
        return MultiviewEncoder(to_cpu(deepcopy(self.network)), self._scaler)

    def embed_sample(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the view embeddings of some rows, and which rows have each view (all)."""
        chosen = np.sort(self.sampling.rng.permutation(len(self._X))[:MAX_SAMPLE])
        return self._embed(torch.from_numpy(chosen).to(self._X.device))

    def _embed(self, rows: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        embeddings = self.network(self._X[rows])
        everything = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        return embeddings, [everything] * len(embeddings)


def multiview_objective(
    X: NDArray[Float],
    known: MultiviewEncoder | None,
    parameters: AlignerParameters,
    seeds: tuple[int, int],
    weight: NDArray[np.float64] | None = None,
) -> MultiviewObjective:
    """Return the objective of a fit on an array, for a new network or a copy of a known one."""
    if known is None:
        shape = parameters.modalities, parameters.n_components, parameters.normalize
        encoder = MultiviewEncoder.new(X, *shape, weight)
    else:
        encoder = deepcopy(known)
    sampling = Sampling.of(X, None, parameters, seeds, weight)
    return MultiviewObjective(encoder, X, sampling, alignment_objective(parameters))
