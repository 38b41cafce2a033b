"""What users make of items: a modality for which nobody has to describe anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import normalize

from skmars.data import Impressions, ItemCatalog
from skmars.data.catalog import COLLABORATIVE, side_by_side
from skmars.utils import ragged

# Of an item that fewer users touched, its vector would say who they are, not what it is.
MIN_USERS = 3
# Prediction from content is taught by so many items at most, the most touched ones, from so many
# components; leave-one-out chooses the penalty.
MAX_ITEMS, MAX_COMPONENTS, PENALTIES = 5_000, 256, np.logspace(-2, 3, 11)


@dataclass(frozen=True)
class CollaborativeVectors:
    """A vector for each item that enough users touched.

    Attributes
    ----------
    ids : ndarray of shape (n_items,)
    vectors : ndarray of shape (n_items, n_factors), float32
    content : Pipeline or None
        What predicts the vector of another item from its content.
    modalities : tuple of str
        Whose features that is.
    """

    ids: NDArray[Any]
    vectors: NDArray[np.float32]
    content: Pipeline | None = None
    modalities: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, X: Impressions, n_factors: int, seed: int, modalities: Iterable[str] = ()
    ) -> CollaborativeVectors | None:
        """Factorise who touched what in the histories of `X`; None if that says nothing.

        Items that the same users like, and dislike, get similar vectors: the right singular
        vectors, times the singular values, of the matrix of users by items whose columns have
        length one (Sarwar et al., "Application of Dimensionality Reduction in Recommender
        System", 2000).
        """
        if n_factors == 0:
            return None
        opinions = opinions_of(X)
        touched = np.bincount(opinions.indices, minlength=opinions.shape[1])
        items = np.flatnonzero(touched >= MIN_USERS)
        n_factors = min(n_factors, len(items) - 1, opinions.shape[0] - 1)
        if n_factors < 1:
            return None
        svd = TruncatedSVD(n_factors, random_state=seed).fit(normalize(opinions[:, items], axis=0))
        vectors = (svd.components_.T * svd.singular_values_).astype(np.float32)
        modalities = tuple(name for name in modalities if name != COLLABORATIVE)
        content = side_by_side(X.catalog, modalities, items)
        known = np.flatnonzero(_described(content))
        known = known[np.argsort(-touched[items[known]], kind="stable")[:MAX_ITEMS]]
        regression = None
        if len(known) > 2:
            components = PCA(min(MAX_COMPONENTS, *content[known].shape), random_state=seed)
            regression = make_pipeline(components, RidgeCV(PENALTIES))
            regression.fit(content[known], vectors[known])
        return cls(X.catalog.ids[items], vectors, regression, modalities)

    def attach(self, catalog: ItemCatalog) -> ItemCatalog:
        """Return the catalogue with these vectors; other items lack this modality."""
        codes = catalog.codes(self.ids)
        there = codes >= 0
        features = np.zeros((len(catalog), self.vectors.shape[1]), dtype=np.float32)
        features[codes[there]] = self.vectors[there]
        missing = np.ones(len(catalog), dtype=bool)
        missing[codes[there]] = False
        return catalog.with_features({COLLABORATIVE: features}, {COLLABORATIVE: missing})

    def predict(self, catalog: ItemCatalog) -> ItemCatalog:
        """Return an attached catalogue in which items that users hardly know have a vector, too.

        It is what ridge regression makes of their content; items without any still lack one.
        """
        if self.content is None:
            return catalog
        new = np.flatnonzero(catalog.missing[COLLABORATIVE])
        content = side_by_side(catalog, self.modalities, new)
        described = _described(content)
        if not described.any():
            return catalog
        features = catalog.features[COLLABORATIVE].copy()
        missing = catalog.missing[COLLABORATIVE].copy()
        features[new[described]] = self.content.predict(content[described])
        missing[new[described]] = False
        return catalog.with_features({COLLABORATIVE: features}, {COLLABORATIVE: missing})


def _described(content: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(content.any(axis=1) & np.isfinite(content).all(axis=1))


def opinions_of(X: Impressions) -> csr_array:
    """Return users by items: 1 for what is in the longest history of a user, -1 if disliked."""
    history = X.history[ragged.longest(X.user, X.history.length)]
    position = history.positions()
    value = np.ones(len(position), dtype=np.float32)
    if history.feedback is not None:
        value[history.feedback[position] == 0] = -1.0
    shape = (len(history), len(X.catalog))
    opinions = csr_array((value, history.items[position], history.offsets), shape=shape)
    opinions.sum_duplicates()
    return opinions
