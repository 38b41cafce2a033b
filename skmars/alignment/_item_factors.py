"""Item factors from a truncated SVD of the user-item matrix: the modality "factors"."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.linear_model import Ridge, RidgeCV

from skmars.data import Impressions, ItemCatalog
from skmars.data._activity import UserActivity
from skmars.data._catalog import side_by_side
from skmars.data._columns import FACTORS
from skmars.data._folds import user_folds
from skmars.utils._ids import Lookup

# Of an item that fewer users touched, its vector would say who they are, not what it is.
MIN_USERS = 3
# Prediction from content is taught by so many items at most, the most touched ones, from so many
# components; leave-one-out chooses the penalty.
MAX_ITEMS, MAX_COMPONENTS, PENALTIES = 5_000, 256, np.logspace(-2, 3, 11)


@dataclass(frozen=True)
class Content:
    """Ridge regression of item factors on what the other modalities say of an item.

    Attributes
    ----------
    modalities : tuple of str
    components : PCA
        Of their features, side by side.
    ridge : Ridge or RidgeCV
    """

    modalities: tuple[str, ...]
    components: PCA
    ridge: Any

    def reduce(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(self.components.transform(features))  # whatever `set_config` asks for

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        predicted: NDArray[np.float32] = self.ridge.predict(self.reduce(features))
        return predicted


@dataclass(frozen=True)
class ItemFactors:
    """A vector for each item that enough users touched.

    Attributes
    ----------
    ids : ndarray of shape (n_items,)
    vectors : ndarray of shape (n_items, n_factors), float32
        Right singular vectors times singular values.
    users : UserActivity
        Whose histories they were made of.
    content : Content or None
        What predicts the vector of another item from its content.
    """

    ids: NDArray[Any]
    vectors: NDArray[np.float32]
    users: UserActivity
    content: Content | None = None

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self.ids, "item_id of the rows of fit")

    @classmethod
    def of(
        cls, X: Impressions, n_factors: int, seed: int, modalities: Iterable[str] = ()
    ) -> ItemFactors | None:
        """Factorise who touched what in the histories of `X`; None if that says nothing.

        Items that the same users like, and dislike, get similar vectors: the right singular
        vectors, times the singular values, of the matrix of users by items whose columns have
        length one (Sarwar et al., "Application of Dimensionality Reduction in Recommender
        System", 2000).
        """
        if n_factors == 0:
            return None
        users, matrix = user_item_matrix(X)
        touched = np.bincount(matrix.indices, minlength=matrix.shape[1])
        items = np.flatnonzero(touched >= MIN_USERS)
        n_factors = min(n_factors, len(items) - 1, matrix.shape[0] - 1)
        if n_factors < 1:
            return None
        matrix = matrix[:, items]
        scale = _inverse(np.sqrt(matrix.power(2).sum(axis=0)))
        svd = TruncatedSVD(n_factors, random_state=seed).fit(matrix @ diags_array(scale))
        vectors = (svd.components_.T * svd.singular_values_).astype(np.float32)
        content = None
        modalities = tuple(name for name in modalities if name != FACTORS)
        features = side_by_side(X.catalog, modalities, items)
        taught = _most_touched(features, touched[items])
        if len(taught) > 2:
            components = PCA(min(MAX_COMPONENTS, *features[taught].shape), random_state=seed)
            said = np.asarray(components.fit_transform(features[taught]))
            content = Content(modalities, components, RidgeCV(PENALTIES).fit(said, vectors[taught]))
        return cls(X.catalog.ids[items], vectors, users, content)

    def out_of_fold(self, X: Impressions, n_folds: int) -> tuple[ItemFactors, ...]:
        r"""Return the factors without the users of each fold, all in the basis of these factors.

        With :math:`A` the user-item matrix of `X`, :math:`U` the left singular vectors and
        :math:`A_{-k}` the rows of users outside fold `k`, an item's vector is

        .. math:: v_i^{(-k)} = U_{-k}^\top\, a_i^{(-k)} / \lVert a_i^{(-k)} \rVert .

        With all users that is :math:`v_i`. Decompositions of their own would have bases of their
        own, which can't be aligned beyond the first factors.
        """
        users, matrix = user_item_matrix(X)
        fold = user_folds(users.ids, n_folds)
        codes = X.catalog.codes(self.ids)
        there = np.flatnonzero(codes >= 0)
        matrix = matrix[:, codes[there]].astype(np.float64)
        # U = A D V / s, where D scales the columns to length one and `vectors` holds V s.
        square = matrix.power(2)
        scale = _inverse(np.sqrt(square.sum(axis=0)))
        strength = np.square(self.vectors, dtype=np.float64).sum(axis=0)
        left = matrix @ (scale[:, None] * self.vectors[there] / strength)
        features = None
        if self.content is not None:
            features = side_by_side(X.catalog, self.content.modalities, codes[there])

        def without(k: int) -> ItemFactors:
            kept = np.flatnonzero(fold != k)
            rest = matrix[kept]
            touched = np.bincount(rest.indices, minlength=len(there))
            known = np.flatnonzero(touched >= MIN_USERS)
            length = np.sqrt(square[kept].sum(axis=0))
            vectors = (_inverse(length)[:, None] * (rest.T @ left[kept])).astype(np.float32)[known]
            content = self.content
            if features is not None and content is not None:
                taught = _most_touched(features[known], touched[known])
                if len(taught) > 2:
                    said = content.reduce(features[known][taught])
                    ridge = Ridge(content.ridge.alpha_).fit(said, vectors[taught])
                    content = Content(content.modalities, content.components, ridge)
            return ItemFactors(self.ids[there][known], vectors, users, content)

        return tuple(without(k) for k in range(n_folds))

    def attach(self, catalog: ItemCatalog) -> ItemCatalog:
        """Return the catalogue with these vectors; other items lack this modality."""
        row = self._lookup(catalog.ids, "item_id of X")
        features = np.where(row[:, None] >= 0, self.vectors[row], np.float32(0))
        return catalog.with_features({FACTORS: features}, {FACTORS: row < 0})

    def predict(self, catalog: ItemCatalog) -> ItemCatalog:
        """Return an attached catalogue in which items that users hardly know have a vector, too.

        It is what ridge regression makes of their content; items without any still lack one.
        """
        if self.content is None:
            return catalog
        new = np.flatnonzero(catalog.missing[FACTORS])
        features = side_by_side(catalog, self.content.modalities, new)
        described = _described(features)
        if not described.any():
            return catalog
        vectors = catalog.features[FACTORS].copy()
        missing = catalog.missing[FACTORS].copy()
        vectors[new[described]] = self.content.predict(features[described])
        missing[new[described]] = False
        return catalog.with_features({FACTORS: vectors}, {FACTORS: missing})


def user_item_matrix(X: Impressions) -> tuple[UserActivity, csr_array]:
    """Return users by items: 1 for what is in the longest history of a user, -1 if disliked."""
    users, row = UserActivity.of(X)
    history = X.history[row]
    position = history.positions()
    value = np.ones(len(position), dtype=np.float32)
    if history.feedback is not None:
        value[history.feedback[position] == 0] = -1.0
    shape = (len(history), len(X.catalog))
    matrix = csr_array((value, history.items[position], history.offsets), shape=shape)
    matrix.sum_duplicates()
    return users, matrix


def _inverse(length: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.divide(1.0, length, out=np.zeros(len(length)), where=length > 0)


def _described(content: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(content.any(axis=1) & np.isfinite(content).all(axis=1))


def _most_touched(content: NDArray[np.float32], touched: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows that teach the regression: described, the most touched ones."""
    known = np.flatnonzero(_described(content))
    return known[np.argsort(-touched[known], kind="stable")[:MAX_ITEMS]]
