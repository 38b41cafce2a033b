"""All users of `fit`, with whom the user of a row is compared for the look-alike features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.alignment._item_factors import ItemFactors
from skmars.data import Impressions, Sequences
from skmars.retrieval._embeddings import ItemView, mean_over
from skmars.retrieval._lookalike_features import Interactions
from skmars.utils._ids import Lookup
from skmars.utils._units import Vectors, center_of, centred_units

N_FACTORS = 64


@dataclass(frozen=True, eq=False)
class Users:
    """All users with a history: who may be a look-alike.

    They are compared by item factors that are made of these very users (of the truncated SVD of
    users and items), and not by features of the catalogue: factors of the catalogue are, in all
    folds, in the basis of one decomposition, to which every user contributed. What a row's user
    clicked would show in how alike those users are who touched the same items: on labels of chance,
    ``lookalike_support`` told the clicks of training rows with an AUC of 0.540, and tells them with
    0.499 by factors of its own (``python -m benchmarks.tell --histories positive``).

    Parameters
    ----------
    ids : ndarray of shape (n_users,)
        User ids, ascending.
    length : ndarray of shape (n_users,), int32
        Length of the longest history of each.
    items : ndarray of shape (n_items, n_factors), float32
        Item factors, centred, at unit length; zeros for items without.
    center : ndarray of shape (n_factors,), float64
        Mean of the users, each of which is the mean of the history's items.
    vectors : ndarray of shape (n_users, n_factors), float32
        The users, centred, at unit length.
    spread : ndarray of shape (n_factors, n_factors), float64
        Mean of the outer products of these vectors with themselves.
    interactions : Interactions
        Which of them interacted with which items.
    """

    ids: NDArray[Any]
    length: NDArray[np.int32]
    items: Vectors
    center: NDArray[np.float64]
    vectors: Vectors
    spread: NDArray[np.float64]
    interactions: Interactions

    @classmethod
    def of(cls, X: Impressions, view: ItemView, n_items: int) -> Users:
        """Collect users, of each of whom there is one row, that with the longest history.

        `view` knows the items of `X` by their codes, of which there are `n_items`.
        """
        history = X.history.compact()
        factors = ItemFactors.of(X, N_FACTORS, seed=0)
        items = np.zeros((n_items, 1), dtype=np.float32)
        if factors is not None:
            items = np.zeros((n_items, factors.vectors.shape[1]), dtype=np.float32)
            items[view.codes(X.catalog.codes(factors.ids))] = factors.vectors
            items = centred_units(items, center_of(items, True))
        users = _means(history, view, items)
        center = center_of(users, True)
        vectors = centred_units(users, center)
        wide = vectors.astype(np.float64)
        return cls(
            X.user_ids,
            history.length,
            items,
            center,
            vectors,
            wide.T @ wide / max(1, len(wide)),
            Interactions.of(history.recode(view.codes(np.arange(len(X.catalog)))), n_items),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self.ids, "user_id of fit")

    def codes(self, X: Impressions) -> NDArray[np.int32]:
        """Return who of them is the user of each row of `X`, -1 for nobody."""
        if len(X) < len(X.users):
            return self._lookup(X.user_ids, "user_id of X")
        return self._lookup(X.users, "user_id of X")[X.user]

    def compared(self, history: Sequences, view: ItemView) -> Vectors:
        """Return the unit vectors of the users with these histories; zeros where all is unknown."""
        return centred_units(_means(history, view, self.items), self.center)

    def __getstate__(self) -> dict[str, Any]:
        # Cached properties are computed again faster than they are read.
        fields = self.__dataclass_fields__
        return {name: value for name, value in vars(self).items() if name in fields}


def _means(history: Sequences, view: ItemView, items: Vectors) -> Vectors:
    """Return the mean factors of each history's items; those without factors don't count."""

    def vectors_of(some: NDArray[np.int32]) -> Vectors:
        codes = view.codes(some)
        known = codes < len(items)
        return np.where(known[:, None], items[np.where(known, codes, 0)], np.float32(0))

    return mean_over(history, vectors_of)
