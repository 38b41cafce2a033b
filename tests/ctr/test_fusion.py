"""What joins the logit after training: `linear_context`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from skmars import DINClassifier, Impressions
from skmars.ctr._fusion import ENOUGH, LEAST_WEIGHT, fuse, fuse_if_better, prior_of

ALONE = np.array([0.0, 1.0, 0.0])  # the logit as it is
SMALL = {"embedding_dim": 4, "attention_units": (8,), "hidden_units": (8,), "max_iter": 3}


def din(**parameters: object) -> DINClassifier:
    return DINClassifier(**{**SMALL, "random_state": 0, **parameters})


def clicks(logit: np.ndarray, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(len(logit)) < expit(logit)).astype(int)


@pytest.fixture(scope="module")
def X() -> Impressions:
    """1,200 rows of 200 users, with the numeric columns "hour" and "support"."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(200), 6)
    log = {"user_id": user, "item_id": rng.integers(0, 12, len(user))}
    log |= {name: rng.normal(size=len(user)) for name in ("hour", "support")}
    log |= {"device": rng.choice(["phone", "tv"], len(user))}
    context = ["hour", "support", "device"]
    return Impressions.from_log(pd.DataFrame(log), history="all", context=context)[0]


def with_column(X: Impressions, column: np.ndarray, name: str = "support") -> Impressions:
    return replace(X, context={**X.context, name: np.broadcast_to(column, len(X)).astype(float)})


# --- the function ------------------------------------------------------------------------------


def test_planted_weights_are_found() -> None:
    rng = np.random.default_rng(0)
    z, x = rng.normal(size=200_000), rng.normal(size=(200_000, 1))
    y = clicks(-0.5 + 0.7 * z + 0.4 * x[:, 0])
    fusion, score = fuse(z, x, y, None, ALONE)
    np.testing.assert_allclose(fusion, [-0.5, 0.7, 0.4], atol=0.02)
    parts = np.column_stack([z, x])
    same = LogisticRegression(C=np.inf).fit(parts, y).decision_function(parts)
    np.testing.assert_allclose(score, same, atol=1e-3)


def test_weight_counts_rows() -> None:
    rng = np.random.default_rng(0)
    z, x = rng.normal(size=50), rng.normal(size=(50, 1))
    y, count = clicks(z), rng.integers(1, 4, 50)
    weighted = fuse(z, x, y, count, ALONE)[0]
    repeated = fuse(*(np.repeat(a, count, axis=0) for a in (z, x, y)), None, ALONE)[0]
    np.testing.assert_allclose(weighted, repeated, atol=1e-4)


def test_few_rows_change_little() -> None:
    z, x = np.array([0.3, -0.2]), np.array([[1.0], [-1.0]])
    fusion, _ = fuse(z, x, np.array([1, 0]), None, ALONE)
    assert np.abs(fusion - ALONE).max() < 0.7


def test_a_logit_that_is_worth_nothing_ends_at_the_base_rate() -> None:
    rng = np.random.default_rng(0)
    z, y = 3 * rng.normal(size=20_000), rng.random(20_000) < 0.2
    fusion, score = fuse(z, np.zeros((20_000, 0)), y, None, ALONE[:2])
    assert LEAST_WEIGHT <= fusion[1] < 0.03  # the order of the rows stays
    assert np.mean(np.logaddexp(0, score) - y * score) == pytest.approx(0.5004, abs=0.005)


def test_rows_that_alternate_between_the_classes_are_scored_as_others() -> None:
    """As clicks and their sampled negatives do."""
    rng = np.random.default_rng(0)
    y = np.arange(2000) % 2
    z, x = rng.normal(size=2000) + y, rng.normal(size=(2000, 1)) + y[:, None]
    fusion, score = fuse_if_better(z, x, y, None, ALONE)
    np.testing.assert_allclose(fusion[1:], 1, atol=0.2)
    assert roc_auc_score(y, score) == pytest.approx(roc_auc_score(y, z + x[:, 0]), abs=0.005)


def test_columns_join_only_where_they_help_rows_that_were_not_fitted() -> None:
    rng = np.random.default_rng(0)
    z, useful, noise = (
        rng.normal(size=2000),
        rng.normal(size=(2000, 1)),
        rng.normal(size=(ENOUGH, 5)),
    )
    fusion, score = fuse_if_better(z, useful, clicks(z + useful[:, 0]), None, ALONE)
    assert fusion[2] == pytest.approx(1, abs=0.2)
    assert np.corrcoef(score, z + useful[:, 0])[0, 1] > 0.99
    prior = np.eye(7)[1]
    weights = [
        fuse_if_better(z[:ENOUGH], noise, clicks(z[:ENOUGH], seed), None, prior)[0]
        for seed in range(20)
    ]
    # The first column, or all of them, seem to help by luck.
    assert np.mean([w[2:].any() for w in weights]) < 0.75
    assert np.mean(np.abs([w[2:] for w in weights])) < 0.05


def test_few_rows_keep_what_training_rows_say_of_columns() -> None:
    """Which columns help can't be told by them: what helps would be lost by chance."""
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(3000, 2)), rng.normal(size=3000)  # the second column says nothing
    y = clicks(z + 0.7 * x[:, 0], seed=1)
    prior = prior_of(x[:1000], y[:1000], None)
    same = LogisticRegression(C=1).fit(x[:1000], y[:1000]).coef_[0]
    np.testing.assert_allclose(prior, [0, 1, *same], atol=0.01)
    loss = []
    for held in np.split(np.arange(1000, 2000), 10):
        fusion, _ = fuse_if_better(z[held], x[held], y[held], None, prior)
        assert fusion[2] > 0
        assert fusion[3] / fusion[2] == pytest.approx(prior[3] / prior[2])
        alone, _ = fuse(z[held], x[held, :0], y[held], None, prior[:2])
        scores = [b[0] + b[1] * z + x[:, : len(b) - 2] @ b[2:] for b in (fusion, alone)]
        loss.append([np.mean(np.logaddexp(0, s) - y * s) for s in scores])
    with_columns, without = np.mean(loss, axis=0)
    assert with_columns < without - 0.02


