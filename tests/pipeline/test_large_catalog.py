"""Work in batches, and calls, cost what their rows hold, not what the catalogue has."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from skmars import (
    DINClassifier,
    Impressions,
    ItemCatalog,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
)
from skmars.data import Sequences
from skmars.pipeline import recommend

N_USERS, N_USED = 60, 300
SMALL, LARGE = 1000, 1_000_000


def world(n_items: int) -> tuple[Impressions, np.ndarray]:
    """Return rows of the same items, whatever else the catalogue has; half of these have text."""
    rng = np.random.default_rng(0)
    length = rng.integers(2, 30, N_USERS)
    user = np.repeat(np.arange(N_USERS), length)
    begin = np.cumsum(length) - length
    codes = rng.integers(N_USED, size=len(user)).astype(np.int32)
    history = Sequences(codes, begin[user], (np.arange(len(user)) - begin[user]).astype(np.int32))
    missing = np.arange(n_items) % 2 == 1
    missing[N_USED:] = True
    catalog = ItemCatalog(
        np.arange(n_items) * 3,
        attributes={"price": np.arange(n_items) % 7.0},
        features={"text": rng.random((n_items, 3), dtype=np.float32)},
        missing={"text": missing},
    )
    ids = np.arange(N_USERS)
    return Impressions(catalog, ids, user, codes, history), rng.integers(0, 2, len(user))


def calls(n_items: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield what is called again and again."""
    X, y = world(n_items)
    n = len(X) // 2
    din = DINClassifier(max_iter=1, early_stopping=False, random_state=0, device="cpu")
    din.fit(X[:n], y[:n])
    rows = din._encoder.encode(X)
    yield "a batch", lambda: rows.batch(np.arange(100, 200))
    yield "predict_proba", lambda: din.predict_proba(X[50:150])
    yield "partial_fit", lambda: din.partial_fit(X[:64], y[:64])
    # Of every call some items are new.
    new = X.with_catalog(X.catalog.extend([-1, -2, -3, -4, -5]))
    chunks = iter([new[i : i + 64] for i in range(n, n + 40, 8)])
    yield "partial_fit with new items", lambda: din.partial_fit(next(chunks), y[n : n + 64])

    encoder = MultimodalEncoder(encoders={"text": "precomputed"}).fit(X)
    yield "encoder", lambda: encoder.transform(X[:50])
    X = encoder.transform(X)
    aligner = SteinAligner(4, id_dim=4, n_factors=2, max_iter=1, random_state=0, device="cpu")
    aligned = aligner.fit_transform(X, y)
    yield "aligner", lambda: aligner.transform(X[:50]).user_embedding
    augmenter = SequenceRetrievalAugmenter(low_quantile=0.5, high_quantile=0.5).fit(aligned)
    ready = aligner.transform(X)[:50]
    yield "augmenter", lambda: augmenter.transform(ready)
    yield "recommend", lambda: recommend(din, X[:2], candidates=X.catalog.ids[:20])


def allocated(call: Callable[[], Any]) -> int:
    """Return how many bytes a call holds at a time, beyond what was there before."""
    for _ in range(3):
        call()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.filterwarnings("ignore")  # small data has few donors
def test_no_array_of_the_size_of_the_catalogue() -> None:
    """Even one of booleans would hold a million bytes."""
    small, large = ({name: allocated(call) for name, call in calls(n)} for n in (SMALL, LARGE))
    assert len(small) == 8
    grown = {name for name in small if large[name] > 1.5 * small[name] + 20_000}
    assert not grown
