"""A log, a model that knows its beginning, and a store that gets more of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

import skmars
from skmars import (
    DINClassifier,
    Impressions,
    ItemCatalog,
    SequenceRetrievalAugmenter,
    make_multimodal_ctr,
)
from skmars.persistence import Model
from skmars.serving import Events

# Events of the log that the model knows.
N_KNOWN = 1200


def make_log() -> Any:
    """Return a log with context, as pandas has it, in the order of its times."""
    import pandas as pd

    X, y = make_multimodal_ctr(n_users=120, n_items=60, random_state=0)
    order = np.argsort(X.time, kind="stable")
    columns = {"who": X.user_ids, "what": X.item_ids, "when": X.time, "clicked": y.astype(int)}
    log = pd.DataFrame(columns).iloc[order].reset_index(drop=True)
    hour = log["when"] // 3600 % 24
    return log.assign(hour=hour, device=np.where(hour < 12, "tv", "phone"))


def unfitted() -> Pipeline:
    augmenter = SequenceRetrievalAugmenter(theta=-1.0)
    classifier = DINClassifier(max_iter=1, early_stopping=False, random_state=0)
    return Pipeline([("augment", augmenter), ("ctr", classifier)])


def known(log: Any) -> tuple[Impressions, np.ndarray]:
    """Return the rows of the beginning of a log, whose items have vectors."""
    items = np.unique(log["what"])
    vectors = np.random.default_rng(0).normal(size=(len(items), 4)).astype(np.float32)
    X, y = Impressions.from_log(
        log[:N_KNOWN],
        ItemCatalog(items, features={"text": vectors}),
        user="who",
        item="what",
        time="when",
        label="clicked",
        context=["hour", "device"],
        duplicates="keep",
    )
    assert y is not None
    return X, y


def save_model(log: Any, path: Path) -> None:
    X, y = known(log)
    skmars.save(Model.of(unfitted().fit(X, y), X), path)


def append(store: Any, log: Any) -> None:
    users, items = log["who"].tolist(), log["what"].tolist()
    clicked = log["clicked"].to_numpy(np.uint8)
    store.append(Events(users, items, log["when"].to_numpy(), clicked))
