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


def of_groups(n_users: int = 400, seed: int = 0):
    """Impressions of users of two tastes, who have no history; what they borrow tells the taste."""
    from skmars import Impressions, ItemCatalog

    rng = np.random.RandomState(seed)
    taste, item = rng.randint(2, size=(2, n_users))
    n = np.ones(n_users, dtype=np.int32)
    none = Sequences(np.zeros(0, np.int32), 0 * n, 0 * n)
    target = (item + 2 * rng.randint(10, size=n_users)).astype(np.int32)
    y = (rng.uniform(size=n_users) < np.where(taste == item, 0.9, 0.1)).astype(int)
    X = Impressions(
        ItemCatalog(np.arange(20)), np.arange(n_users), np.arange(n_users), target, none
    )
    told = (taste + 2 * rng.randint(10, size=n_users)).astype(np.int32)
    noise = rng.randint(20, size=n_users).astype(np.int32)
    lent = [Sequences(items, np.arange(n_users, dtype=np.int32), n) for items in (told, noise)]
    return X, y, [X.with_borrowed(part) for part in lent]


def test_auto_borrows_where_that_predicts_better() -> None:
    """Chosen by held-out rows; bit for bit what the chosen way gives alone."""
    X, y, (told, noise) = of_groups(1800)
    settings = {"max_iter": 8, "learning_rate": 5e-3, "batch_size": 64, "validation_fraction": 0.3}
    borrows = din(**settings).fit(told, y)
    assert borrows.uses_borrowed_
    same = din(borrowed="separate", **settings).fit(told, y)
    assert np.array_equal(borrows.decision_function(told), same.decision_function(told))
    alone = din(borrowed="separate", **settings).fit(X, y)
    assert max(borrows.validation_scores_) > max(alone.validation_scores_) + 0.2

    found = din(**settings).fit(noise, y)
    as_separate = din(borrowed="separate", **settings).fit(noise, y)
    best = max((as_separate, alone), key=lambda model: max(model.validation_scores_))
    assert found.uses_borrowed_ == best.uses_borrowed_
    assert np.array_equal(found.decision_function(noise), best.decision_function(noise))


def test_auto_that_does_not_borrow_ignores_what_is_borrowed_later() -> None:
    X, y, (_, noise) = of_groups(1200)
    for seed in range(20):
        model = din(max_iter=3, validation_fraction=0.5, random_state=seed).fit(noise, y)
        if not model.uses_borrowed_:
            break
    assert not model.uses_borrowed_
    assert np.array_equal(model.decision_function(noise), model.decision_function(X))


@pytest.mark.parametrize(
    "how", ["no held-out rows", "few held-out rows", "partial_fit", "nothing borrowed"]
)
def test_auto_without_a_choice(how: str) -> None:
    """Nothing to choose by, or nothing to choose: one training, as "separate"."""
    X, y, (told, _) = of_groups()
    rows = X if how == "nothing borrowed" else told
    auto, separate = din(max_iter=2), din(max_iter=2, borrowed="separate")
    if how == "no held-out rows":
        auto.set_params(early_stopping=False)
        separate.set_params(early_stopping=False)
    for model in (auto, separate):
        (model.partial_fit if how == "partial_fit" else model.fit)(rows, y)
    assert auto.uses_borrowed_ == (how != "nothing borrowed")
    assert np.array_equal(auto.decision_function(told), separate.decision_function(told))
