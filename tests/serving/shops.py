"""A tiny shop with fitted models, and a store in memory, for the tests of serving."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from skmars import DINClassifier, Impressions, ItemCatalog, SequenceRetrievalAugmenter
from skmars.persistence import Model
from skmars.retrieval import DonorPool
from skmars.serving.scoring._parameters import Parameters
from skmars.serving.store._store import EVENT, Events
from skmars.utils._folder import checksum_of

N_ITEMS, N_USERS, N_EVENTS = 12, 12, 90
LAST = 30  # the last moment of the log that models are fitted to
BORROWING = {"n_lookalikes": 3, "theta": -1.0, "low_quantile": 0.7, "high_quantile": 0.8}
USERS = pd.DataFrame({"user_id": range(N_USERS), "country": ["fr", "it", None, "es"] * 3})


class MemoryStore:
    """The part of a store that a scorer needs, kept in dicts."""

    def __init__(self) -> None:
        self.events: dict[Any, np.ndarray] = {}
        self.items: dict[Any, int] = {}
        self.pointers: dict[str, str] = {}
        self.position = 0

    def append(self, events: Events, *, streamed: bool = True) -> int:
        for i, user in enumerate(events.user_ids):
            mine = self.events.get(user, np.zeros(0, dtype=EVENT))
            assert events.ids is not None
            ident = int(events.ids[i])
            if ident in mine["id"]:
                continue
            self.position += 1
            item = self.items.setdefault(events.item_ids[i], len(self.items))
            at, click = events.time[i], events.clicked[i]
            event = (ident, self.position, at, item, click, streamed, 0)
            self.events[user] = np.append(mine, np.array([event], dtype=EVENT))
        return self.position

    def histories(self, user_ids: list[Any]) -> tuple[list[np.ndarray], int]:
        nothing = np.zeros(0, dtype=EVENT)
        return [self.events.get(user, nothing) for user in user_ids], self.position

    def item_ids(self, since: int = 0) -> list[Any]:
        return list(self.items)[since:]

    def pointer(self, name: str) -> str | None:
        return self.pointers.get(name)


@dataclass(frozen=True)
class Setting:
    """What a model takes for a history."""

    history: str = "positive"
    timed: bool = True
    duplicates: str = "keep"

    def read(self, log: pd.DataFrame) -> tuple[Impressions, np.ndarray]:
        """Read a log by the library's own definition."""
        return Impressions.from_log(
            log,
            catalog(),
            time="timestamp" if self.timed else None,
            label="clicked",
            history=self.history,
            context=["hour", "device"],
            users=USERS,
            duplicates=self.duplicates,
        )


@cache
def catalog() -> ItemCatalog:
    rng = np.random.default_rng(0)
    return ItemCatalog(
        range(N_ITEMS),
        content={"title": [f"item {i}" for i in range(N_ITEMS)]},
        attributes={"category": ["a", "b", "c"] * 4},
        features={"text": rng.normal(size=(N_ITEMS, 4))},
    )


@cache
def first_log() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    user = np.sort(rng.choice(N_USERS, N_EVENTS, p=np.arange(1, 13) / 78))
    return pd.DataFrame(
        {
            "user_id": rng.permutation(user),
            "item_id": rng.integers(N_ITEMS, size=N_EVENTS),
            "timestamp": np.sort(rng.integers(LAST, size=N_EVENTS)).astype(float),
            "clicked": rng.integers(2, size=N_EVENTS),
            "hour": rng.normal(size=N_EVENTS),
            "device": rng.choice(["phone", "desk"], N_EVENTS),
        }
    )


@cache
def fitted(setting: Setting, seed: int = 0) -> Model:
    X, y = setting.read(first_log())
    pipeline = Pipeline(
        [
            ("augment", SequenceRetrievalAugmenter(**BORROWING)),
            ("ctr", DINClassifier(max_length=4, max_iter=3, learning_rate=0.03, random_state=seed)),
        ]
    ).fit(X, y)
    return Model.of(pipeline, X)


@cache
def other_pool(setting: Setting) -> DonorPool:
    """Return a pool of other users than those of the fit."""
    log = first_log()
    X, _ = setting.read(log[log.user_id % 2 == 0])
    return DonorPool.build(fitted(setting).pipeline["augment"], X)


def save_params(deployment: Path, name: str, classifier: Any, model: str = ".") -> None:
    """Save a classifier as parameters that belong to a model of a deployment."""
    path = deployment / model / name
    path.parent.mkdir(exist_ok=True)
    checksum = checksum_of(deployment / model)
    assert checksum is not None
    Parameters(classifier, checksum.hex(), 0, np.zeros(0, dtype=np.uint64), "fit").save(path)


def events(log: pd.DataFrame, first: int = 0) -> Events:
    """Return rows of a log as events of a store, with the ids `first`, `first` + 1, ... ."""
    return Events(
        log.user_id.tolist(),
        log.item_id.tolist(),
        log.timestamp.to_numpy(),
        log.clicked.to_numpy().astype(np.uint8),
        [str(first + i) for i in range(len(log))],
    )
