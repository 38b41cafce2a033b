"""A request through a fitted classifier: short, and as cheap for a large catalogue."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from skmars import Impressions, ItemCatalog
from skmars.data import Sequences

from .hops import files_of
from .impressions import din, lend

MOST_FILES = 11  # with those of the compiled perceptron


def described(X: Impressions) -> Impressions:
    """As the other steps leave impressions: factors, of each fold of users, and borrowed items."""
    rng = np.random.default_rng(0)
    n = len(X.catalog)

    def attach(catalog: ItemCatalog) -> ItemCatalog:
        return catalog.with_features({"factors": rng.normal(size=(n, 3))})

    catalog = attach(X.catalog).with_folds([attach(X.catalog) for _ in range(2)])
    return lend(X.with_catalog(catalog)).with_fold((X.user % 2).astype(np.int8))


@pytest.fixture(scope="module")
def rows(data) -> tuple[Impressions, np.ndarray]:
    return described(data[0]), data[1]


def test_a_prediction_leads_through_few_files(rows) -> None:
    X, y = rows
    model = din().fit(X, y)
    extended = X.with_catalog(X.catalog.extend([10**9]))
    # Rows of several arrays, one on top of another, are found by the arithmetic of ragged rows.
    for some, n_more in ((X, 0), (X[:1], 0), (extended, 1)):
        model.decision_function(some)
        files = files_of(lambda some=some: model.decision_function(some))
        assert len(files) <= MOST_FILES + n_more, sorted(files)


def test_equal_catalogues_are_the_same_one(rows) -> None:
    """Whichever object a catalogue is, and whatever is put behind its items."""
    X, y = rows
    model = din().fit(X, y)
    expected = model.decision_function(X)
    rebuilt = X.catalog.map_parts(
        lambda part: ItemCatalog(part.ids.copy(), features=dict(part.features)).with_folds(
            [ItemCatalog(fold.ids.copy(), features=dict(fold.features)) for fold in part.folds]
        )
    )
    extended = X.catalog.extend([10**9]).extend([10**9 + 1])
    for catalog in (rebuilt, pickle.loads(pickle.dumps(X.catalog)), extended):
        assert np.array_equal(model.decision_function(X.with_catalog(catalog)), expected)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.decision_function(X.with_catalog(extended)), expected)


def test_ten_extensions_one_after_another(rows) -> None:
    X, y = rows
    model = din().fit(X, y)
    catalog = X.catalog
    for k in range(10):
        catalog = catalog.extend([10**9 + k])
        other = X.with_catalog(catalog)
        assert np.array_equal(model.decision_function(other), model.decision_function(X))
    unknown = replace(other, target=np.full(len(X), len(catalog) - 1, dtype=np.int32))
    unknown = replace(unknown, history=Sequences.empty(len(X)), borrowed=None)
    # Whichever item it is that nobody knows.
    another = replace(unknown, target=unknown.target - 3)
    assert np.array_equal(model.decision_function(unknown), model.decision_function(another))


def test_a_catalogue_of_other_contents_is_another_one(rows) -> None:
    X, y = rows
    model = din(item_features=["factors"]).fit(X, y)
    other = X.catalog.with_features({"factors": -X.catalog.features["factors"]})
    changed = model.decision_function(X.with_catalog(other))
    assert (changed != model.decision_function(X)).any()
