"""A shop whose stream is learnt, and the same learnt in one process, by the library alone."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache
from math import floor
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
    SequenceRetrievalAugmenter,
    sample_negatives,
)
from skmars.persistence import Model
from skmars.serving import Events, Step, Trainer
from skmars.serving.scoring._parameters import Parameters
from skmars.serving.store._payload import encode

MEMORY = Path("/dev/shm")
N_USERS, N_ITEMS, NOW = 15, 10, 1.7e9
SYNC = 100.0  # seconds of a period
OPTIONS: dict[str, Any] = {"batch": 8, "sync_every": SYNC, "validate_on": 6, "worse_by": 10.0}


def log_of(n: int, seed: int, begin: float) -> pd.DataFrame:
    """Return events whose labels depend on user and item."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(N_USERS, size=n), rng.integers(N_ITEMS, size=n)
    return pd.DataFrame(
        {
            "user_id": user,
            "item_id": item,
            "timestamp": begin + np.sort(rng.random(n)) * 1e5,
            "clicked": ((user + item) % 3 == 0) ^ (rng.random(n) < 0.1),
            "price": rng.random(n),
        }
    ).astype({"clicked": int})


@cache
def catalog() -> ItemCatalog:
    features = np.random.default_rng(0).normal(size=(N_ITEMS, 3))
    return ItemCatalog(range(N_ITEMS), features={"text": features})


def new_folder() -> Path:
    """Return an empty folder that needs no syncing, where there is one; removed at the end."""
    folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def base_log(kind: str = "mars") -> pd.DataFrame:
    """Return the log that the models are fitted to."""
    log = log_of(300, 0, NOW - 2e5)
    return log[log.clicked == 1][:30] if kind == "clicks" else log


@cache
def saved(kind: str = "mars") -> Path:
    """Return the folder of a fitted model.

    "mars" borrows, "din" has no times, "clicks" was fitted to drawn negatives; "unseeded" has no
    random state, "state" a generator, and "fast" learns much of each row.
    """
    options: dict[str, Any] = {"label": "clicked", "context": ["price"], "time": "timestamp"}
    if kind == "clicks":
        options = {"time": "timestamp"}
    if kind == "din":
        options["time"] = None
    X, y = Impressions.from_log(base_log(kind), catalog(), duplicates="keep", **options)
    rows, labels, negatives = X, y, 0
    if kind == "clicks":
        negatives = 2
        rows, labels = sample_negatives(X, n_negatives=2, exclude="before", random_state=0)
    seed = {"unseeded": None, "state": np.random.RandomState(3)}.get(kind, 0)
    din = DINClassifier(hidden_units=(8,), attention_units=(4,), max_iter=2, random_state=seed)
    if kind == "fast":
        din.set_params(learning_rate=0.05)
    steps: list[tuple[str, Any]] = [("ctr", din)]
    if kind != "din":
        steps.insert(0, ("augment", SequenceRetrievalAugmenter(theta=-1.0, n_lookalikes=2)))
    folder = new_folder() / "model"
    pipeline = Pipeline(steps).fit(rows, labels)
    skmars.save(Model.of(pipeline, X, negatives=negatives), folder)
    return folder


def fresh(kind: str = "mars") -> Path:
    """Return a copy of a deployment."""
    return Path(shutil.copytree(saved(kind), new_folder() / "deployment"))


def events_of(log: pd.DataFrame, first: int = 0, timed: bool = True) -> Events:
    """Return rows of a log as events, with the ids `first`, `first` + 1, ... ."""
    return Events(
        log.user_id.tolist(),
        log.item_id.tolist(),
        log.timestamp.to_numpy() if timed else np.full(len(log), np.nan),
        log.clicked.to_numpy().astype(np.uint8),
        [str(first + i) for i in range(len(log))],
        [encode({"price": price}) for price in log.price],
    )


class Arriving:
    """A store whose stream says that its first events arrived at certain seconds."""

    def __init__(self, store: Any, arrivals: Sequence[float]) -> None:
        self._store, self.arrivals, self._first = store, arrivals, store.position + 1

    def stream(self, since: int, limit: int) -> list[Any]:
        return [
            replace(event, arrival=NOW + self.arrivals[event.position - self._first])
            for event in self._store.stream(since, limit)
        ]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def opened(store: Any, arrivals: Sequence[float], kind: str = "mars") -> Arriving:
    """Load the log of the fit into a store."""
    events = replace(events_of(base_log(kind), 10**6, kind != "din"), payload=None)
    store.append(events, streamed=False)
    return Arriving(store, arrivals)


