"""What aligners learn from: modalities, their features and items; and how they are aligned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions, ItemCatalog
from skmars.metrics import alignment_score, effective_rank, uniformity_score


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
                "the aligner in the pipeline, give the catalogue vectors with "
                "catalog.with_features(...), or pass modalities=() to learn from ids alone."
            )
        return there
    names = list(names)
    for name in names:
        if not isinstance(name, str) or name not in there:
            raise ValueError(
                f"modalities names {name!r}, but the catalogue of X has features of "
                f"{there or 'no modality'}. Put MultimodalEncoder with an encoder for "
                f"{name!r} before the aligner, or change modalities."
            )
    if len(set(names)) < len(names):
        raise ValueError(f"modalities={names!r} names a modality twice.")
    return names


def occurring_items(X: Impressions) -> NDArray[np.int64]:
    """Return the codes of all items that occur as target or in a history."""
    history = X.history
    begins_minus_ends = np.zeros(len(history.items) + 1, dtype=np.int64)
    np.add.at(begins_minus_ends, history.start, 1)
    np.add.at(begins_minus_ends, history.start + history.length, -1)
    covered = np.cumsum(begins_minus_ends)[:-1] > 0
    return np.unique(np.concatenate([X.target, history.items[covered]]))


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
                "the aligner, or pass a catalogue with the features of fit."
            )
        matrix, there = catalog.features[name], ~catalog.missing[name]
        if matrix.shape[1] != width:
            raise ValueError(
                f"Features of modality {name!r} have {matrix.shape[1]} columns, but the aligner "
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


def block_sizes(sizes: Iterable[int] | None, n_features: int) -> list[int]:
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
    for size in blocks:
        if not isinstance(size, Integral) or isinstance(size, bool) or int(size) < 1:
            raise ValueError(
                f"modalities={sizes!r}: X is an array, so that modalities must be "
                "the numbers of columns of its blocks, for example modalities=[384, 512]."
            )
    if sum(blocks) != n_features:
        raise ValueError(
            f"modalities={sizes!r} sums to {sum(blocks)}, but X has {n_features} columns."
        )
    return [int(size) for size in blocks]


def measure_views(
    unit: Sequence[NDArray[np.float64]], there: Sequence[NDArray[np.bool_]]
) -> tuple[float, float, float]:
    """Return mean alignment of pairs, mean uniformity and mean effective rank of modalities.

    `unit` has the unit vectors of each modality, and `there` which items have it. NaN where there
    is nothing to measure: no pair, or fewer than two items.
    """
    pairs = [(i, j, there[i] & there[j]) for i, j in combinations(range(len(unit)), 2)]
    clouds = [x[has] for x, has in zip(unit, there) if has.sum() > 1]

    def mean(values: list[float]) -> float:
        return sum(values) / len(values) if values else math.nan

    return (
        mean([alignment_score(unit[i][both], unit[j][both]) for i, j, both in pairs if both.any()]),
        mean([uniformity_score(cloud) for cloud in clouds]),
        mean([effective_rank(cloud) for cloud in clouds]),
    )
