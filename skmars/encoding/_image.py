"""The default encoder for images, which needs no download."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.preprocessing import normalize

from skmars.data._images import load_image
from skmars.utils._base import DocLinkMixin

N_LEVELS = 4  # of each colour channel in the histogram
N_CELLS = 4  # along each side of the image
N_ORIENTATIONS = 8


class ImageStatisticsEncoder(
    DocLinkMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Encode images by colour histogram, colour layout and gradient orientations.

    Needs neither a download nor a fit. Each of the three parts has unit length, so that none
    outweighs the others.

    Parameters
    ----------
    size : int, default=64
        Images are resized to ``size x size`` pixels first.

    Examples
    --------
    >>> red = np.zeros((8, 8, 3), dtype=np.uint8)
    >>> red[..., 0] = 255
    >>> ImageStatisticsEncoder().fit_transform([red]).shape
    (1, 240)
    """

    _content = "image"  # whatever the modality is called

    def __init__(self, size: int = 64) -> None:
        self.size = size

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Do nothing: the encoder has nothing to learn."""
        return self

    def transform(self, X: Iterable[Any]) -> NDArray[np.float32]:
        """Return the statistics of each image.

        Parameters
        ----------
        X : iterable of PIL images, paths, bytes or uint8 arrays

        Returns
        -------
        ndarray of shape (n_images, 240), float32
        """
        from PIL.Image import Resampling

        shape = (self.size, self.size)
        # Box averages whole areas: cheap, and no gradients that the image does not have.
        pixels = np.stack([np.asarray(load_image(x).resize(shape, Resampling.BOX)) for x in X])
        parts = (color_histogram(pixels), color_layout(pixels), gradient_orientations(pixels))
        # Square roots (of values that sum to one: the Hellinger map) reduce the dominant bins.
        return np.hstack([normalize(np.sqrt(part)) for part in parts]).astype(np.float32)

    @property
    def _n_features_out(self) -> int:
        return N_LEVELS**3 + N_CELLS**2 * (3 + N_ORIENTATIONS)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        return tags


def color_histogram(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how often each of ``N_LEVELS**3`` colours occurs; `pixels`: (n, size, size, 3)."""
    levels = pixels.reshape(len(pixels), -1, 3).astype(np.int64) * N_LEVELS // 256
    return _counts(levels @ (N_LEVELS ** np.arange(3)), N_LEVELS**3)


def color_layout(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the summed colour of each of ``N_CELLS**2`` cells."""
    n, size = pixels.shape[:2]
    cells = np.broadcast_to(_cells(size), (n, size * size))
    colors = pixels.reshape(n, -1, 3) / 255.0
    return np.hstack([_counts(cells, N_CELLS**2, colors[..., c]) for c in range(3)])


def gradient_orientations(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the summed gradient magnitude of each cell and unsigned orientation."""
    gray = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    dy, dx = np.gradient(gray, axis=(1, 2))
    turn = (np.arctan2(dy, dx) / np.pi) % 1.0  # of half a circle
    orientation = np.minimum((turn * N_ORIENTATIONS).astype(np.int64), N_ORIENTATIONS - 1)
    n = len(pixels)
    bins = _cells(gray.shape[1]) * N_ORIENTATIONS + orientation.reshape(n, -1)
    return _counts(bins, N_CELLS**2 * N_ORIENTATIONS, np.hypot(dx, dy).reshape(n, -1))


def _cells(size: int) -> NDArray[np.int64]:
    side = np.arange(size) * N_CELLS // size
    return (side[:, None] * N_CELLS + side).ravel()


def _counts(
    bins: NDArray[np.int64], n_bins: int, weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Sum `weights` by bin, row by row; (n, m) -> (n, n_bins)."""
    n = len(bins)
    flat = (bins + n_bins * np.arange(n)[:, None]).ravel()
    flat_weights = None if weights is None else weights.ravel()
    return np.bincount(flat, flat_weights, minlength=n * n_bins).reshape(n, n_bins).astype(float)
