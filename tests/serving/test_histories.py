"""Histories of rows that are still to come, against a slow and obvious reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skmars import Impressions, ItemCatalog
from skmars.serving.histories import UserHistories

pd = pytest.importorskip("pandas")

events = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 6), st.booleans()),
    min_size=1,
    max_size=25,
)
rows = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 7), st.one_of(st.none(), st.integers(0, 7))),
    min_size=1,
    max_size=8,
)


@given(events, rows, st.sampled_from(["all", "positive"]), st.booleans())
def test_a_history_is_what_came_before(events, rows, history, ordered) -> None:
    log = pd.DataFrame(events, columns=["user_id", "item_id", "timestamp", "clicked"])
    # The order of the log, which times may contradict, or times, equal ones as they stand.
    if ordered:
        log["position"] = np.arange(len(log))
    X, y = Impressions.from_log(log, label="clicked", history=history, duplicates="keep")
    user, item, time = (np.array(column) for column in zip(*rows))
    seconds = np.array([np.nan if t is None else t for t in time])
    found = UserHistories.of(X, y).impressions(user, item, seconds)
    assert found.user_ids.tolist() == user.tolist()
    assert found.item_ids.tolist() == item.tolist()

    past = events if ordered else sorted(events, key=lambda event: event[2])
    latest = max(event[2] for event in past)
    for i, (who, _, when) in enumerate(rows):
        kept = [e for e in past if e[0] == who and (history == "all" or e[3])]
        late = [when is not None and event[2] >= when for event in kept]
        before = kept[: late.index(True)] if any(late) else kept
        assert found.catalog.ids[found.history.row(i)].tolist() == [e[1] for e in before]
        assert found.time[i] == (latest if when is None else when)


def test_another_catalogue_names_the_same_items() -> None:
    log = pd.DataFrame({"user_id": [1, 1], "item_id": [7, 8]})
    histories = UserHistories.of(*Impressions.from_log(log))
    other = histories.with_catalog(ItemCatalog([9, 8], content={"text": ["nine", "eight"]}))
    X = other.impressions(np.array([1]), np.array([9]))
    assert X.catalog.ids[X.history.row(0)].tolist() == [7, 8]
    assert X.catalog.content["text"][X.target[0]] == "nine"


def test_times_need_times() -> None:
    histories = UserHistories.of(
        *Impressions.from_log(pd.DataFrame({"user_id": [1], "item_id": [7]}))
    )
    assert histories.impressions(np.array([1]), np.array([7])).time is None
    with pytest.raises(ValueError, match="the log has none.*Leave the time column out"):
        histories.impressions(np.array([1]), np.array([7]), np.array([3.0]))
