"""A small shop behind the service, with a store that can be made slow, dead or full."""

from __future__ import annotations

import threading
import time
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from skmars import DINClassifier, Impressions, ItemCatalog, make_mars
from skmars.persistence import Model
from skmars.serving.scoring._snapshot import Snapshot

N_USERS, N_ITEMS, NOW = 40, 20, 1.7e9


@cache
def model(kind: str = "mars") -> Model:
    """A fitted model of integer ids with times ("mars"), or of strings without ("din")."""
    rng = np.random.default_rng(0)
    n = 500
    log = pd.DataFrame(
        {
            "user_id": rng.integers(N_USERS, size=n),
            "item_id": rng.integers(N_ITEMS, size=n),
            "timestamp": NOW - 1e6 + np.sort(rng.random(n)) * 1e6,
            "clicked": rng.integers(2, size=n),
        }
    )
    if kind == "din":
        log = log.drop(columns="timestamp").astype({"user_id": str, "item_id": str})
        log["device"] = rng.choice(["phone", "desk"], n)
        log["price"] = rng.random(n)
        X, y = Impressions.from_log(log, label="clicked", context=["device", "price"])
        din = DINClassifier(max_iter=1, hidden_units=(8,), random_state=0)
        from sklearn.pipeline import Pipeline

        pipeline = Pipeline([("ctr", din)]).fit(X, y)
    else:
        items = pd.DataFrame({"item_id": range(N_ITEMS)})
        items["title"] = [f"thing {i}" for i in range(N_ITEMS)]
        items["text"] = [f"colour{i % 3} shape{i % 5}" for i in range(N_ITEMS)]
        catalog = ItemCatalog.from_frame(items, title="title", text="text")
        X, y = Impressions.from_log(log, catalog, label="clicked")
        pipeline = make_mars(
            random_state=0,
            align__max_iter=1,
            align__n_components=8,
            align__id_dim=4,
            augment__theta=-1.0,
            ctr__max_iter=1,
            ctr__hidden_units=(8,),
        ).fit(X, y)
    return Model.of(pipeline, X)


class FaultyStore:
    """A store whose reading and writing can be made to wait, or to fail."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.may_read, self.may_write = threading.Event(), threading.Event()
        self.may_read.set()
        self.may_write.set()
        self.read_error: Exception | None = None
        self.write_error: Exception | None = None

    def histories(self, user_ids: Any) -> Any:
        self.may_read.wait(20)
        if self.read_error is not None:
            raise self.read_error
        return self.store.histories(user_ids)

    def append_counted(self, events: Any) -> Any:
        self.may_write.wait(20)
        if self.write_error is not None:
            raise self.write_error
        return self.store.append_counted(events)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class Loads:
    """Loads snapshots of one model, of any version; those that are told to be bad fail."""

    def __init__(self, kind: str = "mars") -> None:
        self.kind, self.bad, self.loaded = kind, set(), []

    def __call__(self, wanted: Any, current: Any) -> Snapshot:
        self.loaded.append(wanted.pool)
        if wanted.pool in self.bad:
            raise OSError(f"{wanted.pool} is not there")
        return Snapshot.of(
            model(self.kind), versions={"params": wanted.params, "pool": wanted.pool}
        )


def wait_until(condition: Any, seconds: float = 20.0) -> None:
    """Wait until something holds; fail if it never does."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came to hold"
        time.sleep(0.005)
