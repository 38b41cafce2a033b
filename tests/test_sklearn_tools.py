"""scikit-learn's tools on impressions, tables and row numbers, as the guide's page says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import PartialDependenceDisplay, partial_dependence, permutation_importance
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import (
    GroupKFold,
    HalvingGridSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
    learning_curve,
    train_test_split,
    validation_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import _safe_indexing, check_array, resample

from skmars import DINClassifier, LeaveLastOut, TimeSplit, make_mars, make_multimodal_ctr
from skmars.data._checks import as_impressions

DIN = DINClassifier(max_iter=1, hidden_units=(8,), early_stopping=False, random_state=0)
MARS = make_mars(
    random_state=0,
    **{"align__max_iter": 1, "align__n_components": 4, "align__id_dim": 4, "ctr__max_iter": 8},
    **{"ctr__early_stopping": False, "ctr__hidden_units": (8,), "ctr__batch_size": 64},
)


@pytest.fixture(scope="module")
def data():
    """Impressions whose clicks follow a context column, `sun`; `noise` says nothing."""
    X, y = make_multimodal_ctr(60, 40, history="all", random_state=0)
    rng = np.random.RandomState(0)
    sun, noise = rng.random_sample(len(X)), rng.random_sample(len(X))
    y = np.where(rng.random_sample(len(X)) < 0.8, (sun > 0.5).astype(int), y)
    device = np.array(["phone", "desk"], dtype=object)[rng.randint(2, size=len(X))]
    return replace(X, context={"sun": sun, "noise": noise, "device": device}), y


@pytest.fixture(scope="module")
def model(data):
    return clone(MARS).fit(*data)


@pytest.fixture(scope="module")
def folds(data):
    X, y = data
    return list(GroupKFold(2).split(X, y, X.user_ids))


# --- columns: a table -------------------------------------------------------------------


def test_partial_dependence_is_the_mean_prediction_with_one_value_for_all(data, model):
    X = data[0][:50]
    table = X.to_frame()
    for column, values in (("sun", [0.1, 0.5, 0.9]), ("device", ["desk", "phone"])):
        result = partial_dependence(
            model, table, [column], custom_values={column: values}, categorical_features=["device"]
        )
        expected = []
        for value in values:
            everywhere = np.full(len(X), value, dtype=X.context[column].dtype)
            moved = replace(X, context={**X.context, column: everywhere})
            expected.append(model.predict_proba(moved)[:, 1].mean())
        np.testing.assert_allclose(result["average"][0], expected, rtol=1e-5)
        if column == "sun":
            assert expected[0] < expected[2]


def test_partial_dependence_is_drawn(data, model):
    pytest.importorskip("matplotlib").use("Agg")
    table = data[0][:20].to_frame()
    display = PartialDependenceDisplay.from_estimator(
        model, table, ["sun", "noise"], grid_resolution=3, kind="both"
    )
    assert display.lines_ is not None


def test_permutation_importance_of_context_columns(data, model):
    X, y = data
    table = X.to_frame()

    def auc(model, context, y):
        return roc_auc_score(y, model.predict_proba(table.assign(**context))[:, 1])

    columns = ["sun", "noise", "device"]
    result = permutation_importance(
        model, table[columns], y, scoring=auc, n_repeats=2, random_state=0
    )
    sun, noise, device = result.importances_mean
    assert sun > 0.1 > 5 * max(abs(noise), abs(device))


def test_permutation_importance_of_whole_histories(data, model):
    """The columns of a history move together, as if rows had been dealt other histories."""
    X, y = data[0][:200], data[1][:200]
    table = X.to_frame()
    parts = {
        "history": [name for name in table if name.startswith("history")],
        "item": ["item_id"],
        "sun": ["sun"],
    }
    assert len(parts["history"]) > 1
    source = pd.DataFrame({part: np.arange(len(table)) for part in parts})
    found = []

    def auc(model, source, y):
        moved = table.copy()
        for part, columns in parts.items():
            for name in columns:
                moved[name] = table[name].to_numpy()[source[part]]
        p = model.predict_proba(moved)[:, 1]
        dealt = replace(
            X,
            history=X.history[source["history"].to_numpy()],
            target=X.target[source["item"]],
            context={**X.context, "sun": X.context["sun"][source["sun"]]},
        )
        found.append(np.abs(p - model.predict_proba(dealt)[:, 1]).max())
        return roc_auc_score(y, p)

    result = permutation_importance(model, source, y, scoring=auc, n_repeats=2, random_state=0)
    assert max(found) < 1e-5
    assert result.importances_mean[2] > 0.1


def test_what_wants_an_array_of_impressions_is_told_what_to_pass(data):
    X, y = data
    model = clone(DIN).fit(X, y)
    for use in (
        lambda: permutation_importance(model, X, y),
        lambda: BaggingClassifier(DIN).fit(X, y),
        lambda: StackingClassifier([("din", DIN)], cv=2, passthrough=True).fit(X, y),
    ):
        with pytest.raises(
            TypeError, match="do not become an array.*to_frame.*numbers of its rows"
        ):
            use()


# --- rows: impressions ------------------------------------------------------------------


def test_every_user_is_predicted_by_a_model_that_never_saw_them(data):
    X, y = data
    groups = X.user_ids
    p = cross_val_predict(DIN, X, y, groups=groups, cv=GroupKFold(2), method="predict_proba")
    for train, test in GroupKFold(2).split(X, y, groups):
        assert not set(groups[train]) & set(groups[test])
        expected = clone(DIN).fit(X[train], y[train]).predict_proba(X[test])
        np.testing.assert_allclose(p[test], expected, rtol=1e-5)
    with pytest.raises(ValueError, match="only works for partitions"):
        cross_val_predict(DIN, X, y, cv=TimeSplit(2))


@pytest.mark.parametrize("form", ["Impressions", "pandas", "polars"])
def test_curves(data, form):
    X, y = data
    rows = X if form == "Impressions" else X.to_frame(form)
    for cv in (LeaveLastOut(), TimeSplit(1)):
        options = {"cv": cv, "scoring": "roc_auc", "error_score": "raise"}
        sizes, _, scores = learning_curve(DIN, rows, y, train_sizes=[0.5, 1.0], **options)
        assert sizes[0] < sizes[1]
        assert ((scores >= 0) & (scores <= 1)).all()
    _, scores = validation_curve(
        DIN, rows, y, param_name="embedding_dim", param_range=[2, 4], **options
    )
    assert scores.shape == (2, 1)


def test_samples_of_rows(data):
    X, y = data
    train, test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    assert len(train) + len(test) == len(X)
    assert y_train.mean() == pytest.approx(y_test.mean(), abs=0.01)
    drawn, y_drawn, rows = resample(X, y, np.arange(len(X)), random_state=0)
    np.testing.assert_array_equal(drawn.target, X.target[rows])
    np.testing.assert_array_equal(y_drawn, y[rows])


def test_a_halving_search_over_epochs(data):
    X, y = data
    search = HalvingGridSearchCV(
        MARS,
        {"augment__theta": [0.0, 0.5, 1.1]},
        resource="ctr__max_iter",
        max_resources=2,
        min_resources=1,
        factor=2,
        cv=TimeSplit(1),
        scoring="roc_auc",
        error_score="raise",
    ).fit(X, y)
    assert search.n_resources_ == [1, 2]
    assert search.best_params_["augment__theta"] in (0.0, 0.5, 1.1)


def test_calibration_and_threshold_in_folds_of_users(data, folds):
    X, y = data
    calibrated = CalibratedClassifierCV(DIN, cv=folds).fit(X, y)
    assert len(calibrated.calibrated_classifiers_) == 2
    assert calibrated.predict_proba(X)[:, 1].mean() == pytest.approx(y.mean(), abs=0.1)
    later = CalibratedClassifierCV(DIN, cv=TimeSplit(2)).fit(X, y)
    frozen = CalibratedClassifierCV(FrozenEstimator(clone(DIN).fit(X, y)), method="isotonic")
    for model in (later, frozen.fit(X, y)):
        assert ((model.predict_proba(X) >= 0) & (model.predict_proba(X) <= 1)).all()
    tuned = TunedThresholdClassifierCV(DIN, cv=folds).fit(X, y)
    p = tuned.estimator_.predict_proba(X)[:, 1]
    np.testing.assert_array_equal(tuned.predict(X), p >= tuned.best_threshold_)


def test_votes_and_stacks(data, folds):
    X, y = data
    seeds = [(f"seed{i}", clone(DIN).set_params(random_state=i)) for i in range(2)]
    votes = VotingClassifier(seeds, voting="soft").fit(X, y)
    expected = np.mean([clone(m).fit(X, y).predict_proba(X) for _, m in seeds], axis=0)
    np.testing.assert_allclose(votes.predict_proba(X), expected, rtol=1e-5)
    stack = StackingClassifier(seeds, cv=folds).fit(X, y)
    assert stack.final_estimator_.coef_.shape == (1, 2)
    prefit = StackingClassifier([(n, m.fit(X, y)) for n, m in seeds], cv="prefit").fit(X, y)
    for model in (stack, prefit):
        assert model.predict_proba(X).shape == (len(X), 2)


# --- arrays: row numbers ----------------------------------------------------------------


def test_bagging_on_row_numbers(data):
    X, y = data
    numbers = np.arange(len(X)).reshape(-1, 1)
    rows = FunctionTransformer(lambda numbers: X[numbers[:, 0]])
    bag = BaggingClassifier(make_pipeline(rows, DIN), n_estimators=2, random_state=0)
    p = bag.fit(numbers, y).predict_proba(numbers)
    members = []
    for drawn, member in zip(bag.estimators_samples_, bag.estimators_):
        assert len(np.unique(drawn)) < len(drawn)
        members.append(member[-1].predict_proba(X))
    np.testing.assert_allclose(p, np.mean(members, axis=0), rtol=1e-5)
    assert all(np.abs(m - members[0]).max() > 0 for m in members[1:])


def under_sampled(y, random_state):
    """The rows that imbalanced-learn's RandomUnderSampler may select: as many of each class."""
    rng = np.random.RandomState(random_state)
    n = np.bincount(y).min()
    return np.sort(np.concatenate([rng.choice(np.flatnonzero(y == c), n, False) for c in (0, 1)]))


