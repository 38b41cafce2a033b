"""What DIN makes of borrowed items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone

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
    joint = din(borrowed="joint", activity_feature=False, early_stopping=False)
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