# --- the estimator -----------------------------------------------------------------------------


def test_the_network_is_that_of_rows_without_the_column(X: Impressions) -> None:
    y = clicks(2 * X.context["support"])
    model = din(linear_context=["support"], early_stopping=False).fit(X, y)
    without = replace(X, context={k: v for k, v in X.context.items() if k != "support"})
    deep = din(early_stopping=False).fit(without, y)
    bias, scale, weight = model._network.fusion.numpy()
    column = X.context["support"]
    at_its_mean = model.decision_function(with_column(X, column.mean()))
    np.testing.assert_allclose(
        at_its_mean, bias + scale * deep.decision_function(without), atol=1e-5
    )
    np.testing.assert_allclose(
        model.decision_function(X) - at_its_mean,
        weight * np.clip((column - column.mean()) / column.std(), -3, 3),
        atol=1e-5,
    )
    assert weight > 0.5


def test_weights_are_those_of_held_out_rows(X: Impressions) -> None:
    """A column that tells the labels of the training rows, and nothing of others."""
    y = clicks(np.zeros(len(X)))
    train, held_out = X.user < 150, X.user >= 150
    told = with_column(X, np.where(train, y, clicks(np.zeros(len(X)), seed=1)))
    rows = {"X_val": told[held_out], "y_val": y[held_out]}
    model = din(linear_context=["support"]).fit(told[train], y[train], **rows)
    assert abs(model._network.fusion[2]) < 0.5
    scores = model.validation_scores_
    assert scores is not None
    auc = roc_auc_score(y[held_out], model.decision_function(told[held_out]))
    assert max(scores) < auc + 0.03  # by weights of other rows: no hope that is not there
    alone = din(linear_context=["support"], early_stopping=False).fit(told[train], y[train])
    assert alone._network.fusion[2] > 1.5  # nothing else is there


def test_few_held_out_rows_correct_what_training_rows_say(X: Impressions) -> None:
    y = clicks(X.context["support"])
    model = din(linear_context=["support"], max_iter=1).fit(X, y)  # holds out 120 rows
    assert model._network.fusion[2] == pytest.approx(1, abs=0.35)


@pytest.mark.parametrize("held_out", [True, False])
def test_class_weight_holds_for_the_fusion(X: Impressions, held_out: bool) -> None:
    y = clicks(X.context["support"] - 3)
    rows = {"X_val": X, "y_val": y} if held_out else {}
    model = din(linear_context=["support"], class_weight="balanced", max_iter=1)
    p = model.set_params(early_stopping=held_out).fit(X, y, **rows).predict_proba(X)[:, 1]
    assert np.average(p, weights=np.where(y, 1 / y.mean(), 1 / (1 - y.mean()))) > 0.4


def test_partial_fit_goes_on(X: Impressions) -> None:
    y = clicks(2 * X.context["support"])
    model = din(linear_context=["support"])
    weights = []
    for _ in range(3):
        model.partial_fit(X[:300], y[:300])
        weights.append(float(model._network.fusion[2]))
    assert weights[0] > 0.5
    assert weights == sorted(weights)


@pytest.mark.parametrize("columns", [["support"], None])
def test_partial_fit_after_a_calibrated_fit_trains_what_is_predicted(X, columns) -> None:
    y = clicks(2 * X.context["support"])
    # Without batch statistics and penalty, the loss of a row is the same in training.
    settings = {"activation": "relu", "embedding_l2": 0.0, "batch_size": 10_000, "max_iter": 30}
    model = din(linear_context=columns, early_stopping=True, **settings).fit(X[:800], y[:800])
    fusion, p = model._network.fusion.numpy(), model.predict_proba(X[800:])
    assert np.abs(fusion - np.append([0.0, 1.0], np.zeros(len(fusion) - 2))).max() > 0.05
    model.partial_fit(X[800:], y[800:])
    assert model.loss_curve_[-1] == pytest.approx(log_loss(y[800:], p), abs=1e-4)
    np.testing.assert_array_equal(model._network.fusion.numpy(), fusion)
    # A fit with held-out rows calibrates again.
    model.set_params(warm_start=True).fit(X, y)
    assert np.abs(model._network.fusion.numpy() - fusion).max() > 0


def test_by_default_it_is_what_look_alikes_say(X: Impressions) -> None:
    y = clicks(X.context["support"])
    said = with_column(X, X.context["support"], "lookalike_support")
    named = din(linear_context=["lookalike_support"]).fit(said, y).predict_proba(said)
    np.testing.assert_array_equal(din().fit(said, y).predict_proba(said), named)
    nothing = din(linear_context=None).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(din().fit(X, y).predict_proba(X), nothing)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["year"], "linear_context names the context column 'year', which X does not have"),
        (["device"], "'device', which is not numeric; its numeric context columns are .'hour'"),
        ("hour", "linear_context"),
    ],
)
def test_bad_linear_context(X: Impressions, names, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        din(linear_context=names).fit(X, clicks(np.zeros(len(X))))
