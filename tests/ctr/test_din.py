"""DINClassifier on impressions: what scikit-learn's battery on arrays cannot see."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss, roc_auc_score

from skmars import DINClassifier, Impressions, ItemCatalog
from skmars.data import Sequences

N_USERS, N_ITEMS = 40, 12
SMALL = {
    "embedding_dim": 4,
    "attention_units": (8,),
    "hidden_units": (8,),
    "max_iter": 3,
    "batch_size": 512,
}


def din(**parameters: object) -> DINClassifier:
    return DINClassifier(**{**SMALL, "random_state": 0, **parameters})


def make_log(seed: int = 0) -> pd.DataFrame:
    """Users like the items of their own parity."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(N_USERS), rng.integers(1, 9, N_USERS))
    item = rng.integers(0, N_ITEMS, len(user))
    return pd.DataFrame(
        {
            "user_id": user,
            "item_id": item + 100,
            "liked": (item + user) % 2,
            "hour": rng.normal(size=len(user)),
            "device": rng.choice(["phone", "tv"], len(user)),
            "member": rng.random(len(user)) < 0.5,
        }
    )


def make_data(history: str = "all", context: tuple = ("hour", "device", "member"), seed: int = 0):
    return Impressions.from_log(
        make_log(seed), label="liked", history=history, context=list(context)
    )


def lend(X: Impressions, seed: int = 1) -> Impressions:
    """Borrowed items for every other row."""
    rng = np.random.default_rng(seed)
    length = np.where(np.arange(len(X)) % 2, rng.integers(1, 4, len(X)), 0).astype(np.int32)
    start = rng.integers(0, 5, len(X))
    items = rng.integers(0, len(X.catalog), 8).astype(np.int32)
    return X.with_borrowed(Sequences(items, start, length))


@pytest.fixture(scope="module")
def data() -> tuple[Impressions, np.ndarray]:
    return make_data()


@pytest.fixture(scope="module")
def fitted(data) -> DINClassifier:
    return din().fit(*data)


# --- what it learns ----------------------------------------------------------------------------


