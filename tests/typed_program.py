# mypy: disallow-subclassing-any, disallow-untyped-calls, warn-return-any, warn-unused-ignores
"""A small program as a user writes it, type-checked by `mypy --strict` in test_typing.py."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

from skmars import (
    DINClassifier,
    Impressions,
    ItemCatalog,
    LeaveLastOut,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
    gauc_score,
    leave_last_out,
    make_multimodal_ctr,
    relative_improvement,
)
from skmars.metrics import PairedTest, delong_test
from skmars.model_selection import gauc_scorer


def labels(log: Any) -> NDArray[np.int64]:
    """Read a log with labels, and without."""
    X, nothing = Impressions.from_log(log)
    assert_type(X, Impressions)
    assert_type(nothing, None)
    _, clicks = Impressions.from_log(log, label="clicked")
    assert_type(clicks, NDArray[np.int64])
    return clicks


def main() -> float:
    """Go the main path by hand, step by step, and return a GAUC."""
    X, y = make_multimodal_ctr(n_users=30, n_items=20, random_state=0)
    assert_type(X, Impressions)
    train, _, _ = leave_last_out(X)
    assert_type(X[train], Impressions)
    assert_type(X.user_ids[train], NDArray[Any])
    assert_type(X.catalog, ItemCatalog)
    assert_type(X.catalog.titles, list[str])

    encoder = MultimodalEncoder().fit(X[train])
    assert_type(encoder, MultimodalEncoder)
    aligner = SteinAligner(8, id_dim=4, max_iter=1, random_state=0)
    aligner = aligner.fit(encoder.transform(X[train]), y[train])
    assert_type(aligner.loss_curve_, list[float])
    prepared = aligner.transform(encoder.transform(X))
    augmenter = SequenceRetrievalAugmenter(theta=-1.0).fit(prepared[train])
    assert_type(augmenter, SequenceRetrievalAugmenter)
    augmented = augmenter.transform(prepared)
    din = DINClassifier(hidden_units=(4,), max_iter=1).fit(augmented[train], y[train])
    assert_type(din, DINClassifier)
    p = din.predict_proba(augmented)[:, 1]
    base = DINClassifier(hidden_units=(4,), max_iter=1).fit(X[train], y[train])
    assert_type(base.decision_function(X), NDArray[np.float64])

    assert_type(delong_test(y, p, base.decision_function(X)), PairedTest)
    assert_type(gauc_scorer(base, X, y), float)
    assert_type(relative_improvement(0.8, 0.7), float)
    assert_type(LeaveLastOut().get_n_splits(X), int)
    return gauc_score(y, p, X.user_ids)
