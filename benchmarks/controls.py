"""Controls that a gain from borrowing has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin


class RandomUsers(TransformerMixin, BaseEstimator):
    """Before the augmenter: replace all user embeddings by noise, so that donors are random.

    The augmenter then has to compare them: ``compare="embedding"``.

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
