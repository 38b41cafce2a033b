"""The unsupervised case: two or more views of plain rows, and alignment alone."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from numbers import Integral
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from skmars.alignment import _stein as stein
from skmars.data._checks import check_range
from skmars.utils._torch import new_generator, to_cpu


def block_sizes(sizes: Any, n_features: int) -> list[int]:
    """Return the number of columns of each view: as given, or two halves.

    Raises
    ------
    ValueError
        If sizes are no positive integers, or don't sum to the number of columns.
    """
    if sizes is None:
        halves = [n_features // 2, n_features - n_features // 2]
        return [size for size in halves if size]
    blocks = list(sizes)
    if not all(isinstance(s, Integral) and int(s) > 0 for s in blocks):
        raise ValueError(
            f"modalities={sizes!r}: X is an array, so that modalities must be "
            "the numbers of columns of its blocks, for example modalities=[384, 512]."
        )
    if sum(blocks) != n_features:
        raise ValueError(
            f"modalities={sizes!r} sums to {sum(blocks)}, but X has {n_features} columns."
        )
    return [int(s) for s in blocks]


class ViewNetwork(nn.Module):
    """One linear projection a view (Eq. 3), onto the unit sphere.

    Without a bias: rows are standardised, and one common direction would align everything.
    """

    def __init__(self, sizes: list[int], n_components: int) -> None:
        super().__init__()
        self.sizes, self.n_components = sizes, n_components
        self.projections = nn.ModuleList(nn.Linear(n, n_components, bias=False) for n in sizes)

    def forward(self, X: Tensor) -> list[Tensor]:
        """Return the embedding of each view, shape (n_samples, n_components)."""
        views = X.split(self.sizes, dim=1)
        return [F.normalize(p(x), dim=1) for p, x in zip(self.projections, views)]


class ViewEncoder:
    """Standardises rows and embeds them: the mean of the views' embeddings.

    Parameters
    ----------
    network : ViewNetwork
    mean, scale : ndarray of shape (n_features,)
        Of the columns in fit.
    """

    def __init__(
        self, network: ViewNetwork, mean: NDArray[np.float64], scale: NDArray[np.float64]
    ) -> None:
        self.network, self.mean, self.scale = network, mean, scale

    @classmethod
    def new(cls, X: NDArray[Any], sizes: list[int], n_components: int) -> ViewEncoder:
        """Return an untrained encoder for columns like those of `X`."""
        spread = X.std(axis=0, dtype=np.float64)
        # What rounding leaves of a constant column is not a spread.
        constant = spread <= 10 * np.finfo(X.dtype).eps * np.abs(X).max(axis=0)
        return cls(
            ViewNetwork(sizes, n_components),
            X.mean(axis=0, dtype=np.float64),
            np.where(constant, 1.0, spread),
        )

    def standardize(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return the columns of `X` with the mean and the spread of fit taken out."""
        standardized = (X - self.mean) / self.scale
        check_range(standardized, None, "is scaled to")
        return standardized

    @torch.no_grad()
    def embed_views(self, X: NDArray[Any]) -> list[NDArray[np.float64]]:
        """Return the unit embedding of each view, shape (n_samples, n_components)."""
        # In float64, so that a row's result does not depend on the rows beside it.
        network = deepcopy(self.network).double()
        return [view.numpy() for view in network(torch.from_numpy(self.standardize(X)))]

    def __call__(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return the embeddings, shape (n_samples, n_components), in the dtype of `X`."""
        return np.mean(self.embed_views(X), axis=0).astype(X.dtype, copy=False)

    def __repr__(self) -> str:
        return f"ViewEncoder({self.network.sizes})"


class ViewObjective:
    """``L_stein`` over batches of rows.

    Parameters
    ----------
    encoder : ViewEncoder
        Its network is trained in place, on `device`.
    X : ndarray of shape (n_samples, n_features)
    train, valid : ndarray of int64
        Rows to learn from, and rows to score.
    batch_size : int
    stein_objective : SteinObjective
    rng : RandomState
        Shuffles, and seeds what torch draws.
    device : torch.device
    """

    def __init__(
        self,
        encoder: ViewEncoder,
        X: NDArray[Any],
        *,
        train: NDArray[np.int64],
        valid: NDArray[np.int64],
        batch_size: int,
        stein_objective: stein.SteinObjective,
        rng: np.random.RandomState,
        device: torch.device,
    ) -> None:
        self.network = encoder.network.to(device)
        self._encoder = encoder
        self._X = torch.from_numpy(encoder.standardize(X).astype(np.float32)).to(device)
        self._train, self.valid, self._batch_size = train, valid, batch_size
        self._stein, self._rng = stein_objective, rng
        self._generator = new_generator(rng, device)

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """Shuffle the rows and group them."""
        shuffled = self._rng.permutation(self._train)
        for part in np.array_split(shuffled, max(1, round(len(shuffled) / self._batch_size))):
            yield self._rows(part)

    def loss(self, batch: Tensor) -> Tensor:
        """Return the loss of a batch."""
        return self._stein(*self._embedded(batch), self._generator)

    @torch.no_grad()
    def evaluate(self) -> float:
        """Return minus the loss of the validation rows."""
        loss = float(self.loss(self._rows(self.valid)))
        return -loss if np.isfinite(loss) else -np.inf

    def encoder(self) -> ViewEncoder:
        """Return the encoder as trained so far, a copy on the CPU."""
        network = to_cpu(deepcopy(self.network))
        return ViewEncoder(network, self._encoder.mean, self._encoder.scale)

    @torch.no_grad()
    def measured(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the views of some rows; each row has them all."""
        chosen = np.sort(self._rng.permutation(len(self._X))[:2000])
        return self._embedded(self._rows(chosen))

    def _rows(self, rows: NDArray[np.int64]) -> Tensor:
        return self._X[torch.from_numpy(rows).to(self._X.device)]

    def _embedded(self, X: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        embeddings = self.network(X)
        everything = torch.ones(len(X), dtype=torch.bool, device=X.device)
        return embeddings, [everything] * len(embeddings)
