"""Training of DIN on impressions: weights, early stopping, going on, and what is kept."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.callback import ScoringMonitor
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score

from skmars import DINClassifier, make_multimodal_ctr
from skmars.baselines import BASRec, CL4SRec, CoSeRec
from skmars.ctr._labelled_rows import LabelledRows, split
from skmars.ctr._row_encoder import EncodedRows
from tests.fits import check_finite_or_named, check_repeatable_in_threads

from .impressions import din, lend, make_data

# --- training ----------------------------------------------------------------------------------


def test_sample_weight_is_repetition(data) -> None:
    X, y = data
    weight = np.random.default_rng(0).integers(0, 3, len(X))
    rows = np.repeat(np.arange(len(X)), weight)
    # Linear momentum-free training would agree to the last bit; float32 Adam nearly does.
    weighted = din(max_iter=2, embedding_l2=0).fit(X, y, sample_weight=weight)
    repeated = din(max_iter=2, embedding_l2=0).fit(X[rows], y[rows])
    np.testing.assert_allclose(
        weighted.decision_function(X), repeated.decision_function(X), atol=1e-3
    )


def test_balanced_class_weight_moves_the_base_rate(data) -> None:
    X, y = data
    rare = np.flatnonzero((y == 0) | (np.arange(len(y)) % 5 == 0))
    X, y = X[rare], y[rare]
    plain = din(max_iter=20).fit(X, y).predict_proba(X)[:, 1].mean()
    balanced = din(max_iter=20, class_weight="balanced").fit(X, y).predict_proba(X)[:, 1].mean()
    assert plain < 0.35
    assert balanced > 0.42
    with pytest.raises(ValueError, match="class_weight names the class 7"):
        din(class_weight={7: 2.0}).fit(X, y)


def test_early_stopping_keeps_the_best_epoch(data) -> None:
    X, y = data
    X_val, y_val = make_data(seed=1)
    model = din(max_iter=40, learning_rate=0.05, batch_size=4, n_iter_no_change=3).fit(
        X, y, X_val=X_val, y_val=y_val
    )
    scores = model.validation_scores_
    assert len(scores) == model.n_iter_ == len(model.loss_curve_)
    reached = roc_auc_score(y_val, model.decision_function(X_val))
    assert reached == pytest.approx(max(scores), abs=1e-6)
    assert model.n_iter_ < 40
    best = int(np.argmax(scores))
    assert best < len(scores) - 1


def test_held_out_rows_are_not_trained_on(data) -> None:
    X, y = data
    rng = np.random.RandomState(0)
    rows = LabelledRows(X, y.astype(np.float32))
    train, held_out = split(rows, "users", 0.3, rng, "DIN")
    assert held_out is not None
    assert not set(train.X.user) & set(held_out.X.user)
    assert len(train) + len(held_out) == len(X)
    for how in ("auto", "last", "users"):
        model = din(holdout=how).fit(X, y)
        assert len(model.validation_scores_) == model.n_iter_


def test_early_stopping_errors(data) -> None:
    X, y = data
    with pytest.raises(ValueError, match="X_val and y_val go together"):
        din().fit(X, y, X_val=X)
    with pytest.raises(ValueError, match="early_stopping=False"):
        din(early_stopping=False).fit(X, y, X_val=X, y_val=y)
    with pytest.raises(ValueError, match="y_val holds only one class"):
        din().fit(X, y, X_val=X[y == 1], y_val=y[y == 1])
    one = X[X.user == X.user[np.argmax(np.bincount(X.user)[X.user])]]
    with pytest.raises(ValueError, match="only one user"):
        din(holdout="users").fit(one, np.arange(len(one)) % 2)


def test_patience_lasts_until_a_network_has_learnt_something() -> None:
    X, y = make_multimodal_ctr(random_state=0)
    model = DINClassifier(batch_size=512, early_stopping=True, max_iter=15, random_state=0)
    assert max(model.fit(X, y).validation_scores_) > 0.70


def test_warm_start_goes_on(data) -> None:
    X, y = data
    alone = {"early_stopping": False}
    model = din(warm_start=True, **alone).fit(X, y)
    first = model.decision_function(X)
    model.fit(X, y)
    assert model.n_iter_ == 6 == len(model.loss_curve_)
    assert model.loss_curve_[3] < model.loss_curve_[0]
    cold = din(**alone).fit(X, y).decision_function(X)
    assert np.array_equal(cold, first)
    assert not np.array_equal(model.decision_function(X), cold)
    # One batch an epoch: two warm fits of three epochs are one of six.
    np.testing.assert_allclose(
        model.decision_function(X),
        din(max_iter=6, **alone).fit(X, y).decision_function(X),
        atol=1e-4,
    )


def test_partial_fit_continues_and_learns_new_items(data) -> None:
    X, y = data
    old = np.isin(X.item_ids, X.catalog.ids[:6]) & (X.history.length == 0)
    model = din().partial_fit(X[old], y[old], classes=[0, 1])
    assert set(model.item_ids_) == set(X.item_ids[old])
    known = model.item_ids_.copy()
    model.partial_fit(X, y)
    assert model.n_iter_ == 2
    assert np.array_equal(model.item_ids_[: len(known)], known)
    assert set(model.item_ids_) == set(X.item_ids) | set(X.catalog.ids[X.history.items])
    model.partial_fit(X[y == 1], y[y == 1])  # one class is enough once both are known
    with pytest.raises(ValueError, match=r"label 2, which is not among the classes \[0, 1\]"):
        model.partial_fit(X, y + 1)


def test_a_failing_partial_fit_changes_nothing(data) -> None:
    X, y = data
    model = din(batch_size=64).fit(X, y)
    dumped = pickle.dumps(model)
    model.set_params(learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="epoch 0"):
        model.partial_fit(X, y)
    # The optimiser's moments, too, which steps change in place.
    assert pickle.dumps(model.set_params(learning_rate=1e-3)) == dumped


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("array", [False, True])
def test_a_first_partial_fit_of_one_class(data, label: int, array: bool) -> None:
    X, y = data
    if array:
        X = np.random.default_rng(0).normal(size=(len(X), 3))
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y))
    model = din(linear_context=["hour"], class_weight="balanced") if not array else din()
    some = y == label
    model.partial_fit(X[some], y[some], classes=[0, 1], sample_weight=weight[some])
    assert model.predict_proba(X)[:, label].min() > 0.9
    once = model.predict_proba(X)[:, label].mean()
    for _ in range(5):
        model.partial_fit(X, y)
    assert model.predict_proba(X)[:, label].mean() < once


def test_training_starts_at_the_share_of_positives(data) -> None:
    X, y = data
    model = din(learning_rate=1e-12, max_iter=1, embedding_l2=0, early_stopping=False).fit(X, y)
    start = (y.sum() + 0.5) / (len(y) + 1)
    np.testing.assert_allclose(model.predict_proba(X)[:, 1].mean(), start, atol=0.05)


# --- random numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["impressions", "array", "CL4SRec", "CoSeRec", "BASRec"])
def test_a_fit_minds_neither_threads_nor_the_global_generator(data, case: str) -> None:
    X, y = data
    X = lend(X)
    parameters = {"batch_size": 64, "early_stopping": True}
    if case == "array":
        X = np.random.default_rng(0).normal(size=(len(X), 3))
    elif case != "impressions":
        auxiliary = {"CL4SRec": CL4SRec(mask_token=True), "CoSeRec": CoSeRec(encoder="pool")}
        parameters["auxiliary"] = auxiliary.get(case, BASRec())
    check_repeatable_in_threads(
        lambda: din(**parameters).fit(X, y).partial_fit(X, y).decision_function(X)
    )


def test_further_fits_draw_orders_of_their_own(data, monkeypatch) -> None:
    X, y = data
    orders: list[bytes] = []
    batch = EncodedRows.batch

    def noted(self, rows):
        if isinstance(rows, np.ndarray):
            orders.append(rows.tobytes())
        return batch(self, rows)

    monkeypatch.setattr(EncodedRows, "batch", noted)
    # Two batches an epoch.
    model = din(batch_size=128, max_iter=1, warm_start=True, early_stopping=False)
    for _ in range(3):
        model.partial_fit(X, y)
    model.fit(X, y).fit(X, y)
    assert len(orders) == len(set(orders)) == 10
    again = din(batch_size=128, max_iter=1)
    for _ in range(3):
        again.partial_fit(X, y)
    assert orders[10:] == orders[:6]


# --- numbers that are no numbers ---------------------------------------------------------------


@pytest.mark.parametrize("learning_rate", [1e3, 1e10, 1e20, 1e30])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_any_learning_rate_predicts_numbers_or_fails(
    data, learning_rate: float, early_stopping: bool
) -> None:
    X, y = data
    model = din(learning_rate=learning_rate, max_iter=1, early_stopping=early_stopping)
    for fit in (model.fit, model.partial_fit):
        before = dict(vars(model))
        check_finite_or_named(lambda fit=fit: fit(X, y).predict_proba(X), learning_rate)
        if not hasattr(model, "classes_"):  # it failed
            assert vars(model) == before


@pytest.mark.parametrize("value", [1e300, -1e300, 1e39])
def test_context_that_is_too_large_names_the_column(data, fitted, value: float) -> None:
    X, y = data
    hour = X.context["hour"].copy()
    hour[5] = value
    bad = replace(X, context={**X.context, "hour": hour})
    message = re.escape(f"Column 'hour' of X holds {value:g} in row 5")
    model = din()
    for use in (lambda: model.fit(bad, y), lambda: fitted.predict_proba(bad)):
        with pytest.raises(ValueError, match=message):
            use()
    assert not hasattr(model, "n_features_in_")


def test_context_that_is_too_large_for_the_scale_of_fit(data) -> None:
    X, y = data
    small, large = (
        replace(X, context={**X.context, "hour": scale * X.context["hour"]})
        for scale in (1e-20, 1e20)
    )
    model = din().fit(small, y)
    with pytest.raises(ValueError, match="Column 'hour' of X is scaled to"):
        model.predict_proba(large)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_array_that_is_too_large_names_the_column(dtype: type) -> None:
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)).astype(dtype), columns=[*"abc"])
    y = np.arange(40) % 2
    bad = X.copy()
    bad.loc[5, "b"] = 1e35 if dtype is np.float32 else 1e300
    for use in (din().fit(X, y).predict_proba, lambda bad: din().fit(bad, y)):
        with pytest.raises(ValueError, match=r"Column 'b' of X holds 1e\+\d+ in row 5"):
            use(bad)
    with pytest.raises(ValueError, match=r"Column 1 of X holds"):
        din().fit(bad.to_numpy(), y)


def test_interrupted_training_leaves_a_usable_estimator(data, monkeypatch) -> None:
    from skmars.ctr import _training_run as training

    X, y = data
    original, calls = training.to_tensors, []

    def interrupted(value, device, dtype):
        calls.append(value)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(value, device, dtype)

    monkeypatch.setattr(training, "to_tensors", interrupted)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        model = din(max_iter=50, early_stopping=False).fit(X, y)
    assert model.n_iter_ == 2
    whole = din(max_iter=2, early_stopping=False).fit(X, y)
    assert np.array_equal(model.predict_proba(X), whole.predict_proba(X))


def test_callbacks_see_every_epoch_and_a_usable_estimator(data) -> None:
    X, y = data
    monitor = ScoringMonitor(scoring="roc_auc")
    model = din(max_iter=4, early_stopping=False)
    model.set_callbacks(monitor)
    model.fit(X, y)
    log = monitor.get_logs(select="most_recent").data
    assert len(log) >= 4
    expected = roc_auc_score(y, model.decision_function(X))
    assert log[-1]["roc_auc"] == pytest.approx(expected, abs=1e-6)


# --- persistence -------------------------------------------------------------------------------


def test_pickles_are_small_and_exact(data, fitted: DINClassifier) -> None:
    X, _ = data
    dumped = pickle.dumps(fitted)
    n_parameters = sum(p.numel() for p in fitted._network.parameters())
    # Each parameter of four bytes has two moments.
    assert len(dumped) < 3 * 4 * n_parameters + 30_000
    again = pickle.loads(dumped)
    assert np.array_equal(again.decision_function(X), fitted.decision_function(X))


@pytest.mark.parametrize("auxiliary", [None, CL4SRec()])
def test_what_was_pickled_goes_on_as_what_was_not(data, auxiliary) -> None:
    X, y = data
    stays = din(auxiliary=auxiliary, batch_size=64).fit(X[:90], y[:90])
    comes = pickle.loads(pickle.dumps(stays))
    for _ in range(2):
        comes = pickle.loads(pickle.dumps(comes.partial_fit(X, y)))
        stays.partial_fit(X, y)
    assert np.array_equal(comes.decision_function(X), stays.decision_function(X))
    # Without the moments, it would be another model.
    stays._optimizer_state = None
    assert not np.array_equal(
        comes.partial_fit(X, y).decision_function(X), stays.partial_fit(X, y).decision_function(X)
    )


def test_joblib_round_trip_in_a_new_process(data, fitted, tmp_path: Path) -> None:
    X, y = data
    further = pickle.loads(pickle.dumps(fitted)).partial_fit(X, y).decision_function(X)
    dumped = (fitted, X, y, fitted.decision_function(X), further)
    joblib.dump(dumped, tmp_path / "model.joblib")
    code = (
        "import joblib, numpy, sys\n"
        "for mode in (None, 'r'):\n"
        "    model, X, y, expected, further = joblib.load(sys.argv[1], mmap_mode=mode)\n"
        "    assert numpy.array_equal(model.decision_function(X), expected)\n"
        "    model.partial_fit(X, y)\n"
        "    assert numpy.array_equal(model.decision_function(X), further)\n"
    )
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code,
                    str(tmp_path / "model.joblib")], check=True)  # fmt: skip
