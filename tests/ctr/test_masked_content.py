"""Items that lack a modality: what stands in their row of its matrix means nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skmars import Impressions
from skmars.baselines import CoSeRec

from .impressions import N_ITEMS, din, make_data

GARBAGE = [0.0, 1.0, -7.5, 3e38, np.nan, np.inf, -np.inf]


def with_text(X: Impressions, missing: np.ndarray, garbage: float, folds: bool) -> Impressions:
    """Text of three columns; rows of items that lack it hold garbage."""
    rng = np.random.default_rng(0)

    def attach(seed: int):
        text = rng.normal(size=(len(X.catalog), 3)) + seed
        text[missing] = garbage
        return X.catalog.with_features({"text": text}, {"text": missing})

    catalog = attach(0)
    if folds:
        catalog = catalog.with_folds([attach(1), attach(2)])
        X = X.with_fold((X.user % 2).astype(np.int8))
    return X.with_catalog(catalog)


@settings(max_examples=15, deadline=None)
@given(
    missing=st.lists(st.booleans(), min_size=N_ITEMS, max_size=N_ITEMS),
    garbage=st.sampled_from(GARBAGE),
    folds=st.booleans(),
)
def test_neither_training_nor_prediction_depends_on_masked_rows(missing, garbage, folds) -> None:
    X, y = make_data()
    rows = [with_text(X, np.array(missing), value, folds) for value in (0.0, garbage)]
    models = [din(max_iter=1, batch_size=64).fit(some, y) for some in rows]
    expected = models[0].decision_function(rows[0])
    assert models[0].validation_scores_ == models[1].validation_scores_
    for model in models:
        for some in rows:
            assert np.array_equal(model.decision_function(some), expected)


def test_nor_does_an_auxiliary_objective() -> None:
    X, y = make_data()
    missing = np.arange(N_ITEMS) % 3 == 0
    outcomes = []
    for garbage in (0.0, np.nan):
        rows = with_text(X, missing, garbage, folds=False)
        auxiliary = CoSeRec(warm_up=0, encoder="pool")
        model = din(auxiliary=auxiliary, max_iter=2).fit(rows, y)
        outcomes.append(model.decision_function(rows))
    assert np.array_equal(*outcomes)


def test_an_item_without_content_is_projected_to_zero() -> None:
    X, y = make_data()
    missing = np.arange(N_ITEMS) == 2
    rows = with_text(X, missing, 5.0, folds=False)
    model = din().fit(rows, y)
    features = model._encoder.encode(rows).features
    assert features is not None
    taken = features.take("text", np.arange(N_ITEMS))
    assert not taken[2].any()
    assert taken[~missing].any(axis=1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_what_is_not_masked_must_be_numbers_where_it_is_used(value: float) -> None:
    X, y = make_data()
    text = np.random.default_rng(0).normal(size=(N_ITEMS, 3))
    text[4, 1] = value
    rows = X.with_catalog(X.catalog.with_features({"text": text}))
    unused = X.target != 4
    lengths = [X.history.row(i) for i in range(len(X))]
    unused &= np.array([4 not in items for items in lengths])
    message = rf"'text' of the catalogue contain .* for 1 items \(first: {X.catalog.ids[4]}\)"
    with pytest.raises(ValueError, match=message):
        din().fit(rows, y)
    model = din().fit(rows[unused], y[unused])
    assert np.isfinite(model.decision_function(rows[unused])).all()
    with pytest.raises(ValueError, match=message):
        model.predict(rows)