def test_learns_from_feedback_what_a_user_likes() -> None:
    """Each user likes one half of the items; any item of the history tells which."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(300), 6)
    item = rng.integers(0, 6, len(user))
    log = pd.DataFrame({"user_id": user, "item_id": item, "liked": (item + user) % 2})
    X, y = Impressions.from_log(log, label="liked", history="all")
    train = X.user < 250
    model = DINClassifier(max_iter=15, random_state=0).fit(X[train], y[train])
    informed = ~train & (X.history.length > 0)
    assert roc_auc_score(y[informed], model.decision_function(X[informed])) > 0.95


# --- invariances -------------------------------------------------------------------------------


@pytest.mark.parametrize("normalization", [None, "softmax", "sqrt"])
def test_prediction_depends_on_the_row_alone(data, normalization: str | None) -> None:
    X, y = data
    model = din(attention_normalization=normalization).fit(X, y)
    expected = model.decision_function(X)
    rows = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_allclose(model.decision_function(X[rows]), expected[rows], rtol=1e-5)
    for i in rows[:5]:
        np.testing.assert_allclose(model.decision_function(X[[i]]), expected[i], rtol=1e-5)


def test_order_of_the_history_has_no_influence(data, fitted: DINClassifier) -> None:
    X, _ = data
    h = X.history.compact()
    backwards = np.concatenate([np.arange(s + n)[s:][::-1] for s, n in zip(h.start, h.length)])
    turned = replace(h, items=h.items[backwards], feedback=h.feedback[backwards])
    other = fitted.decision_function(replace(X, history=turned))
    np.testing.assert_allclose(other, fitted.decision_function(X), rtol=1e-5)


def test_only_the_last_items_count(data) -> None:
    X, y = data
    model = din(max_length=2, activity_feature=False).fit(X, y)
    cut = replace(X, history=X.history.last(2))
    assert np.array_equal(model.decision_function(X), model.decision_function(cut))
    uncut = din(max_length=200, activity_feature=False).fit(X, y)
    assert not np.array_equal(uncut.decision_function(X), uncut.decision_function(cut))


def test_feedback_matters(data, fitted: DINClassifier) -> None:
    X, _ = data
    h = X.history
    other = fitted.decision_function(replace(X, history=replace(h, feedback=1 - h.feedback)))
    changed = other != fitted.decision_function(X)
    assert not changed[h.length == 0].any()
    assert changed[h.length > 0].mean() > 0.8  # a few logits round to the same number
    unknown = fitted.decision_function(replace(X, history=replace(h, feedback=None)))
    assert np.isfinite(unknown).all()


def test_empty_histories_only() -> None:
    X, y = make_data()
    X = replace(X, history=Sequences.empty(len(X)))
    assert np.isfinite(din().fit(X, y).predict_proba(X)).all()


# --- input of all kinds ------------------------------------------------------------------------


def test_catalogues_may_be_in_any_order(data, fitted: DINClassifier) -> None:
    """Items are known by their ids, never by their codes."""
    X, _ = data
    order = np.random.default_rng(0).permutation(len(X.catalog))
    frame = X.to_frame("pandas")
    shuffled = Impressions.from_frame(frame, ItemCatalog(X.catalog.ids[order]))
    np.testing.assert_allclose(
        fitted.decision_function(shuffled), fitted.decision_function(X), rtol=1e-5
    )


def test_large_ids_do_not_collide() -> None:
    """Beyond 2**24 neighbouring ids are one float32."""
    log = make_log()
    log["item_id"] += 2**53
    X, y = Impressions.from_log(log, label="liked")
    small, _ = Impressions.from_log(make_log(), label="liked")
    model = din().fit(X, y)
    assert len(model.item_ids_) == N_ITEMS
    reference = din().fit(small, y).decision_function(small)
    assert np.array_equal(model.decision_function(X), reference)


def test_unseen_items_share_the_mean_embedding(data, fitted: DINClassifier) -> None:
    X, _ = data
    frame = X.to_frame("pandas")
    frame["item_id"] = 10**6 + np.arange(len(frame))
    first = fitted.decision_function(frame)
    assert np.isfinite(first).all()
    frame["item_id"] += 10**6
    assert np.array_equal(fitted.decision_function(frame), first)
    items = fitted._network.items.weight.detach().numpy()
    np.testing.assert_allclose(items[0], items[1:].mean(axis=0), rtol=1e-5, atol=1e-9)


def test_string_ids() -> None:
    log = make_log()
    log["item_id"] = log["item_id"].map("item-{}".format)
    X, y = Impressions.from_log(log, label="liked")
    model = din().fit(X, y)
    assert sorted(model.item_ids_) == sorted(log["item_id"].unique())
    assert np.isfinite(model.predict_proba(X)).all()


def test_labels_of_any_kind(data) -> None:
    X, y = data
    words = np.where(y == 1, "yes", "no")
    model = din().fit(X, words)
    assert model.classes_.tolist() == ["no", "yes"]
    assert set(model.predict(X)) <= {"no", "yes"}
    assert np.array_equal(model.decision_function(X), din().fit(X, y).decision_function(X))


# --- context -----------------------------------------------------------------------------------


def test_context_columns_are_used(data, fitted: DINClassifier) -> None:
    X, _ = data
    expected = fitted.decision_function(X)
    for name, value in {"hour": X.context["hour"] + 1, "member": ~X.context["member"]}.items():
        other = replace(X, context={**X.context, name: value})
        assert (fitted.decision_function(other) != expected).all()
    unknown = np.full(len(X), "fridge", dtype=object)
    other = fitted.decision_function(replace(X, context={**X.context, "device": unknown}))
    assert np.isfinite(other).all()


def test_scale_of_a_number_does_not_matter(data) -> None:
    X, y = data
    scaled = replace(X, context={**X.context, "hour": 1000 * X.context["hour"] + 5})
    np.testing.assert_allclose(
        din().fit(X, y).decision_function(X),
        din().fit(scaled, y).decision_function(scaled),
        rtol=1e-3,
    )


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_bad_numbers_name_the_column(data, fitted, value: float, word: str) -> None:
    X, y = data
    column = X.context["hour"].copy()
    column[3] = value
    bad = replace(X, context={**X.context, "hour": column})
    for use in (lambda: din().fit(bad, y), lambda: fitted.predict(bad)):
        with pytest.raises(ValueError, match=rf"'hour' contains {word} in 1 rows \(first: row 3\)"):
            use()


def test_changed_columns(data, fitted: DINClassifier) -> None:
    X, _ = data
    with pytest.raises(ValueError, match="'hour' was numeric in fit, but is not"):
        fitted.predict(replace(X, context={**X.context, "hour": X.context["device"]}))
    with pytest.raises(ValueError, match="'device' was categorical in fit, but is numeric"):
        fitted.predict(replace(X, context={**X.context, "device": X.context["hour"]}))


# --- borrowed items ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["separate", "marked", "joint"])
def test_borrowed_items(data, mode: str) -> None:
    X, y = data
    lent = lend(X)
    model = din(borrowed=mode).fit(lent, y)
    with_borrowed, without = model.decision_function(lent), model.decision_function(X)
    changed = with_borrowed != without
    assert np.array_equal(changed, lent.borrowed.length > 0)


def test_joint_makes_no_distinction(data) -> None:
    """Borrowed items are as if they had stood in the history."""
    X, y = data
    X = replace(X, history=replace(X.history, feedback=None))
    lent = lend(X)
    rows = [np.concatenate([lent.borrowed.row(i), lent.history.row(i)]) for i in range(len(lent))]
    length = np.array([len(row) for row in rows], dtype=np.int32)
    start = np.concatenate([[0], np.cumsum(length)[:-1]])
    whole = replace(X, history=Sequences(np.concatenate(rows), start, length))
    joint = din(borrowed="joint", borrowed_dropout=0, activity_feature=False)
    expected = clone(joint).fit(whole, y).decision_function(whole)
    assert np.array_equal(clone(joint).fit(lent, y).decision_function(lent), expected)


@pytest.mark.parametrize("mode", ["separate", "marked"])
def test_borrowed_items_that_fit_never_saw_are_ignored(data, mode: str) -> None:
    X, y = data
    model = din(borrowed=mode).fit(X, y)
    assert np.array_equal(model.decision_function(lend(X)), model.decision_function(X))


def test_own_items_go_before_borrowed_ones(data) -> None:
    X, y = data
    model = din(max_length=3).fit(lend(X), y)
    full = X.history.length >= 3
    lent = lend(X, seed=2)
    same = model.decision_function(lent)[full] == model.decision_function(X)[full]
    assert full.any()
    assert same.all()


def test_rows_that_lose_what_they_borrowed_teach_to_do_without() -> None:
    """Where both say the same, a network that always sees both gives half the credit to each."""
    rng = np.random.default_rng(0)
    n = 2000
    y = rng.integers(0, 2, n)
    told = np.where(rng.random(n) < 0.95, y, 1 - y).astype(np.int64)
    items = np.arange(5, dtype=np.int32)
    one = np.ones(n, dtype=np.int32)
    own = Sequences(items, told, one)
    catalog = ItemCatalog(items)
    X = Impressions(catalog, np.arange(n), np.arange(n, dtype=np.int32), 4 * one, own)
    lent = X.with_borrowed(Sequences(items, 2 + told, one))
    loss = {}
    for share in (0.0, 0.5):
        model = din(borrowed_dropout=share, max_iter=20, early_stopping=False, learning_rate=0.01)
        model.fit(lent, y)
        loss[share] = [log_loss(y, model.predict_proba(rows)) for rows in (X, lent)]
    assert loss[0.5][0] < loss[0.0][0] - 0.1
    assert loss[0.5][1] < loss[0.0][1] + 0.01


@pytest.mark.parametrize("mode", ["separate", "marked", "joint"])
def test_all_rows_of_a_batch_may_lose_what_they_borrowed(data, mode: str) -> None:
    X, y = data
    model = din(borrowed=mode, borrowed_dropout=0.999, batch_size=2).fit(lend(X), y)
    assert np.isfinite(model.decision_function(lend(X))).all()


def test_where_nothing_is_borrowed_nothing_is_drawn(data) -> None:
    X, y = data
    score = [din(borrowed_dropout=share).fit(X, y).decision_function(X) for share in (0, 0.5)]
    assert np.array_equal(*score)


# --- item features -----------------------------------------------------------------------------


def with_features(X: Impressions) -> Impressions:
    rng = np.random.default_rng(0)
    n = len(X.catalog)
    catalog = X.catalog.with_features({"text": rng.normal(size=(n, 3))})
    return X.with_catalog(catalog.with_embedding(rng.normal(size=(n, 2))))


def test_item_features(data) -> None:
    X, y = with_features(data[0]), data[1]
    for names, expected in {"auto": ["text"], ("aligned",): ["aligned"]}.items():
        model = din(item_features=names if names == "auto" else list(names)).fit(X, y)
        assert list(model._network.projections) == expected
        assert np.isfinite(model.predict_proba(X)).all()
    made = X.catalog.with_features({"collaborative": np.ones((len(X.catalog), 2))})
    model = din().fit(X.with_catalog(made), y)
    assert list(model._network.projections) == ["collaborative"]
    bare = ItemCatalog(X.catalog.ids, embedding=X.catalog.embedding)
    model = din().fit(X.with_catalog(bare), y)
    assert list(model._network.projections) == ["aligned"]
    both = din(item_features=["text", "aligned"]).fit(X, y)
    with pytest.raises(ValueError, match="no item features 'text'"):
        both.predict(data[0])


def test_unseen_items_differ_by_their_features(data) -> None:
    X, y = with_features(data[0]), data[1]
    model = din(item_features=["text"]).fit(X, y)
    new = ItemCatalog([1, 2], features={"text": [[1.0, 0, 0], [0, 5.0, 0]]})
    rows = pd.DataFrame({"user_id": [0, 0], "item_id": [1, 2], "history": [[], []]})
    for name, column in X[[0, 0]].context.items():
        rows[name] = column
    a, b = model.decision_function(Impressions.from_frame(rows, new))
    assert a != b


def test_unknown_item_features(data) -> None:
    X, y = with_features(data[0]), data[1]
    with pytest.raises(ValueError, match=r"names 'audio'.*it has \['text', 'aligned'\]"):
        din(item_features=["audio"]).fit(X, y)
    matrix = X.catalog.features["text"].copy()
    matrix[2, 1] = np.nan
    broken = X.with_catalog(X.catalog.with_features({"text": matrix}))
    with pytest.raises(ValueError, match="'text' of the catalogue contain NaN"):
        din(item_features=["text"]).fit(broken, y)


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
    model = din(max_iter=40, learning_rate=0.05, n_iter_no_change=3).fit(
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


# --- messages ----------------------------------------------------------------------------------


def test_bad_targets(data) -> None:
    X, y = data
    with pytest.raises(ValueError, match="only one class"):
        din().fit(X, np.ones(len(X)))
    with pytest.raises(ValueError, match="Only binary classification is supported"):
        din().fit(X, np.arange(len(X)) % 3)
    with pytest.raises(ValueError, match="inconsistent"):
        din().fit(X, y[:-1])
    with pytest.raises(ValueError, match="target y is None"):
        din().fit(X, None)
    with pytest.raises(ValueError, match="one class only"):
        din().fit(X, y, sample_weight=(y == 1).astype(float))


def test_bad_inputs(data, fitted: DINClassifier) -> None:
    X, _ = data
    with pytest.raises(TypeError, match="fitted on impressions, but X is a plain numeric array"):
        fitted.predict(np.zeros((3, 6)))
    with pytest.raises(TypeError, match="fitted on a plain numeric array, but X is impressions"):
        din().fit(np.arange(20.0).reshape(10, 2), np.arange(10) % 2).predict(X)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("activation", "gelu"),
        ("attention_normalization", "l2"),
        ("borrowed", "mixed"),
        ("max_length", 0),
        ("learning_rate", -1.0),
        ("validation_fraction", 1.0),
        ("batch_size", 0),
    ],
)
def test_parameters_out_of_range(data, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"The '{name}' parameter of DINClassifier"):
        din(**{name: value}).fit(*data)


def test_unknown_device(data) -> None:
    with pytest.raises(ValueError, match="device must be"):
        din(device="tpu").fit(*data)


@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("max_iter", [1, 50])
def test_diverging_training_names_the_epoch(data, max_iter: int, early_stopping: bool) -> None:
    model = din(learning_rate=1e30, max_iter=max_iter, early_stopping=early_stopping)
    with pytest.raises(FloatingPointError, match=r"epoch \d.*learning_rate"):
        model.fit(*data)
    assert not hasattr(model, "classes_")


def test_no_warnings_in_everyday_use(data) -> None:
    X, y = data
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        din().fit(X, y).predict_proba(X)
