"""From a log to impressions: every row's history is what its user did before, and nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skmars import Impressions, ItemCatalog


def slow_histories(log: pd.DataFrame, history: str) -> list[list[int]]:
    """The obvious way: for each row, walk over all others (times are distinct)."""
    result = []
    for row in log.itertuples():
        past = log[(log.user_id == row.user_id) & (log.timestamp < row.timestamp)]
        if history == "positive":
            past = past[past.liked == 1]
        result.append(past.sort_values("timestamp").item_id.tolist())
    return result


@st.composite
def logs(draw: st.DrawFn) -> pd.DataFrame:
    n = draw(st.integers(1, 40))
    return pd.DataFrame(
        {
            "user_id": draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)),
            "item_id": draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)),
            "timestamp": draw(st.permutations(range(n))),
            "liked": draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)),
        }
    )


def histories(X: Impressions) -> list[list[int]]:
    return [X.catalog.ids[X.history.row(i)].tolist() for i in range(len(X))]


@given(logs(), st.sampled_from(["all", "positive"]))
def test_history_is_what_the_user_did_before(log: pd.DataFrame, history: str) -> None:
    X, y = Impressions.from_log(log, label="liked", history=history, duplicates="keep")
    assert histories(X) == slow_histories(log, history)
    assert y is not None
    np.testing.assert_array_equal(y, log.liked)
    np.testing.assert_array_equal(X.user_ids, log.user_id)
    np.testing.assert_array_equal(X.item_ids, log.item_id)


@pytest.mark.parametrize(
    "liked",
    [
        pd.Series([1, 0, 1], dtype="int8"),
        pd.Series([1.0, 0.0, 1.0]),
        pd.Series([True, False, True]),
        pd.Series([True, False, True], dtype=object),
        pd.Series([True, False, True], dtype="boolean"),
        pl.Series([True, False, True]),
        pa.array([True, False, True]),
        pa.array([1, 0, 1], type=pa.uint8()),
    ],
    ids=lambda liked: f"{type(liked).__module__.split('.')[0]}-{getattr(liked, 'dtype', '')}",
)
def test_labels_of_any_type(liked) -> None:
    table = {pd.Series: pd.DataFrame, pl.Series: pl.DataFrame}.get(type(liked), pa.table)
    log = table({"user_id": [1, 1, 1], "item_id": [5, 6, 7], "liked": liked})
    _, y = Impressions.from_log(log, label="liked", history="all")
    assert y.tolist() == [1, 0, 1]
    assert y.dtype == np.int64


@given(logs())
def test_feedback_is_the_label_of_the_history_item(log: pd.DataFrame) -> None:
    X, _ = Impressions.from_log(log, label="liked", history="all")
    liked = {(r.user_id, r.timestamp): r.liked for r in log.itertuples()}
    assert X.history.feedback is not None
    assert X.history.time is not None
    for i in range(len(X)):
        view = slice(X.history.start[i], X.history.start[i] + X.history.length[i])
        expected = [liked[X.user_ids[i], t] for t in X.history.time[view]]
        assert X.history.feedback[view].tolist() == expected


@given(logs())
def test_order_of_the_log_does_not_matter(log: pd.DataFrame) -> None:
    X, _ = Impressions.from_log(log, label="liked")
    shuffled = log.sample(frac=1, random_state=0)
    Z, _ = Impressions.from_log(shuffled, label="liked")
    expected = pd.Series(histories(X), index=log.index)
    assert histories(Z) == expected[shuffled.index].tolist()


@pytest.mark.parametrize("convert", [pl.from_pandas, pa.Table.from_pandas])
@given(log=logs())
def test_same_from_every_frame_library(convert, log: pd.DataFrame) -> None:
    X, y = Impressions.from_log(log, label="liked", history="all")
    Z, z = Impressions.from_log(convert(log), label="liked", history="all")
    for name in ("user", "target", "time"):
        np.testing.assert_array_equal(getattr(X, name), getattr(Z, name))
    for name in ("items", "start", "length", "feedback", "time"):
        np.testing.assert_array_equal(getattr(X.history, name), getattr(Z.history, name))
    np.testing.assert_array_equal(y, z)


def test_a_row_costs_two_integers_not_a_history() -> None:
    n = 2000
    log = pd.DataFrame({"user_id": 0, "item_id": np.arange(n)})
    X, _ = Impressions.from_log(log)
    assert X.history.length.sum() == n * (n - 1) // 2
    assert len(X.history.items) == n
    chosen = X[np.arange(0, n, 2)]
    assert chosen.history.items is X.history.items


def test_equal_and_missing_times_keep_the_order_of_the_log() -> None:
    log = pd.DataFrame(
        {"user_id": 1, "item_id": [10, 11, 12, 13, 14], "timestamp": [5.0, None, 5.0, 1.0, None]}
    )
    X, _ = Impressions.from_log(log)
    order = np.argsort(X.history.length)
    # 13 and what stands behind it without a time come first, then 10, 11, 12 as they stand.
    assert X.item_ids[order].tolist() == [13, 14, 10, 11, 12]


def test_position_orders_where_time_is_missing() -> None:
    log = pd.DataFrame(
        {
            "user_id": [1, 1, 1],
            "item_id": [10, 11, 12],
            "position": [2, 0, 1],
            "timestamp": [None, 7.0, None],
        }
    )
    X, _ = Impressions.from_log(log)
    assert X.history.length.tolist() == [2, 0, 1]


def test_unknown_times_are_bounded_by_their_neighbours() -> None:
    log = pd.DataFrame(
        {
            "user_id": [1] * 4,
            "item_id": [1, 2, 3, 4],
            "position": range(4),
            "timestamp": [None, 3.0, None, 9.0],
        }
    )
    X, _ = Impressions.from_log(log)
    assert X.time.tolist() == [-np.inf, 3.0, 3.0, 9.0]  # as an impression: no earlier than
    assert X.history.time.tolist() == [3.0, 3.0, 9.0, 9.0]  # as a donated event: no later than
    Z, _ = Impressions.from_log(log.iloc[[0, 1, 2]])
    assert Z.history.time[-1] == np.inf


def test_datetimes_are_seconds() -> None:
    stamps = pd.to_datetime(["2020-01-01 00:00:01", None])
    log = pd.DataFrame({"user_id": [1, 2], "item_id": [1, 1], "timestamp": stamps})
    for frame in (log, pl.from_pandas(log), pa.Table.from_pandas(log)):
        X, _ = Impressions.from_log(frame)
        assert X.time.tolist() == [1577836801.0, -np.inf]


def test_users_with_one_event_have_an_empty_history() -> None:
    X, _ = Impressions.from_log(pd.DataFrame({"user_id": ["a", "b"], "item_id": [1, 2]}))
    assert X.history.length.tolist() == [0, 0]
    assert len(X.history.items) == 2


def test_integers_that_pandas_made_floats_are_ids() -> None:
    log = pd.DataFrame({"user_id": [1.0, 2.0], "item_id": [3, 4]})
    assert Impressions.from_log(log)[0].user_ids.tolist() == [1, 2]


class TestDuplicates:
    log = pd.DataFrame({"user_id": [1, 1, 1], "item_id": [5, 5, 5], "timestamp": [3, 3, 4]})

    def test_are_kept_with_a_warning(self) -> None:
        with pytest.warns(UserWarning, match=r"1 rows of log repeat.*duplicates='drop'"):
            X, _ = Impressions.from_log(self.log)
        assert len(X) == 3

    def test_are_dropped_on_request(self) -> None:
        X, _ = Impressions.from_log(self.log, duplicates="drop")
        assert X.time.tolist() == [3, 4]

    @pytest.mark.filterwarnings("error")
    def test_are_silent_on_request_and_without_times(self) -> None:
        assert len(Impressions.from_log(self.log, duplicates="keep")[0]) == 3
        assert len(Impressions.from_log(self.log[["user_id", "item_id"]])[0]) == 3


class TestUnknownItems:
    catalog = ItemCatalog([1, 2], content={"text": ["a", "b"]}, features={"text": np.eye(2)})

    def test_are_added_without_content(self) -> None:
        log = pd.DataFrame({"user_id": [1, 1], "item_id": [2, 77]})
        with pytest.warns(UserWarning, match=r"1 items of log are not in the catalogue \(77\)"):
            X, _ = Impressions.from_log(log, self.catalog)
        assert X.catalog.ids.tolist() == [1, 2, 77]
        assert X.catalog.content["text"][2] is None
        assert X.catalog.missing["text"].tolist() == [False, False, True]
        assert len(self.catalog) == 2

    @pytest.mark.filterwarnings("error")
    def test_known_items_share_the_catalogue(self) -> None:
        X, _ = Impressions.from_log(pd.DataFrame({"user_id": [1], "item_id": [2]}), self.catalog)
        assert X.catalog is self.catalog


GOOD = {"user_id": [1, 2], "item_id": [3, 4], "liked": [0, 1]}


@pytest.mark.parametrize(
    ("columns", "arguments", "error", "message"),
    [
        ({"user_id": [1]}, {}, ValueError, "log has no column 'item_id'; it has 'user_id'"),
        (GOOD, {"time": "when"}, ValueError, "log has no column 'when'"),
        (GOOD, {"label": "clicked"}, ValueError, "log has no column 'clicked'"),
        (GOOD, {"context": ["hour"]}, ValueError, "log has no column 'hour'"),
        (GOOD, {"context": "hour"}, TypeError, "context must be a list of columns"),
        (GOOD, {"history": "some"}, ValueError, "history must be 'positive' or 'all'"),
        (GOOD, {"duplicates": "no"}, ValueError, "duplicates must be 'warn'"),
        (GOOD, {"catalog": [1]}, TypeError, "catalog must be an ItemCatalog, got list"),
        ({k: [] for k in GOOD}, {}, ValueError, "log has no rows"),
        (GOOD | {"liked": [1, 5]}, {"label": "liked"}, ValueError, r"'liked'.*binary.*\(1, 5\)"),
        (GOOD | {"liked": [1, None]}, {"label": "liked"}, ValueError, "missing in 1 rows"),
        (GOOD | {"user_id": [1, None]}, {}, ValueError, r"'user_id' of log holds 1 missing ids"),
        (GOOD | {"user_id": [1, "a"]}, {}, TypeError, r"all integers or all strings, got int and"),
        (GOOD | {"item_id": [1.5, 2]}, {}, TypeError, r"'item_id'.*got fractions such as 1.5"),
        (GOOD | {"timestamp": ["x", "y"]}, {}, TypeError, "numbers or datetimes"),
        (
            GOOD | {"item_id": ["3", "4"]},
            {"catalog": ItemCatalog([3, 4])},
            TypeError,
            "strings but the catalogue holds integers",
        ),
    ],
)
def test_errors_say_what_and_where(columns, arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        Impressions.from_log(pd.DataFrame(columns), **arguments)


def test_what_is_not_a_table_is_named() -> None:
    with pytest.raises(TypeError, match="log must be a pandas, polars or pyarrow table, got dict"):
        Impressions.from_log(GOOD)
    with pytest.raises(TypeError, match=r"log is a lazy frame; pass log.collect"):
        Impressions.from_log(pl.LazyFrame(GOOD))


def test_a_missing_label_of_a_nullable_column_is_missing() -> None:
    log = pd.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "timestamp": [1, 2]})
    log["liked"] = pd.array([True, None], dtype="boolean")
    with pytest.raises(ValueError, match="'liked' of log is missing in 1"):
        Impressions.from_log(log, label="liked")
