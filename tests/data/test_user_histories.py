"""Histories of rows that are still to come, against a slow reference and against training rows."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skmars import Impressions, ItemCatalog
from skmars.data._user_histories import UserHistories

pd = pytest.importorskip("pandas")

HISTORIES = st.sampled_from(["all", "positive"])
# Times None are unknown.
events = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 5),
        st.one_of(st.none(), st.integers(0, 6)),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
).filter(lambda events: any(event[2] is not None for event in events))
rows = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 7), st.one_of(st.none(), st.integers(0, 8))),
    min_size=1,
    max_size=8,
)


def log_of(events) -> pd.DataFrame:
    log = pd.DataFrame(events, columns=["user_id", "item_id", "timestamp", "clicked"])
    return log.astype({"timestamp": float})


def items(X: Impressions, row: int) -> list[int]:
    return X.catalog.ids[X.history.row(row)].tolist()


@pytest.mark.filterwarnings("ignore:.* have no time")
@given(events, rows, HISTORIES)
def test_a_history_is_what_came_strictly_before(events, rows, history) -> None:
    X, _ = Impressions.from_log(log_of(events), label="clicked", history=history, duplicates="keep")
    user, item, time = (np.array(column) for column in zip(*rows))
    seconds = np.array([np.nan if t is None else t for t in time], dtype=float)
    found = UserHistories.of(X).impressions(user, item, seconds)
    assert found.user_ids.tolist() == user.tolist()
    assert found.item_ids.tolist() == item.tolist()

    past = sorted((e for e in events if e[2] is not None), key=lambda event: event[2])
    now = np.nextafter(float(past[-1][2]), np.inf)
    for i, (who, _, when) in enumerate(rows):
        kept = [e for e in past if e[0] == who and (history == "all" or e[3])]
        moment = now if when is None else when
        assert items(found, i) == [e[1] for e in kept if e[2] < moment]
        assert found.time[i] == moment


@st.composite
def logs(draw: st.DrawFn) -> pd.DataFrame:
    """A log with ties, whose times agree with its steps."""
    n = draw(st.integers(1, 25))
    column = st.lists(st.integers(0, 5), min_size=n, max_size=n)
    log = pd.DataFrame({name: draw(column) for name in ("user_id", "item_id", "step")})
    log["clicked"] = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    return log.assign(timestamp=100.0 * log.step)


@given(logs(), HISTORIES, st.sampled_from(["times", "order", "order and times", "log"]))
def test_a_training_row_is_a_served_row(log, history, moments) -> None:
    settings = {
        "time": "timestamp" if "times" in moments else None,
        "order": "step" if "order" in moments else None,
        "label": "clicked",
        "history": history,
        "duplicates": "keep",
    }
    X, _ = Impressions.from_log(log, **settings)
    if "times" in moments:
        served = UserHistories.of(X).impressions(X.user_ids, X.item_ids, X.time)
        assert [items(served, i) for i in range(len(X))] == [items(X, i) for i in range(len(X))]
        np.testing.assert_array_equal(served.time, X.time)
        for name in ("feedback", "time"):
            trained, flat = getattr(X.history, name), getattr(served.history, name)
            if trained is not None:
                np.testing.assert_array_equal(
                    flat[served.history.positions()], trained[X.history.positions()]
                )
    # Served without a time when the log went as far as the moment before.
    moment = np.arange(len(log)) if moments == "log" else log.step
    for i in range(len(X)):
        earlier = log[moment < moment[i]]
        if len(earlier):
            past = UserHistories.of(Impressions.from_log(earlier, **settings)[0])
            served = past.impressions(X.user_ids[[i]], X.item_ids[[i]])
            assert items(served, 0) == items(X, i)


def test_without_a_time_a_row_sees_everything() -> None:
    log = pd.DataFrame(
        {
            "user_id": [1, 1, 1, 2],
            "item_id": [1, 2, 3, 4],
            "step": [0, 1, 2, 0],
            "timestamp": [1.0, 9.0, None, 20.0],
        }
    )
    histories = UserHistories.of(Impressions.from_log(log, order="step")[0])
    for user, time, expected in [
        (1, np.nan, [1, 2, 3]),
        (1, 9.0, [1]),
        (1, 20.0, [1, 2]),  # nobody knows whether the third came before
        (1, 21.0, [1, 2, 3]),  # all that the log holds did
        (2, 20.0, []),
        (2, np.nan, [4]),
        (7, np.nan, []),
    ]:
        X = histories.impressions(np.array([user]), np.array([5]), np.array([time]))
        assert items(X, 0) == expected, (user, time)
    assert histories.now == np.nextafter(20.0, np.inf)


@given(logs(), st.data())
def test_times_that_contradict_an_order_follow_it(log, data) -> None:
    times = st.lists(st.integers(0, 5), min_size=len(log), max_size=len(log))
    log["timestamp"] = data.draw(times)
    X, _ = Impressions.from_log(log, order="step", duplicates="keep")
    histories = UserHistories.of(X)
    for user in np.unique(log.user_id):
        own = log[log.user_id == user].sort_values("step", kind="stable")
        for moment in (0, 3, 5, 6):
            # An event is no later than those that come with it or after it.
            late = [own.timestamp[own.step >= step].min() >= moment for step in own.step]
            found = histories.impressions(np.array([user]), np.array([0]), np.array([moment]))
            assert items(found, 0) == own.item_id[~np.array(late)].tolist()


def test_nothing_derived_is_pickled() -> None:
    log = pd.DataFrame({"user_id": [1, 1], "item_id": [7, 8], "timestamp": [1, 2]})
    histories = UserHistories.of(Impressions.from_log(log)[0])
    size = len(pickle.dumps(histories))
    asked = np.array([1]), np.array([9]), np.array([2.0])
    assert items(histories.impressions(*asked), 0) == [7]
    assert len(pickle.dumps(histories)) == size
    assert items(pickle.loads(pickle.dumps(histories)).impressions(*asked), 0) == [7]


def test_another_catalogue_names_the_same_items() -> None:
    log = pd.DataFrame({"user_id": [1, 1], "item_id": [7, 8]})
    histories = UserHistories.of(Impressions.from_log(log)[0])
    other = histories.with_catalog(ItemCatalog([9, 8], content={"text": ["nine", "eight"]}))
    X = other.impressions(np.array([1]), np.array([9]))
    assert items(X, 0) == [7, 8]
    assert X.catalog.content["text"][X.target[0]] == "nine"


def test_times_need_times() -> None:
    log = pd.DataFrame({"user_id": [1], "item_id": [7]})
    histories = UserHistories.of(Impressions.from_log(log)[0])
    assert histories.impressions(np.array([1]), np.array([7])).time is None
    with pytest.raises(ValueError, match="the log has none.*Leave the time column out"):
        histories.impressions(np.array([1]), np.array([7]), np.array([3.0]))


def test_events_are_read_from_all_rows_of_a_log_or_not_at_all() -> None:
    log = pd.DataFrame({"user_id": ["a", "a", "a", "b"], "item_id": [1, 2, 3, 1]})
    X, _ = Impressions.from_log(log)
    read = UserHistories.of(X).events
    assert [read.row(0).tolist(), read.row(1).tolist()] == [[0, 1, 2], [0]]
    for other in (X[:3], X[:0], X[::-1], Impressions.from_frame(X.to_frame("pandas"))):
        with pytest.raises(ValueError, match="all rows that Impressions.from_log returned"):
            UserHistories.of(other)


def test_ids_and_times_of_rows_are_read_as_everywhere() -> None:
    log = pd.DataFrame({"user_id": ["a", "a"], "item_id": [1, 2]})
    times = pd.to_datetime(["2024-01-01", "2024-01-03"])
    histories = UserHistories.of(Impressions.from_log(log.assign(timestamp=times))[0])
    users, items = np.array(["a"], dtype=object), np.array([1])
    rows = histories.impressions(users, items, np.array(["2024-01-02"], dtype="M8[s]"))
    assert rows.history.length.tolist() == [1]
    with pytest.raises(TypeError, match="user column of the rows holds integers but the log"):
        histories.impressions(np.array([1], dtype=object), items)


@given(events, HISTORIES)
@pytest.mark.filterwarnings("ignore:.* have no time")
def test_the_latest_row_of_an_entry_is_an_impression_of_its_user(events, history) -> None:
    X, _ = Impressions.from_log(log_of(events), label="clicked", history=history, duplicates="keep")
    histories = UserHistories.of(X)
    for time in (None, np.full(len(histories.users), 3.0)):
        latest = histories.latest(time)
        wanted = histories.impressions(
            histories.users, X.catalog.ids[np.zeros(len(latest), int)], time
        )
        assert latest.to_frame().equals(wanted.to_frame())


def test_context_comes_with_the_rows() -> None:
    histories = UserHistories.of(Impressions.from_log(log_of([(1, 7, 1, True)]))[0])
    hour = np.array([3.0, 4.0])
    X = histories.impressions(np.array([1, 2]), np.array([7, 7]), context={"hour": hour})
    assert X.context["hour"].tolist() == [3.0, 4.0]
    with pytest.raises(ValueError, match="hour has 2 rows, but user has 1"):
        histories.impressions(np.array([1]), np.array([7]), context={"hour": hour})
