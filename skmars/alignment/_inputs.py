"""From impressions and a catalogue to the tensors of one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skmars.alignment._network import (
    AlignmentNetwork,
    Items,
    Rectangle,
    prefix_means,
    rectangles,
)
from skmars.alignment._segments import Segments
from skmars.data import ItemCatalog, Sequences
from skmars.utils import _ragged as ragged
from skmars.utils._ids import Lookup
from skmars.utils._stacked import take_rows

NO_ITEMS = np.empty(0, dtype=np.int32)


def modality_names(names: Sequence[str] | None, catalog: ItemCatalog) -> list[str]:
    """Return the modalities to use: all that the catalogue has features of, or those named.

    Raises
    ------
    ValueError
        If there is none, a named one is not there, or one is named twice.
    """
    there = list(catalog.features)
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
        if name not in catalog.features:
            raise ValueError(
                f"modalities names {name!r}, but the catalogue of X has features of "
                f"{there or 'no modality'}. Put MultimodalEncoder with an encoder for "
                f"{name!r} before SteinAligner, or change modalities."
            )
    if len(set(names)) < len(names):
        raise ValueError(f"modalities={names!r} names a modality twice.")
    return names


@dataclass(frozen=True)
class ItemInputs:
    """What the network reads of a catalogue.

    Attributes
    ----------
    features : list of tuple of ndarray of shape (n_items of the part, n_features), float32
        One matrix a modality and part of the catalogue.
    present : list of tuple of ndarray of shape (n_items of the part,), bool
        Which items have it.
    ids : tuple of ndarray of shape (n_items of the part,), int64
        Row of the id embedding; 0 for items that fit has not seen.
    """

    features: list[tuple[NDArray[np.float32], ...]]
    present: list[tuple[NDArray[np.bool_], ...]]
    ids: tuple[NDArray[np.int64], ...]

    @classmethod
    def stacked(cls, parts: Sequence[ItemInputs]) -> ItemInputs:
        """Return what the network reads of a catalogue that consists of these parts."""
        return cls(
            [sum(each, ()) for each in zip(*(part.features for part in parts))],
            [sum(each, ()) for each in zip(*(part.present for part in parts))],
            sum((part.ids for part in parts), ()),
        )

    @classmethod
    def of(cls, catalog: ItemCatalog, modalities: Mapping[str, int], known: Lookup) -> ItemInputs:
        """Read modalities of these widths from a catalogue of one part.

        Raises
        ------
        ValueError
            If a modality is not there or has another width, or a feature is not finite.
        """
        for name, width in modalities.items():
            if name not in catalog.features:
                raise ValueError(
                    f"The catalogue has no features of modality {name!r}, it has "
                    f"{list(catalog.features) or 'none'}. Put MultimodalEncoder before "
                    "SteinAligner, or pass a catalogue with the features of fit."
                )
            if catalog.features[name].shape[1] != width:
                raise ValueError(
                    f"Features of modality {name!r} have {catalog.features[name].shape[1]} "
                    f"columns, but SteinAligner was fitted with {width}. Encode the catalogue "
                    "with the encoder of fit."
                )
        features = [np.asarray(catalog.features[m]) for m in modalities]
        present = [~catalog.missing[m] for m in modalities]
        for name, matrix, there in zip(modalities, features, present):
            broken = np.flatnonzero(there & ~np.isfinite(matrix.sum(1, dtype=np.float64)))
            broken = broken[~np.isfinite(matrix[broken]).all(1)]
            if len(broken):
                shown = ", ".join(repr(i) for i in catalog.ids[broken[:5]].tolist())
                more = ", ..." if len(broken) > 5 else ""
                raise ValueError(
                    f"Features of modality {name!r} contain NaN or infinity for {len(broken)} "
                    f"items (ids {shown}{more}). Repair them, or mask these items with "
                    f"catalog.with_features(..., missing={{{name!r}: mask}})."
                )
        ids = known(catalog.ids, "item_id of X").astype(np.int64) + 1
        return cls([(f,) for f in features], [(p,) for p in present], (ids,))

    def take(
        self, items: NDArray[np.integer], network: AlignmentNetwork, device: torch.device
    ) -> Items:
        """Return some of the items as the network sees them."""
        features, present = [], []
        for matrix, there in zip(self.features, self.present):
            taken, mask = take_rows(matrix, items), take_rows(there, items)
            taken[~mask] = 0.0
            features.append(torch.from_numpy(taken).to(device))
            present.append(torch.from_numpy(mask).to(device))
        ids = torch.from_numpy(take_rows(self.ids, items)).to(device)
        return Items(network.project(features), present, ids)


@dataclass(frozen=True)
class Passage:
    """Sequences for one pass of the network, and where each row reads its user embedding.

    Single items (the targets, each a sequence of its own) stand first, then the segments.

    Attributes
    ----------
    code : ndarray of shape (n_positions,), int32
        Item code at each position.
    feedback : Tensor of shape (n_positions,) or None
        0 unknown, 1 not liked, 2 liked.
    layout : list of Rectangle
        Where the sequences are.
    end, length : Tensor of shape (n_rows,)
        A row's user embedding is the mean of the `length` positions before `end`.
    n_singles : int
        Number of single items.
    """

    code: NDArray[np.int32]
    feedback: Tensor | None
    layout: list[Rectangle]
    end: Tensor
    length: Tensor
    n_singles: int


def make_passage(
    history: Sequences,
    segments: Segments,
    segment: NDArray[np.int64],
    row: NDArray[np.int64],
    *,
    max_length: int,
    device: torch.device,
    singles: NDArray[np.int32] = NO_ITEMS,
) -> Passage:
    """Lay out single items and segments, shortest first, and find each row's end in them."""
    order = segment[np.argsort(segments.length[segment], kind="stable")]
    length = segments.length[order]
    positions = ragged.ranges(segments.start[order], length)
    feedback = None
    if history.feedback is not None:
        codes = np.zeros(len(singles) + len(positions), dtype=np.int64)
        codes[len(singles) :] = 1 + history.feedback[positions]
        feedback = torch.from_numpy(codes).to(device)
    begin = np.empty(len(segments), dtype=np.int64)
    begin[order] = len(singles) + ragged.offsets(length)[:-1]
    prefix = segments.prefix[row]
    return Passage(
        code=np.concatenate([singles, history.items[positions]]),
        feedback=feedback,
        layout=rectangles(np.append(np.ones(len(singles), np.int64), length[length > 0]), device),
        end=torch.from_numpy(begin[segments.segment[row]] + prefix).to(device),
        length=torch.from_numpy(np.minimum(prefix, max_length)).to(device),
        n_singles=len(singles),
    )


def single_items(codes: NDArray[np.int32], device: torch.device) -> Passage:
    """Lay out items, each in a sequence of its own, and no rows."""
    nothing = np.empty(0, dtype=np.int64)
    nobody = Segments(nothing, nothing, nothing, nothing)
    return make_passage(
        Sequences.empty(0), nobody, nothing, nothing, max_length=1, device=device, singles=codes
    )


def run_passage(
    network: AlignmentNetwork, passage: Passage, items: Items, item: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """Return the embeddings of the single items, and the user embedding of every row.

    Parameters
    ----------
    network : AlignmentNetwork
    passage : Passage
    items : Items
        The distinct items.
    item : ndarray of shape (n_positions,)
        Which of them stands at each position.
    """
    index = torch.from_numpy(item).to(items.ids.device)
    embedding = network.encode(items, index, passage.feedback, passage.layout)
    users = prefix_means(embedding, passage.end, passage.length)
    return embedding[: passage.n_singles], users
