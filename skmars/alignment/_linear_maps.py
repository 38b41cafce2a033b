"""One linear map a modality into a common space, in closed form: CCA, Procrustes, or none."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from skmars.metrics._embedding import unit_rows

Method = Literal["cca", "procrustes", "mean"]
Rows = NDArray[np.float64]
Mask = NDArray[np.bool_]

# A vector as short as that, where others have a length of about 1, is a rounding error.
SHORTEST = 1e-9


@dataclass(frozen=True)
class LinearMap:
    """Maps the features x of a modality to ``(x - mean) @ matrix - shift``, at unit length."""

    mean: Rows
    matrix: Rows
    shift: Rows

    @classmethod
    def components(
        cls, features: Rows, n_components: int, seed: int, *, scale_columns: bool = False
    ) -> LinearMap:
        """Map features, scaled to a mean variance of one, to their principal components.

        There are no more than the features have; those in which they don't vary are left out.
        Without `scale_columns` all columns have one scale: how much each column varies is
        information of the encoder.
        """
        # Arrays, whatever `set_config` sets as container.
        scaler = StandardScaler().set_output(transform="default").fit(features)
        spread = np.sqrt(scaler.var_.mean())
        # Features that never vary have rounding errors (of float32) for a spread.
        varies = spread > 10 * np.finfo(np.float32).eps * np.abs(features).max()
        scale = scaler.scale_ if scale_columns else spread if varies else 1.0
        pca = PCA(min(n_components, *features.shape), random_state=seed)
        with np.errstate(invalid="ignore"):  # the shares of a variance of zero
            pca.set_output(transform="default").fit((features - scaler.mean_) / scale)
        real = pca.explained_variance_ > SHORTEST * max(1.0, pca.explained_variance_[0])
        kept = pca.components_[: max(1, np.count_nonzero(real))]
        return cls(scaler.mean_, (kept / scale).T, np.zeros(len(kept)))

    @property
    def width(self) -> int:
        return len(self.shift)

    def then(self, matrix: Rows, shift: Rows | float = 0.0) -> LinearMap:
        """Return this map with ``z @ matrix - shift`` behind it."""
        return replace(self, matrix=self.matrix @ matrix, shift=self.shift @ matrix + shift)

    def padded(self, width: int) -> LinearMap:
        """Return this map with coordinates of zero appended."""
        return self.then(np.eye(self.width, width))

    def project(self, features: Rows) -> Rows:
        """Return the mapped features, not at unit length."""
        return (features - self.mean) @ self.matrix - self.shift

    def __call__(self, features: NDArray[np.floating]) -> Rows:
        """Return the unit vector of each row; zeros for one at the centre, without direction."""
        mapped = self.project(features.astype(np.float64))
        mapped[np.linalg.norm(mapped, axis=1) < SHORTEST] = 0.0
        return unit_rows(mapped)


def fit_maps(
    views: Sequence[Rows],
    there: Sequence[Mask],
    method: Method,
    n_components: int,
    seed: int,
    *,
    scale_columns: bool = False,
) -> list[LinearMap]:
    """Return the map of each modality, learnt from items that have them.

    `views` has the features of each modality, and `there` says which items have it. All modalities
    are reduced to `n_components` principal components first; the space is as wide as the widest of
    them ("cca", for two modalities: the narrowest).
    """
    maps = [
        LinearMap.components(view[has], n_components, seed, scale_columns=scale_columns)
        for view, has in zip(views, there)
    ]
    if method == "cca" and len(maps) == 2:
        both = there[0] & there[1]
        return canonical(maps, [view[both] for view in views])
    width = max(each.width for each in maps)
    maps = [each.padded(width) for each in maps]
    if method == "procrustes":
        for k in range(1, len(maps)):
            both = there[0] & there[k]
            first, other = (maps[j](views[j][both]) for j in (0, k))
            maps[k] = maps[k].then(orthogonal_procrustes(other, first)[0])
    return maps


def canonical(maps: Sequence[LinearMap], views: Sequence[Rows]) -> list[LinearMap]:
    """Return the maps of two modalities to their canonical variates, of variance one.

    `views` are the features of the items that have both.
    """
    # CCA sees no difference, but converges faster on components of equal variance.
    scores = [each.project(view) for each, view in zip(maps, views)]
    whitened = []
    for each, z in zip(maps, scores):
        spread = z.std(axis=0)
        spread[spread < SHORTEST] = 1.0
        whitened.append(each.then(np.diag(1 / spread), z.mean(axis=0) / spread))
    maps, scores = whitened, [each.project(view) for each, view in zip(whitened, views)]
    width = min(each.width for each in maps)
    with warnings.catch_warnings():
        # Of directions that are equally correlated any basis will do; it need not converge.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "y residual is constant", UserWarning)
        cca = CCA(min(width, len(scores[0])), scale=False).fit(*scores)
    turned = []
    for each, z, rotation in zip(maps, scores, (cca.x_rotations_, cca.y_rotations_)):
        spread = (z @ rotation).std(axis=0)
        turned.append(each.then(rotation / np.where(spread < SHORTEST, 1.0, spread)))
    return turned
