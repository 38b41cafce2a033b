"""Pictures are drawn without a screen, and closed after each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sklearn.base import clone

from skmars import SequenceRetrievalAugmenter, SteinAligner, make_multimodal_ctr


@pytest.fixture(autouse=True)
def plt() -> Iterator[Any]:
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


@pytest.fixture(scope="session")
def planted() -> Any:
    """Aligned impressions, clicks, the truth, and the aligner and augmenter fitted to them."""
    from skmars import MultimodalEncoder

    X, y, truth = make_multimodal_ctr(n_users=80, n_items=40, random_state=0, return_truth=True)
    X = MultimodalEncoder().fit_transform(X)
    aligner = SteinAligner(16, id_dim=8, max_iter=3, random_state=0).fit(X, y)
    X = aligner.transform(X)
    augmenter = SequenceRetrievalAugmenter(low_quantile=0.5, theta=-1).fit(X)
    return X, y, truth, aligner, augmenter


@pytest.fixture(scope="session")
def out_of_fold(planted: Any) -> Any:
    """The same impressions, the user embedding of each made without the users of its fold."""
    X, y, _, aligner, _ = planted
    return clone(aligner).fit_transform(X, y)
