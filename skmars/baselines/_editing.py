"""Baselines that edit a history: crop, mask, reorder, substitute, insert."""

from __future__ import annotations

from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.baselines import _operators as operators
from skmars.baselines._base import (
    MASK_SHARE,
    SHARE,
    HistoryAugmenter,
    gathered,
    with_rows,
    with_token,
)
from skmars.baselines._similarity import item_cf_iuf, nearest, user_sequences
from skmars.data import Impressions, ItemCatalog, Sequences


class CropMaskReorder(HistoryAugmenter):
    """Crop, mask or reorder the histories of training rows (CMR).

    Each row is changed by one of three operators, drawn uniformly. `fit_transform` acts;
    `transform` is the identity. An empty history stays empty.

    Parameters
    ----------
    crop : float, default=0.2
        Share of a history that a crop keeps: a window of ``int(crop * n)`` items, at least one.
    mask : float, default=0.7
        Share that is masked, below 1: ``int(mask * n)`` items.
    reorder : float, default=0.2
        Share that is shuffled: a window of ``int(reorder * n)`` items.
    mask_token : int or str, default=None
        Id of an item that stands where one was masked, for example 0 or "[mask]". It joins
        the catalogue, and a model learns its embedding. None deletes masked items, which is what
        a mask comes to in a model that skips padding.
    users : {"all", "low_active"}, default="all"
        Whose rows are rewritten. "low_active": those of the users whose activity (the longest
        history among their rows) is at most the quantile `low_quantile` of all users'.
    low_quantile : float, default=0.3
        For ``users="low_active"``.
    max_length : int, default=200
        A rewritten history keeps its last `max_length` items.
    catalog : ItemCatalog, default=None
        Items, for input that comes as a frame.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same draws in every `fit_transform`.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of the rows of `fit`.
    feature_names_in_ : ndarray of str
        Their names.

    See Also
    --------
    CropMaskReorderSubstituteInsert : With two operators more.
    CL4SRec : The same operators in an auxiliary objective.

    Notes
    -----
    *Reorder* is a no-op for a model that ignores the order of a history, as `DINClassifier`
    does: a third of the rows is then trained on as it is.

    The `activity_feature` of `DINClassifier` sees the length of the rewritten history in
    training; without it, training and prediction agree. There is one draw a row: all epochs of
    a later training see the same histories.

    References
    ----------
    Xie et al., "Contrastive Learning for Sequential Recommendation", ICDE 2022,
    arXiv:2010.14395 (operators); "MARS: Modality-Aligned Retrieval for Sequence Augmented CTR
    Prediction", arXiv 2509.01184, Table 2 (CMR).

    Examples
    --------
    >>> import pandas as pd
    >>> from skmars.baselines import CropMaskReorder
    >>> X = pd.DataFrame({"user_id": [1, 2], "item_id": ["c", "c"], "history": [list("abcde")] * 2})
    >>> augmenter = CropMaskReorder(mask_token="?", random_state=0)
    >>> augmenter.fit_transform(X).to_frame()["history"].tolist()
    [['a'], ['a', '?', '?', 'd', '?']]
    """

    _parameter_constraints = {  # noqa: RUF012
        **HistoryAugmenter._parameter_constraints,
        "crop": [SHARE],
        "mask": [MASK_SHARE],
        "reorder": [SHARE],
        "mask_token": [Integral, str, None],
    }

    def __init__(
        self,
        *,
        crop: float = 0.2,
        mask: float = 0.7,
        reorder: float = 0.2,
        mask_token: Any = None,
        users: str = "all",
        low_quantile: float = 0.3,
        max_length: int = 200,
        catalog: ItemCatalog | None = None,
        random_state: Any = None,
    ) -> None:
        self.crop = crop
        self.mask = mask
        self.reorder = reorder
        self.mask_token = mask_token
        self.users = users
        self.low_quantile = low_quantile
        self.max_length = max_length
        self.catalog = catalog
        self.random_state = random_state

    def _operators(self) -> list[operators.Operator]:
        return [
            partial(operators.crop, share=self.crop),
            partial(operators.mask, rate=self.mask),
            partial(operators.reorder, rate=self.reorder),
        ]

    def _augmented(
        self, X: Impressions, rows: NDArray[np.int64], random_state: np.random.RandomState
    ) -> Impressions:
        return self._edited(X, rows, random_state, None)

    def _edited(
        self,
        X: Impressions,
        rows: NDArray[np.int64],
        random_state: np.random.RandomState,
        similar: NDArray[np.int32] | None,
    ) -> Impressions:
        vocabulary = np.arange(len(X.catalog))
        X, token = with_token(X, self.mask_token, "mask_token")
        history, ways = X.history[rows], self._operators()
        choice = random_state.randint(len(ways), size=len(rows))
        edit = operators.one_of(ways, choice, history.length, random_state)
        if token is None:
            edit = edit.without_masked()
        new = _applied(history, edit, random_state, similar, vocabulary, token)
        return with_rows(X, rows, new.last(self.max_length))


