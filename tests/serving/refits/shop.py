"""A small shop whose model borrows, and a store of its events."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

import skmars
from skmars import (
    DINClassifier,
    Impressions,
    ItemCatalog,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
)
from skmars.model_selection import sample_negatives
from skmars.persistence import Model
from skmars.serving import Events

N_ITEMS = 8
USERS = pd.DataFrame({"user_id": range(20), "country": ["fr", "it", None, "es"] * 5})


def log(n: int, seed: int = 0, begin: float = 0.0, n_users: int = 20) -> pd.DataFrame:
    """Return events, of which some are of items that the catalogue lacks if there are many."""
    rng = np.random.default_rng(seed)
    item = rng.integers(0, N_ITEMS + 2, n)
    return pd.DataFrame(
        {
            "user_id": rng.integers(0, n_users, n),
            "item_id": item,
            "timestamp": begin + np.sort(rng.random(n)) * 100,
            "clicked": (rng.random(n) < np.where(item % 2, 0.8, 0.2)).astype(int),
        }
    )


def catalog(n_items: int = N_ITEMS, word: str = "thing") -> ItemCatalog:
    """Return items with texts and a category."""
    texts = [f"{word}{i % 3} colour{i % 2}" for i in range(n_items)]
    kinds = {"category": [f"c{i % 3}" for i in range(n_items)], "price": np.arange(n_items) + 0.5}
    return ItemCatalog(range(n_items), content={"text": texts}, attributes=kinds)


def read(events: pd.DataFrame, items: ItemCatalog, **options: Any) -> tuple[Impressions, Any]:
    return Impressions.from_log(events, items, label="clicked", users=USERS, **options)


def pipeline(borrows: bool = True) -> Pipeline:
    din = DINClassifier(max_iter=2, hidden_units=(8,), early_stopping=False, random_state=0)
    if not borrows:
        return Pipeline([("ctr", din)])
    align = SteinAligner(
        n_components=4, id_dim=4, max_iter=1, n_factors=2, early_stopping=False, random_state=0
    )
    augment = SequenceRetrievalAugmenter(theta=-1.0, low_quantile=0.4, n_lookalikes=2)
    steps = [("encode", MultimodalEncoder()), ("align", align), ("augment", augment)]
    return Pipeline([*steps, ("ctr", din)])


@cache
def model(borrows: bool = True, negatives: int = 0, context: bool = False) -> Model:
    first = log(300)
    if context:
        first["hour"] = np.arange(300.0) % 24
    X, y = read(first, catalog(40 if negatives else N_ITEMS), context=["hour"] if context else [])
    rows, clicked = X, y
    if negatives:
        rows, clicked = sample_negatives(X[y == 1], n_negatives=negatives, random_state=0)
    return Model.of(pipeline(borrows).fit(rows, clicked), X, negatives=negatives)


def deployment(folder: Path, **options: Any) -> Path:
    skmars.save(model(**options), folder / "shop")
    return folder / "shop"


def fill(store: Any, events: pd.DataFrame, streamed: bool = False, payload: Any = None) -> int:
    return store.append(
        Events(
            events["user_id"].tolist(),
            events["item_id"].tolist(),
            events["timestamp"].to_numpy(np.float64),
            events["clicked"].to_numpy(np.uint8),
            payload=payload,
        ),
        streamed=streamed,
    )
