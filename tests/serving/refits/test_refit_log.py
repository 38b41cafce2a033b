"""The rows of a refit: those of `Impressions.from_log` for the exported events of the store."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline

from skmars import DINClassifier, Impressions, ItemCatalog
from skmars.data._user_histories import UserHistories
from skmars.persistence import Model
from skmars.serving import Events
from skmars.serving.refits._log import events_until, items_of, rows_of
from tests.serving.fake_store import FakeStore

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
N_ITEMS = 5
pytestmark = pytest.mark.filterwarnings(
    "ignore:.* have no time", "ignore:.* not in the catalogue", "ignore:.* repeat the user"
)


def as_table(rows: list[tuple], ids: type) -> Any:
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "clicked"])
    log = log.astype({"timestamp": float})
    for name in ("user_id", "item_id"):
        log[name] = [f"{name[0]}{v}" for v in log[name]] if ids is str else log[name].astype(int)
    return log


@cache
def fitted(history: str, timed: bool, ids: type, duplicates: str) -> Model:
    rng = np.random.default_rng(0)
    columns = (rng.integers(0, 8, 60), rng.integers(0, N_ITEMS, 60), range(60), [0, 1] * 30)
    known = [f"i{i}" for i in range(N_ITEMS)] if ids is str else np.arange(N_ITEMS)
    X, y = Impressions.from_log(
        as_table(list(zip(*columns)), ids),
        ItemCatalog(known, content={"text": [f"text {i}" for i in range(N_ITEMS)]}),
        time="timestamp" if timed else None,
        label="clicked",
        history=history,
        duplicates=duplicates,
        users=pd.DataFrame({"user_id": as_table([(1, 1, 0, 1)], ids)["user_id"], "age": [7]}),
    )
    din = DINClassifier(max_iter=1, early_stopping=False, hidden_units=(4,), random_state=0)
    return Model.of(make_pipeline(din).fit(X, y), X)


events = st.lists(
    st.tuples(
        st.integers(0, 9),
        st.integers(0, N_ITEMS + 2),  # some are unknown to the model
        st.one_of(st.none(), st.integers(0, 6)),
        st.booleans(),
        st.booleans(),  # came through the service
    ),
    min_size=1,
    max_size=30,
).filter(lambda events: any(event[2] is not None for event in events))


@settings(max_examples=60)
@given(
    events,
    st.sampled_from(["positive", "all"]),
    st.booleans(),
    st.sampled_from([int, str]),
    st.sampled_from(["warn", "keep", "drop"]),
    st.data(),
)
def test_rows_are_those_of_the_exported_log(
    rows: list[tuple], history: str, timed: bool, ids: type, duplicates: str, data: Any
) -> None:
    model, store = fitted(history, timed, ids, duplicates), FakeStore()
    log = as_table([row[:4] for row in rows], ids)
    for i, row in enumerate(rows):
        store.append(
            Events(
                log["user_id"][i : i + 1].tolist(),
                log["item_id"][i : i + 1].tolist(),
                log["timestamp"][i : i + 1].to_numpy(),
                log["clicked"][i : i + 1].to_numpy(np.uint8),
                [str(i)],
            ),
            streamed=row[4],
        )
    position = data.draw(st.integers(1, len(rows)))
    exported = log[:position]
    if timed and exported["timestamp"].isna().all():
        return
    users, stored = events_until(store, position)
    items = items_of(store, stored)
    histories = model.histories
    X, y = rows_of(users, stored, histories.catalog.extend(items), items, model, histories.known)

    expected, label = Impressions.from_log(
        exported,
        histories.catalog,
        time="timestamp" if timed else None,
        label="clicked",
        history=history,
        duplicates=duplicates,
    )
    pd.testing.assert_frame_equal(
        X.to_frame("pandas").drop(columns="user.age"), expected.to_frame("pandas")
    )
    np.testing.assert_array_equal(y, label)
    assert X.users.tolist() == expected.users.tolist()
    assert X.catalog.fingerprint == expected.catalog.fingerprint
    ours, theirs = UserHistories.of(X), UserHistories.of(expected)
    assert (ours.now, ours.users.tolist()) == (theirs.now, theirs.users.tolist())
    for name in ("items", "start", "length", "feedback", "time"):
        np.testing.assert_array_equal(getattr(ours.events, name), getattr(theirs.events, name))
    age = dict(zip(X.users.tolist(), X.user_attributes["age"].to_list()))
    (one,) = as_table([(1, 1, 0, 1)], ids)["user_id"]
    assert all(v == 7 if user == one else np.isnan(v) for user, v in age.items())


def test_a_log_of_clicks_alone() -> None:
    """Its events have no feedback; one that was not clicked is none to learn a click from."""
    model, store = fitted("all", True, int, "keep"), FakeStore()
    histories = model.histories
    unlabelled = replace(
        model, histories=replace(histories, events=replace(histories.events, feedback=None))
    )
    store.append(Events([1, 1], [1, 2], np.array([1.0, 2.0]), np.array([1, 0], dtype=np.uint8)))
    users, stored = events_until(store, 2)
    items = items_of(store, stored)
    X, y = rows_of(users, stored, histories.catalog, items, unlabelled, histories.known)
    assert X.history.feedback is None
    assert X.history.length.tolist() == [0, 1]
    assert y.tolist() == [1, 0]


@pytest.mark.parametrize("what", ["users", "items"])
def test_ids_of_another_kind_are_refused(what: str) -> None:
    model, store = fitted("positive", True, int, "keep"), FakeStore()
    ids = {"users": [1], "items": [1], what: ["a"]}
    store.append(Events(ids["users"], ids["items"], np.array([1.0]), np.array([1])))
    users, stored = events_until(store, 1)
    histories = model.histories
    items = items_of(store, stored)
    with pytest.raises(TypeError, match="integers"):
        rows_of(users, stored, histories.catalog, items, model, histories.known)
