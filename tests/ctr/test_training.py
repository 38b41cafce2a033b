"""Training of DIN on impressions: weights, early stopping, going on, and what is kept."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.callback import ScoringMonitor
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score

from skmars import DINClassifier

from .impressions import din, make_data

# --- training ----------------------------------------------------------------------------------


def test_sample_weight_is_repetition(data) -> None:
    X, y = data
    weight = np.random.default_rng(0).integers(0, 3, len(X))
    rows = np.repeat(np.arange(len(X)), weight)
    # Linear momentum-free training would agree to the last bit; float32 Adam nearly does.
    weighted = din(max_iter=2, alpha=0).fit(X, y, sample_weight=weight)
    repeated = din(max_iter=2, alpha=0).fit(X[rows], y[rows])
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


def test_held_out_are_whole_users(data) -> None:
    from skmars.ctr.samples import Sample

    X, y = data
    train, held_out = Sample(X, y.astype(np.float32)).split(0.3, np.random.RandomState(0))
    assert not set(train.X.user) & set(held_out.X.user)
    assert len(train) + len(held_out) == len(X)
    model = din(early_stopping=True).fit(X, y)
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
        din(early_stopping=True).fit(one, np.arange(len(one)) % 2)


def test_warm_start_goes_on(data) -> None:
    X, y = data
    model = din(warm_start=True).fit(X, y)
    first = model.decision_function(X)
    model.fit(X, y)
    assert model.n_iter_ == 6 == len(model.loss_curve_)
    assert model.loss_curve_[3] < model.loss_curve_[0]
    cold = din().fit(X, y).decision_function(X)
    assert np.array_equal(cold, first)
    assert not np.array_equal(model.decision_function(X), cold)
    # One batch an epoch: two warm fits of three epochs are one of six.
    np.testing.assert_allclose(
        model.decision_function(X), din(max_iter=6).fit(X, y).decision_function(X), atol=1e-4
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
    model = din().fit(X, y)
    before = model.decision_function(X)
    model.set_params(learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="epoch 0"):
        model.partial_fit(X, y)
    assert np.array_equal(model.decision_function(X), before)
    assert model.n_iter_ == 3


def test_interrupted_training_leaves_a_usable_estimator(data, monkeypatch) -> None:
    from skmars.ctr import learning

    X, y = data
    original, calls = learning.to_tensors, []

    def interrupted(value, device, dtype):
        calls.append(value)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(value, device, dtype)

    monkeypatch.setattr(learning, "to_tensors", interrupted)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        model = din(max_iter=50).fit(X, y)
    assert model.n_iter_ == 2
    assert np.isfinite(model.predict_proba(X)).all()


def test_callbacks_see_every_epoch_and_a_usable_estimator(data) -> None:
    X, y = data
    monitor = ScoringMonitor(scoring="roc_auc")
    model = din(max_iter=4)
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
    assert len(dumped) < 4 * n_parameters + 30_000
    again = pickle.loads(dumped)
    assert np.array_equal(again.decision_function(X), fitted.decision_function(X))
    again.partial_fit(*data)


def test_joblib_round_trip_in_a_new_process(data, fitted, tmp_path: Path) -> None:
    X, _ = data
    joblib.dump((fitted, X, fitted.decision_function(X)), tmp_path / "model.joblib")
    code = (
        "import joblib, numpy, sys\n"
        "for mode in (None, 'r'):\n"
        "    model, X, expected = joblib.load(sys.argv[1], mmap_mode=mode)\n"
        "    assert numpy.array_equal(model.decision_function(X), expected)\n"
    )
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code,
                    str(tmp_path / "model.joblib")], check=True)  # fmt: skip
