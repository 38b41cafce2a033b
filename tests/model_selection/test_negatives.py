"""Sampled negatives by their definition, and probabilities that make up for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from skmars import DINClassifier, Impressions, ItemCatalog, sample_negatives, time_split
from skmars.model_selection import _negatives, correct_probability, ranking_scorer


def clicks(n=60, n_users=6, n_items=30, n_times=40, seed=0, **options):
    rng = np.random.RandomState(seed)
    log = pd.DataFrame(
        {
            "user_id": [f"u{u}" for u in rng.randint(n_users, size=n)],
            "item_id": (n_items * rng.random_sample(n) ** 1.3).astype(int),
            "timestamp": rng.randint(n_times, size=n),
            "hour": rng.randint(24, size=n),
        }
    )
    catalog = ItemCatalog(np.arange(n_items))
    options = {"context": ["hour"], "duplicates": "keep", **options}
    return Impressions.from_log(log, catalog, **options)[0]


def known(X, log, row, exclude):
    """The items that may not be drawn for a row."""
    if exclude == "always":
        found = set()
        for rows in (X, log):
            for i in np.flatnonzero(rows.user_ids == X.user_ids[row]):
                found |= {rows.item_ids[i], *rows.catalog.ids[rows.history.row(i)]}
        return found
    found = {X.item_ids[row], *X.catalog.ids[X.history.row(row)]}
    if X.time is not None:
        same = (log.user_ids == X.user_ids[row]) & (log.time == X.time[row])
        found |= set(log.item_ids[same])
    return found


def check(X, log, out, y, n, exclude):
    assert len(out) == len(y) == (n + 1) * len(X)
    sources = np.repeat(np.arange(len(X)), n + 1)
    for name in ("user", "time"):
        values = getattr(X, name)
        if values is not None:
            np.testing.assert_array_equal(getattr(out, name), values[sources])
    np.testing.assert_array_equal(out.history.start, X.history.start[sources])
    np.testing.assert_array_equal(out.history.length, X.history.length[sources])
    for name, column in X.context.items():
        np.testing.assert_array_equal(out.context[name], column[sources])
    np.testing.assert_array_equal(out.item_ids[:: n + 1], X.item_ids)
    np.testing.assert_array_equal(y.reshape(-1, n + 1), [[1] + [0] * n] * len(X))
    items = out.item_ids.reshape(-1, n + 1)
    for row in range(len(X)):
        drawn = set(items[row, 1:].tolist())
        assert len(drawn) == n
        assert not drawn & known(X, log, row, exclude)


@given(
    st.integers(0, 10_000),
    st.integers(1, 4),
    st.sampled_from(["always", "before"]),
    st.sampled_from([0.0, 0.75]),
    st.sampled_from([{}, {"time": None}, {"history": "all"}]),
    st.sampled_from([0, 100]),
    st.sampled_from(["Impressions", "frame"]),
)
def test_never_what_the_user_knows(seed, n, exclude, popularity, options, rounds, form):
    """Whether drawn by chance or, without any round, from all that is left."""
    X = clicks(n=60, n_users=10, n_items=50, seed=seed, **options)
    rows = np.random.RandomState(seed).permutation(len(X))[:20]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_negatives, "ROUNDS", rounds)
        parameters = {"n_negatives": n, "exclude": exclude, "popularity": popularity}
        some = X[rows] if form == "Impressions" else X[rows].to_frame("polars")
        out, y = sample_negatives(X, random_state=seed, **parameters)
        check(X, X, out, y, n, exclude)
        out, y = sample_negatives(some, log=X, random_state=seed, **parameters)
        assert out.catalog.fingerprint == X.catalog.fingerprint
        if form == "frame":
            some = Impressions.from_frame(some, X.catalog)
            out = replace(out, history=some.history[np.repeat(np.arange(20), n + 1)])
        check(some, X, out, y, n, exclude)
        if popularity == 0.0:
            out, y = sample_negatives(some, random_state=seed, **parameters)
            check(some, some, out, y, n, exclude)


def test_same_seed_same_negatives():
    X = clicks()
    first, again, other = (
        sample_negatives(X, n_negatives=3, random_state=seed)[0].target for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("rounds", [0, 1, 100])
@pytest.mark.parametrize("popularity", [0.0, 0.75, 1.0])
def test_items_are_drawn_as_often_as_they_should(popularity, rounds, monkeypatch):
    """Users of one click each, who know one item: against successive draws by NumPy."""
    monkeypatch.setattr(_negatives, "ROUNDS", rounds)
    count = np.array([4, 0, 1, 9, 2])
    items = np.repeat(np.arange(5), count * 500)
    log = pd.DataFrame({"user_id": np.arange(len(items)), "item_id": items})
    X, _ = Impressions.from_log(log, ItemCatalog(np.arange(5)))
    out, _ = sample_negatives(X, n_negatives=2, popularity=popularity, random_state=0)
    drawn = out.target.reshape(-1, 3)[X.target == 3][:, 1:]
    assert len(drawn) == 4500
    weight = count.astype(float) ** popularity
    weight[3] = 0
    p = weight / weight.sum()
    expected = p + [
        sum(p[i] * p[j] / (1 - p[i]) for i in range(5) if i not in (3, j)) for j in range(5)
    ]
    np.testing.assert_allclose(np.bincount(drawn.ravel(), minlength=5) / 4500, expected, atol=0.03)


def test_negatives_of_a_moment_are_ranked_together():
    class Oracle(DINClassifier):
        def decision_function(self, X):
            return np.isin(np.arange(len(X)), np.flatnonzero(y)).astype(float)

    X = clicks(n_times=10_000)
    out, y = sample_negatives(X, n_negatives=9, random_state=0)
    scorer = ranking_scorer("mrr", groups="moment")
    assert scorer(Oracle(), out, y) == 1.0
    train, test = time_split(out, 0.7)
    assert len(train) % 10 == len(test) % 10 == 0


def test_a_user_who_knows_too_much():
    X = clicks(n=400, n_users=2, n_items=8)
    with pytest.raises(ValueError, match=r"n_negatives=1 can't be drawn for user 'u\d': of the 8"):
        sample_negatives(X)
    out, _ = sample_negatives(X[X.history.length < 3], exclude="before")
    assert (out.target >= 0).all()
    with pytest.raises(
        ValueError, match="of the 30 items .*Lower n_negatives, drop the rows of such users, or"
    ):
        sample_negatives(clicks(), n_negatives=30)
    with pytest.raises(ValueError, match="set popularity=0 to draw from all items, or set"):
        sample_negatives(clicks(n=10), n_negatives=10, popularity=1)


def test_errors():
    X = clicks()
    for name, bad in (
        ("n_negatives", 0),
        ("n_negatives", 1.5),
        ("n_negatives", True),
        ("popularity", -1),
        ("popularity", "0.75"),
        ("popularity", np.nan),
        ("exclude", "never"),
        ("exclude", None),
    ):
        with pytest.raises(ValueError, match=f"The '{name}' parameter of sample_negatives"):
            sample_negatives(X, **{name: bad})
    with pytest.raises(TypeError, match="sample_negatives works on Impressions"):
        sample_negatives(np.zeros((3, 2)))
    with pytest.raises(TypeError, match="log must be Impressions, got DataFrame"):
        sample_negatives(X, log=X.to_frame())
    with pytest.raises(ValueError, match="log has no rows"):
        sample_negatives(X, log=X[:0])
    borrowed = replace(X, context={"item_popularity": np.zeros(len(X))})
    with pytest.raises(ValueError, match="X has a column 'item_popularity'"):
        sample_negatives(borrowed)
    numbered = Impressions.from_log(pd.DataFrame({"user_id": [1], "item_id": [2]}), X.catalog)[0]
    with pytest.raises(TypeError, match="user_id of X holds integers but log holds strings"):
        sample_negatives(numbered, log=X)
    frame = pd.DataFrame({"user_id": [1, 1, 2], "item_id": [2, 3, 4], "liked": [1, 0, 1]})
    shown, liked = Impressions.from_log(frame, label="liked")
    with pytest.raises(ValueError, match=r"X holds 1 rows that were not clicked.*X\[y == 1\]"):
        sample_negatives(shown)
    assert sample_negatives(shown[liked == 1], log=shown)[1].tolist() == [1, 0, 1, 0]
    out, y = sample_negatives(X[:0], log=X)
    assert len(out) == len(y) == 0


@given(st.floats(0.01, 1.0), st.integers(0, 10_000))
def test_correction_by_bayes_and_back(rate, seed):
    truth = np.random.RandomState(seed).random_sample(50)
    seen = truth / (truth + rate * (1 - truth))
    np.testing.assert_allclose(correct_probability(seen, rate), truth, rtol=1e-9)
    assert (np.argsort(correct_probability(seen, rate)) == np.argsort(seen)).all()
    np.testing.assert_array_equal(correct_probability(seen, 1.0), seen)
    assert correct_probability(np.float32([0, 1]), rate).tolist() == [0.0, 1.0]


def test_correction_weights_and_calibration_agree():
    """On rows whose probability is known, of which a tenth of the negatives is kept."""
    rng = np.random.RandomState(0)
    X = rng.normal(size=(60_000, 1))
    truth = 1 / (1 + np.exp(3 - X[:, 0]))
    y = (rng.random_sample(len(X)) < truth).astype(int)
    kept = (y == 1) | (rng.random_sample(len(X)) < 0.1)
    model = LogisticRegression(C=1e6).fit(X[kept], y[kept])
    raw = model.predict_proba(X)[:, 1]
    assert raw.mean() > 3 * y.mean()
    corrected = correct_probability(raw, 0.1)
    weighted = LogisticRegression(C=1e6).fit(
        X[kept], y[kept], sample_weight=np.where(y[kept] == 1, 1, 10)
    )
    calibrated = CalibratedClassifierCV(FrozenEstimator(model)).fit(X, y)
    for p in (corrected, weighted.predict_proba(X)[:, 1], calibrated.predict_proba(X)[:, 1]):
        np.testing.assert_allclose(p, truth, atol=0.03)
        assert p.mean() == pytest.approx(y.mean(), rel=0.05)


@pytest.mark.parametrize("rate", [0, -0.1, 1.5, np.nan, "0.1", True, None])
def test_a_sampling_rate_that_is_none(rate):
    with pytest.raises(ValueError, match="The 'sampling_rate' parameter of correct_probability"):
        correct_probability([0.5], rate)


def test_probabilities_that_are_none():
    with pytest.raises(ValueError, match="p must hold probabilities between 0 and 1, got 1.5"):
        correct_probability([0.5, 1.5], 0.1)
    with pytest.raises(ValueError, match=r"Pass predict_proba\(X\)\[:, 1\]"):
        correct_probability([[0.5, 0.5]], 0.1)
    with pytest.raises(ValueError, match="p holds 1 values that are NaN"):
        correct_probability([np.nan], 0.1)