def run(folder: Path, store: Any, **options: Any) -> list[Step]:
    return list(Trainer(folder, store, **OPTIONS | options).steps(until_idle=True))


def checkpoint(folder: Path) -> Parameters:
    return Parameters.load(folder / "params" / "checkpoint")


def flat(value: Any, seen: set[int] | None = None) -> list[Any]:
    """Return all numbers of an object in a fixed order: parameters, moments, and the like."""
    import torch

    if isinstance(value, torch.Tensor):
        return [value.detach().numpy().tobytes()]
    if isinstance(value, np.ndarray):
        return value.tolist() if value.dtype == object else [value.tobytes()]
    if isinstance(value, np.random.RandomState):
        return flat(value.get_state())
    if isinstance(value, dict):
        return [each for key in sorted(value, key=str) for each in [str(key), *flat(value[key])]]
    if isinstance(value, list | tuple):
        return [each for part in value for each in flat(part)]
    if isinstance(value, torch.nn.Module):
        return flat(dict(value.state_dict()))
    return [value] if value is None or isinstance(value, str | int | float | bool) else []


def content(state: Parameters) -> list[Any]:
    """Return all that a checkpoint has learnt."""
    din = vars(state.classifier)
    names = ("_network", "loss_curve_", "n_iter_", "random_state")
    moments = din["_optimizer_state"]
    moments = getattr(moments, "__dict__", moments)
    told = (state.model, state.position, state.pool, state.n_events, state.n_skipped, state.began)
    learnt = [state.classifier.item_ids_, *(din[name] for name in names)]
    return flat([learnt, moments, list(told), state.learnt])


def assert_same(found: Parameters, expected: Parameters) -> None:
    assert content(found) == content(expected)


def batches_of(arrivals: Sequence[float], end: int, size: int = OPTIONS["batch"]) -> list[slice]:
    """Cut events into batches: the plain rule, for clocks that never go back."""
    cuts, begin = [], 0
    for i in range(1, end + 1):
        period = [floor((NOW + arrivals[j]) / SYNC) for j in (begin, min(i, end - 1))]
        if i == end or i - begin == size or period[0] != period[1]:
            cuts.append(slice(begin, i))
            begin = i
    return cuts


def learnt_by_the_library(
    log: pd.DataFrame,
    batches: Sequence[slice],
    kind: str = "mars",
    seed: Callable[[int], int | None] = lambda position: None,
) -> Any:
    """Return the classifier after `partial_fit` on rows that `from_log` makes of the whole log."""
    model = skmars.load(saved(kind))
    clicks = kind == "clicks"
    base = base_log(kind)
    n_base, log = len(base), pd.concat([base, log])
    X, y = Impressions.from_log(
        log.drop(columns=["price", "clicked"]) if clicks else log,
        model.histories.catalog,
        label=None if clicks else "clicked",
        context=[] if clicks else ["price"],
        time=None if kind == "din" else "timestamp",
        duplicates="keep",
    )
    *steps, (_, classifier) = model.pipeline.steps
    classifier = deepcopy(classifier)
    for part in batches:
        mine = n_base + np.arange(len(log) - n_base)[part]
        rows, labels = X[mine], None if y is None else y[mine]
        if kind == "clicks":
            rows, labels = sample_negatives(
                rows, n_negatives=2, exclude="before", random_state=int(mine[-1]) + 1
            )
        for _, step in steps:
            rows = step.transform(rows)
        with_seed = seed(int(mine[-1]) + 1)
        before = classifier.random_state
        if with_seed is not None:
            classifier.random_state = with_seed
        classifier.partial_fit(rows, labels)
        classifier.random_state = before
    return classifier


def as_state(classifier: Any, like: Parameters) -> Parameters:
    return replace(like, classifier=classifier)


def status(store: Any) -> dict[str, Any]:
    return json.loads(store.pointer("trainer/status"))
