"""Answers, recommendations and explanations of a scorer; what it refuses; and what it probes."""

from __future__ import annotations

from dataclasses import replace
from threading import Thread

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

import skmars
from skmars import Impressions, make_mars, make_multimodal_ctr
from skmars.data._user_histories import UserHistories
from skmars.persistence import Model
from skmars.serving import EVENT, Events, Request, Scorer, Snapshot
from tests.serving.shops import (
    N_ITEMS,
    N_USERS,
    MemoryStore,
    Setting,
    catalog,
    events,
    first_log,
    fitted,
    other_pool,
)

TIMED = Setting("all")
HERE = {"hour": 1.0, "device": "phone"}


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.append(events(first_log()))
    return store


@pytest.fixture
def snapshot() -> Snapshot:
    return Snapshot.of(fitted(TIMED))


def served(user: int, items: list[int]) -> Impressions:
    """Return the rows that the library makes of the first log."""
    n = len(items)
    context = {"hour": np.ones(n), "device": np.array(["phone"] * n, dtype=object)}
    histories = UserHistories.of(TIMED.read(first_log())[0])
    return histories.impressions(np.full(n, user), np.array(items), context=context)


# --- scores -----------------------------------------------------------------------------------


def test_events_that_could_not_be_had_are_flagged(store, snapshot) -> None:
    scorer = Scorer(store)
    asked = [Request(N_USERS - 1, [1, 2], None, HERE), Request(N_USERS - 2, [3], None, HERE)]
    known, unknown = scorer.answer(snapshot, asked, [scorer.fetch(asked)[0][0], None], [7, None])
    assert (known.position, known.flags) == (7, ())
    assert (unknown.position, unknown.flags) == (0, ("no_history",))
    (whole,) = scorer.score(snapshot, asked[:1])
    np.testing.assert_allclose(known.probability, whole.probability, atol=1e-6)
    store.events.pop(N_USERS - 2)
    (nothing,) = scorer.score(snapshot, asked[1:])
    np.testing.assert_allclose(unknown.probability, nothing.probability, atol=1e-6)
    assert nothing.flags == ()


def test_there_may_be_nothing_to_score(store, snapshot) -> None:
    scorer = Scorer(store)
    assert scorer.score(snapshot, []) == []
    assert len(scorer.score(snapshot, [Request(1, [], None, HERE)])[0].probability) == 0
    one, none = scorer.score(snapshot, [Request(1, [5], None, HERE), Request(1, [], None, HERE)])
    assert (len(one.probability), len(none.probability)) == (1, 0)


def test_a_user_may_ask_several_times_at_once(store, snapshot) -> None:
    scorer = Scorer(store)
    asked = [Request(N_USERS - 1, [1, 2], time, HERE) for time in (None, 10.0, None, 20.0)]
    for request, answer in zip(asked, scorer.score(snapshot, asked)):
        (alone,) = scorer.score(snapshot, [request])
        np.testing.assert_allclose(answer.probability, alone.probability, atol=1e-6)


def test_ids_may_be_strings() -> None:
    log = first_log().assign(
        user_id=first_log().user_id.astype(str), item_id=first_log().item_id.astype(str)
    )
    X, y = Impressions.from_log(log, label="clicked", duplicates="keep")
    pipeline = Pipeline([("ctr", skmars.DINClassifier(max_iter=1, random_state=0))]).fit(X, y)
    store = MemoryStore()
    store.append(events(log))
    snapshot = Snapshot.of(Model.of(pipeline, X))
    snapshot.check()
    (answer,) = Scorer(store).score(snapshot, [Request("11", ["3", "new"])])
    rows = UserHistories.of(X).impressions(
        np.array(["11", "11"], dtype=object), np.array(["3", "new"], dtype=object)
    )
    np.testing.assert_array_equal(answer.probability, pipeline.predict_proba(rows)[:, 1])
    with pytest.raises(TypeError, match="user_id holds integers but the log of the model holds st"):
        Scorer(store).answer(snapshot, [Request(11, ["3"])], [None], None)
    with pytest.raises(TypeError, match="item_ids holds integers but the catalogue holds strings"):
        Scorer(store).answer(snapshot, [Request("11", [3])], [None], None)


