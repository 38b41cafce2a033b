"""Click rates as of the moment: against plain loops, and that no row knows its own click."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit
from scipy.stats import ks_2samp
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict

from skmars import (
    ClickRateClassifier,
    ClickRateEncoder,
    Impressions,
    ItemCatalog,
    leave_last_out,
    make_small_shop,
)
from skmars.data._columns import RATES
from skmars.data._folds import OWN, user_folds
from skmars.rates._counts import Smoothing

OF_USER, OF_ITEM = RATES[:2], RATES[2:4]


def random_log(seed: int, n_users: int = 12, n: int = 9, n_items: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(n_users), n)
    return pd.DataFrame(
        {
            "user_id": user,
            "item_id": rng.integers(0, n_items, len(user)),
            "timestamp": rng.integers(0, 40, len(user)).astype(float),  # with ties
            "clicked": rng.integers(0, 2, len(user)),
        }
    )


def read(log: pd.DataFrame, history: str, times: str) -> tuple[Impressions, np.ndarray]:
    """`times` is "times", "order" (no times) or "both" (some of the times unknown)."""
    log = log.assign(place=log.timestamp)
    settings = {"time": "timestamp", "order": "place"}
    if times == "times":
        settings = {"time": "timestamp"}
    elif times == "order":
        settings = {"time": None, "order": "place"}
    else:
        log.loc[::4, "timestamp"] = np.nan
    return Impressions.from_log(
        log, label="clicked", history=history, duplicates="keep", **settings
    )


def counted(
    X: Impressions, y: np.ndarray, rows: Impressions, timed: bool
) -> dict[str, list[tuple[int, int]]]:
    """Impressions and clicks before each row, by plain loops over the definition."""
    found: dict[str, list[tuple[int, int]]] = {"user": [], "item": []}
    none = [0.0] * len(X)
    events = zip(X.user_ids, X.item_ids, X.time if timed else none, X.history.length, y)
    events = [event for event in events if event[2] > -np.inf]
    times = rows.time if timed else [0.0] * len(rows)
    for user, item, time, length in zip(rows.user_ids, rows.item_ids, times, rows.history.length):
        of_user = [
            clicked
            for u, _, t, n, clicked in events
            if u == user and (t < time or (t == time and n < length))
        ]
        of_item = [
            clicked for _, i, t, _, clicked in events if i == item and (t < time or not timed)
        ]
        found["user"].append((len(of_user), int(sum(of_user))))
        found["item"].append((len(of_item), int(sum(of_item))))
    return found


def columns_of(counts: list[tuple[int, int]], m: float, p: float) -> np.ndarray:
    n, clicks = np.array(counts, dtype=float).T
    return np.stack([logit((clicks + m * p) / (n + m)) - logit(p), np.log1p(n)])


@given(
    st.integers(0, 10**6),
    st.sampled_from(["all", "positive"]),
    st.sampled_from(["times", "order", "both"]),
)
def test_transform_counts_what_plain_loops_count(seed, history, times) -> None:
    X, y = read(random_log(seed), history, times)
    train = np.random.default_rng(seed).random(len(X)) < 0.7
    encoder = ClickRateEncoder().fit(X[train], y[train])
    rated = encoder.transform(X)
    expected = counted(X[train], y[train], X, times != "order")
    for of, names in (("user", OF_USER), ("item", OF_ITEM)):
        values = columns_of(expected[of], encoder.smooth_[of], y[train].mean())
        for name, column in zip(names, values):
            np.testing.assert_allclose(rated.context[name], column, atol=1e-12, err_msg=name)


@given(st.integers(0, 10**6), st.sampled_from(["all", "positive"]))
def test_without_times_items_are_counted_out_of_fold(seed, history) -> None:
    X, y = read(random_log(seed), history, "order")
    encoder = ClickRateEncoder(cv=3)
    rated = encoder.fit_transform(X, y)
    fold = user_folds(X.users, 3)[X.user]
    np.testing.assert_array_equal(rated.fold, fold)
    for r in range(len(X)):
        others = fold != fold[r]
        clicks = y[others & (X.target == X.target[r])]
        counts = [(len(clicks), int(clicks.sum()))]
        rate, _ = columns_of(counts, encoder.smooth_["item"], y.mean())[:, 0]
        assert rated.context["item_click_logit"][r] == pytest.approx(rate)
        n = len(clicks) / others.mean()
        assert rated.context["item_log_impressions"][r] == pytest.approx(np.log1p(n))
    of_user = counted(X, y, X, timed=False)["user"]
    for name, column in zip(OF_USER, columns_of(of_user, encoder.smooth_["user"], y.mean())):
        np.testing.assert_allclose(rated.context[name], column, atol=1e-12)


@pytest.mark.parametrize("history", ["all", "positive"])
@pytest.mark.parametrize("times", ["times", "both"])
def test_with_times_training_rows_see_what_transform_shows(history, times) -> None:
    X, y = read(random_log(0), history, times)
    encoder = ClickRateEncoder()
    rated = encoder.fit_transform(X, y)
    again = encoder.transform(X)
    assert again.fold is None
    assert rated.fold is None
    for name in (*OF_USER, *OF_ITEM):
        np.testing.assert_array_equal(rated.context[name], again.context[name])


@given(
    st.integers(0, 10**6),
    st.sampled_from(["all", "positive"]),
    st.sampled_from(["times", "order", "both"]),
)
def test_neither_a_rows_click_nor_the_users_future_changes_its_counts(seed, history, times) -> None:
    log = random_log(seed)
    row = seed % len(log)
    now = (log.user_id == log.user_id[row]) & (log.timestamp >= log.timestamp[row])
    other = log.copy()
    other.loc[now, "clicked"] = 1 - other.clicked[now]
    later = now & (np.arange(len(log)) != row)
    items = np.random.default_rng(seed + 1).integers(0, 6, later.sum())
    other.loc[later, "item_id"] = items
    found = []
    for one in (log, other):
        X, y = read(one, history, times)
        encoder = ClickRateEncoder(smooth=2.0)
        rated = encoder.fit_transform(X, y)
        # The rate of all rows may change, which all columns are compared with.
        p = encoder.click_rate_
        for of in ("user", "item"):
            rate = rated.context[f"{of}_click_logit"][row] + logit(p)
            n = np.expm1(rated.context[f"{of}_log_impressions"][row])
            if times == "order" and of == "item":
                n *= np.mean(rated.fold != rated.fold[row])
            clicks = (n + 2.0) / (1 + np.exp(-rate)) - 2.0 * p
            found += [n, clicks]
    np.testing.assert_allclose(found[:4], found[4:], atol=1e-9)


def test_later_rows_know_all_events_and_rows_of_unknown_time_none() -> None:
    X, y = read(random_log(0), "all", "times")
    encoder = ClickRateEncoder(smooth=1.0).fit(X, y)
    frame = X.to_frame("pandas")
    later = encoder.transform(frame.assign(timestamp=1e9))
    without = encoder.transform(frame.drop(columns="timestamp"))
    unknown = encoder.transform(frame.assign(timestamp=-np.inf))
    shown = np.bincount(X.target)[X.target]
    for rated in (later, without):
        np.testing.assert_allclose(np.expm1(rated.context["item_log_impressions"]), shown)
        np.testing.assert_allclose(np.expm1(rated.context["user_log_impressions"]), 9)
    assert (without.fold == OWN).all()
    assert later.fold is None
    for name in (*OF_USER, *OF_ITEM):
        assert not unknown.context[name].any()


def test_who_and_what_fit_has_not_seen_is_as_everybody() -> None:
    X, y = read(random_log(0), "all", "times")
    encoder = ClickRateEncoder().fit(X, y)
    frame = X.to_frame("pandas")
    rated = encoder.transform(frame.assign(user_id=999, item_id=999, timestamp=1e9))
    assert all(not rated.context[name].any() for name in (*OF_USER, *OF_ITEM))
    extended = X.with_catalog(X.catalog.extend([999]))
    for name, column in encoder.transform(X).context.items():
        np.testing.assert_array_equal(encoder.transform(extended).context[name], column)


@pytest.mark.parametrize("times", ["times", "order"])
@pytest.mark.parametrize("history", ["all", "positive"])
@pytest.mark.parametrize("n_items", [15, 200])
def test_labels_of_chance_validate_at_one_half(times, history, n_items) -> None:
    log = random_log(0, n_users=300, n=12, n_items=n_items)
    # In the order of time, or without times `leave_last_out` could not tell which row is the last.
    log = log.sample(frac=1, random_state=0).assign(timestamp=np.arange(len(log)).astype(float))
    X, y = read(log, history, times)
    train, _, future = leave_last_out(X)
    rated = ClickRateEncoder().fit_transform(X[train], y[train])
    matrix = np.column_stack(list(rated.context.values()))
    stacked = ClickRateClassifier().fit_transform(X[train], y[train]).context["click_logit"]
    assert roc_auc_score(y[train], stacked) == pytest.approx(0.5, abs=0.035)
    trees = HistGradientBoostingClassifier(max_iter=20, random_state=0)
    anyone, users = KFold(3, shuffle=True, random_state=0), GroupKFold(3)
    for splits in (anyone.split(matrix), users.split(matrix, groups=X.user[train])):
        p = cross_val_predict(trees, matrix, y[train], cv=list(splits), method="predict_proba")
        assert roc_auc_score(y[train], p[:, 1]) == pytest.approx(0.5, abs=0.035)
    model = ClickRateClassifier().fit(X[train], y[train])
    assert log_loss(y[future], model.predict_proba(X[future])) < 0.71


@pytest.mark.parametrize("times", ["times", "order"])
def test_a_training_row_looks_like_a_new_one(times) -> None:
    """Users are shown as many items each, so that a random split leaves them alike."""
    rng = np.random.default_rng(0)
    log = random_log(0, n_users=600, n=10, n_items=40)
    log["clicked"] = rng.random(len(log)) < np.linspace(0.2, 0.8, 40)[log.item_id]
    log["timestamp"] = rng.permutation(len(log)).astype(float)
    X, y = read(log, "positive", times)
    new = np.isin(X.user, rng.choice(600, 100, replace=False))
    encoder = ClickRateEncoder()
    known = encoder.fit_transform(X[~new], y[~new])
    rated = encoder.transform(X[new])
    for name in OF_ITEM:
        distance = ks_2samp(known.context[name], rated.context[name]).statistic
        assert distance < 0.15, name
    # And they tell the same of the click.
    correlation = [
        np.corrcoef(part.context["item_click_logit"], labels)[0, 1]
        for part, labels in ((known, y[~new]), (rated, y[new]))
    ]
    assert correlation[0] == pytest.approx(correlation[1], abs=0.1)


@pytest.mark.parametrize("strength", [3.0, 30.0])
def test_auto_finds_how_far_rates_differ(strength) -> None:
    rng = np.random.default_rng(0)
    rates = rng.beta(strength * 0.3, strength * 0.7, 3000)
    group = np.repeat(np.arange(3000), rng.integers(1, 40, 3000))
    clicked = (rng.random(len(group)) < rates[group]).astype(float)
    found = Smoothing.of(group, clicked, 0.3, "auto").strength
    assert found == pytest.approx(strength, rel=0.15)


def test_auto_gives_all_one_rate_where_they_do_not_differ() -> None:
    clicked = np.tile([0.0, 1.0], 500)  # less than by chance
    found = Smoothing.of(np.repeat(np.arange(100), 10), clicked, 0.5, "auto")
    assert found.strength == 1000
    assert np.ptp(found.log_odds(np.array([0, 10]), np.array([0, 10]))) < 0.05
    # One event a group tells nothing of how groups differ.
    assert Smoothing.of(np.arange(1000), clicked, 0.5, "auto").strength == 1000


@given(st.integers(0, 10**6))
def test_subsets_and_permutations_of_new_rows_change_nothing(seed) -> None:
    X, y = read(random_log(seed), "positive", "times")
    encoder = ClickRateEncoder().fit(X[::2], y[::2])
    rows = np.random.default_rng(seed).permutation(len(X))[:20]
    whole, part = encoder.transform(X), encoder.transform(X[rows])
    for name in (*OF_USER, *OF_ITEM):
        np.testing.assert_array_equal(whole.context[name][rows], part.context[name])


@given(st.integers(0, 10**6), st.sampled_from(["times", "order"]))
def test_the_order_of_the_rows_of_fit_changes_nothing(seed, times) -> None:
    X, y = read(random_log(seed), "positive", times)
    rows = np.random.default_rng(seed).permutation(len(X))
    one = ClickRateEncoder().fit_transform(X, y)
    two = ClickRateEncoder().fit_transform(X[rows], y[rows])
    for name in (*OF_USER, *OF_ITEM):
        np.testing.assert_allclose(one.context[name][rows], two.context[name], atol=1e-9)


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_tables_give_the_same(kind) -> None:
    X, y = make_small_shop(n_users=40, random_state=0)
    expected = ClickRateEncoder().fit_transform(X, y)
    table = X.to_frame(kind)
    encoder = ClickRateEncoder()
    found = encoder.fit_transform(table, y.astype(bool))
    assert found.context.keys() == expected.context.keys()
    for name, column in expected.context.items():
        np.testing.assert_array_equal(found.context[name], column)
    assert found.columns == encoder.get_feature_names_out().tolist()
    assert encoder.classes_.tolist() == [False, True]


def test_it_is_an_estimator() -> None:
    X, y = make_small_shop(n_users=40, random_state=0)
    encoder = ClickRateEncoder(smooth=3, cv=4)
    with pytest.raises(NotFittedError):
        encoder.transform(X)
    assert clone(encoder).get_params() == {"smooth": 3, "category": "auto", "cv": 4}
    before = {name: column.copy() for name, column in X.context.items()}
    encoder.fit(X, y)
    restored = pickle.loads(pickle.dumps(encoder))
    for name, column in encoder.transform(X).context.items():
        np.testing.assert_array_equal(restored.transform(X).context[name], column)
    assert X.context.keys() == before.keys()
    assert len(encoder.transform(X[:0])) == 0
    assert encoder.smooth_ == {"user": 3, "item": 3}


@pytest.mark.parametrize(
    ("settings", "change", "error", "message"),
    [
        ({}, lambda X, y: (X, None), ValueError, "requires y to be passed"),
        ({}, lambda X, y: (X[:0], y[:0]), ValueError, "at least one row"),
        ({}, lambda X, y: (X, y[:-1]), ValueError, "inconsistent numbers of samples"),
        ({}, lambda X, y: (X, np.zeros(len(X))), ValueError, "only one class"),
        ({}, lambda X, y: (X, np.arange(len(X)) % 3), ValueError, "Only binary"),
        ({}, lambda X, y: (np.zeros((3, 2)), y[:3]), TypeError, "works on Impressions"),
        ({"smooth": 0}, lambda X, y: (X, y), ValueError, "'smooth' parameter"),
        ({"smooth": "some"}, lambda X, y: (X, y), ValueError, "'smooth' parameter"),
        ({"cv": 1}, lambda X, y: (X, y), ValueError, "'cv' parameter"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_fitted(settings, change, error, message) -> None:
    X, y = make_small_shop(n_users=20, random_state=0)
    for method in ("fit", "fit_transform"):
        encoder = ClickRateEncoder(**settings)
        with pytest.raises(error, match=message):
            getattr(encoder, method)(*change(X, y))
        assert set(vars(encoder)) == {"smooth", "category", "cv"}


def test_ids_of_another_kind_are_refused() -> None:
    X, y = make_small_shop(n_users=20, random_state=0)
    encoder = ClickRateEncoder().fit(X, y)
    frame = X.to_frame("pandas")
    with pytest.raises(TypeError, match="user_id of X holds strings"):
        encoder.transform(frame.assign(user_id=frame.user_id.astype(str)))
    text = frame.assign(
        item_id=frame.item_id.astype(str), history=[list(map(str, h)) for h in frame.history]
    )
    with pytest.raises(TypeError, match="item_id of X holds strings"):
        encoder.transform(text)
    with pytest.raises(ValueError, match="lacks the context column 'item_rate'"):
        encoder.transform(frame.drop(columns="item_rate"))
    log = random_log(0).assign(item_click_logit=0.0)
    with pytest.raises(ValueError, match="can't be context"):
        Impressions.from_log(log, label="clicked", context=["item_click_logit"])


def with_category(X: Impressions) -> Impressions:
    names = [None if i == 5 else f"c{i % 2}" for i in range(len(X.catalog))]
    lists = [["a"]] * len(X.catalog)
    columns = {"category": names, "price": np.arange(len(names)), "tags": lists}
    return X.with_catalog(X.catalog.with_attributes(columns))


@pytest.mark.parametrize("times", ["times", "order"])
def test_the_category_is_counted_as_items_are(times) -> None:
    X, y = read(random_log(0), "all", times)
    X = with_category(X)
    encoder = ClickRateEncoder(cv=3)
    rated = encoder.fit_transform(X, y)
    assert encoder.smooth_.keys() == {"user", "item", "category"}
    fold = user_folds(X.users, 3)[X.user]
    category = np.where(X.target == 5, -1, X.target % 2)
    for r in range(len(X)):
        some = X.time < X.time[r] if times == "times" else fold != fold[r]
        clicks = y[some & (category == category[r])] if category[r] >= 0 else y[:0]
        counts = [(len(clicks), int(clicks.sum()))]
        rate, _ = columns_of(counts, encoder.smooth_["category"], y.mean())[:, 0]
        assert rated.context["category_click_logit"][r] == pytest.approx(rate)


def test_a_new_item_has_the_rate_of_its_category() -> None:
    X, y = read(random_log(0), "all", "times")
    encoder = ClickRateEncoder().fit(with_category(X), y)
    frame = X[:1].to_frame("pandas").assign(item_id=99, timestamp=1e9)
    catalog = ItemCatalog([*X.catalog.ids, 99], attributes={"category": ["c1"] * 6 + ["c0"]})
    new = encoder.transform(Impressions.from_frame(frame, catalog)).context
    known = encoder.transform(frame.assign(item_id=0)).context  # whose category fit knows
    for name in RATES[4:]:
        assert new[name] == known[name] != 0
    nothing = encoder.transform(frame).context
    assert nothing["category_log_impressions"] == 0
    assert new["item_log_impressions"] == 0 < known["item_log_impressions"]


def test_a_category_that_is_none_is_refused() -> None:
    X, y = read(random_log(0), "all", "times")
    X = with_category(X)
    for name, message in (
        ("genre", "names no attribute"),
        ("price", "holds numbers"),
        ("tags", "holds lists"),
    ):
        with pytest.raises(ValueError, match=message):
            ClickRateEncoder(category=name).fit(X, y)
    assert len(ClickRateEncoder(category=None).fit_transform(X, y).context) == 4


@pytest.mark.parametrize("smooth", [1e-300, 1e-17, 1e300])
def test_any_smoothing_gives_finite_numbers(smooth) -> None:
    X, y = read(random_log(0), "all", "times")
    rated = ClickRateEncoder(smooth=smooth).fit_transform(X, y)
    assert all(np.isfinite(rated.context[name]).all() for name in RATES[:4])


def test_a_category_that_no_new_item_has_may_be_of_any_kind() -> None:
    X, y = read(random_log(0), "all", "times")
    encoder = ClickRateEncoder().fit(with_category(X), y)
    frame = pd.DataFrame({"user_id": [0], "item_id": [99], "history": [[]], "timestamp": [1e9]})
    for column in ([np.nan], [None], [[]]):
        new = Impressions.from_frame(frame, ItemCatalog([99], attributes={"category": column}))
        assert encoder.transform(new).context["category_log_impressions"] == 0
    new = Impressions.from_frame(frame, ItemCatalog([99], attributes={"category": [3.0]}))
    with pytest.raises(ValueError, match="holds numbers"):
        encoder.transform(new)


@pytest.mark.parametrize("times", ["times", "order"])
def test_updated_has_counted_all_rows(times) -> None:
    X, y = read(random_log(0), "all", times)
    some = X.history.length < 5
    for step in (ClickRateEncoder(), ClickRateClassifier()):
        fitted = clone(step).fit(X[some], y[some])
        before = fitted.transform(X).to_frame("pandas")
        updated = fitted.updated(X, y)
        pd.testing.assert_frame_equal(fitted.transform(X).to_frame("pandas"), before)
        with pytest.raises(ValueError, match="X lacks rows of .* users that ClickRate"):
            fitted.updated(X[X.user > 0], y[X.user > 0])
        expected = ClickRateEncoder().fit(X, y).transform(X)
        if isinstance(updated, ClickRateClassifier):  # whose regression stays
            assert updated.model_ is fitted.model_
            logit_of = updated.model_.decision_function(updated._design(expected))
            np.testing.assert_array_equal(updated.decision_function(X), logit_of)
        else:
            found = updated.transform(X).to_frame("pandas")
            pd.testing.assert_frame_equal(found, expected.to_frame("pandas"))
