"""What all items have in common says nothing of one of them: it is subtracted from features."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

import skmars
from skmars import Impressions, ItemCatalog
from skmars.ctr import _vocabulary as vocabulary

from .impressions import N_ITEMS, din, make_data

LACKS = np.arange(N_ITEMS) % 5 == 1  # masked
EMPTY = np.arange(N_ITEMS) == 4  # a row of zeros
HAS = ~(LACKS | EMPTY)
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]  # to shrink takes many fits


def pictures(X: Impressions, seed: int, constant: float = 0.0) -> Impressions:
    """Pictures of numbers that float32 also holds exactly when the constant is added."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-512, 512, size=(N_ITEMS, 5)) / 256
    vectors[HAS] += constant * np.array([1, -2, 3, 0.5, 1])
    vectors[EMPTY] = 0
    return X.with_catalog(X.catalog.with_features({"image": vectors}, {"image": LACKS}))


def rows_of_first_items(X: Impressions) -> np.ndarray:
    """Return the rows with no other item than the first eight."""
    return np.array([max([X.target[i], *X.history.row(i)]) < 8 for i in range(len(X))])


def taken(model, X: Impressions) -> np.ndarray:
    """Return the features of all items as the network gets them."""
    return model._encoder.encode(X).features.take("image", np.arange(len(X.catalog)))


@settings(max_examples=6, deadline=None, phases=PHASES)
@given(seed=st.integers(0, 2**16), constant=st.sampled_from([-3.0, 1.0, 64.0, 1000.0]))
def test_a_constant_in_all_features_changes_no_prediction(seed: int, constant: float) -> None:
    X, y = make_data(seed=seed % 7)
    one, other = pictures(X, seed), pictures(X, seed, constant)
    model = din().fit(one, y)
    expected = model.decision_function(one)
    assert np.ptp(expected) > 1e-3
    shifted = din().fit(other, y).decision_function(other)
    np.testing.assert_allclose(shifted, expected, atol=1e-4)


def test_items_are_told_apart_by_nearly_collinear_pictures() -> None:
    """Users like items of one of two kinds, which the pictures show beside a large common part."""
    rng = np.random.default_rng(0)
    n_users, n_items, n_rows = 150, 400, 12
    kind, taste = rng.integers(0, 2, n_items), rng.integers(0, 2, n_users)
    user = np.repeat(np.arange(n_users), n_rows)
    item = rng.integers(0, n_items, len(user))
    y = (kind[item] == taste[user]) ^ (rng.random(len(user)) < 0.1)
    log = pd.DataFrame({"user_id": user, "item_id": item, "liked": y.astype(int)})
    X, y = Impressions.from_log(log, ItemCatalog(np.arange(n_items)), label="liked")
    noise = rng.normal(size=(n_items, 16))
    shown = noise + 3 * np.outer(2 * kind - 1, rng.normal(size=16))
    common = 100 * rng.normal(size=16)
    new = X.user >= 100
    auc, fast = {}, {"learning_rate": 0.02, "max_iter": 5, "batch_size": 128}
    for name, vectors in {"noise": noise, "shown": shown, "common": shown + common}.items():
        rows = X.with_catalog(X.catalog.with_features({"image": vectors}))
        model = din(early_stopping=False, **fast).fit(rows[~new], y[~new])
        auc[name] = roc_auc_score(y[new], model.decision_function(rows[new]))
    assert auc["common"] > auc["noise"] + 0.15
    assert auc["common"] == pytest.approx(auc["shown"], abs=0.01)


def test_items_that_lack_features_and_items_at_the_mean_get_zeros() -> None:
    X, y = make_data()
    vectors = np.zeros((N_ITEMS, 2))
    vectors[HAS] = [1000, 2000]  # the mean, as two others are on either side of it
    aside = np.flatnonzero(HAS)[:2]
    vectors[aside] += [[1, 0], [-1, 0]]
    X = X.with_catalog(X.catalog.with_features({"image": vectors}, {"image": LACKS}))
    expected = np.zeros((N_ITEMS, 2))
    expected[aside, 0] = 1, -1
    assert np.array_equal(taken(din().fit(X, y), X), expected)


def test_alike_pictures_say_nothing() -> None:
    X, y = make_data()
    alike = np.full((N_ITEMS, 3), [0.1, 7e7, 1 / 3])
    X = X.with_catalog(X.catalog.with_features({"image": alike}))
    assert not taken(din(max_iter=1).fit(X, y), X).any()


