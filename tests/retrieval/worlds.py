"""Small random impressions, full of ties and special cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from skmars import Impressions, ItemCatalog


class HistoryEncoder:
    """A user encoder as an aligner attaches one: a picklable function of the rows' histories."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors
        self.calls: list[int] = []

    def __call__(self, X: Impressions) -> np.ndarray:
        self.calls.append(len(X))
        out = np.zeros((len(X), self.vectors.shape[1]), dtype=np.float32)
        for row in range(len(X)):
            if X.history.length[row]:
                out[row] = self.vectors[X.history.row(row)].sum(axis=0) / X.history.length[row]
        return out


def world(
    seed: int = 0,
    *,
    n_users: int = 12,
    n_items: int = 9,
    n_events: int = 60,
    width: int = 3,
    integers: bool = False,
    timed: bool = True,
    missing_times: bool = False,
    history: str = "all",
    users: str | None = "encoder",
    strings: bool = False,
) -> Impressions:
    """Impressions of a random log.

    `integers` draws embeddings from few values (ties, zero vectors); `users` says where user
    embeddings come from: "encoder", "rows" (an array) or None (the items').
    """
    rng = np.random.default_rng(seed)

    def vectors(n: int) -> np.ndarray:
        if integers:
            return rng.integers(-1, 2, (n, width)).astype(np.float32)
        return rng.normal(size=(n, width)).astype(np.float32) + 0.5

    ids: Any = np.arange(n_items) * 10
    # Few users do much.
    user = np.minimum(rng.geometric(1.5 / n_users, n_events) - 1, n_users - 1)
    item = rng.integers(0, n_items, n_events)
    log = {"user_id": user, "item_id": ids[item], "liked": rng.integers(0, 2, n_events)}
    if timed:
        time = rng.integers(0, n_events // 2 + 1, n_events).astype(float)
        if missing_times:
            time[1:][rng.random(n_events - 1) < 0.2] = np.nan
        log["timestamp"] = time
    frame = pd.DataFrame(log)
    if strings:
        ids = np.array([f"i{i}" for i in ids], dtype=object)
        frame["item_id"] = [f"i{i}" for i in frame["item_id"]]
        frame["user_id"] = [f"u{i}" for i in frame["user_id"]]
    catalog = ItemCatalog(ids, embedding=vectors(n_items))
    order = None
    if missing_times:
        frame["step"], order = np.arange(n_events), "step"
    X, _ = Impressions.from_log(
        frame, catalog, label="liked", history=history, order=order, duplicates="keep"
    )
    if users == "encoder":
        return X.with_user_encoder(HistoryEncoder(vectors(n_items)))
    if users == "rows":
        return X.with_user_embedding(vectors(len(X)))
    return X


def as_tuples(X: Impressions) -> list[list[tuple[Any, ...]]]:
    """What each row borrowed, by ids: (item, donor, s_i, donor similarity, feedback, time)."""
    b = X.borrowed
    assert b is not None
    rows = []
    for r in range(len(X)):
        at = range(b.start[r], b.start[r] + b.length[r])
        rows.append(
            [
                (
                    X.catalog.ids[b.items[k]],
                    b.donors[b.donor[k]],
                    b.similarity[k],
                    b.donor_similarity[k],
                    None if b.feedback is None else b.feedback[k],
                    None if b.time is None else b.time[k],
                )
                for k in at
            ]
        )
    return rows
