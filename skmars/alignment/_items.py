"""The inputs of the network for a catalogue: modality features, masks of these, and ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skmars.alignment._network import AlignmentNetwork, ItemBatch
from skmars.data import ItemCatalog
from skmars.utils._stacked import take_rows


@dataclass(frozen=True)
class ItemFeatures:
    """The distinct items of a batch as tensors, before any arithmetic."""

    features: list[Tensor]  # of each modality, 0 where an item lacks it
    present: list[Tensor]  # which items have the modality
    ids: Tensor  # rows of the id embedding

    def projected(self, network: AlignmentNetwork, rows: slice) -> ItemBatch:
        """Return some of the items with their projected features."""
        features = network.project([x[rows] for x in self.features])
        return ItemBatch(features, [p[rows] for p in self.present], self.ids[rows])


@dataclass(frozen=True)
class ItemInputs:
    """The checked inputs of the network, for each part of a catalogue."""

    parts: tuple[ItemCatalog, ...]  # with all modalities, item factors among them
    ids: tuple[NDArray[np.int64], ...]  # rows of the id embedding, 0 for items fit has not seen

    def __len__(self) -> int:
        return sum(map(len, self.ids))

    @classmethod
    def joined(cls, inputs: Sequence[ItemInputs]) -> ItemInputs:
        """Return the inputs of the catalogue that consists of the parts of others."""
        return cls(sum((each.parts for each in inputs), ()), sum((each.ids for each in inputs), ()))

    def known(self, modalities: Iterable[str]) -> NDArray[np.bool_]:
        """Return of which items anything is known: a modality, or an id that fit has seen."""
        found = np.concatenate(self.ids) > 0
        for name in modalities:
            found |= ~np.concatenate([part.missing[name] for part in self.parts])
        return found

    def take(
        self, codes: NDArray[np.integer], network: AlignmentNetwork, device: torch.device
    ) -> ItemBatch:
        """Return some of the items as a batch for the network."""
        return self.read(codes, network, device).projected(network, slice(None))

    def read(
        self, codes: NDArray[np.integer], network: AlignmentNetwork, device: torch.device
    ) -> ItemFeatures:
        """Return the features of some of the items as tensors."""
        features, present = [], []
        for name in network.modality_sizes:
            matrix = take_rows([part.features[name] for part in self.parts], codes)
            missing = take_rows([part.missing[name] for part in self.parts], codes)
            matrix[missing] = 0.0
            features.append(torch.from_numpy(matrix).to(device))
            present.append(torch.from_numpy(~missing).to(device))
        ids = torch.from_numpy(take_rows(self.ids, codes)).to(device)
        return ItemFeatures(features, present, ids)
