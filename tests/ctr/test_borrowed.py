"""What DIN makes of borrowed items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import log_loss

from skmars import Impressions, ItemCatalog
from skmars.data import Sequences

from .impressions import din, lend


@pytest.mark.parametrize("mode", ["separate", "marked", "joint"])
def test_borrowed_items(data, mode: str) -> None:
    X, y = data
    lent = lend(X)
    model = din(borrowed=mode).fit(lent, y)
    with_borrowed, without = model.decision_function(lent), model.decision_function(X)
    changed = with_borrowed != without
    assert np.array_equal(changed, lent.borrowed.length > 0)


def test_joint_makes_no_distinction(data) -> None:
    """Borrowed items are as if they had stood in the history."""
    X, y = data
    X = replace(X, history=replace(X.history, feedback=None))
    lent = lend(X)
    rows = [np.concatenate([lent.borrowed.row(i), lent.history.row(i)]) for i in range(len(lent))]
    length = np.array([len(row) for row in rows], dtype=np.int32)
    start = np.concatenate([[0], np.cumsum(length)[:-1]])
    whole = replace(X, history=Sequences(np.concatenate(rows), start, length))
    joint = din(borrowed="joint", borrowed_dropout=0, activity_feature=False)
    expected = clone(joint).fit(whole, y).decision_function(whole)
    assert np.array_equal(clone(joint).fit(lent, y).decision_function(lent), expected)


@pytest.mark.parametrize("mode", ["separate", "marked"])
def test_borrowed_items_that_fit_never_saw_are_ignored(data, mode: str) -> None:
    X, y = data
    model = din(borrowed=mode).fit(X, y)
    assert np.array_equal(model.decision_function(lend(X)), model.decision_function(X))


def test_own_items_go_before_borrowed_ones(data) -> None:
    X, y = data
    model = din(max_length=3).fit(lend(X), y)
    full = X.history.length >= 3
    lent = lend(X, seed=2)
    same = model.decision_function(lent)[full] == model.decision_function(X)[full]
    assert full.any()
    assert same.all()


def test_rows_that_lose_what_they_borrowed_teach_to_do_without() -> None:
    """Where both say the same, a network that always sees both gives half the credit to each."""
    rng = np.random.default_rng(0)
    n = 2000
    y = rng.integers(0, 2, n)
    told = np.where(rng.random(n) < 0.95, y, 1 - y).astype(np.int64)
    items = np.arange(5, dtype=np.int32)
    one = np.ones(n, dtype=np.int32)
    own = Sequences(items, told, one)
    catalog = ItemCatalog(items)
    X = Impressions(catalog, np.arange(n), np.arange(n, dtype=np.int32), 4 * one, own)
    lent = X.with_borrowed(Sequences(items, 2 + told, one))
    loss = {}
    for share in (0.0, 0.5):
        model = din(borrowed_dropout=share, max_iter=20, early_stopping=False, learning_rate=0.01)
        model.fit(lent, y)
        loss[share] = [log_loss(y, model.predict_proba(rows)) for rows in (X, lent)]
    assert loss[0.5][0] < loss[0.0][0] - 0.1
    assert loss[0.5][1] < loss[0.0][1] + 0.01


@pytest.mark.parametrize("mode", ["separate", "marked", "joint"])
def test_all_rows_of_a_batch_may_lose_what_they_borrowed(data, mode: str) -> None:
    X, y = data
    model = din(borrowed=mode, borrowed_dropout=0.999, batch_size=2).fit(lend(X), y)
    assert np.isfinite(model.decision_function(lend(X))).all()


def test_where_nothing_is_borrowed_nothing_is_drawn(data) -> None:
    X, y = data
    score = [din(borrowed_dropout=share).fit(X, y).decision_function(X) for share in (0, 0.5)]
    assert np.array_equal(*score)
