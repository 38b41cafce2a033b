"""Rows crossed with items, and the latest row of each user, against plain loops over the log."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skmars import Impressions, ItemCatalog, sample_negatives
from skmars.data import Sequences

pd = pytest.importorskip("pandas")

events = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 6), st.booleans()),
    min_size=1,
    max_size=20,
)
HISTORIES = st.sampled_from(["all", "positive"])


def read(events, history="positive", **settings) -> Impressions:
    log = pd.DataFrame(events, columns=["user_id", "item_id", "timestamp", "clicked"])
    settings = {"label": "clicked", "duplicates": "keep", "history": history, **settings}
    return Impressions.from_log(log, **settings)[0]


def history(X: Impressions, row: int) -> list[int]:
    return X.catalog.ids[X.history.row(row)].tolist()


# --- cross --------------------------------------------------------------------------------


@given(events, HISTORIES, st.data())
def test_each_row_is_shown_each_item(events, kind, data) -> None:
    X = read(events, kind)
    some = st.lists(st.sampled_from(X.catalog.ids.tolist()), max_size=4)
    ragged = data.draw(st.booleans())
    items = [data.draw(some) for _ in range(len(X))] if ragged else data.draw(some)
    if ragged and not any(len(row) for row in items):
        items = [[]] * len(X)
    crossed = X.cross(items)
    pairs = [(i, item) for i in range(len(X)) for item in (items[i] if ragged else items)]
    assert len(crossed) == len(pairs)
    assert crossed.history.items is X.history.items
    assert crossed.catalog is X.catalog
    for j, (i, item) in enumerate(pairs):
        assert crossed.item_ids[j] == item
        assert crossed.user_ids[j] == X.user_ids[i]
        assert crossed.time[j] == X.time[i]
        assert history(crossed, j) == history(X, i)


def test_context_fold_and_embedding_are_repeated() -> None:
    X = read([(0, 1, 1, True), (1, 2, 2, True)]).with_fold(np.array([1, 2], dtype=np.int8))
    X = X.with_user_embedding(np.eye(2, dtype=np.float32))
    frame = X.to_frame("pandas").assign(hour=[7, 8], device=["tv", "web"])
    crossed = Impressions.from_frame(frame, X.catalog).cross([2, 1, 1])
    assert crossed.context["hour"].tolist() == [7, 7, 7, 8, 8, 8]
    assert crossed.context["device"].tolist() == ["tv"] * 3 + ["web"] * 3
    assert crossed.fold.tolist() == [1] * 3 + [2] * 3
    assert crossed.user_embedding[:, 0].tolist() == [1] * 3 + [0] * 3


@pytest.mark.parametrize(
    "items",
    [
        np.array([[1, 2], [2, 1]]),
        [np.array([1, 2]), (2, 1)],
        pd.Series([[1, 2], [2, 1]]),
        [pd.Series([1, 2]), pd.Series([2, 1])],
        np.array([[1, 2], [2, 1]], dtype=object),
    ],
)
def test_items_of_each_row_come_in_many_forms(items) -> None:
    X = read([(0, 1, 1, True), (1, 2, 2, True)])
    assert X.cross(items).item_ids.tolist() == [1, 2, 2, 1]


@pytest.mark.parametrize("items", [[2, 1], (2, 1), np.array([2, 1]), pd.Series([2, 1])])
def test_items_of_all_rows_come_in_many_forms(items) -> None:
    assert read([(0, 1, 1, True), (1, 2, 2, True)])[:1].cross(items).item_ids.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        ([1, 9, 8, 9], ValueError, "the catalogue of X lacks 9, 8 .2 unknown ids in items"),
        ([[1], [9]], ValueError, "lacks 9"),
        ([[1]], ValueError, "items has 1 lists of items for 2 rows"),
        ([[1], 2], TypeError, "mixes both: 2 is no list"),
        (["1"], TypeError, "items holds strings but the catalogue holds integers"),
        ([[1], ["2"]], TypeError, r"items\[1\] holds strings but items\[0\] holds integers"),
        ("12", TypeError, r"items must be a sequence of ids, got '12'. Pass \['12'\]"),
        ({"1": 2}, TypeError, r"items must be a sequence of ids, got {'1': 2}.$"),
        (7, TypeError, "items must be a sequence of ids"),
        ([1, None], ValueError, "items is missing|items .*missing"),
    ],
)
def test_items_that_are_none_are_refused(items, error, message) -> None:
    with pytest.raises(error, match=message):
        read([(0, 1, 1, True), (1, 2, 2, True)]).cross(items)


def test_what_was_made_for_the_old_targets_is_refused() -> None:
    X = read([(0, 1, 1, True), (1, 2, 2, True)])
    with pytest.raises(ValueError, match=r"X.cross\(\).*borrowed.*before the first step"):
        X.with_borrowed(Sequences.empty(2)).cross([1])
    for name in ("item_popularity", "item_click_logit", "category_log_impressions", "click_logit"):
        made = Impressions.from_frame(X.to_frame("pandas").assign(**{name: [0.5, 0.7]}), X.catalog)
        with pytest.raises(ValueError, match=rf"X.cross\(\).*{name}"):
            made.cross([1])
        with pytest.raises(ValueError, match=f"X has a column '{name}'"):
            sample_negatives(made)


# --- latest -------------------------------------------------------------------------------


@given(events, HISTORIES, st.booleans())
def test_the_latest_history_is_all_that_a_user_did(events, kind, timed) -> None:
    X = read(events, kind, time="timestamp" if timed else None)
    latest = X.latest()
    past = sorted(events, key=lambda event: event[2]) if timed else events
    assert latest.user_ids.tolist() == sorted({event[0] for event in events})
    for i, user in enumerate(latest.user_ids):
        kept = [e for e in past if e[0] == user and (kind == "all" or e[3])]
        assert history(latest, i) == [e[1] for e in kept]
        assert latest.item_ids[i] == (kept[-1][1] if kept else X.catalog.ids[0])
    if timed:
        assert (latest.time > max(event[2] for event in events)).all()
    else:
        assert latest.time is None
    assert latest.history.items is X.history.items
    some = latest.user_ids[::-1][:2]
    assert [history(X.latest(some), i) for i in range(len(some))] == [
        history(latest, len(latest) - 1 - i) for i in range(len(some))
    ]


def test_a_part_of_a_log_is_refused_though_it_has_all_users() -> None:
    """Events of the rows that are left out would be in the histories."""
    X = read([(0, 1, 1, True), (0, 2, 2, True), (1, 2, 3, True), (1, 1, 4, True)])
    assert X.latest().history.length.tolist() == [2, 2]
    other = X[[3, 2, 1, 0]], X[:3].cross([1, 2]), Impressions.from_frame(X.to_frame())
    for part in (X[[0, 2]], X[:0], *other):
        with pytest.raises(ValueError, match="all rows that Impressions.from_log returned"):
            part.latest()
    with pytest.raises(ValueError, match="all rows"):
        X.latest().latest()


def test_latest_rows_know_the_catalogue_that_the_rows_got() -> None:
    X = read([(0, 1, 1, True), (0, 2, 2, True)])
    X = X.with_catalog(ItemCatalog([9, 2, 1], content={"text": ["nine", "two", "one"]}))
    assert history(X.latest(), 0) == [1, 2]
    assert X.latest().cross([9]).catalog.titles[0] == "nine"


def test_users_that_are_unknown_are_refused() -> None:
    X = read([(0, 1, 1, True)])
    with pytest.raises(ValueError, match="have no user 7 .1 unknown id in users.*from_frame"):
        X.latest([0, 7])
    with pytest.raises(TypeError, match=r"users must be a sequence of ids, got 7. Pass \[7\]"):
        X.latest(7)
    with pytest.raises(TypeError, match="users holds strings but X holds integers"):
        X.latest(["0"])


def test_context_of_the_moment_is_asked_for() -> None:
    log = pd.DataFrame({"user_id": [1, 2], "item_id": [5, 6], "hour": [7, 8], "by": ["tv", "web"]})
    X, _ = Impressions.from_log(log, context=["hour", "by"])
    with pytest.raises(ValueError, match="'hour', 'by', which the new rows need"):
        X.latest()
    with pytest.raises(ValueError, match="'by'"):
        X.latest(context={"hour": 9})
    with pytest.raises(ValueError, match="context has 'our', 'bye' only, but X has"):
        X.latest(context={"our": 9, "bye": "tv"})
    with pytest.raises(ValueError, match="context has 'day'"):
        X.latest(context={"hour": 9, "by": "tv", "day": 1})
    with pytest.raises(TypeError, match=r"context\['hour'\] must hold numbers"):
        X.latest(context={"hour": "nine", "by": "tv"})
    with pytest.raises(TypeError, match=r"context\['by'\] must hold strings"):
        X.latest(context={"hour": 9, "by": 3})
    with pytest.raises(ValueError, match=r"context\['hour'\] has shape"):
        X.latest(context={"hour": [1, 2, 3], "by": "tv"})
    with pytest.raises(TypeError, match="context must be a mapping"):
        X.latest(context=["hour"])
    latest = X.latest(context={"hour": [9, 10], "by": "tv"})
    assert latest.context["hour"].tolist() == [9, 10]
    assert latest.context["by"].tolist() == ["tv", "tv"]