class CropMaskReorderSubstituteInsert(CropMaskReorder):
    r"""Crop, mask, reorder, substitute or insert in the histories of training rows (CMRSI).

    Each row is changed by one of five operators, drawn uniformly. `fit_transform` acts;
    `transform` is the identity. An empty history stays empty.

    Parameters
    ----------
    crop : float, default=0.2
        Share of a history that a crop keeps: a window of ``int(crop * n)`` items, at least one.
    mask : float, default=0.7
        Share that is masked, below 1: ``int(mask * n)`` items.
    reorder : float, default=0.2
        Share that is shuffled: a window of ``int(reorder * n)`` items.
    substitute : float, default=0.1
        Share that is replaced by the most similar items: ``max(int(substitute * n), 1)`` items.
    insert : float, default=0.4
        Share before which the most similar item is put: ``max(int(insert * n), 1)`` items.
    mask_token : int or str, default=None
        Id of an item that stands where one was masked, for example 0 or "[mask]". It joins
        the catalogue, and a model learns its embedding. None deletes masked items, which is what
        a mask comes to in a model that skips padding.
    users : {"all", "low_active"}, default="all"
        Whose rows are rewritten. "low_active": those of the users whose activity (the longest
        history among their rows) is at most the quantile `low_quantile` of all users'.
    low_quantile : float, default=0.3
        For ``users="low_active"``.
    max_length : int, default=200
        A rewritten history keeps its last `max_length` items.
    catalog : ItemCatalog, default=None
        Items, for input that comes as a frame.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same draws in every `fit_transform`.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of the rows of `fit`.
    feature_names_in_ : ndarray of str
        Their names.

    See Also
    --------
    CropMaskReorder : Its notes hold here, too.
    CoSeRec : The same operators in an auxiliary objective.

    Notes
    -----
    Items are similar that occur in the histories of the same users (ItemCF-IUF),

    .. math::
        sim_{ij} = \frac{1}{\sqrt{N_i N_j}} \sum_{u: i, j \in S_u} \frac{1}{\log(1 + |S_u|)},

    counted on the longest history :math:`S_u` of each user among the rows of `fit_transform`.
    An item without neighbours is replaced by one drawn from the catalogue. A substituted or
    inserted item takes the feedback and the time of the item in whose stead or before which it
    stands.

    References
    ----------
    Liu et al., "Contrastive Self-supervised Sequential Recommendation with Robust Augmentation",
    arXiv:2108.06479 (operators); "MARS: Modality-Aligned Retrieval for Sequence Augmented CTR
    Prediction", arXiv 2509.01184, Table 2 (CMRSI).

    Examples
    --------
    >>> import pandas as pd
    >>> from skmars.baselines import CropMaskReorderSubstituteInsert
    >>> X = pd.DataFrame({"user_id": [1, 2], "item_id": ["c", "c"], "history": [list("ab")] * 2})
    >>> augmenter = CropMaskReorderSubstituteInsert(random_state=0)
    >>> augmenter.fit_transform(X).to_frame()["history"].tolist()
    [['a', 'a', 'b'], ['b']]
    """

    _parameter_constraints = {  # noqa: RUF012
        **CropMaskReorder._parameter_constraints,
        "substitute": [SHARE],
        "insert": [SHARE],
    }

    def __init__(
        self,
        *,
        crop: float = 0.2,
        mask: float = 0.7,
        reorder: float = 0.2,
        substitute: float = 0.1,
        insert: float = 0.4,
        mask_token: Any = None,
        users: str = "all",
        low_quantile: float = 0.3,
        max_length: int = 200,
        catalog: ItemCatalog | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            crop=crop,
            mask=mask,
            reorder=reorder,
            mask_token=mask_token,
            users=users,
            low_quantile=low_quantile,
            max_length=max_length,
            catalog=catalog,
            random_state=random_state,
        )
        self.substitute = substitute
        self.insert = insert

    def _operators(self) -> list[operators.Operator]:
        return [
            *super()._operators(),
            partial(operators.substitute, rate=self.substitute),
            partial(operators.insert, rate=self.insert),
        ]

    def _augmented(
        self, X: Impressions, rows: NDArray[np.int64], random_state: np.random.RandomState
    ) -> Impressions:
        items, _ = nearest(item_cf_iuf(user_sequences(X), len(X.catalog)))
        return self._edited(X, rows, random_state, items[:, 0])


def _applied(
    history: Sequences,
    edit: operators.Edit,
    random_state: np.random.RandomState,
    similar: NDArray[np.int32] | None,
    vocabulary: NDArray[Any],
    token: int | None,
) -> Sequences:
    old = history.positions()
    items = operators.changed_items(
        history.items[old],
        edit,
        random_state,
        similar=similar,
        vocabulary=vocabulary,
        token=token,
    )
    return gathered(history, edit.length, old[edit.source], items)
