"""Training on rows that are files gives what training on the same rows in memory gives."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skmars import (
    DINClassifier,
    Impressions,
    ItemCatalog,
    LeaveLastOut,
    SequenceRetrievalAugmenter,
    SteinAligner,
)
from skmars.ctr import _training_run, _vocabulary
from skmars.data import _holdout, _log_on_disk, _parquet
from skmars.utils import _on_disk, _shuffling

pytest.importorskip("pyarrow")
N_ROWS = 700


@pytest.fixture(autouse=True, scope="module")
def small_parts():
    """Blocks of a few rows; in memory, too, so that sums are of the same parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_log_on_disk, "BUCKET_ROWS", 200)
        patch.setattr(_parquet, "BATCH", 100)
        patch.setattr(_on_disk, "BLOCK", 128)
        for module in (_on_disk, _holdout, _vocabulary):
            patch.setattr(module, "MANY", 300)
        yield


@pytest.fixture(scope="module")
def rows(small_parts, tmp_path_factory) -> dict[str, tuple[Impressions, Any]]:
    """The same rows in memory and on disk."""
    rng = np.random.RandomState(0)
    log = pl.DataFrame(
        {
            "user_id": rng.randint(0, 30, N_ROWS),
            "item_id": rng.randint(0, 20, N_ROWS),
            "timestamp": rng.randint(0, 200, N_ROWS),
            "clicked": rng.randint(0, 2, N_ROWS),
            "price": rng.rand(N_ROWS),
            "device": rng.choice(["phone", "desk", "tv"], N_ROWS),
        }
    )
    people = pl.DataFrame(
        {"user_id": np.arange(25), "age": rng.rand(25), "land": ["x", "y"] * 12 + ["z"]}
    )
    features = {"text": rng.normal(size=(20, 4)), "image": rng.normal(size=(20, 3))}
    catalog = ItemCatalog(np.arange(20), features=features)
    how: dict[str, Any] = {"label": "clicked", "context": ["price", "device"], "history": "all"}
    how |= {"users": people, "duplicates": "keep"}
    path: Path = tmp_path_factory.mktemp("log") / "log.parquet"
    log.write_parquet(path)
    return {
        "memory": Impressions.from_log(log, catalog, **how),
        "disk": Impressions.from_parquet(path, catalog, **how),
    }


def learnt(model: Any) -> list[Any]:
    """All that a fit has learnt, to the bit."""
    arrays = model._network.state_dict().values()
    curves = [model.loss_curve_, model.validation_scores_]
    return [*(array.numpy().tobytes() for array in arrays), *curves]


def in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rows on disk come in the order in which they come in memory."""
    order = _shuffling.shuffled
    monkeypatch.setattr(
        _training_run, "shuffled", lambda n, random_state, disk: order(n, random_state, None)
    )


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"max_length": 3, "class_weight": "balanced"},
        {"early_stopping": False, "linear_context": ["price"]},
        {"holdout": "users", "validation_fraction": 0.3},
    ],
)
def test_din_learns_the_same(rows, parameters, monkeypatch) -> None:
    in_one_order(monkeypatch)
    found = []
    for X, y in rows.values():
        model = DINClassifier(max_iter=2, random_state=0, **parameters).fit(X, y)
        first, predicted = learnt(model), model.predict_proba(X)
        model.partial_fit(X, y)
        found.append((first, predicted.tobytes(), learnt(model)))
    assert found[0] == found[1]


def test_weights_and_rows_to_validate_on(rows, monkeypatch) -> None:
    in_one_order(monkeypatch)
    found = []
    weight = np.random.RandomState(1).randint(0, 3, N_ROWS)
    train, valid = next(LeaveLastOut().split(*rows["memory"]))
    for X, y in rows.values():
        model = DINClassifier(max_iter=2, random_state=0)
        model.fit(X[train], y[train], weight[train], X_val=X[valid], y_val=y[valid])
        found.append(learnt(model))
    assert found[0] == found[1]


def test_the_whole_pipeline_learns_the_same(rows, monkeypatch) -> None:
    in_one_order(monkeypatch)
    found = []
    for X, y in rows.values():
        aligner = SteinAligner(
            8, id_dim=8, max_iter=2, random_state=0, early_stopping=True, n_factors=4
        )
        aligned = aligner.fit_transform(X, y)
        augmented = SequenceRetrievalAugmenter().fit_transform(aligned, y)
        model = DINClassifier(max_iter=1, random_state=0).fit(augmented, y)
        found.append((aligner.loss_curve_, aligner.validation_scores_, learnt(model)))
    assert found[0] == found[1]


def test_few_rows_come_in_the_order_of_memory(rows) -> None:
    some = np.arange(0, N_ROWS, 4)
    found = [
        learnt(DINClassifier(max_iter=2, random_state=0).fit(X[some], y[some]))
        for X, y in rows.values()
    ]
    assert found[0] == found[1]


def test_many_rows_come_in_stretches_and_are_repeatable(rows, monkeypatch) -> None:
    monkeypatch.setattr(_shuffling, "MANY", 300)
    monkeypatch.setattr(_shuffling, "STRETCH", 32)
    X, y = rows["disk"]
    again = pickle.loads(pickle.dumps(X))  # as in another process
    fits = [DINClassifier(max_iter=2, random_state=0).fit(each, y) for each in (X, again)]
    assert learnt(fits[0]) == learnt(fits[1])
    assert learnt(fits[0]) != learnt(DINClassifier(max_iter=2, random_state=0).fit(*rows["memory"]))


@given(st.integers(1, 500), st.integers(1, 60), st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_every_row_comes_once(n, n_together, stretch, n_batches, on_disk) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_shuffling, "MANY", n_together)
        patch.setattr(_shuffling, "STRETCH", stretch)
        disk = _on_disk.Disk("") if on_disk else None
        parts = list(_shuffling.shuffled(n, np.random.RandomState(0), disk))
        batches = list(_shuffling.equal_batches(iter(parts), n, n_batches))
    order = np.concatenate(parts)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    expected = np.array_split(order, n_batches)
    assert [b.tolist() for b in batches] == [b.tolist() for b in expected]
    if on_disk and n > n_together:
        for part in parts:  # a few stretches
            assert len(np.unique(part // stretch)) <= max(n_together // stretch, 1)


def test_arrays_of_all_rows_are_files(rows) -> None:
    X, _ = rows["disk"]
    model = DINClassifier(max_iter=1, max_length=2, random_state=0).fit(*rows["disk"])
    encoded = model._encoder.encode(X)
    for array in (encoded.dense, encoded.categorical, encoded.history.start):
        assert not array.flags.writeable
    batch = encoded.batch(slice(0, 5))
    assert batch.dense.dtype == np.float32
    assert torch.isfinite(torch.from_numpy(model.predict_proba(X))).all()
