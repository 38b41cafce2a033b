"""A pipeline goes on with new events: in the right order, without leaks, all or nothing."""

from __future__ import annotations

import pickle
import warnings
from copy import copy

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from skmars import (
    ClickRateClassifier,
    ClickRateEncoder,
    DINClassifier,
    Impressions,
    ItemCatalog,
    SequenceRetrievalAugmenter,
    SteinAligner,
    make_mars,
    update,
)
from skmars.alignment import LinearAligner
from skmars.baselines import RandomItems
from skmars.data._columns import FACTORS

N_USERS, N_ITEMS, N_DAYS = 120, 40, 8
SMALL = {
    "align__n_components": 16,
    "align__id_dim": 8,
    "align__max_iter": 1,
    "ctr__max_iter": 3,
}


def make_days(seed: int = 0) -> list[pd.DataFrame]:
    """Return a log a day: users like every second item, and some come and go."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, N_USERS, 3200)
    item = rng.integers(0, N_ITEMS, len(user))
    log = pd.DataFrame(
        {
            "user_id": user,
            "item_id": item,
            "timestamp": np.sort(rng.random(len(user)) * N_DAYS),
            "clicked": (rng.random(len(user)) < np.where((user + item) % 2, 0.8, 0.2)).astype(int),
            "hour": rng.integers(0, 24, len(user)),
        }
    )
    # Users and items that come later.
    log = log[(log.timestamp > 5) | ((log.user_id < 100) & (log.item_id < 35))]
    return [log[np.floor(log.timestamp) == day] for day in range(N_DAYS)]


def catalog() -> ItemCatalog:
    texts = [f"kind {item % 2} colour {item % 7}" for item in range(N_ITEMS)]
    return ItemCatalog(np.arange(N_ITEMS), content={"text": texts})


@pytest.fixture(scope="module")
def world():
    days = make_days()
    settings = {"label": "clicked", "history": "all", "context": ["hour"]}
    X, y = Impressions.from_log(pd.concat(days[:5]), catalog(), **settings)
    mars = make_mars(random_state=0, **SMALL).fit(X, y)
    more, labels = X.append(days[5])
    return days, mars, X, y, more, labels, slice(len(X), None)


class Spy(ClassifierMixin, BaseEstimator):
    """Remembers the rows that it learns from."""

    def fit(self, X, y):
        self.classes_ = np.array([0, 1])
        self.seen_ = []
        return self

    def partial_fit(self, X, y):
        self.seen_.append((X, np.asarray(y)))
        return self

    def predict(self, X):
        return np.zeros(len(X))


def as_table(X: Impressions) -> pd.DataFrame:
    return X.to_frame().drop(columns="user_embedding", errors="ignore")


# --- the order: features first, then the classifier, then the steps ------------------------------


def test_the_classifier_learns_from_rows_as_the_old_steps_make_them(world) -> None:
    _, mars, _, _, more, labels, new = world
    spying = Pipeline([*mars.steps[:-1], ("ctr", Spy().fit(None, None))])
    updated = update(spying, more, labels, new)
    (fresh, y), *rest = updated["ctr"].seen_
    assert not rest
    assert not spying["ctr"].seen_
    expected = mars[:-1].transform(more[new])
    pd.testing.assert_frame_equal(as_table(fresh), as_table(expected))
    np.testing.assert_array_equal(
        fresh.catalog.features[FACTORS], expected.catalog.features[FACTORS]
    )
    np.testing.assert_array_equal(y, labels[new])


def test_features_of_new_rows_depend_on_no_click_of_the_same_users_moment_or_later(world) -> None:
    days, mars, X, _, *_ = world
    spying = Pipeline([*mars.steps[:-1], ("ctr", Spy().fit(None, None))])
    day = days[5].reset_index(drop=True)
    at = 200
    flipped = day.copy()
    flipped.loc[at:, "clicked"] = 1 - flipped.loc[at:, "clicked"]
    seen = []
    for log in (day, flipped):
        more, labels = X.append(log)
        fresh, _ = update(spying, more, labels, slice(len(X), None))["ctr"].seen_[0]
        seen.append(as_table(fresh)[: at + 1])
    pd.testing.assert_frame_equal(*seen)


def test_donors_are_those_of_a_refit_on_the_same_features(world) -> None:
    _, mars, _, _, more, labels, new = world
    updated = update(mars, more, labels, new)
    features = updated[:2].transform(more)
    refitted = clone(mars["augment"]).fit(features)
    ours = updated["augment"]
    assert ours.n_donors_ != mars["augment"].n_donors_
    for name in ("low_threshold_", "high_threshold_"):
        assert getattr(ours, name) == getattr(refitted, name)
    for name in ("donor_ids_", "donor_embedding_", "user_center_", "item_center_", "item_ids_"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(refitted, name))
    rows = features[::7]
    pd.testing.assert_frame_equal(
        as_table(ours.transform(rows)), as_table(refitted.transform(rows))
    )


def test_the_space_stays_and_new_items_get_factors(world) -> None:
    _, mars, _, _, more, labels, new = world
    updated = update(mars, more, labels, new)
    before, after = mars["align"].encoder_, updated["align"].encoder_
    assert after.network is before.network
    assert before.factors.ids.max() < 35 <= after.factors.ids.max()
    # One basis: known items stay near where they were.
    there = before.factors.items(after.factors.ids, "ids") >= 0
    ours, theirs = after.factors.vectors[there], before.factors.vectors
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert np.median(cosine) > 0.9


def test_the_given_pipeline_goes_on_as_before(world) -> None:
    _, mars, _, _, more, labels, new = world
    before = mars.predict_proba(more[new])
    state = pickle.dumps(mars["ctr"].loss_curve_)
    updated = update(mars, more, labels, new)
    np.testing.assert_array_equal(mars.predict_proba(more[new]), before)
    assert pickle.dumps(mars["ctr"].loss_curve_) == state
    assert np.abs(updated.predict_proba(more[new]) - before).max() > 1e-3
    assert [name for name, _ in updated.steps] == [name for name, _ in mars.steps]


def test_updates_follow_one_another_also_from_a_file(world) -> None:
    days, mars, X, *_ = world
    for day in days[5:]:
        n = len(X)
        X, y = X.append(day)
        mars = update(pickle.loads(pickle.dumps(mars)), X, y, np.arange(n, len(X)))
        assert mars["augment"]._activity.longest.sum() > 0
    assert mars["ctr"].n_iter_ == 3 + 3
    assert set(mars["ctr"].item_ids_) == set(range(N_ITEMS))
    assert np.isfinite(mars.predict_proba(X[-5:])).all()


def test_what_is_new_is_learnt() -> None:
    """New items, of which a stale model only knows that they are new."""
    rng = np.random.default_rng(0)
    n, n_old = 6000, 3000
    item = np.where(np.arange(n) < n_old, rng.integers(0, 10, n), rng.integers(10, 20, n))
    log = pd.DataFrame(
        {
            "user_id": rng.integers(0, 200, n),
            "item_id": item,
            "timestamp": np.arange(n),
            "clicked": (rng.random(n) < np.where(item % 2, 0.9, 0.1)).astype(int),
        }
    )
    X, y = Impressions.from_log(log[:n_old], label="clicked")
    stale = fresh = make_mars(
        random_state=0, encode="passthrough", align__modalities=(), **SMALL
    ).fit(X, y)
    for begin in range(n_old, n - 500, 500):
        X, y = X.append(log[begin : begin + 500])
        fresh = update(fresh, X, y, slice(begin, None))
    X, y = X.append(log[n - 500 :])
    stale_auc, fresh_auc = (
        roc_auc_score(y[-500:], model.predict_proba(X[-500:])[:, 1]) for model in (stale, fresh)
    )
    assert stale_auc < 0.65
    assert fresh_auc > 0.8


@pytest.mark.parametrize("history", ["all", "positive"])
def test_chance_is_worth_nothing_and_costs_log_2(history) -> None:
    rng = np.random.default_rng(3)
    n, n_first, n_day = 7000, 4000, 500
    log = pd.DataFrame(
        {
            "user_id": rng.integers(0, 400, n),
            "item_id": rng.integers(0, 300, n),
            "timestamp": np.arange(n),
            "clicked": rng.integers(0, 2, n),
        }
    )
    X, y = Impressions.from_log(log[:n_first], label="clicked", history=history)
    model = make_mars(
        random_state=0, encode="passthrough", align__modalities=(), **SMALL | {"ctr__max_iter": 5}
    ).fit(X, y)
    clicks, predicted = [], []
    for begin in range(n_first, n, n_day):
        X, y = X.append(log[begin : begin + n_day])
        predicted.append(model.predict_proba(X[begin:])[:, 1])
        clicks.append(y[begin:])
        model = update(model, X, y, slice(begin, None))
    after = np.concatenate(predicted[1:]), np.concatenate(clicks[1:])  # days after an update
    # Of 2500 rows, AUC has a standard deviation of 0.012.
    assert roc_auc_score(after[1], after[0]) == pytest.approx(0.5, abs=0.036)
    assert log_loss(after[1], after[0]) < 0.71


# --- what is refused ------------------------------------------------------------------------------


def test_rows_that_are_known_already_are_not_learnt_again(world) -> None:
    _, mars, X, _, more, labels, new = world
    updated = update(mars, more, labels, new)
    with pytest.raises(ValueError, match="learnt what their users did at the time of all of them"):
        update(updated, more, labels, new)  # the same day again
    spying = Pipeline([*mars.steps[:-1], ("ctr", Spy().fit(None, None))])
    with pytest.warns(UserWarning, match=f"of {len(more)} new rows are not later than"):
        learnt = update(spying, more, labels, slice(None))["ctr"].seen_[0][0]
    assert len(learnt) == len(more) - len(X)
    assert not mars["augment"]._activity.has_later_events(learnt).any()


def test_rows_of_the_fit_must_not_be_forgotten(world) -> None:
    _, mars, _, _, more, labels, new = world
    with pytest.raises(ValueError, match="X lacks rows of .* that SteinAligner knows"):
        update(mars, more[new], labels[new], slice(None))
    alone = Pipeline(mars.steps[2:])  # the augmenter says so itself
    features = mars[:2].transform(more)
    with pytest.raises(ValueError, match="that SequenceRetrievalAugmenter knows"):
        update(alone, features[new], labels[new], slice(None))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": slice(0, -1)}, ValueError, "y must have the click of every row"),
        ({"new": []}, ValueError, "new selects no row"),
        ({"new": 5}, TypeError, r"slice\(n, None\)"),
        ({"new": [10**6]}, IndexError, "out of bounds"),
        ({"X": "no rows"}, TypeError, "works on Impressions"),
    ],
)
def test_bad_arguments_are_named(world, change, error, message) -> None:
    _, mars, _, _, more, labels, new = world
    y = labels[change["y"]] if "y" in change else labels
    new = np.asarray(change["new"], dtype=int) if "new" in change else new
    with pytest.raises(error, match=message):
        update(mars, change.get("X", more), y, new)


def test_pipelines_that_cannot_go_on_are_refused(world) -> None:
    _, mars, _, _, more, labels, new = world
    with pytest.raises(TypeError, match="must be a scikit-learn Pipeline, got DINClassifier"):
        update(mars["ctr"], more, labels, new)
    search = GridSearchCV(mars, {})
    search.best_estimator_ = mars
    with pytest.raises(TypeError, match="got GridSearchCV. Pass its best_estimator_"):
        update(search, more, labels, new)
    with pytest.raises(NotFittedError):
        update(clone(mars), more, labels, new)
    other = Pipeline([("random", RandomItems()), ("ctr", mars["ctr"])])
    with pytest.raises(TypeError, match=r"step 'random' \(RandomItems\) can't be brought forward"):
        update(other, more, labels, new)
    other = Pipeline([*mars.steps[:-1], ("ctr", LogisticRegression())])
    with pytest.raises(TypeError, match=r"step 'ctr' \(LogisticRegression\) has no partial_fit"):
        update(other, more, labels, new)


def test_a_column_that_the_fit_had_is_missed(world) -> None:
    days, mars, _, y, *_ = world
    X, _ = Impressions.from_log(pd.concat(days[:6]), catalog(), label="clicked", history="all")
    with pytest.raises(ValueError, match="X lacks the context column 'hour'"):
        update(mars, X, np.resize(y, len(X)), slice(len(y), None))


def test_a_failure_changes_nothing(world) -> None:
    _, mars, _, _, more, labels, new = world

    class Fails(SequenceRetrievalAugmenter):
        def updated(self, X, y=None):
            raise RuntimeError("no disk")

    failing = copy(mars["augment"])
    failing.__class__ = Fails
    pipeline = Pipeline([*mars.steps[:2], ("augment", failing), mars.steps[3]])
    before = pipeline.predict_proba(more[new])
    with pytest.raises(RuntimeError):
        update(pipeline, more, labels, new)
    np.testing.assert_array_equal(pipeline.predict_proba(more[new]), before)


# --- pipelines of fewer steps ---------------------------------------------------------------------


def test_a_classifier_alone_and_an_aligner_without_factors_go_on(world) -> None:
    _, _, X, y, more, labels, new = world
    din = DINClassifier(max_iter=1, random_state=0)
    alone = update(Pipeline([("ctr", din)]).fit(X, y), more, labels, new)
    expected = clone(din).fit(X, y).partial_fit(more[new], labels[new])
    np.testing.assert_array_equal(alone.predict_proba(more), expected.predict_proba(more))
    aligner = SteinAligner(8, id_dim=8, modalities=(), n_factors=0, max_iter=1, random_state=0)
    model = Pipeline([("align", aligner), ("ctr", clone(din))]).fit(X, y)
    updated = update(model, more, labels, new)
    assert updated["align"].encoder_ is model["align"].encoder_
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        updated.predict_proba(more[new])


def test_an_aligner_of_arrays_is_refused() -> None:
    aligner = SteinAligner(4, max_iter=1).fit(np.random.default_rng(0).normal(size=(20, 6)))
    rows = pd.DataFrame({"user_id": [1], "item_id": [1], "history": [[]]})
    with pytest.raises(TypeError, match="fitted on a plain array, but X is impressions"):
        aligner.updated(rows)


def test_click_rates_and_linear_aligners_go_on(world) -> None:
    _, _, X, y, more, labels, new = world
    mars = make_mars(random_state=0, align=LinearAligner("mean"), ctr__max_iter=1)
    mars.steps[2:2] = [("rates", ClickRateEncoder()), ("logit", ClickRateClassifier())]
    mars.fit(X, y)
    updated = update(mars, more, labels, new)
    refit = ClickRateEncoder().fit(more, labels).transform(more)
    found = updated["rates"].transform(more)
    for name, column in refit.context.items():
        np.testing.assert_array_equal(found.context[name], column)
    assert updated["logit"].encoder_.click_rate_ == labels.mean()
    assert updated["align"] is mars["align"]
