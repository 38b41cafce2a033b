"""Controls that a gain from borrowing has to beat."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from skmars import SequenceRetrievalAugmenter


class RandomUsers(TransformerMixin, BaseEstimator):
    """Before the augmenter: replace all user embeddings by noise, so that donors are random.

    The augmenter then has to compare them: ``user_representation="embedding"``.

    What MARS gains over it comes from *whom* it asks; the rest comes from borrowing as such (the
    network learns who has a short history, and what active users like). For
    ``relevance="target"``, which compares items with items.
    """

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> RandomUsers:
        """Nothing to learn."""
        return self

    def transform(self, X: Any) -> Any:
        """Return the impressions with other user embeddings."""
        # Not the numbers of the rows of fit, or a row would look like the one in the same place.
        rng = np.random.RandomState([self.random_state, len(X)])
        noise = rng.normal(size=(len(X), 16))
        return X.with_user_embedding(noise.astype(np.float32))

    def __sklearn_is_fitted__(self) -> bool:
        return True


class RandomLookalikes(SequenceRetrievalAugmenter):
    """Augmenter that compares rows with noise instead of users, so that look-alikes are random.

    Donors are those of the augmenter: put `RandomUsers` before it.
    """

    def _retrieve(self, X: Any, own: Any, pool: Any, context: Any = None) -> Any:
        noise = np.random.RandomState(0).normal(size=pool.users.vectors.shape)
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        spread = noise.T @ noise / max(1, len(noise))
        users = replace(pool.users, vectors=noise.astype(np.float32), spread=spread)
        return super()._retrieve(X, own, replace(pool, users=users), context)
