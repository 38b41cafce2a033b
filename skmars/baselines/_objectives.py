"""Baselines that take part in the training of DIN, as objectives for its `auxiliary`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import StrOptions

from skmars.baselines._operators import with_shares
from skmars.baselines._parameters import N_ITEMS, NOT_NEGATIVE, POSITIVE, SHARES
from skmars.baselines._similarity import item_cf_iuf, nearest, user_sequences
from skmars.baselines._views import ItemChoice
from skmars.data import Impressions
from skmars.utils._base import DocLinkMixin
from skmars.utils._parameters import Number

if TYPE_CHECKING:
    from skmars.baselines._contrastive import ContrastiveLoss
    from skmars.baselines._mixup import MixupLoss


@dataclass(eq=False, repr=False, kw_only=True)
class CL4SRec(DocLinkMixin, BaseEstimator):
    r"""Contrastive learning of histories, as an auxiliary objective of `DINClassifier`.

    Each history of a batch is changed by two different operators of {crop, mask, reorder}. A
    sequence encoder, which shares the item embeddings of the network, gives a vector z of each
    view, and the two views of a history have to recognise each other among all 2B views:

    .. math::
        L = L_{CTR} + w L_{CL}, \quad
        L_{CL} = -\frac{1}{2B} \sum_{i} \log
            \frac{\exp(z_i \cdot z_{i'} / \tau)}{\sum_{j \ne i} \exp(z_i \cdot z_j / \tau)}

    Both views of a history of one item are that history; an empty one has no views.

    Parameters
    ----------
    weight : float, default=0.1
        Weight w of the contrastive loss.
    temperature : float, default=1.0
        :math:`\tau`.
    crop : float, default=0.6
        Share of a history that a crop keeps.
    mask : float, default=0.3
        Share that is masked, below 1.
    reorder : float, default=0.6
        Share that is shuffled.
    mask_token : bool, default=False
        Whether a learnt vector stands for masked items, instead of their being deleted.
    encoder : {"attention", "pool"}, default="attention"
        "attention": causal self-attention with positions counted from the most recent item; the
        output at that item is the vector. "pool": the mean of the item embeddings and a
        perceptron of two layers; it is cheap, and does not see a reordering at all.
    n_layers : int, default=1
        Self-attention layers.
    max_length : int, default=50
        Items of a history, and of a view, that are used: the last ones.

    See Also
    --------
    CoSeRec : With two more operators, chosen by the length of the history.
    CropMaskReorder : The same operators on the training rows themselves.

    Notes
    -----
    The method was made for models whose user vector depends on the history alone. That of DIN
    depends on the target, too; hence the encoder, which is dropped in prediction. What the
    method can improve are the item embeddings (with those of feedback and provenance).

    The history is what the network pools in one: with ``borrowed="marked"`` or "joint", the
    borrowed items are part of it. `sample_weight` counts the terms of a row that often.

    References
    ----------
    Xie et al., "Contrastive Learning for Sequential Recommendation", ICDE 2022, arXiv:2010.14395,
    Eq. 3.

    Examples
    --------
    >>> from skmars import DINClassifier, make_multimodal_ctr
    >>> from skmars.baselines import CL4SRec
    >>> X, y = make_multimodal_ctr(n_users=20, n_items=20, random_state=0)
    >>> din = DINClassifier(auxiliary=CL4SRec(encoder="pool"), max_iter=2, random_state=0)
    >>> din.fit(X, y).set_params(auxiliary__weight=0.5).auxiliary.weight
    0.5
    """

    weight: float = field(default=0.1, kw_only=False)
    temperature: float = 1.0
    crop: float = 0.6
    mask: float = 0.3
    reorder: float = 0.6
    mask_token: bool = False
    encoder: str = "attention"
    n_layers: int = 1
    max_length: int = 50

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "weight": NOT_NEGATIVE,
        "temperature": POSITIVE,
        **{name: SHARES[name] for name in ("crop", "mask", "reorder")},
        "mask_token": ["boolean"],
        "encoder": [StrOptions({"attention", "pool"})],
        "n_layers": [Number(Integral, 1, 100, closed="both")],
        "max_length": N_ITEMS,
    }

    def objective(
        self, X: Impressions, table_row: NDArray[np.int64], width: int, n_epochs: int = 0
    ) -> ContrastiveLoss:
        """Return what adds the loss to a training; see `AuxiliaryObjective.objective`."""
        self._validate_params()
        from skmars.baselines._contrastive import ContrastiveLoss, ViewEncoder

        n_layers = self.n_layers if self.encoder == "attention" else 0
        return ContrastiveLoss(
            ViewEncoder(width, self.max_length, n_layers, bool(self.mask_token)),
            with_shares(["crop", "mask", "reorder"], self),
            ItemChoice(table_row),
            few=0,
            short=1,
            weight=self.weight,
            temperature=self.temperature,
            max_length=self.max_length,
        )


@dataclass(eq=False, repr=False, kw_only=True)
class CoSeRec(CL4SRec):
    """Contrastive learning with operators that use similar items, as an auxiliary objective.

    As `CL4SRec`, with five operators that heed the length of a history: one of more than `short`
    items is changed by two different ones of {crop, mask, reorder, substitute, insert}; a shorter
    one, which cropping and reordering would harm, by two of {mask, substitute, insert}.

    Parameters
    ----------
    weight : float, default=0.1
        Weight of the contrastive loss.
    crop, mask, reorder : float, default=0.2, 0.7, 0.2
        Shares of a history, as of `CL4SRec`.
    substitute : float, default=0.1
        Share that is replaced by similar items; at least one item.
    insert : float, default=0.4
        Share before which a similar item is put; at least one item.
    short : int, default=4
        Length up to which a history is short.
    warm_up : int, default=1
        Epochs in which similarity is that of co-occurrence alone.
    temperature, mask_token, encoder, n_layers, max_length : default=1.0, False, "attention", 1, 50
        See `CL4SRec`.

    See Also
    --------
    CL4SRec : Its notes hold here, too.
    CropMaskReorderSubstituteInsert : The same operators on the training rows themselves.

    Notes
    -----
    The most similar item is, in the first `warm_up` epochs, that by co-occurrence in the
    longest histories of the training users (ItemCF-IUF); then, found anew in each epoch, that by
    co-occurrence or by the dot product of the embeddings of now, whichever is larger after both
    are scaled to [0, 1]. That costs time quadratic in the number of items. An item without any
    is replaced by a random item.

    References
    ----------
    Liu et al., "Contrastive Self-supervised Sequential Recommendation with Robust Augmentation",
    arXiv:2108.06479 (CoSeRec).

    Examples
    --------
    >>> from skmars import DINClassifier, make_multimodal_ctr
    >>> from skmars.baselines import CoSeRec
    >>> X, y = make_multimodal_ctr(n_users=20, n_items=20, random_state=0)
    >>> din = DINClassifier(auxiliary=CoSeRec(), max_iter=2, random_state=0).fit(X, y)
    >>> din.predict_proba(X).shape == (len(X), 2)
    True
    """

    crop: float = 0.2
    mask: float = 0.7
    reorder: float = 0.2
    substitute: float = 0.1
    insert: float = 0.4
    short: int = 4
    warm_up: int = 1

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CL4SRec._parameter_constraints,
        **SHARES,
        "short": [Number(Integral, 0, None, closed="left")],
        "warm_up": [Number(Integral, 0, None, closed="left")],
    }

    def objective(
        self, X: Impressions, table_row: NDArray[np.int64], width: int, n_epochs: int = 0
    ) -> ContrastiveLoss:
        """Return what adds the loss to a training; see `AuxiliaryObjective.objective`."""
        loss = super().objective(X, table_row, width, n_epochs)
        informative = ["mask", "substitute", "insert"]
        similarity = item_cf_iuf(user_sequences(X), len(table_row))
        return replace(
            loss,
            ways=with_shares([*informative, "crop", "reorder"], self),
            choice=ItemChoice(table_row, nearest(similarity)[0]),
            few=len(informative),
            short=self.short,
            similarity=similarity,
            warm_up=self.warm_up - n_epochs,
        )


@dataclass(eq=False, repr=False, kw_only=True)
class BASRec(DocLinkMixin, BaseEstimator):
    r"""Mixup of histories and of rows, as an auxiliary objective of `DINClassifier`.

    The network is first trained with the click loss alone, to the end (`max_iter` epochs, or until
    early stopping). A second training goes on from there, with four losses more:

    .. math:: L = L_{CTR} + w\,(L_{single} + L'_{single} + L_{cross} + L'_{cross})

    *Single-sequence*, twice: a share :math:`a \sim U(low, high)` of a history S is reordered, or
    substituted by similar items, which gives S'. The click loss is taken at the embeddings
    :math:`\lambda E(S) + (1 - \lambda) E(S')`, weighted by :math:`1 / (\lambda a)`, scaled to
    [0, 1] over the batch (see `reweighting`).

    *Cross-sequence*, twice: rows are mixed with other rows of the batch: interest vector, target
    embedding and label (and the other inputs of the head) by one :math:`\lambda` a row, and in
    :math:`L'_{cross}` by one for each unit of the vectors, the label then by their mean.

    All :math:`\lambda \sim Beta(c, c)`.

    Parameters
    ----------
    weight : float, default=1.0
        Weight w of each of the four losses.
    low_rate, high_rate : float, default=0.2, 0.51
        Bounds of a.
    concentration : float, default=0.3
        c; small ones draw shares near 0 and 1.
    reweighting : {"batch", "row"}, default="batch"
        Whom the weights :math:`1 / (\lambda a)` concern. "batch", as in the authors' public code:
        all rows of the batch alike, which count the sum of the weights. "row", as the method is
        described: each row counts its own weight. As some :math:`\lambda` are close to 0, the
        largest weight is then that of all others together, and nearly all rows count nothing.

    See Also
    --------
    CL4SRec : Contrasts changed histories, instead of mixing them.

    Notes
    -----
    An item is most similar to that with which it occurs most in the longest histories of the
    training users (ItemCF-IUF). The first training is skipped where a network goes on from
    an earlier fit (`warm_start`, `partial_fit`); the first `partial_fit` is of the first kind.
    ``loss_curve_`` holds both trainings, one after the other, and what is kept are the (best)
    weights of the second. The inputs that are mixed do not enter the running statistics of
    Dice, by which the network predicts.

    References
    ----------
    Dang et al., "Augmenting Sequential Recommendation with Balanced Relevance and Diversity",
    AAAI 2025, arXiv:2412.08300, sections "Single-sequence" and "Cross-sequence Augmentation"; the
    authors' code is at https://github.com/KingGugu/BASRec.

    Examples
    --------
    >>> from skmars import DINClassifier, make_multimodal_ctr
    >>> from skmars.baselines import BASRec
    >>> X, y = make_multimodal_ctr(n_users=20, n_items=20, random_state=0)
    >>> din = DINClassifier(auxiliary=BASRec(), max_iter=2, random_state=0).fit(X, y)
    >>> din.n_iter_
    4
    """

    weight: float = field(default=1.0, kw_only=False)
    low_rate: float = 0.2
    high_rate: float = 0.51
    concentration: float = 0.3
    reweighting: str = "batch"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "weight": NOT_NEGATIVE,
        "low_rate": [Number(Real, 0, 1, closed="right")],
        "high_rate": [Number(Real, 0, 1, closed="right")],
        "concentration": POSITIVE,
        "reweighting": [StrOptions({"batch", "row"})],
    }

    def objective(
        self, X: Impressions, table_row: NDArray[np.int64], width: int, n_epochs: int = 0
    ) -> MixupLoss:
        """Return what adds the losses to a training; see `AuxiliaryObjective.objective`."""
        self._validate_params()
        if self.low_rate > self.high_rate:
            raise ValueError(
                f"low_rate={self.low_rate} of BASRec must not exceed high_rate={self.high_rate}."
            )
        from skmars.baselines._mixup import MixupLoss

        similar, _ = nearest(item_cf_iuf(user_sequences(X), len(table_row)))
        return MixupLoss(width, ItemChoice(table_row, similar), **self.get_params())
