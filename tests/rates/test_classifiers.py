"""The simplest click models: values against plain formulas, and scikit-learn's tools."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_validate

from skmars import (
    ClickRateClassifier,
    ClickRateEncoder,
    DINClassifier,
    LeaveLastOut,
    PopularityClassifier,
    leave_last_out,
    make_mars,
    make_small_shop,
)

MODELS = [PopularityClassifier(), ClickRateClassifier()]


@pytest.fixture(scope="module")
def shop():
    return make_small_shop(n_users=120, random_state=0)


def test_popularity_is_the_smoothed_click_rate_of_the_item(shop) -> None:
    X, y = shop
    train, _, test = leave_last_out(X)
    p = PopularityClassifier(smooth=5).fit(X[train], y[train]).predict_proba(X[test])
    for row in range(len(test)):
        earlier = (X.target[train] == X.target[test[row]]) & (X.time[train] < X.time[test[row]])
        clicks = y[train][earlier]
        expected = (clicks.sum() + 5 * y[train].mean()) / (len(clicks) + 5)
        assert p[row].tolist() == pytest.approx([1 - expected, expected])


def test_click_rates_are_weighed_by_logistic_regression(shop) -> None:
    X, y = shop
    train, _, test = leave_last_out(X)
    encoder = ClickRateEncoder()
    matrix = np.column_stack(list(encoder.fit_transform(X[train], y[train]).context.values()))
    new = np.column_stack(list(encoder.transform(X[test]).context.values()))
    mean, std = matrix.mean(axis=0), matrix.std(axis=0)
    plain = LogisticRegression(C=0.5).fit((matrix - mean) / std, y[train])
    model = ClickRateClassifier(C=0.5).fit(X[train], y[train])
    np.testing.assert_allclose(
        model.decision_function(X[test]), plain.decision_function((new - mean) / std), atol=1e-3
    )
    assert roc_auc_score(y[test], model.decision_function(X[test])) > 0.6


def test_strings_are_categories_of_which_rare_and_new_ones_are_one(shop) -> None:
    X, y = shop
    device = np.where(np.arange(len(X)) % 3 == 0, "phone", "tv").astype(object)
    device[:5] = "fridge"
    clicked = np.where(device == "phone", 1, y)
    X = replace(X, context={"device": device})
    model = ClickRateClassifier().fit(X, clicked)
    assert model.columns_[-3:] == ["device_phone", "device_tv", "device_infrequent_sklearn"]
    assert model.model_.coef_[0, -3] > 1
    new = replace(X, context={"device": np.full(len(X), "car", dtype=object)})
    rare = replace(X, context={"device": np.full(len(X), "fridge", dtype=object)})
    np.testing.assert_array_equal(model.predict_proba(new), model.predict_proba(rare))


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_they_are_classifiers(model, shop) -> None:
    X, y = shop
    words = np.array(["no", "yes"])[y]
    with pytest.raises(NotFittedError):
        model.predict(X)
    fitted = clone(model).fit(X, words)
    assert is_classifier(model)
    assert fitted.classes_.tolist() == ["no", "yes"]
    p = fitted.predict_proba(X)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_allclose(p[:, 1], expit(fitted.decision_function(X)))
    np.testing.assert_array_equal(fitted.predict(X), np.array(["no", "yes"])[(p[:, 1] > 0.5) * 1])
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), p)
    for kind in ("pandas", "polars", "pyarrow"):
        table = X.to_frame(kind)
        with config_context(transform_output="pandas"):
            np.testing.assert_allclose(fitted.predict_proba(table), p, atol=1e-12)
            np.testing.assert_allclose(clone(model).fit(table, words).predict_proba(table), p)
    assert fitted.predict_proba(X[:0]).shape == (0, 2)
    scores = cross_validate(model, X, y, cv=LeaveLastOut(), scoring=["roc_auc", "neg_log_loss"])
    assert scores["test_roc_auc"][0] > 0.45
    search = GridSearchCV(model, {"smooth": [2.0, "auto"]}, cv=LeaveLastOut(2)).fit(X, y)
    assert search.best_params_["smooth"] in (2.0, "auto")


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_bad_input_is_refused_and_nothing_is_fitted(model, shop) -> None:
    X, y = shop
    for rows, labels, error, message in (
        (X, None, ValueError, "requires y to be passed"),
        (X, np.ones(len(X)), ValueError, f"{type(model).__name__} .* only one class"),
        (np.zeros((4, 2)), y[:4], TypeError, "works on Impressions"),
    ):
        broken = clone(model)
        with pytest.raises(error, match=message):
            broken.fit(rows, labels)
        assert not hasattr(broken, "classes_")
    with pytest.raises(ValueError, match="'smooth' parameter"):
        clone(model).set_params(smooth=-1).fit(X, y)


def test_numbers_that_are_missing_are_named(shop) -> None:
    X, y = shop
    hole = X.context["item_rate"].copy()
    hole[7] = np.nan
    broken = replace(X, context={**X.context, "item_rate": hole})
    with pytest.raises(ValueError, match="'item_rate' of X holds 1 numbers .* row 7"):
        ClickRateClassifier().fit(broken, y)
    model = ClickRateClassifier().fit(X, y)
    with pytest.raises(ValueError, match="'item_rate' of X holds 1 numbers"):
        model.predict(broken)
    hole[7] = 1e300
    with pytest.raises(ValueError, match=r"'item_rate' of X holds 1e\+300 in row 7"):
        ClickRateClassifier().fit(replace(X, context={**X.context, "item_rate": hole}), y)
    words = replace(X, context={**X.context, "item_rate": hole.astype(str).astype(object)})
    with pytest.raises(ValueError, match="held numbers in fit"):
        model.predict(words)


def test_as_a_step_it_adds_its_logit(shop) -> None:
    X, y = shop
    train, _, test = leave_last_out(X)
    step = ClickRateClassifier()
    known = step.fit_transform(X[train], y[train])
    rated = step.transform(X[test])
    np.testing.assert_allclose(rated.context["click_logit"], step.decision_function(X[test]))
    assert list(rated.context) == ["user_rate", "item_rate", "click_logit"] == list(known.context)
    assert rated.columns == step.get_feature_names_out().tolist()
    # Out of fold it is close to, but not the same as, that of all users.
    everybody = step.decision_function(X[train])
    assert np.corrcoef(known.context["click_logit"], everybody)[0, 1] > 0.9
    assert known.context["click_logit"].mean() == pytest.approx(everybody.mean(), abs=0.03)
    din = DINClassifier(max_iter=1, random_state=0).fit(known, y[train])
    assert din.predict_proba(rated).shape == (len(test), 2)


def test_a_step_of_the_pipeline(shop) -> None:
    X, y = shop
    mars = make_mars(random_state=0, align__max_iter=1, ctr__max_iter=1)
    mars.steps.insert(3, ("rates", ClickRateClassifier()))
    p = mars.fit(X, y).predict_proba(X)
    assert np.isfinite(p).all()
    assert logit(p[:, 1]).std() > 0


def test_without_other_folds_a_row_learns_nothing(shop) -> None:
    X, y = shop
    one = X.user == X.user[0]
    rated = ClickRateClassifier().fit_transform(X[one], y[one])
    assert np.ptp(rated.context["click_logit"]) == 0
