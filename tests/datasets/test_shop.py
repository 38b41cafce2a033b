"""The small shop: what is planted can be found, and no row knows its own answer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from skmars import DINClassifier, Impressions, leave_last_out, make_small_shop

SEEDS = range(3)
RATES = ("user_rate", "item_rate")


@pytest.fixture(scope="module")
def shops():
    return {s: make_small_shop(random_state=s, return_truth=True) for s in SEEDS}


def assert_same(a, b):
    assert a.catalog.fingerprint == b.catalog.fingerprint
    for name in ("users", "user", "target", "time"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name, column in vars(a.history).items():
        np.testing.assert_array_equal(column, getattr(b.history, name))
    assert list(a.context) == list(b.context)
    for name, column in a.context.items():
        np.testing.assert_array_equal(column, b.context[name])
        assert column.dtype == b.context[name].dtype


@pytest.mark.parametrize("history", ["positive", "all"])
def test_is_what_from_log_makes_of_the_same_events(history):
    X, y = make_small_shop(80, 50, history=history, random_state=0)
    events = {"user_id": X.user_ids, "item_id": X.item_ids, "timestamp": X.time, "liked": y}
    log = pd.DataFrame({**events, **X.context})
    expected, label = Impressions.from_log(
        log, X.catalog, label="liked", history=history, context=RATES
    )
    assert_same(X, expected)
    np.testing.assert_array_equal(y, label)
    assert y.dtype == label.dtype


def test_is_repeatable_and_depends_on_the_seed():
    (X, y), (again, clicks) = (make_small_shop(60, 40, random_state=3) for _ in range(2))
    assert_same(X, again)
    np.testing.assert_array_equal(y, clicks)
    other, _ = make_small_shop(60, 40, random_state=4)
    assert X.catalog.fingerprint != other.catalog.fingerprint


def test_rows(shops):
    for X, y, truth in shops.values():
        assert len(X) == pytest.approx(7200, rel=0.03)
        assert len(X.users) == 600
        assert len(X.catalog) == 400
        assert len(np.unique(np.stack([X.user, X.target]), axis=1).T) == len(X)
        assert len(np.unique(X.time)) == len(X)
        assert (np.diff(X.time)[np.diff(X.user) == 0] > 0).all()
        assert np.bincount(X.user).min() >= 2
        assert 0.3 < y.mean() < 0.5
        assert truth.click_probability.shape == y.shape
        assert truth.user_bias.shape == (600,)
        assert truth.item_appeal.shape == (400,)


def test_clicks_are_draws_of_their_probabilities(shops):
    for _, y, truth in shops.values():
        p = truth.click_probability
        tenth = np.argsort(np.argsort(p)) * 10 // len(p)
        surplus = np.bincount(tenth, weights=y - p)
        assert (np.abs(surplus) < 4 * np.sqrt(np.bincount(tenth, weights=p * (1 - p)))).all()


def test_probability_is_the_sum_of_what_is_planted(shops):
    for X, _, truth in shops.values():
        taste = np.einsum("ij,ij->i", truth.user_taste[X.user], truth.item_factors[X.target])
        planted = truth.user_bias[X.user] + truth.item_appeal[X.target] + taste
        assert np.ptp(logit(truth.click_probability) - planted) < 1e-9


def test_rates_tell_the_planted_biases(shops):
    for X, _, truth in shops.values():
        first_of_user = np.unique(X.user, return_index=True)[1]
        item, first_of_item = np.unique(X.target, return_index=True)
        user_rate = X.context["user_rate"][first_of_user]
        item_rate = X.context["item_rate"][first_of_item]
        # Known, but for the noise of twenty impressions.
        assert 0.6 < np.corrcoef(user_rate, truth.user_bias)[0, 1] < 0.9
        assert 0.6 < np.corrcoef(item_rate, truth.item_appeal[item])[0, 1] < 0.9
        # One rate for each user and each item.
        np.testing.assert_array_equal(user_rate[X.user], X.context["user_rate"])
        np.testing.assert_array_equal(
            item_rate[np.searchsorted(item, X.target)], X.context["item_rate"]
        )


def test_context_does_not_depend_on_the_label_of_its_row():
    """Where the probability is known, a rate has no more to tell of the click: no leak."""
    X, y, truth = make_small_shop(3000, random_state=0, return_truth=True)
    for name in RATES:
        z = (y - truth.click_probability) @ (X.context[name] - X.context[name].mean())
        spread = np.sqrt(truth.click_probability * (1 - truth.click_probability))
        z /= np.linalg.norm(spread * (X.context[name] - X.context[name].mean()))
        assert abs(z) < 3


def test_texts_tell_a_part_of_the_factors(shops):
    for X, _, truth in shops.values():
        words = TfidfVectorizer().fit_transform(X.catalog.content["text"])
        factor = truth.item_factors.argmax(axis=1)
        neighbour = KNeighborsClassifier(5, metric="cosine").fit(words[::2], factor[::2])
        assert 0.3 < neighbour.score(words[1::2], factor[1::2]) < 0.8  # chance: 1 in 8


def test_a_plain_classifier_knows_most_of_what_can_be_known(shops):
    auc, linear, best = [], [], []
    for seed, (X, y, truth) in shops.items():
        train, _, test = leave_last_out(X)
        probability = (
            DINClassifier(max_iter=3, random_state=seed)
            .fit(X[train], y[train])
            .predict_proba(X[test])
        )
        assert log_loss(y[test], probability) < 0.67
        rates = np.column_stack([X.context[name] for name in RATES])
        plain = LogisticRegression().fit(rates[train], y[train]).decision_function(rates[test])
        auc.append(roc_auc_score(y[test], probability[:, 1]))
        linear.append(roc_auc_score(y[test], plain))
        best.append(roc_auc_score(y[test], truth.click_probability[test]))
    assert 0.64 < np.mean(auc) < 0.69
    assert np.mean(auc) > np.mean(linear) - 0.01
    assert 0.72 < np.mean(best) < 0.78


@pytest.mark.parametrize(
    "size", [{"n_users": 1, "n_items": 2}, {"n_items": 5, "mean_length": 30}, {"mean_length": 2}]
)
def test_sizes_at_the_edge(size):
    X, y, truth = make_small_shop(**{"n_users": 20, **size}, random_state=0, return_truth=True)
    assert len(X) == len(y) == len(truth.click_probability)
    assert np.bincount(X.user).max() <= len(X.catalog)


@pytest.mark.parametrize(
    ("parameter", "error"),
    [
        ({"n_users": 0}, ValueError),
        ({"n_items": 1}, ValueError),
        ({"n_items": 2.5}, TypeError),
        ({"mean_length": 1}, ValueError),
        ({"mean_length": "long"}, TypeError),
        ({"history": "none"}, ValueError),
    ],
)
def test_bad_parameters_are_named(parameter, error):
    with pytest.raises(error, match=next(iter(parameter))):
        make_small_shop(**parameter)