def test_selected_rows_are_the_same_in_every_form(data):
    """By the path of imbalanced-learn: to an array of objects, indexed, and back to a table."""
    X, y = data
    table, numbers = X.to_frame(), np.arange(len(X)).reshape(-1, 1)
    kept = under_sampled(y, 0)
    array = _safe_indexing(check_array(table, dtype=None, ensure_all_finite=False), kept)
    back = pd.DataFrame(array, columns=table.columns).astype(table.dtypes)
    expected = clone(DIN).fit(X[kept], y[kept]).predict_proba(X)
    for rows in (
        _safe_indexing(X, kept),
        X[_safe_indexing(numbers, kept)[:, 0]],
        _safe_indexing(table, kept),
        back,
    ):
        np.testing.assert_array_equal(as_impressions(rows).history.length, X.history.length[kept])
        found = clone(DIN).fit(rows, y[kept]).predict_proba(X)
        np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_imbalanced_learn(data):
    sampling = pytest.importorskip("imblearn.under_sampling")
    pipelines = pytest.importorskip("imblearn.pipeline")
    X, y = data
    numbers, table = np.arange(len(X)).reshape(-1, 1), X.to_frame()
    sampler = sampling.RandomUnderSampler(random_state=0)
    kept, y_kept = sampler.fit_resample(numbers, y)
    assert np.bincount(y_kept).tolist() == [np.bincount(y).min()] * 2
    np.testing.assert_array_equal(y[kept[:, 0]], y_kept)
    selected, _ = sampler.fit_resample(table, y)
    assert as_impressions(selected).item_ids.tolist() == X.item_ids[kept[:, 0]].tolist()
    rows = FunctionTransformer(lambda numbers: X[numbers[:, 0]])
    model = pipelines.make_pipeline(sampler, rows, clone(DIN)).fit(numbers, y)
    assert model.predict_proba(numbers).shape == (len(X), 2)
