"""The inputs of the network for a catalogue: modality features, masks of these, and ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from skmars.alignment._network import AlignmentNetwork, ItemBatch
from skmars.data import ItemCatalog
from skmars.utils._stacked import take_rows


def modality_names(names: Iterable[str] | None, catalog: ItemCatalog) -> list[str]:
    """Return the modalities to use: all that the catalogue has features of, or those named.

    Raises
    ------
    ValueError
        If there is none, a named one is missing, or one is named twice.
    """
    there = list(catalog.widths)
    if names is None:
        if not there:
            raise ValueError(
                "The catalogue of X has no modality features. Put MultimodalEncoder before "
                "SteinAligner in the pipeline, give the catalogue vectors with "
                "catalog.with_features(...), or pass modalities=() to learn from ids alone."
            )
        return there
    names = list(names)
    for name in names:
        if not isinstance(name, str) or name not in there:
            raise ValueError(
                f"modalities names {name!r}, but the catalogue of X has features of "
                f"{there or 'no modality'}. Put MultimodalEncoder with an encoder for "
                f"{name!r} before SteinAligner, or change modalities."
            )
    if len(set(names)) < len(names):
        raise ValueError(f"modalities={names!r} names a modality twice.")
    return names


def check_features(catalog: ItemCatalog, sizes: Mapping[str, int]) -> None:
    """Check that the catalogue has modalities of these widths, with finite features.

    Raises
    ------
    ValueError
        If it does not. The message names the modality and the items.
    """
    for name, width in sizes.items():
        if name not in catalog.features:
            raise ValueError(
                f"The catalogue has no features of modality {name!r}, it has "
                f"{list(catalog.features) or 'none'}. Put MultimodalEncoder before "
                "SteinAligner, or pass a catalogue with the features of fit."
            )
        matrix, there = catalog.features[name], ~catalog.missing[name]
        if matrix.shape[1] != width:
            raise ValueError(
                f"Features of modality {name!r} have {matrix.shape[1]} columns, but SteinAligner "
                f"was fitted with {width}. Encode the catalogue with the encoder of fit."
            )
        # A finite sum shows at less cost that a row is finite; other rows are checked in full.
        broken = np.flatnonzero(there & ~np.isfinite(matrix.sum(axis=1, dtype=np.float64)))
        broken = broken[~np.isfinite(matrix[broken]).all(axis=1)]
        if len(broken):
            shown = ", ".join(repr(i) for i in catalog.ids[broken[:5]].tolist())
            more = ", ..." if len(broken) > 5 else ""
            raise ValueError(
                f"Features of modality {name!r} contain NaN or infinity for {len(broken)} "
                f"items (ids {shown}{more}). Repair them, or mask these items with "
                f"catalog.with_features(..., missing={{{name!r}: mask}})."
            )


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

    def take(
        self, codes: NDArray[np.integer], network: AlignmentNetwork, device: torch.device
    ) -> ItemBatch:
        """Return some of the items as a batch for the network."""
        features, present = [], []
        for name in network.modality_sizes:
            matrix = take_rows([part.features[name] for part in self.parts], codes)
            missing = take_rows([part.missing[name] for part in self.parts], codes)
            matrix[missing] = 0.0
            features.append(torch.from_numpy(matrix).to(device))
            present.append(torch.from_numpy(~missing).to(device))
        ids = torch.from_numpy(take_rows(self.ids, codes)).to(device)
        return ItemBatch(network.project(features), present, ids)
