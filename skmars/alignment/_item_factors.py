"""Item factors from a truncated SVD of the user-item matrix: the modality "factors"."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

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
from skmars.data._item_columns import Matrix
from skmars.utils._ids import Ids, Lookup

# Factors of an item with fewer users would identify these users rather than describe the item.
MIN_USERS = 3
# The regression of factors on features is fitted to so many items at most, those with the most
# users, and so many components of the features; leave-one-out chooses the penalty.
MAX_ITEMS, MAX_COMPONENTS, PENALTIES = 5_000, 256, np.logspace(-2, 3, 11)


@dataclass(frozen=True)
class FactorRegression:
    """Ridge regression of item factors on the features of the other modalities."""

    modalities: tuple[str, ...]
    components: PCA  # of their features, side by side
    penalty: float
    ridge: Ridge | RidgeCV

    @classmethod
    def fit(
        cls, modalities: tuple[str, ...], features: Matrix, vectors: Matrix, seed: int
    ) -> FactorRegression | None:
        """Fit the regression to items with features; None if there are fewer than three."""
        if len(features) < 3:
            return None
        components = PCA(min(MAX_COMPONENTS, *features.shape), random_state=seed).fit(features)
        # An array, whatever `set_config` sets as container.
        reduced = np.asarray(components.transform(features))
        ridge = RidgeCV(PENALTIES).fit(reduced, vectors)
        return cls(modalities, components, float(ridge.alpha_), ridge)

    def refit(self, features: Matrix, vectors: Matrix) -> FactorRegression | None:
        """Return the regression for other factors of the items, with the same penalty."""
        if len(features) < 3:
            return None
        ridge = Ridge(self.penalty).fit(self.reduce(features), vectors)
        return replace(self, ridge=ridge)

    def reduce(self, features: Matrix) -> Matrix:
        return np.asarray(self.components.transform(features))

    def predict(self, features: Matrix) -> Matrix:
        vectors = self.ridge.predict(self.reduce(features)).reshape(len(features), -1)
        return vectors.astype(np.float32, copy=False)


@dataclass(frozen=True)
class FactorBasis:
    r"""The basis of item factors: what makes a user's left singular vector of their history.

    Where :math:`A D = U S V^\top`, with a diagonal matrix :math:`D` that scales the columns of the
    user-item matrix, :math:`U = A D V S^{-1}`. Further users are folded in by the same product.
    """

    items: Lookup  # those of the decomposition
    weights: Matrix  # D V / S, shape (n_items, n_factors)

    def users(self, catalog: ItemCatalog, matrix: csr_array) -> NDArray[np.float64]:
        """Return the left singular vector of each user of a user-item matrix."""
        codes = catalog.codes(self.items.ids)
        there = np.flatnonzero(codes >= 0)
        left = matrix[:, codes[there]] @ self.weights[there].astype(np.float64)
        return np.asarray(left)


@dataclass(frozen=True)
class ItemFactors:
    """A vector for each item that enough users interacted with."""

    items: Lookup
    vectors: Matrix  # right singular vectors times singular values, shape (n_items, n_factors)
    users: UserActivity  # whose histories they were made of
    basis: FactorBasis
    regression: FactorRegression | None = None  # predicts them from the features of an item

    @property
    def ids(self) -> Ids:
        return self.items.ids

    @classmethod
    def of(
        cls, X: Impressions, n_factors: int, seed: int, modalities: Iterable[str] = ()
    ) -> ItemFactors | None:
        """Factorise the user-item matrix of `X`; None if it has too few users or items.

        Items that the same users like, and dislike, get similar vectors: the right singular
        vectors, times the singular values, of the matrix of users by items whose columns have
        length one (Sarwar et al., "Application of Dimensionality Reduction in Recommender
        System", 2000).
        """
        if n_factors == 0:
            return None
        users, matrix = user_item_matrix(X)
        n_users = np.bincount(matrix.indices, minlength=matrix.shape[1])
        items = np.flatnonzero(n_users >= MIN_USERS)
        n_factors = min(n_factors, len(items) - 1, matrix.shape[0] - 1)
        if n_factors < 1:
            return None
        matrix = matrix[:, items]
        scale = _inverse(np.sqrt(matrix.power(2).sum(axis=0)))
        with np.errstate(invalid="ignore", divide="ignore"):  # of a variance of zero
            svd = TruncatedSVD(n_factors, random_state=seed).fit(matrix @ diags_array(scale))
        strength = svd.singular_values_
        # Factors beyond the rank of the matrix are rounding errors.
        real = strength > strength.max() * max(matrix.shape) * np.finfo(np.float32).eps
        if not real.any():
            return None
        right, strength = svd.components_.T[:, real], strength[real]
        vectors = (right * strength).astype(np.float32)
        known = _lookup(X.catalog.ids[items])
        basis = FactorBasis(known, (scale[:, None] * right / strength).astype(np.float32))
        modalities = tuple(name for name in modalities if name != FACTORS)
        features = side_by_side(X.catalog, modalities, items)
        rows = _most_used(features, n_users[items])
        regression = FactorRegression.fit(modalities, features[rows], vectors[rows], seed)
        return cls(known, vectors, users, basis, regression)

    def out_of_fold(self, X: Impressions, n_folds: int) -> tuple[ItemFactors, ...]:
        r"""Return the factors without the users of each fold, all in the basis of these factors.

        With :math:`A` the user-item matrix of `X`, :math:`U` the left singular vectors and
        :math:`A_{-k}` the rows of users outside fold `k`, an item's vector is

        .. math:: v_i^{(-k)} = U_{-k}^\top\, a_i^{(-k)} / \lVert a_i^{(-k)} \rVert .

        With all users that is :math:`v_i`. Decompositions of their own would have bases of their
        own, which can't be aligned beyond the first factors.
        """
        users, matrix = user_item_matrix(X)
        left = self.basis.users(X.catalog, matrix)
        fold, items = user_folds(users.ids, n_folds), X.catalog.codes(self.ids)
        items = items[items >= 0]
        features = self._features(X.catalog, items)
        rest = [np.flatnonzero(fold != k) for k in range(n_folds)]
        return tuple(
            self._of_users(X.catalog, users, matrix[kept], left[kept], items, features)
            for kept in rest
        )

    def continued(self, X: Impressions) -> ItemFactors:
        """Return the factors of the present users and items, in the basis of these factors.

        An item's vector is that of `out_of_fold` with nobody left out, where the columns of
        :math:`U` are scaled to length one again, so that vectors don't grow with the number of
        users. The rows of the fit give the factors of the fit, as exactly as the SVD is.
        """
        users, matrix = user_item_matrix(X)
        left = self.basis.users(X.catalog, matrix)
        left *= _inverse(np.linalg.norm(left, axis=0))
        items = np.arange(len(X.catalog))
        features = self._features(X.catalog, items)
        return self._of_users(X.catalog, users, matrix, left, items, features)

    def _features(self, catalog: ItemCatalog, items: NDArray[np.integer]) -> Matrix | None:
        """Return the features of items that the regression takes."""
        if self.regression is None:
            return None
        return side_by_side(catalog, self.regression.modalities, items)

    def _of_users(
        self,
        catalog: ItemCatalog,
        users: UserActivity,
        matrix: csr_array,
        left: NDArray[np.float64],
        items: NDArray[np.integer],
        features: Matrix | None,
    ) -> ItemFactors:
        """Return the factors of some items, made of the rows of some users and their vectors."""
        n_users = np.bincount(matrix.indices, minlength=len(catalog))[items]
        known = np.flatnonzero(n_users >= MIN_USERS)
        items, n_users = items[known], n_users[known]
        columns = matrix[:, items].astype(np.float64)
        length = np.sqrt(columns.power(2).sum(axis=0))
        vectors = (_inverse(length)[:, None] * (columns.T @ left)).astype(np.float32)
        regression = self.regression
        if regression is not None and features is not None:
            rows = _most_used(features[known], n_users)
            regression = regression.refit(features[known[rows]], vectors[rows])
        return ItemFactors(_lookup(catalog.ids[items]), vectors, users, self.basis, regression)

    def attach(self, catalog: ItemCatalog) -> ItemCatalog:
        """Return the catalogue with the factors as a modality, which other items lack."""
        row = self.items(catalog.ids, "item_id of X")
        features = np.zeros((len(row), self.vectors.shape[1]), dtype=np.float32)
        features[row >= 0] = self.vectors[row[row >= 0]]
        return catalog.with_features({FACTORS: features}, {FACTORS: row < 0})

    def predict(self, catalog: ItemCatalog) -> ItemCatalog:
        """Return a catalogue with factors predicted for the items that lack them.

        Items that have no features of another modality still lack them.
        """
        if self.regression is None:
            return catalog
        new = np.flatnonzero(catalog.missing[FACTORS])
        features = side_by_side(catalog, self.regression.modalities, new)
        usable = _usable(features)
        if not usable.any():
            return catalog
        vectors, missing = catalog.features[FACTORS].copy(), catalog.missing[FACTORS].copy()
        vectors[new[usable]] = self.regression.predict(features[usable])
        missing[new[usable]] = False
        return catalog.with_features({FACTORS: vectors}, {FACTORS: missing})


def user_item_matrix(X: Impressions) -> tuple[UserActivity, csr_array]:
    """Return the user-item matrix: 1 for items in a user's longest history, -1 if disliked."""
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


def _lookup(ids: Ids) -> Lookup:
    return Lookup(ids, "item_id of the rows of fit")


def _inverse(length: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.divide(1.0, length, out=np.zeros(len(length)), where=length > 0)


def _usable(features: Matrix) -> NDArray[np.bool_]:
    return np.asarray(features.any(axis=1) & np.isfinite(features).all(axis=1))


def _most_used(features: Matrix, n_users: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the items to fit the regression to: those with features that have the most users."""
    rows = np.flatnonzero(_usable(features))
    return rows[np.argsort(-n_users[rows], kind="stable")[:MAX_ITEMS]]
