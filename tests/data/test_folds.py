"""Folds of users: stable, and no more than a hash of the id."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from skmars import Impressions, ItemCatalog
from skmars.data import Sequences
from skmars.data._folds import EVERYBODY, OWN, mark_own, user_folds


def impressions(n: int = 6) -> Impressions:
    catalog = ItemCatalog(np.arange(4), features={"text": np.eye(4)})
    zeros = np.zeros(n, dtype=np.int32)
    return Impressions(catalog, np.array([7]), zeros, zeros, Sequences.empty(n))


def test_folds_are_about_equal_and_depend_on_the_id_alone() -> None:
    users = np.arange(5000)
    folds = user_folds(users, 5)
    assert np.bincount(folds).min() > 900
    order = np.random.default_rng(0).permutation(len(users))
    np.testing.assert_array_equal(user_folds(users[order], 5), folds[order])


def test_folds_are_the_same_in_another_process() -> None:
    users = np.array(["ann", "bob", "cid", "Zoë"], dtype=object)
    script = (
        "import numpy as np; from skmars.data._folds import user_folds\n"
        "print(user_folds(np.array(['ann', 'bob', 'cid', 'Zo\\u00eb'], dtype=object), 5).tolist())"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(user_folds(users, 5).tolist())


def test_rows_and_catalogues_keep_their_folds() -> None:
    X = impressions()
    fold = np.array([0, 1, EVERYBODY, OWN, 1, 0], dtype=np.int8)
    seen = [X.catalog.with_features({"text": (k + 2) * np.eye(4)}) for k in range(2)]
    X = X.with_catalog(X.catalog.with_folds(seen)).with_fold(fold)
    assert X[[4, 0]].fold.tolist() == [1, 0]
    assert X.catalog.in_fold(1).features["text"][0, 0] == 3
    assert X.catalog.in_fold(EVERYBODY) is X.catalog
    longer = X.catalog.extend([9])
    assert [len(each) for each in longer.folds] == [5, 5]
    more = X.catalog.with_features({"image": np.eye(4)})
    assert all("image" in each.features for each in more.folds)
    with pytest.raises(ValueError, match="fold has 2 rows, but user has 6"):
        X.with_fold(fold[:2])


def test_rows_that_know_their_own_answer_are_marked() -> None:
    X = impressions()
    own = np.array([True, False, False, True, False, False])
    assert mark_own(X, own).fold.tolist() == [OWN, -1, -1, OWN, -1, -1]
    assert mark_own(X, np.zeros(6, dtype=bool)) is X
