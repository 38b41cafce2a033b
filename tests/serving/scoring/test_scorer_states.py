"""Whatever happens in whatever order, an answer is what the pipeline gives for the plain log."""

from __future__ import annotations

import warnings
from dataclasses import replace
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from sklearn.pipeline import Pipeline

from skmars import Impressions
from skmars.data._user_histories import UserHistories
from skmars.serving import Request, Scorer, Snapshot, open_store
from tests.serving import shops
from tests.serving.shops import (
    LAST,
    N_ITEMS,
    N_USERS,
    Setting,
    events,
    first_log,
    fitted,
)

pytest.importorskip("lmdb")
SETTINGS = [
    Setting("positive", timed=True),
    Setting("all", timed=True),
    Setting("all", timed=True, duplicates="drop"),
    Setting("positive", timed=False),
    Setting("all", timed=False),
]
# Few, so that much happens to each, also at one moment; the last ones are unknown to the models.
USERS = st.sampled_from([N_USERS - 2, N_USERS - 1, N_USERS])
ITEMS = st.sampled_from([0, 1, 2, N_ITEMS, N_ITEMS + 1])
TIMES = st.sampled_from([LAST - 2.0, LAST - 1.0, LAST + 1.0, LAST + 2.0])
EVENT = st.tuples(USERS, ITEMS, st.one_of(TIMES, st.just(np.nan)), st.booleans())


@st.composite
def requests(draw: st.DrawFn) -> Request:
    items = draw(st.lists(ITEMS, min_size=1, max_size=3))
    hours = st.lists(st.floats(-2, 2), min_size=len(items), max_size=len(items))
    context = {
        "hour": draw(st.one_of(st.floats(-2, 2), hours)),
        "device": draw(st.sampled_from(["phone", "desk", "watch"])),
    }
    return Request(draw(USERS), items, draw(st.one_of(st.none(), TIMES)), context)


REQUESTS = st.lists(requests(), min_size=1, max_size=3)


class Recorded(Pipeline):
    """A pipeline that keeps the rows that it has predicted last."""

    def predict_proba(self, X: Impressions) -> np.ndarray:
        self.seen = X
        return super().predict_proba(X)


def _told(X: Impressions) -> list[dict]:
    """Return what stands in rows, but for the moment of those that have none."""
    return X.to_frame().drop(columns="timestamp", errors="ignore").map(_plain).to_dict("records")


def _plain(value):
    return value.tolist() if isinstance(value, np.ndarray) else value


class Serving(RuleBasedStateMachine):
    """A store, a scorer and the plain log of what has happened."""

    setting: Setting

    @initialize()
    def begin(self) -> None:
        self.log = first_log()
        self.folder = TemporaryDirectory()
        self.store = open_store(f"lmdb:{self.folder.name}")
        self.store.append(events(self.log), streamed=False)
        self.scorer = Scorer(self.store)
        self.snapshot = self._version(0, other_pool=False)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()

    # Each rule ends with requests: Hypothesis leaves rules out at times.
    @rule(happened=st.lists(EVENT, min_size=3, max_size=9), asked=REQUESTS)
    def events_arrive(self, happened, asked) -> None:
        new = pd.DataFrame(happened, columns=["user_id", "item_id", "timestamp", "clicked"])
        new = new.assign(clicked=new.clicked.astype(int), hour=0.0, device="desk")
        self.store.append(events(new, first=len(self.log)))
        self.log = pd.concat([self.log, new], ignore_index=True)
        self._check(asked)

    @rule(data=st.data(), asked=REQUESTS)
    def an_event_arrives_again(self, data, asked) -> None:
        at = data.draw(st.integers(0, len(self.log) - 1))
        self.store.append(events(self.log[at : at + 1], first=at))
        self._check(asked)

    @rule(seed=st.integers(0, 1), other_pool=st.booleans(), asked=REQUESTS)
    def another_version_is_current(self, seed, other_pool, asked) -> None:
        self.snapshot = self._version(seed, other_pool)
        self._check(asked)

    def _version(self, seed: int, other_pool: bool) -> Snapshot:
        model = fitted(self.setting, seed)
        model = replace(model, pipeline=Recorded(model.pipeline.steps))
        pool = shops.other_pool(self.setting) if other_pool else None
        return Snapshot.of(model, pool, {"params": f"params/{seed}"})

    def _check(self, asked) -> None:
        if not self.setting.timed:
            asked = [Request(r.user_id, r.item_ids, None, r.context) for r in asked]
        answers = self.scorer.score(self.snapshot, asked)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for request, answer in zip(asked, answers):
                X = self._rows(request)
                served = self.snapshot.pipeline.predict_proba(X)[:, 1]
                np.testing.assert_allclose(answer.probability, served, rtol=0, atol=1e-6)
                assert answer.position == self.store.position
                assert answer.versions == self.snapshot.versions
                assert answer.flags == ()
                (alone,) = self.scorer.score(self.snapshot, [request])
                np.testing.assert_array_equal(alone.probability, served)
                assert _told(self.snapshot.pipeline.seen) == _told(X)
                trained = self._trained(request)
                if trained is not None:
                    assert answer.probability[0] == pytest.approx(trained, abs=1e-6, rel=0)

    def _rows(self, request: Request) -> Impressions:
        """Return the rows that the library makes of the log for coming impressions."""
        n = len(request.item_ids)
        columns = {k: np.broadcast_to(v, n).copy() for k, v in request.context.items()}
        context = {"hour": columns["hour"], "device": columns["device"].astype(object)}
        time = None if request.time is None else np.full(n, request.time)
        users, items = np.full(n, request.user_id), np.array(request.item_ids)
        histories = UserHistories.of(self.setting.read(self.log)[0])
        return histories.impressions(users, items, time, context)

    def _trained(self, request: Request) -> float | None:
        """Score the first candidate as the last row of the log itself."""
        now = np.nextafter(self.log.timestamp.max(), np.inf)
        row = {
            "user_id": request.user_id,
            "item_id": request.item_ids[0],
            "timestamp": now if request.time is None else request.time,
            "clicked": 0,
            **{k: v[0] if isinstance(v, list) else v for k, v in request.context.items()},
        }
        log = pd.concat([self.log, pd.DataFrame([row])], ignore_index=True)
        same = (log[:-1] == log.iloc[-1])[["user_id", "item_id", "timestamp"]].all(axis=1)
        if self.setting.duplicates == "drop" and same.any():
            return None  # such a row is left out of the log
        X, _ = self.setting.read(log)
        return float(self.snapshot.pipeline.predict_proba(X[[-1]])[0, 1])


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_an_answer_is_what_the_pipeline_gives_for_the_plain_log(setting) -> None:
    machine = type("Serving", (Serving,), {"setting": setting})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=5, stateful_step_count=8, deadline=None)
    )
