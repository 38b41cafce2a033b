"""DINClassifier on impressions: what scikit-learn's battery on arrays cannot see."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from skmars import DINClassifier, Impressions, ItemCatalog
from skmars.data import Sequences

from .impressions import N_ITEMS, din, make_data, make_log

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
    # Feedback that nobody knows is the mean of what was known: between the two.
    logit = {
        name: fitted.decision_function(replace(X, history=replace(h, feedback=feedback)))
        for name, feedback in (
            ("unknown", None),
            ("liked", np.ones_like(h.feedback)),
            ("not", np.zeros_like(h.feedback)),
        )
    }
    assert np.array_equal((logit["unknown"] == logit["liked"]), h.length == 0)
    away = np.abs(logit["unknown"] - logit["liked"]).mean()
    assert away < np.abs(logit["not"] - logit["liked"]).mean()


def test_empty_histories_only() -> None:
    X, y = make_data()
    X = replace(X, history=Sequences.empty(len(X)))
    model = din().fit(X, y)
    n_users = X.user.max() + 1
    assert model.predict_proba(X)[:, 1].mean() == pytest.approx(y.mean(), abs=0.1)
    # Rows of one target and one context are alike, whoever the user is.
    one = X[np.zeros(3, dtype=int)]
    other = replace(one, user=np.array([0, 1, n_users - 1], dtype=np.int32))
    assert len(set(model.decision_function(other))) == 1


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
    frame["item_id"] += 10**6
    assert np.array_equal(fitted.decision_function(frame), first)
    items = fitted._network.items.weight.detach().numpy()
    np.testing.assert_allclose(items[0], items[1:].mean(axis=0), rtol=1e-5, atol=1e-9)


def test_string_ids() -> None:
    log = make_log()
    log["item_id"] = log["item_id"].map("item-{}".format)
    X, y = Impressions.from_log(log, label="liked")
    model = din(item_features=None).fit(X, y)
    assert sorted(model.item_ids_) == sorted(log["item_id"].unique())
    # "item-100" to "item-111" sort as the numbers do: it is the same model.
    numbers, _ = Impressions.from_log(make_log(), label="liked")
    expected = din(item_features=None).fit(numbers, y).decision_function(numbers)
    assert np.array_equal(model.decision_function(X), expected)


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
    # A category that nobody knows is the mean of the known ones.
    table = fitted._network.categories[list(fitted._encoder.categorical).index("device")].weight
    np.testing.assert_allclose(table[0].detach(), table[1:].mean(0).detach(), atol=1e-7)
    assert (other != expected).all()


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
    with pytest.raises(ValueError, match="'hour' was numeric in fit, but is categorical"):
        fitted.predict(replace(X, context={**X.context, "hour": X.context["device"]}))
    with pytest.raises(ValueError, match="'device' was categorical in fit, but is numeric"):
        fitted.predict(replace(X, context={**X.context, "device": X.context["hour"]}))


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
        changed = X.with_catalog(
            X.catalog.with_features({"text": -X.catalog.features["text"]}).with_embedding(
                -X.catalog.embedding
            )
        )
        assert (model.decision_function(changed) != model.decision_function(X)).all()
    made = X.catalog.with_features({"factors": np.ones((len(X.catalog), 2))})
    model = din().fit(X.with_catalog(made), y)
    assert list(model._network.projections) == ["factors"]
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
