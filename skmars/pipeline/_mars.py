"""MARS as one pipeline: the default, and as printed in the paper."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from skmars.alignment import SteinAligner
from skmars.ctr import DINClassifier
from skmars.encoding import MultimodalEncoder
from skmars.rates import ClickRateClassifier
from skmars.retrieval import SequenceRetrievalAugmenter

# The parameters of the pipeline as printed in the paper, where they differ from the defaults; why
# each is what it is stands on the page "MARS as printed" of the user guide.
AS_PRINTED: dict[str, Any] = {
    "align__n_heads": 1,
    "align__entropy": "paper",
    "align__normalize": False,
    "align__click_score": "network",
    "align__residual": False,
    "align__causal": False,
    "align__modalities": ("text", "image"),
    "align__n_factors": 0,
    "align__batch_size": 512,
    "align__dropout": 0.0,
    "augment__item_representation": "embedding",
    "augment__user_representation": "embedding",
    "augment__relevance": "user",
    "augment__center": False,
    "augment__activity": "user",
    "augment__n_lookalikes": 0,
    "ctr__attention_normalization": None,
    "ctr__borrowed": "joint",
    "ctr__item_features": None,
    "ctr__activity_feature": False,
    "ctr__embedding_l2": 0.0,
    "ctr__batch_size": 512,
}
VARIANTS: dict[str, dict[str, Any]] = {"default": {}, "paper": AS_PRINTED}


def make_mars(
    variant: str = "default",
    *,
    rates: bool = False,
    random_state: int | np.random.RandomState | None = None,
    **params: Any,
) -> Pipeline:
    """Make the MARS pipeline: encode, align, augment, ctr.

    Parameters
    ----------
    variant : {"default", "paper"}, default="default"
        The recommended pipeline, or MARS as printed in [1]_.
    rates : bool, default=False
        Whether there is one more step before the last, "rates"
        (:class:`~skmars.rates.ClickRateClassifier`): a regression on click rates of user, item and
        category, whose logit joins that of DIN, unless 500 or more held-out rows are predicted
        better without.
    random_state : int, RandomState instance or None, default=None
        Of all steps that have one.
    **params
        Parameters of the pipeline, as `set_params` takes them: ``align__lam=0.01``,
        ``augment__theta=0.3``, ``ctr=LogisticRegression()`` to replace a whole step,
        ``memory=PATH`` to keep fitted steps.

    Returns
    -------
    sklearn.pipeline.Pipeline
        Not fitted. Its steps are "encode" (:class:`~skmars.encoding.MultimodalEncoder`), "align"
        (:class:`~skmars.alignment.SteinAligner`), "augment"
        (:class:`~skmars.retrieval.SequenceRetrievalAugmenter`) and "ctr"
        (:class:`~skmars.ctr.DINClassifier`).

    Raises
    ------
    ValueError
        If there is no such variant or parameter.

    References
    ----------
    .. [1] "Modality-Aligned Retrieval for Sequence Augmented CTR Prediction", arXiv:2509.01184.

    Examples
    --------
    >>> from skmars import make_mars, make_multimodal_ctr
    >>> X, y = make_multimodal_ctr(n_users=60, n_items=40, random_state=0)
    >>> mars = make_mars(random_state=0, align__max_iter=1, ctr__max_iter=1)
    >>> mars.fit(X, y).predict_proba(X[:3]).shape
    (3, 2)
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}.")
    steps: list[tuple[str, Any]] = [
        ("encode", MultimodalEncoder(random_state=random_state)),
        ("align", SteinAligner(random_state=random_state)),
        ("augment", SequenceRetrievalAugmenter()),
        ("ctr", DINClassifier(random_state=random_state)),
    ]
    if rates:
        steps.insert(3, ("rates", ClickRateClassifier()))
    mars = Pipeline(steps)
    mars.set_params(**VARIANTS[variant])
    known = mars.get_params()
    for name in params:
        meant = [of_step for of_step in known if of_step.split("__", 1)[1:] == [name]]
        if name not in known and meant:
            raise ValueError(
                f"make_mars has no parameter {name!r}; parameters are named by step: "
                f"{' or '.join(meant)}."
            )
    return mars.set_params(**params)
