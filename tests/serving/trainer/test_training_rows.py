"""A training row is the row that was served, and the row of the plain log."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.pipeline import Pipeline

from skmars import DINClassifier
from skmars.data import Impressions
from skmars.persistence import Model
from skmars.serving import Events, Request, Scorer, Snapshot, Streamed
from skmars.serving.scoring._histories import ItemNumbers
from skmars.serving.store._payload import encode
from skmars.serving.trainer._training_rows import training_rows
from tests.serving.shops import LAST, N_ITEMS, N_USERS, MemoryStore, Setting, first_log

pytest.importorskip("pyarrow")
SETTINGS = [
    Setting("positive", timed=True),
    Setting("all", timed=True),
    Setting("all", timed=True, duplicates="drop"),
    Setting("positive", timed=False),
    Setting("all", timed=False),
]


class Recorded(Pipeline):
    """A pipeline that keeps the rows that it is to predict, and predicts nothing."""

    def predict_proba(self, X: Impressions) -> np.ndarray:
        self.seen = X
        return np.zeros((len(X), 2))


@cache
def model_of(setting: Setting) -> Model:
    X, y = setting.read(first_log())
    din = DINClassifier(max_iter=1, early_stopping=False, embedding_dim=2, random_state=0)
    return Model.of(Recorded([("ctr", din)]).fit(X, y), X)


@dataclass
class Happened:
    """An event to come."""

    user: int
    item: int
    time: float
    clicked: bool
    hour: float
    device: str | None
    ago: int | None  # how many positions before its own it was shown, or unknown


HAPPENED = st.builds(
    Happened,
    st.sampled_from([N_USERS - 2, N_USERS - 1, N_USERS]),  # the last one is unknown to the model
    st.sampled_from([0, 1, N_ITEMS, N_ITEMS + 1]),  # and two of the items
    st.sampled_from([LAST - 2.0, LAST - 1.0, LAST + 1.0, LAST + 2.0, np.nan]),
    st.booleans(),
    st.floats(-2, 2),
    st.sampled_from(["phone", "desk", "watch", None]),
    st.one_of(st.none(), st.none(), st.integers(1, 6)),
)


class Shop:
    """A store with a log, its stream, and the same events as a plain log."""

    def __init__(self, begin: pd.DataFrame | None = None) -> None:
        self.store, self.streamed = MemoryStore(), list[Streamed]()
        self.rows = list[dict[str, Any]]()
        for row in (first_log()[-15:] if begin is None else begin).to_dict("records"):
            self.append(row, b"")
        self.streamed.clear()

    @property
    def log(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows)

    def append(self, row: dict[str, Any], payload: bytes) -> Streamed:
        ident = len(self.rows)
        self.store.append(
            Events(
                [row["user_id"]],
                [row["item_id"]],
                np.array([row["timestamp"]]),
                np.array([row["clicked"]], dtype=np.uint8),
                [str(ident)],
            )
        )
        at, ids = self.store.position, (row["user_id"], row["item_id"])
        event = Streamed(at, ident, *ids, row["timestamp"], int(row["clicked"]), 0.0, payload)
        self.streamed.append(event)
        self.rows.append(row)
        return event

    def happens(self, event: Happened) -> Streamed:
        shown = None if event.ago is None else max(self.store.position + 1 - event.ago, 0)
        context = {"hour": event.hour, "device": event.device}
        row = {
            "user_id": event.user,
            "item_id": event.item,
            "timestamp": event.time,
            "clicked": int(event.clicked),
            "hour": event.hour,
            "device": event.device or "",
        }
        return self.append(row, encode(context, shown))


def told(X: Impressions) -> list[dict]:
    """Return all that stands in rows."""
    records = [{k: known(v) for k, v in row.items()} for row in X.to_frame("pyarrow").to_pylist()]
    for record, time in zip(records, np.full(len(X), 0.0) if X.time is None else X.time):
        record["timestamp"] = float(time)
    return records


def known(value: Any) -> Any:
    return value if value == value else None  # whatever stands for a missing one


def served(shop: Shop, model: Model, event: Happened) -> dict | None:
    """Return the row that a scorer makes now, or of what was known when the event was shown."""
    timed = model.histories.now is not None
    if timed and np.isnan(event.time):
        return None
    scorer, snapshot = Scorer(shop.store), Snapshot.of(model)
    context = {"hour": event.hour, "device": event.device}
    request = Request(event.user, [event.item], event.time if timed else None, context)
    (known,), position = scorer.fetch([request])
    if event.ago is not None:
        known = known[known["position"] <= max(position + 1 - event.ago, 0)]
    scorer.answer(snapshot, [request], [known], position)
    return told(snapshot.pipeline.seen)[0]


def in_batches(shop: Shop, model: Model, sizes: list[int]) -> tuple[list[dict], list[int]]:
    """Return the training rows of the whole stream, and the labels."""
    numbers, rows, labels, begin = ItemNumbers(shop.store), [], [], 0
    sizes = [*sizes, len(shop.streamed)]
    for size in sizes:
        batch = shop.streamed[begin : begin + size]
        begin += size
        if batch:
            X, y = training_rows(model, numbers, batch, shop.store)
            rows += told(X)
            labels += y.tolist()
    return rows, labels


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@settings(max_examples=10, deadline=None)
@given(happened=st.lists(HAPPENED, min_size=1, max_size=12), sizes=st.lists(st.integers(1, 5)))
def test_a_training_row_is_the_served_row_and_that_of_the_plain_log(setting, happened, sizes):
    shop, model, expected = Shop(), model_of(setting), []
    n_before = len(shop.rows)
    for event in happened:
        expected.append(served(shop, model, event))
        shop.happens(event)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        X, _ = setting.read(shop.log)
    # The rows of the log that it has left out as repetitions are not learnt either.
    dropped = np.zeros(len(shop.log), dtype=bool)
    if setting.duplicates == "drop":
        known = shop.log.timestamp.notna()
        dropped = (known & shop.log.duplicated(["user_id", "item_id", "timestamp"])).to_numpy()
    of_log = iter(told(X))
    of_log = [None if gone else next(of_log) for gone in dropped][n_before:]
    dropped = dropped[n_before:]

    rows, labels = in_batches(shop, model, sizes)
    again, _ = in_batches(shop, model, [])
    assert rows == again
    kept = [i for i, gone in enumerate(dropped) if not gone]
    assert labels == [int(happened[i].clicked) for i in kept]
    assert len(rows) == len(kept)
    for row, i in zip(rows, kept):
        if expected[i] is not None:
            assert row == expected[i]
        event, later = happened[i], happened[i + 1 :]
        late = setting.timed and any(e.user == event.user and e.time < event.time for e in later)
        if event.ago is None and not late:
            assert row == of_log[i]


def test_strings_as_ids_and_a_shop_that_the_model_does_not_know():
    log = first_log().assign(
        user_id=first_log().user_id.map("u{}".format), item_id=first_log().item_id.map("i{}".format)
    )
    read = {"label": "clicked", "context": ["hour", "device"], "duplicates": "keep"}
    X, y = Impressions.from_log(log, **read)
    din = DINClassifier(max_iter=1, early_stopping=False, random_state=0)
    model = Model.of(Pipeline([("ctr", din)]).fit(X, y), X)
    shop = Shop(log[:0])
    # An order of arrival that is that of the times, lest any event is late.
    for row in log.sort_values("timestamp", kind="stable").to_dict("records"):
        row["user_id"] += "'"
        shop.append(row, encode({"hour": row["hour"], "device": row["device"]}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        X, y = Impressions.from_log(shop.log, X.catalog, **read)
    rows, labels = in_batches(shop, model, [30])
    assert labels == y.tolist()
    assert rows == told(X)
    wrong = Shop()
    wrong.append(wrong.log.to_dict("records")[0], b"")
    with pytest.raises(TypeError, match="the users of events"):
        in_batches(wrong, model, [])


def test_events_that_lack_a_column_of_context_are_not_learnt(caplog):
    shop, model = Shop(), model_of(SETTINGS[0])
    user, item = N_USERS - 1, 3
    payloads = {
        b"": False,
        encode({"device": "desk"}): False,
        encode({"hour": "late", "device": "desk"}): False,
        encode({"hour": 1.5, "device": 7}): False,
        b"of another program": False,
        encode({"hour": 1.5}): False,
        encode({"hour": 1.5, "device": None}): True,
        encode({"hour": 1.5, "device": "desk", "further": 3}): True,
    }
    for i, payload in enumerate(payloads):
        row = {"user_id": user, "item_id": item, "timestamp": LAST + i, "clicked": i % 2}
        shop.append(row, payload)
    events = shop.streamed
    X, y = training_rows(model, ItemNumbers(shop.store), events, shop.store)
    taken = [i for i, fits in enumerate(payloads.values()) if fits]
    assert X.time.tolist() == [events[i].time for i in taken]
    assert y.tolist() == [events[i].clicked for i in taken]
    assert X.context["hour"].tolist() == [1.5, 1.5]
    assert X.context["device"].tolist() == ["", "desk"]
    assert "6 of 8 events are not learnt" in caplog.text
    # All of them are in the histories of later rows.
    assert X.history.length[1] - X.history.length[0] == events[6].clicked
    X, y = training_rows(model, ItemNumbers(shop.store), events[:2], shop.store)
    assert len(X) == len(y) == 0


def test_histories_of_a_user_are_views_of_one_array_where_no_event_is_late():
    shop, model = Shop(), model_of(Setting("all"))
    for i in range(50):
        shop.happens(Happened(N_USERS, i % N_ITEMS, LAST + i, True, 0.0, "desk", None))
    X, _ = training_rows(model, ItemNumbers(shop.store), shop.streamed, shop.store)
    assert X.history.length.tolist() == list(range(50))
    assert len(X.history.items) == 50


def test_a_row_shown_without_a_history_is_learnt_without_one():
    shop, model = Shop(), model_of(Setting("all"))
    for i in range(3):
        shop.happens(Happened(N_USERS, i, LAST + i, True, 0.0, "desk", None))
    row = {"user_id": N_USERS, "item_id": 3, "timestamp": LAST + 9.0, "clicked": 1}
    event = shop.append(row, encode({"hour": 0.0, "device": "desk"}, 0))
    X, _ = training_rows(model, ItemNumbers(shop.store), [event], shop.store)
    assert X.history.length.tolist() == [0]


def test_what_makes_no_sense_is_refused():
    shop, model = Shop(), model_of(SETTINGS[0])
    numbers = ItemNumbers(shop.store)
    with pytest.raises(ValueError, match="events holds none"):
        training_rows(model, numbers, [], shop.store)
    event = Streamed(10**6, 1, N_USERS - 1, 1, float(LAST), 1, 0.0, b"")
    with pytest.raises(ValueError, match=r"lacks the event at position 1000000 .* user 11"):
        training_rows(model, numbers, [event], shop.store)
