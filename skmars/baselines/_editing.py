"""Baselines that edit a history: crop, mask, reorder, substitute, insert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from skmars.baselines import _operators as operators
from skmars.baselines._augmenter import HistoryAugmenter, gathered
from skmars.baselines._parameters import ITEM_ID, SHARES
from skmars.baselines._similarity import item_cf_iuf, nearest, user_sequences
from skmars.data import Impressions, Sequences


@dataclass(eq=False, repr=False, kw_only=True)
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
        Id, which no item has, that stands where an item was masked, for example -1 or "[mask]".
        It is added to the catalogue, and a model learns its embedding. None deletes masked items,
        which is the effect of a mask in a model that skips padding.
    users, low_quantile, max_length, random_state : default="all", 0.3, 200, None
        See `RandomItems`.

    Attributes
    ----------
    n_features_in_, feature_names_in_ : int, ndarray of str
        Number of columns of the rows of `fit`, and their names.

    See Also
    --------
    CropMaskReorderSubstituteInsert : With two operators more.
    CL4SRec : The same operators in an auxiliary objective.
    RandomItems : Its notes on `activity_feature` and on draws hold here, too.

    Notes
    -----
    *Reorder* is a no-op for a model that ignores the order of a history, as `DINClassifier`
    does: a third of the rows is then trained on as it is.

    References
    ----------
    Xie et al., "Contrastive Learning for Sequential Recommendation", ICDE 2022,
    arXiv:2010.14395 (operators); "MARS: Modality-Aligned Retrieval for Sequence Augmented CTR
    Prediction", arXiv:2509.01184, Table 2 (CMR).

    Examples
    --------
    >>> import pandas as pd
    >>> from skmars.baselines import CropMaskReorder
    >>> X = pd.DataFrame({"user_id": [1, 2], "item_id": ["c", "c"], "history": [list("abcde")] * 2})
    >>> augmenter = CropMaskReorder(mask_token="?", random_state=0)
    >>> augmenter.fit_transform(X).to_frame()["history"].tolist()
    [['a'], ['a', '?', '?', 'd', '?']]
    """

    crop: float = 0.2
    mask: float = 0.7
    reorder: float = 0.2
    mask_token: int | str | None = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **HistoryAugmenter._parameter_constraints,
        **{name: SHARES[name] for name in ("crop", "mask", "reorder")},
        "mask_token": [*ITEM_ID, None],
    }
    _token = "mask_token"
    _operators: ClassVar[tuple[str, ...]] = ("crop", "mask", "reorder")

    def _rewritten(
        self, X: Impressions, history: Sequences, token: int | None, random_state: RandomState
    ) -> Sequences:
        ways = operators.with_shares(self._operators, self)
        choice = random_state.randint(len(ways), size=len(history))
        edit = operators.one_of(ways, choice, history.length, random_state)
        if token is None:
            edit = edit.without_masked()
        old, similar, vocabulary = history.positions(), self._similar(X), np.arange(len(X.catalog))
        items = operators.changed_items(
            history.items[old], edit, random_state, similar, vocabulary, token
        )
        return gathered(history, edit.length, old[edit.source], items)

    def _similar(self, X: Impressions) -> NDArray[np.int32] | None:
        """Return the most similar item of each item, or None if no operator needs it."""
        return None


@dataclass(eq=False, repr=False, kw_only=True)
class CropMaskReorderSubstituteInsert(CropMaskReorder):
    """Crop, mask, reorder, substitute or insert in the histories of training rows (CMRSI).

    Each row is changed by one of five operators, drawn uniformly. `fit_transform` acts;
    `transform` is the identity. An empty history stays empty.

    Parameters
    ----------
    crop, mask, reorder, mask_token : default=0.2, 0.7, 0.2, None
        See `CropMaskReorder`.
    substitute : float, default=0.1
        Share that is replaced by the most similar items: ``max(int(substitute * n), 1)`` items.
    insert : float, default=0.4
        Share before which the most similar item is put: ``max(int(insert * n), 1)`` items.
    users, low_quantile, max_length, random_state : default="all", 0.3, 200, None
        See `RandomItems`.

    Attributes
    ----------
    n_features_in_, feature_names_in_ : int, ndarray of str
        Number of columns of the rows of `fit`, and their names.

    See Also
    --------
    CropMaskReorder : Its notes hold here, too.
    CoSeRec : The same operators in an auxiliary objective.

    Notes
    -----
    Items are similar that occur in the histories of the same users (ItemCF-IUF): in the longest
    one of each user among the rows of `fit_transform`, long ones counting less. An item without
    neighbours is replaced by one drawn from the catalogue. A substituted or inserted item has
    the feedback and the time of the item that it replaces or precedes.

    References
    ----------
    Liu et al., "Contrastive Self-supervised Sequential Recommendation with Robust Augmentation",
    arXiv:2108.06479 (operators); "MARS: Modality-Aligned Retrieval for Sequence Augmented CTR
    Prediction", arXiv:2509.01184, Table 2 (CMRSI).

    Examples
    --------
    >>> import pandas as pd
    >>> from skmars.baselines import CropMaskReorderSubstituteInsert
    >>> X = pd.DataFrame({"user_id": [1, 2], "item_id": ["c", "c"], "history": [list("ab")] * 2})
    >>> augmenter = CropMaskReorderSubstituteInsert(random_state=0)
    >>> augmenter.fit_transform(X).to_frame()["history"].tolist()
    [['a', 'a', 'b'], ['b']]
    """

    substitute: float = 0.1
    insert: float = 0.4

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CropMaskReorder._parameter_constraints,
        **SHARES,
    }
    _operators = (*CropMaskReorder._operators, "substitute", "insert")

    def _similar(self, X: Impressions) -> NDArray[np.int32] | None:
        return nearest(item_cf_iuf(user_sequences(X), len(X.catalog)))[0]
