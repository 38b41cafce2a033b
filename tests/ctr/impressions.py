"""Small impressions, and a small DIN for them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skmars import DINClassifier, Impressions
from skmars.data import Sequences

N_USERS, N_ITEMS = 40, 12
SMALL = {
    "embedding_dim": 4,
    "attention_units": (8,),
    "hidden_units": (8,),
    "max_iter": 3,
    "batch_size": 512,
}


def din(**parameters: object) -> DINClassifier:
    return DINClassifier(**{**SMALL, "random_state": 0, **parameters})


def make_log(seed: int = 0) -> pd.DataFrame:
    """Users like the items of their own parity."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(N_USERS), rng.integers(1, 9, N_USERS))
    item = rng.integers(0, N_ITEMS, len(user))
    return pd.DataFrame(
        {
            "user_id": user,
            "item_id": item + 100,
            "liked": (item + user) % 2,
            "hour": rng.normal(size=len(user)),
            "device": rng.choice(["phone", "tv"], len(user)),
            "member": rng.random(len(user)) < 0.5,
        }
    )


def make_data(history: str = "all", context: tuple = ("hour", "device", "member"), seed: int = 0):
    return Impressions.from_log(
        make_log(seed), label="liked", history=history, context=list(context)
    )


def lend(X: Impressions, seed: int = 1) -> Impressions:
    """Borrowed items for every other row."""
    rng = np.random.default_rng(seed)
    length = np.where(np.arange(len(X)) % 2, rng.integers(1, 4, len(X)), 0).astype(np.int32)
    start = rng.integers(0, 5, len(X))
    items = rng.integers(0, len(X.catalog), 8).astype(np.int32)
    return X.with_borrowed(Sequences(items, start, length))
