"""Vectors without what all have in common: centred, and scaled to unit length."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vectors = NDArray[np.float32]

_BLOCK = 1 << 12  # rows that are in memory in double precision at a time


def has_embedding(vectors: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which rows have an embedding: a zero vector stands for none."""
    return np.asarray(vectors.any(axis=1))


def mean_of_known(blocks: Iterable[NDArray[Any]], width: int) -> NDArray[np.float64]:
    """Return the mean of the rows that have an embedding, shape (width,); zeros if none has."""
    total, n = np.zeros(width), 0
    for vectors in blocks:
        known = has_embedding(vectors)
        total += (vectors if known.all() else vectors[known]).sum(axis=0, dtype=np.float64)
        n += int(np.count_nonzero(known))
    return total / max(n, 1)


def center_of(vectors: NDArray[Any], centred: bool) -> NDArray[np.float64]:
    """Return the mean of the rows that have an embedding; zeros if none has, or not `centred`."""
    return mean_of_known([vectors] if centred else [], vectors.shape[1])


def centred_units(vectors: NDArray[Any], center: NDArray[np.float64]) -> Vectors:
    """Subtract `center` and scale each row to length 1; no embedding stays a zero vector."""
    result = np.empty(vectors.shape, dtype=np.float32)
    least = 1e-12 * np.linalg.norm(center)
    for at in range(0, len(vectors), _BLOCK):
        rows = slice(at, at + _BLOCK)
        centred = vectors[rows] - center
        centred[~has_embedding(vectors[rows])] = 0.0
        norm = np.linalg.norm(centred, axis=1, keepdims=True)
        # An embedding at the centre has no direction, only rounding errors.
        norm[norm <= least] = np.inf
        result[rows] = centred / norm
    return result


def unit(vectors: ArrayLike) -> Vectors:
    """Scale rows to length 1, in float32; zero rows stay."""
    return np.ascontiguousarray(centred_units(np.asarray(vectors, np.float64), np.zeros(1)))