def test_the_whole_of_mars_is_served() -> None:
    X, y = make_multimodal_ctr(n_users=60, n_items=40, random_state=0)
    mars = make_mars(rates=True, random_state=0, align__max_iter=1, ctr__max_iter=1).fit(X, y)
    histories, store = UserHistories.of(X), MemoryStore()
    at = histories.events.positions()
    assert histories.events.time is not None
    n = len(at)
    store.append(
        Events(
            np.repeat(histories.users, histories.events.length).tolist(),
            X.catalog.ids[histories.events.items[at]].tolist(),
            histories.events.time[at],
            np.ones(n, dtype=np.uint8),
            list(map(str, range(n))),
        )
    )
    snapshot = Snapshot.of(Model.of(mars, X))
    snapshot.check()
    items = X.catalog.ids[:5].tolist()
    for user in histories.users[:4].tolist():
        (answer,) = Scorer(store).score(snapshot, [Request(user, items)])
        rows = histories.impressions(np.full(5, user), np.array(items))
        np.testing.assert_allclose(answer.probability, mars.predict_proba(rows)[:, 1], atol=1e-6)


def test_threads_share_a_scorer(store, snapshot) -> None:
    scorer, answers = Scorer(store), {}

    def ask(user: int) -> None:
        answers[user] = scorer.score(snapshot, [Request(user, [1, 99], None, HERE)])[0].probability

    threads = [Thread(target=ask, args=(user,)) for user in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for user in range(6):
        (alone,) = Scorer(store).score(snapshot, [Request(user, [1, 99], None, HERE)])
        np.testing.assert_array_equal(answers[user], alone.probability)


# --- recommendations and explanations ---------------------------------------------------------


def test_recommendations_are_those_of_the_library(store, snapshot) -> None:
    scorer = Scorer(store)
    X = served(N_USERS - 1, [0])
    for given, options in [
        ([], {}),
        ([1, 5, 7, 99], {}),
        ([], {"candidates": 6}),
        ([3, 4, 5], {"exclude_seen": False}),
    ]:
        request = Request(N_USERS - 1, given, None, HERE)
        found = scorer.recommend(snapshot, request, 4, **options)
        rows = X.with_catalog(X.catalog.extend(given)) if given else X
        settings = {"candidates": given or None, **options}
        wanted = skmars.recommend(snapshot.pipeline, rows, 4, frame="pandas", **settings)
        assert found.item_ids == wanted.item_id.tolist()
        assert found.titles == wanted.title.tolist()
        np.testing.assert_allclose(found.probability, wanted.probability, atol=1e-6)
        assert found.position == store.position
    nothing = scorer.recommend(
        snapshot, Request(N_USERS - 1, [], None, HERE), fetched=([None], None)
    )
    assert nothing.flags == ("no_history",)
    request = Request(1, [1, 2], None, {**HERE, "hour": [1.0, 2.0]})
    with pytest.raises(ValueError, match=r"context\['hour'\] has 2 values for 1 candidates"):
        scorer.recommend(snapshot, request)


def test_explanations_are_those_of_the_library(store, snapshot) -> None:
    found = Scorer(store).explain(snapshot, Request(3, [1, 2], None, HERE))
    wanted = skmars.explain(snapshot.pipeline, served(3, [1, 2]), frame="pandas")
    told = found.rows.to_pandas()
    for column in ("item_id", "title", "reason", "history", "n_borrowed"):
        assert told[column].tolist() == wanted.rows[column].tolist()
    np.testing.assert_allclose(told.probability, wanted.rows.probability, atol=1e-6)


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (Request("1", [1], None, HERE), TypeError, "user_id holds strings but the log of the mo"),
        (Request(None, [1], None, HERE), ValueError, "user_id holds 1 missing ids"),
        (Request(1, ["1"], None, HERE), TypeError, "item_ids holds strings but the catalogue"),
        (Request(1, 7, None, HERE), TypeError, "item_ids must be a sequence of ids, got 7"),
        (Request(1, [1, None], None, HERE), ValueError, "item_ids holds 1 missing ids"),
        (Request(1, [1], "noon", HERE), TypeError, "time must be a number of seconds or None"),
        (Request(1, [1], True, HERE), TypeError, "time must be a number of seconds or None"),
        (Request(1, [1], np.inf, HERE), ValueError, "time must be finite"),
        (Request(1, [1]), ValueError, "context lacks the column 'hour'.* are 'hour', 'device'"),
        (Request(1, [1], None, {"hour": 1.0}), ValueError, "context lacks the column 'device'"),
        (Request(1, [1], None, {**HERE, "x": 1}), ValueError, "has the column 'x', which the mod"),
        (Request(1, [1], None, [1]), TypeError, "context must be a mapping"),
        (Request(1, [1], None, {**HERE, "hour": "7"}), TypeError, "'hour'. must hold numbers"),
        (Request(1, [1], None, {**HERE, "hour": True}), TypeError, "'hour'. must hold numbers"),
        (Request(1, [1], None, {**HERE, "hour": None}), ValueError, "'hour'. must be a finite"),
        (Request(1, [1], None, {**HERE, "hour": np.nan}), ValueError, "'hour'. must be a finite"),
        (Request(1, [1], None, {**HERE, "device": 7}), TypeError, "'device'. must hold strings"),
        (Request(1, [1], None, {**HERE, "hour": [1, 2]}), ValueError, "has 2 values for 1 cand"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(request_, error, message, store, snapshot) -> None:
    with pytest.raises(error, match=message):
        Scorer(store).answer(snapshot, [request_], [None], None)


def test_times_fit_those_of_the_model(store) -> None:
    log = first_log().assign(timestamp=first_log().timestamp + 1.7e9)
    X, y = Impressions.from_log(log, label="clicked", duplicates="keep")
    pipeline = Pipeline([("ctr", skmars.DINClassifier(max_iter=1, random_state=0))]).fit(X, y)
    dated = Snapshot.of(Model.of(pipeline, X))
    scorer = Scorer(store)
    with pytest.raises(ValueError, match="time holds times of about 1.7e.12, but the log of the"):
        scorer.score(dated, [Request(1, [1], 1.7e12)])
    scorer.score(dated, [Request(1, [1], 1.7e9), Request(1, [1], np.nan)])
    timeless = Snapshot.of(fitted(Setting(timed=False)))
    with pytest.raises(ValueError, match="time is 3, but the log of the model has no times"):
        scorer.score(timeless, [Request(1, [1], 3, HERE)])


def test_a_store_of_other_items_is_refused(snapshot) -> None:
    store = MemoryStore()
    event = Events([1], ["a"], np.array([1.0]), np.ones(1, np.uint8), ["1"])
    store.append(event)
    with pytest.raises(TypeError, match="item ids of the store holds strings but the catalogue"):
        Scorer(store).score(snapshot, [Request(1, [1], None, HERE)])


def test_booleans_are_context_as_they_were_read(store) -> None:
    for values in ([True, False], ["True", "False"]):
        log = first_log().assign(member=np.array(values * (len(first_log()) // 2), dtype=object))
        X, y = Impressions.from_log(log, label="clicked", context=["member"], duplicates="keep")
        din = skmars.DINClassifier(max_iter=1, random_state=0)
        snapshot = Snapshot.of(Model.of(Pipeline([("ctr", din)]).fit(X, y), X))
        wanted = UserHistories.of(X).impressions(
            np.array([1]), np.array([2]), context={"member": np.array(values[:1])}
        )
        for value in (True, np.True_, "True"):
            (answer,) = Scorer(store).score(snapshot, [Request(1, [2], None, {"member": value})])
            np.testing.assert_array_equal(
                answer.probability, snapshot.pipeline.predict_proba(wanted)[:, 1]
            )
        with pytest.raises(TypeError, match="'member'. must hold booleans"):
            Scorer(store).score(snapshot, [Request(1, [2], None, {"member": 1})])


# --- snapshots --------------------------------------------------------------------------------


def test_an_order_that_a_store_does_not_keep_is_refused() -> None:
    model = fitted(TIMED)
    with pytest.raises(ValueError, match="orders events by the column 'step'"):
        Snapshot.of(replace(model, columns=replace(model.columns, order="step")))
    Snapshot.of(replace(model, columns=replace(model.columns, order="timestamp")))
    with pytest.raises(TypeError, match="model must be a skmars.persistence.Model, got Pipeline"):
        Snapshot.of(model.pipeline)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must predict probabilities"):
        Snapshot.of(replace(model, pipeline=model.pipeline[:-1]))
    with pytest.raises(ValueError, match="has no SequenceRetrievalAugmenter"):
        Snapshot.of(replace(model, pipeline=model.pipeline[1:]), other_pool(TIMED))


def test_a_pool_is_lent_to_the_augmenter_wherever_it_is(store) -> None:
    model = fitted(TIMED)
    search = GridSearchCV(model.pipeline, {"augment__theta": [0.0]})
    search.best_estimator_ = model.pipeline
    request = [Request(1, [1, 2], None, HERE)]
    answers = [
        Scorer(store).score(Snapshot.of(replace(model, pipeline=p), pool), request)[0].probability
        for p in (model.pipeline, Pipeline([("all", search)]), Pipeline([("all", model.pipeline)]))
        for pool in (other_pool(TIMED), None)
    ]
    np.testing.assert_array_equal(answers[::2], answers[:1] * 3)
    np.testing.assert_array_equal(answers[1::2], answers[1:2] * 3)
    assert (answers[0] != answers[1]).all()


class Broken(Pipeline):
    """A pipeline that gives what a broken version might give."""

    def predict_proba(self, X: Impressions) -> np.ndarray:
        if isinstance(self.memory, Exception):
            raise self.memory
        found = super().predict_proba(X)
        if self.memory == "unknown item":
            found[X.catalog.codes(catalog().ids).max() < X.target] = np.nan
        elif self.memory == "empty history":
            found[X.history.length == 0] = 1.5
        elif self.memory == "some history":
            found[X.history.length > 0] = -1.0
        elif self.memory == "sure":
            found[:, 1] = X.history.length > 0
        return found


@pytest.mark.parametrize("kind", ["unknown item", "empty history", "some history", None])
@pytest.mark.parametrize("timed", [True, False])
def test_a_version_is_probed_before_it_is_current(kind, timed) -> None:
    model = fitted(Setting("all", timed=timed))
    Snapshot.of(model).check()
    memory = RuntimeError("no such tensor") if kind is None else kind
    broken = replace(model, pipeline=Broken(model.pipeline.steps, memory=memory))
    versions = {"params": "params/3", "pool": "pools/8"}
    message = "gives the probabilities" if kind else "can't score: RuntimeError: no such tensor"
    with pytest.raises(ValueError, match=f"version params params/3, pool pools/8 {message}"):
        Snapshot.of(broken, versions=versions).check()


def test_a_model_may_be_sure() -> None:
    model = fitted(TIMED)
    Snapshot.of(replace(model, pipeline=Broken(model.pipeline.steps, memory="sure"))).check()


def test_preparing_reads_the_numbers_of_items_once(store, snapshot) -> None:
    calls = []
    read = store.item_ids
    store.item_ids = lambda since=0: calls.append(since) or read(since)
    scorer = Scorer(store)
    scorer.prepare(snapshot)
    scorer.score(snapshot, [Request(N_USERS - 1, [1], None, HERE)])
    assert calls == [0]
    store.append(Events([3], [N_ITEMS + 5], np.array([31.0]), np.ones(1, np.uint8), ["9999"]))
    scorer.score(snapshot, [Request(3, [1], None, HERE)])
    assert calls == [0, N_ITEMS]


def test_the_probes_of_a_model_are_of_its_kind() -> None:
    assert EVENT.itemsize == 32
    frame = pd.DataFrame({"user_id": ["probe 0", "probe 1"], "item_id": [0, 1]})
    frame = pd.concat([frame.assign(clicked=c) for c in (0, 1)])
    X, y = Impressions.from_log(frame, label="clicked")
    din = skmars.DINClassifier(max_iter=1, random_state=0, early_stopping=False)
    Snapshot.of(Model.of(Pipeline([("ctr", din)]).fit(X, y), X)).check()