def test_large_features_do_not_overflow() -> None:
    X, y = make_data()
    vectors = np.where(np.arange(N_ITEMS) % 2, 1e18, -1e18)[:, None] * np.ones(400)
    X = X.with_catalog(X.catalog.with_features({"image": vectors}))
    model = din(max_iter=1).fit(X, y)
    np.testing.assert_allclose(np.linalg.norm(taken(model, X), axis=1), 1, atol=1e-6)
    assert np.isfinite(model.decision_function(X)).all()


def test_item_factors_and_the_aligned_embedding_stay_as_they_are() -> None:
    X, y = make_data()
    rng = np.random.default_rng(0)
    factors, embedding = rng.normal(size=(2, N_ITEMS, 3)).astype(np.float32) + 5
    catalog = X.catalog.with_features({"factors": factors, "text": factors})
    X = X.with_catalog(catalog.with_embedding(embedding))
    model = din(item_features=["factors", "aligned", "text"], max_iter=1).fit(X, y)
    features = model._encoder.encode(X).features
    every = np.arange(N_ITEMS)
    assert np.array_equal(features.take("factors", every), factors)
    assert np.array_equal(features.take("aligned", every), embedding)
    assert not np.allclose(features.take("text", every), factors)
    assert list(model._encoder.feature_centers) == ["text"]


def test_the_mean_is_that_of_the_items_of_the_training_rows(monkeypatch) -> None:
    X, y = make_data()
    X = pictures(X, 0, 10.0)
    vectors = X.catalog.features["image"].astype(np.float64)
    some = rows_of_first_items(X)
    model = din(early_stopping=False, max_iter=1).fit(X[some], y[some])
    used = HAS & (np.arange(N_ITEMS) < 8)
    np.testing.assert_allclose(
        model._encoder.feature_centers["image"], vectors[used].mean(axis=0), rtol=1e-12
    )
    # Of many items some are enough: they are spread over all, and read in blocks.
    monkeypatch.setattr(vocabulary, "MOST_CENTERED", 4)
    monkeypatch.setattr(vocabulary, "CENTERED_BLOCK", 3)
    model = din(early_stopping=False, max_iter=1).fit(X, y)
    used = HAS & (np.arange(N_ITEMS) % 3 == 0)
    np.testing.assert_allclose(
        model._encoder.feature_centers["image"], vectors[used].mean(axis=0), rtol=1e-12
    )


def test_a_request_reads_what_training_read() -> None:
    X, y = make_data()
    X = pictures(X, 0, 10.0)
    model = din().fit(X, y)
    expected, logit = taken(model, X), model.decision_function(X)
    assert np.array_equal(model.decision_function(X[7:8]), logit[7:8])
    # Neither another catalogue nor its further items move the mean.
    catalog = ItemCatalog(
        [*X.catalog.ids[::-1], -1],
        features={"image": [*X.catalog.features["image"][::-1], [1e6] * 5]},
        missing={"image": [*LACKS[::-1], False]},
    )
    other = X.with_catalog(catalog)
    assert np.array_equal(taken(model, other)[:-1][::-1], expected)
    np.testing.assert_allclose(model.decision_function(other), logit, atol=1e-6)
    extended = X.with_catalog(X.catalog.extend([-1]))
    assert np.array_equal(taken(model, extended)[:-1], expected)


def test_further_training_keeps_the_mean() -> None:
    X, y = make_data()
    X = pictures(X, 0, 10.0)
    some = rows_of_first_items(X)
    model = din(warm_start=True, early_stopping=False, max_iter=1).fit(X[some], y[some])
    center = model._encoder.feature_centers["image"].copy()
    model.partial_fit(X[~some], y[~some])
    assert np.array_equal(model._encoder.feature_centers["image"], center)
    model.fit(X, y)
    assert np.array_equal(model._encoder.feature_centers["image"], center)
    fresh = din(early_stopping=False, max_iter=1).fit(X, y)
    assert not np.array_equal(fresh._encoder.feature_centers["image"], center)


def test_a_copy_reads_the_same(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("safetensors")
    X, y = make_data()
    X = pictures(X, 0, 10.0)
    model = din().fit(X, y)
    skmars.save(model, tmp_path / "din")
    for copy in (pickle.loads(pickle.dumps(model)), skmars.load(tmp_path / "din")):
        assert np.array_equal(taken(copy, X), taken(model, X))
        assert np.array_equal(copy.decision_function(X), model.decision_function(X))
