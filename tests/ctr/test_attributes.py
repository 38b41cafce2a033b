"""Attributes of items and users in DIN: against NumPy, for new items and users, from all tables."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from skmars import DINClassifier, Impressions, ItemCatalog, MultimodalEncoder
from skmars.baselines import BASRec, CL4SRec, CoSeRec
from skmars.ctr._attributes import LearntAttribute

from .impressions import N_ITEMS, N_USERS, din, lend, make_log

ITEMS = pd.DataFrame(
    {
        "item_id": 100 + np.arange(N_ITEMS),
        "price": [*np.linspace(1, 40, N_ITEMS - 1), None],
        "colour": (["red", "blue", None] * N_ITEMS)[:N_ITEMS],
        "tags": [["a", "b"], ["b"], []] * (N_ITEMS // 3),
        "new": [True, False] * (N_ITEMS // 2),
    }
)
USERS = pd.DataFrame(
    {
        "user_id": np.arange(1, N_USERS),  # not of user 0
        "age": [None, *np.linspace(18, 80, N_USERS - 2)],
        "country": (["fr", "it", None] * N_USERS)[: N_USERS - 1],
        "langs": ([["fr"], ["it", "fr"], []] * N_USERS)[: N_USERS - 1],
    }
)
CATALOG = ItemCatalog.from_frame(ITEMS, attributes=["price", "colour", "tags", "new"])


@pytest.fixture(scope="module")
def data() -> tuple[Impressions, np.ndarray]:
    return Impressions.from_log(
        make_log(), CATALOG, label="liked", history="all", context=["hour", "device"], users=USERS
    )


@pytest.fixture(scope="module")
def model(data) -> DINClassifier:
    return din(max_iter=5).fit(*data)


# --- the same in NumPy ---------------------------------------------------------------------------


def perceptron(part: Any, x: np.ndarray) -> np.ndarray:
    def weights(layer: Any) -> tuple[np.ndarray, np.ndarray]:
        return layer.weight.detach().numpy(), layer.bias.detach().numpy()

    for layer, dice in zip(part.layers, part.activations):
        W, b = weights(layer)
        x = W @ x + b
        z = (x - dice.running_mean.numpy()) / np.sqrt(dice.running_var.numpy() + dice.eps)
        p, alpha = 1 / (1 + np.exp(-z)), dice.alpha.detach().numpy()
        x = p * x + (1 - p) * alpha * x
    W, b = weights(part.output)
    return W @ x + b


def embedded(network: Any, learnt: dict[str, LearntAttribute], which: str, values: dict):
    """The vectors of the attributes of one item or user, in the order of `learnt`."""
    parts = []
    for (name, how), module in zip(learnt.items(), getattr(network, which)):
        value = values[name]
        if how.known is None:
            mean, scale = how.scaler.mean_[0], how.scaler.scale_[0]
            number = 0 if value is None or np.isnan(value) else (value - mean) / scale
            parts.append(number * module.vector.detach().numpy()[0])
            continue
        table = module.table.weight.detach().numpy()
        row = {category: i + 1 for i, category in enumerate(how.known.ids)}
        if how.kind == "category":
            parts.append(table[row.get(str(value), 0)])
        else:
            found = [row[v] for v in value if v in row]
            parts.append(table[found or [0]].mean(axis=0))
    return np.concatenate(parts)


def test_it_is_a_din_on_concatenated_embeddings(data, model) -> None:
    X, _ = data
    network, encoder = model._network, model._encoder
    items, users = ITEMS.set_index("item_id"), USERS.set_index("user_id")
    nobody = {"age": None, "country": None, "langs": []}
    id_row = {item: i + 1 for i, item in enumerate(encoder.items.ids)}
    feedback = network.feedback.detach().numpy()
    logit = []
    for i in range(len(X)):

        def vector(item: int) -> np.ndarray:
            of_id = network.items.weight.detach().numpy()[id_row[item]]
            values = items.loc[item].to_dict()
            return np.concatenate(
                [of_id, embedded(network, encoder.item_attributes, "item_attributes", values)]
            )

        q, interest = vector(X.item_ids[i]), 0
        at = X.history[[i]].positions()
        for item, liked in zip(X.catalog.ids[X.history.items[at]], X.history.feedback[at]):
            k = vector(item) + feedback[liked]
            score = perceptron(network.interest.unit, np.concatenate([q, k, q - k, q * k]))
            interest = interest + score * k / np.sqrt(len(at))
        interest = np.zeros(len(q)) + interest
        scaled = (X.context["hour"][i] - encoder.scaler.mean_[0]) / encoder.scaler.scale_[0]
        device = 1 + encoder.categories.categories_[0].tolist().index(X.context["device"][i])
        user = X.user_ids[i]
        values = users.loc[user].to_dict() if user in users.index else nobody
        x = np.concatenate(
            [
                *(interest, q, interest * q),
                [np.log1p(len(at)), scaled],
                network.categories[0].weight.detach().numpy()[device],
                embedded(network, encoder.user_attributes, "user_attributes", values),
            ]
        )
        bias, deep = network.fusion.numpy()
        logit.append(bias + deep * perceptron(network.head, x)[0])
    np.testing.assert_allclose(model.decision_function(X), logit, atol=1e-5)
    assert list(encoder.item_attributes) == ["price", "colour", "tags", "new"]
    assert list(encoder.user_attributes) == ["age", "country", "langs"]


def test_scales_and_counts_are_those_of_what_occurs(data, model) -> None:
    X, _ = data
    seen = np.unique(np.concatenate([X.target, X.history.items[X.history.positions()]]))
    price = np.array(ITEMS.price[seen], dtype=float)
    learnt = model._encoder.item_attributes
    np.testing.assert_allclose(learnt["price"].scaler.mean_[0], np.nanmean(price))
    np.testing.assert_allclose(learnt["price"].scaler.scale_[0], np.nanstd(price))
    # How often each colour occurs among targets and in the histories that are trained on.
    count = dict(zip(["", *learnt["colour"].known.ids], learnt["colour"].count))
    items = dict(zip(model.item_ids_, model._encoder.item_count[1:]))
    for colour, of_items in ITEMS.fillna({"colour": ""}).groupby("colour").item_id:
        assert count[colour] == sum(items.get(i, 0) for i in of_items)


# --- what it is good for --------------------------------------------------------------------------


QUICK = {"max_iter": 10, "learning_rate": 5e-3, "batch_size": "auto"}


def make_shop(seed: int, n_users: int = 300, n_items: int = 120, n_each: int = 8):
    """Users like one category and cheap or dear things; half of the items are new in the end."""
    rng = np.random.default_rng(seed)
    category, price = rng.integers(0, 6, n_items), rng.lognormal(sigma=1.0, size=n_items)
    likes, wealth = rng.integers(0, 6, n_users), rng.choice([-1, 1], n_users)
    user = np.repeat(np.arange(n_users), n_each)
    new = np.tile(np.arange(n_each) >= n_each - 2, n_users)
    half = n_items // 2
    item = np.where(new, rng.integers(half, n_items, len(user)), rng.integers(0, half, len(user)))
    choice = rng.random(len(user)) < 0.5  # of what is shown, half is of the category that they like
    fits = [np.flatnonzero((category == c) & (np.arange(n_items) < half)) for c in range(6)]
    item = np.where(choice & ~new, [rng.choice(fits[c]) for c in likes[user]], item)
    match = (category[item] == likes[user]).astype(float)
    logit = -1.5 + 3 * match + 1.2 * wealth[user] * np.clip(np.log(price[item]), -2, 2)
    log = pd.DataFrame(
        {
            "user_id": user,
            "item_id": item,
            "timestamp": np.tile(np.arange(n_each), n_users),
            "clicked": (rng.random(len(user)) < 1 / (1 + np.exp(-logit))).astype(int),
        }
    )
    attributes = {
        "category": category.astype(str),
        "log_price": np.log(price),
    }
    catalog = ItemCatalog(np.arange(n_items), attributes=attributes)
    users = pd.DataFrame({"user_id": np.arange(n_users), "wealth": wealth.astype(str)})
    X, y = Impressions.from_log(
        log, catalog, label="clicked", history="all", users=users, duplicates="keep"
    )
    return X, y, new


def test_new_items_are_known_by_their_attributes() -> None:
    X, y, new = make_shop(0)
    auc = {}
    for name, chosen in (("ids", None), ("attributes", "auto")):
        model = din(item_attributes=chosen, user_attributes=chosen, **QUICK)
        model.fit(X[~new], y[~new])
        auc[name] = roc_auc_score(y[new], model.decision_function(X[new]))
    assert auc["ids"] < 0.6
    assert auc["attributes"] > auc["ids"] + 0.1


def test_labels_of_chance_stay_chance() -> None:
    X, _, new = make_shop(1)
    y = np.random.default_rng(0).integers(0, 2, len(X))
    model = din(**QUICK).fit(X[~new], y[~new])
    assert abs(roc_auc_score(y[new], model.decision_function(X[new])) - 0.5) < 0.06


# --- whatever the rows are ------------------------------------------------------------------------


def test_the_same_whichever_catalogue_and_table(data, model) -> None:
    X, _ = data
    expected = model.decision_function(X)
    order = np.arange(len(X.catalog))[::-1]
    other = ItemCatalog.from_frame(ITEMS.iloc[order], attributes=["new", "tags", "colour", "price"])
    for catalog in (
        pickle.loads(pickle.dumps(X.catalog)),
        X.catalog.extend([10**9]).extend([10**9 + 1]),
        other,
    ):
        assert np.array_equal(model.decision_function(X.with_catalog(catalog)), expected)
    for frame in ("pandas", "polars", "pyarrow"):
        rows = Impressions.from_frame(X.to_frame(frame), X.catalog)
        assert np.array_equal(model.decision_function(rows), expected)
    for i in (0, len(X) - 1):
        one = Impressions.from_frame(X[[i]].to_frame("pandas"), X.catalog)
        np.testing.assert_allclose(model.decision_function(one), expected[[i]], atol=1e-6)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.decision_function(X), expected)


def test_what_is_asked_again_costs_what_is_new(data, monkeypatch) -> None:
    X, y = data
    model = din().fit(X, y)
    calls: list[int] = []
    coded = LearntAttribute.coded

    def counted(self, column, name):
        calls.append(len(column))
        return coded(self, column, name)

    monkeypatch.setattr(LearntAttribute, "coded", counted)
    rows = X[:1].with_catalog(pickle.loads(pickle.dumps(X.catalog)).extend([1, 2]))
    again = pickle.loads(pickle.dumps(model))
    again.decision_function(rows)
    n = len(X.catalog)
    assert calls == [n] * 4 + [2] * 4 + [1] * 3  # once in a new process
    calls.clear()
    again.decision_function(X[:1].with_catalog(X.catalog.extend([3])))
    assert calls == [1] * 4 + [1] * 3


def test_missing_and_unknown_ones_are_read_as_such(data, model) -> None:
    X, _ = data
    x = X[:1]
    columns = {k: v.to_list() for k, v in X.catalog.attributes.items() if k != "new"}

    def score(**values: Any) -> float:
        """With other attributes of the target."""
        changed = {k: [*columns[k]] for k in columns}
        for name, value in ({"price": 3.0, "colour": "red", "tags": ["a"]} | values).items():
            changed[name][x.target[0]] = value
        catalog = X.catalog.with_attributes(changed)
        return float(model.decision_function(x.with_catalog(catalog))[0])

    assert score(colour="never seen") == score(colour=None) != score(colour="red")
    assert score(tags=["a", "never seen"]) == score(tags=["a"]) != score(tags=["a", "b"])
    assert score(tags=["never seen"]) == score(tags=[])
    mean = model._encoder.item_attributes["price"].scaler.mean_[0]
    assert score(price=None) == pytest.approx(score(price=mean))
    nobody = x.with_users(pd.DataFrame({"user_id": x.user_ids, "country": ["never seen"]}))
    nothing = x.with_users(pd.DataFrame({"user_id": x.user_ids, "country": [None]}))
    assert model.decision_function(nobody) == model.decision_function(nothing)


def test_an_attribute_that_is_never_missing_has_a_mean_for_what_is() -> None:
    X, y = Impressions.from_log(make_log(), CATALOG, label="liked")
    model = din(item_attributes=["new"]).fit(X, y)
    table = model._network.item_attributes[0].table.weight
    np.testing.assert_allclose(table[0].detach(), table[1:].detach().mean(dim=0), atol=1e-7)
    model = din(item_attributes=["colour"]).fit(X, y)
    table = model._network.item_attributes[0].table.weight
    assert not np.allclose(table[0].detach(), table[1:].detach().mean(dim=0), atol=1e-4)


@pytest.mark.parametrize("auxiliary", [CL4SRec(), CoSeRec(), BASRec()])
def test_objectives_train_along(data, auxiliary) -> None:
    X, y = data
    scores = [
        din(auxiliary=auxiliary, max_iter=2, item_attributes=names).fit(X, y).decision_function(X)
        for names in ("auto", "auto", None)
    ]
    assert np.isfinite(scores[0]).all()
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


@pytest.mark.parametrize("borrowed", ["separate", "marked", "joint"])
@pytest.mark.parametrize("normalization", [None, "softmax"])
def test_borrowed_items_have_attributes_too(data, borrowed, normalization) -> None:
    X, y = lend(data[0]), data[1]
    model = din(borrowed=borrowed, attention_normalization=normalization).fit(X, y)
    other = X.with_catalog(X.catalog.with_attributes({"colour": ["red"] * N_ITEMS}))
    assert not np.array_equal(model.decision_function(X), model.decision_function(other))


def test_later_calls_keep_what_the_first_has_learnt(data) -> None:
    X, y = data
    other = X.with_catalog(
        X.catalog.with_attributes({"colour": ["green"] * N_ITEMS, "price": [1e3] * N_ITEMS})
    ).with_users(USERS.assign(country="de"))
    for model in (din().partial_fit(X, y), din(warm_start=True).fit(X, y)):
        first = pickle.loads(pickle.dumps(model._encoder))
        before = model.decision_function(X)
        call = model.partial_fit if not model.warm_start else model.fit
        call(other, y)
        assert model._encoder.item_attributes["colour"].known.ids.tolist() == ["blue", "red"]
        scale = first.item_attributes["price"].scaler.scale_
        assert model._encoder.item_attributes["price"].scaler.scale_ == scale
        assert not np.array_equal(model.decision_function(X), before)
    # What one call learns in two epochs, two calls do as well.
    assert np.isfinite(model.decision_function(other)).all()


def test_embeddings_of_attributes_are_shrunk_like_the_others(data) -> None:
    X, y = data
    sizes = []
    for embedding_l2 in (0.0, 1e3):
        model = din(embedding_l2=embedding_l2, max_iter=8, early_stopping=False).fit(X, y)
        parts = [*model._network.item_attributes, *model._network.user_attributes]
        sizes.append(
            sum(float(p.table.weight.detach().square().sum()) for p in parts if p.table is not None)
        )
    assert sizes[1] < 0.2 * sizes[0]


def test_without_attributes_nothing_changes() -> None:
    log = make_log()
    X, y = Impressions.from_log(log, CATALOG, label="liked", users=USERS)
    plain, _ = Impressions.from_log(log, ItemCatalog(CATALOG.ids), label="liked")
    expected = din().fit(plain, y).decision_function(plain)
    model = din(item_attributes=None, user_attributes=None).fit(X, y)
    assert np.array_equal(model.decision_function(X), expected)


# --- what is refused ------------------------------------------------------------------------------


def test_the_parameters_name_attributes(data) -> None:
    X, y = data
    model = din(item_attributes=["tags"], user_attributes=["age"]).fit(X, y)
    assert list(model._encoder.item_attributes) == ["tags"]
    assert list(model._encoder.user_attributes) == ["age"]
    unknown = X.with_catalog(X.catalog.with_attributes({"size": [None] * N_ITEMS}))
    for rows, parameters, message in (
        (X, {"item_attributes": ["prize"]}, "item_attributes names 'prize', which the items of X"),
        (X, {"user_attributes": ["price"]}, "user_attributes names 'price', which the users of X"),
        (X, {"item_attributes": ["tags", "tags"]}, "names 'tags' twice"),
        (X, {"item_attributes": "tags"}, "item_attributes"),
        (unknown, {"item_attributes": ["size"]}, "'size', which is missing for all items of X"),
    ):
        with pytest.raises(ValueError, match=message):
            din(**parameters).fit(rows, y)
    assert "size" not in din().fit(unknown, y)._encoder.item_attributes
    assert clone(model).get_params()["item_attributes"] == ["tags"]


def test_rows_without_what_was_learnt_are_refused(data, model) -> None:
    X, _ = data
    with pytest.raises(ValueError, match="catalogue of X has no attribute 'price', which DINCla"):
        model.predict(X.with_catalog(ItemCatalog(X.catalog.ids)))
    frame = X.to_frame("pandas")
    fewer = Impressions.from_frame(frame.drop(columns="user.age"), X.catalog)
    with pytest.raises(ValueError, match="users of X have no attribute 'age', which DINClassifier"):
        model.predict(fewer)
    described = X.catalog.with_features({"text": np.eye(N_ITEMS)})
    step = MultimodalEncoder().fit(X.with_catalog(described))
    with pytest.raises(ValueError, match="X lacks the column 'user.age', an attribute of users"):
        step.transform(fewer.with_catalog(described))
    nothing = frame.assign(**{"user.age": None, "user.country": None, "user.langs": None})
    assert np.isfinite(model.decision_function(Impressions.from_frame(nothing, X.catalog))).all()
    changed = X.with_catalog(X.catalog.with_attributes({"price": ["cheap"] * N_ITEMS}))
    with pytest.raises(ValueError, match="attribute 'price' of items held numbers, but it holds s"):
        model.predict(changed)
    huge = X.with_catalog(X.catalog.with_attributes({"price": [1e200] * N_ITEMS}))
    with pytest.raises(ValueError, match="attribute 'price' of items holds numbers beyond"):
        model.predict(huge)


def priced(prices: list[float]) -> Impressions:
    """Return a row a price: everybody sees every item."""
    n = len(prices)
    log = pd.DataFrame({"user_id": np.repeat(range(8), n), "item_id": np.tile(range(n), 8)})
    return Impressions.from_log(log, ItemCatalog(range(n), attributes={"price": prices}))[0]


@pytest.mark.parametrize("prices", [[1e300] * 4, [1e300, 1.0, 2.0, 3.0], [-1e31, 1.0, 1.0, 1.0]])
def test_a_fit_refuses_numbers_that_a_network_cannot_take(prices) -> None:
    X = priced(prices)
    with pytest.raises(ValueError, match="attribute 'price' of items holds numbers beyond 1e"):
        DINClassifier(max_iter=1).fit(X, np.arange(len(X)) % 3 == 0)


@pytest.mark.parametrize("constant", [0.0, 9.99, 1e16 + 2])
def test_a_constant_tells_nothing_of_other_values(constant) -> None:
    X = priced([constant, constant, np.nan, constant])
    model = DINClassifier(max_iter=1, random_state=0).fit(X, np.arange(len(X)) % 3 == 0)
    other = X.with_catalog(X.catalog.with_attributes({"price": [constant, 3.0, -1e9, 1e28]}))
    np.testing.assert_array_equal(model.predict_proba(other), model.predict_proba(X))
