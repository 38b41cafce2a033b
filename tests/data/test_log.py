"""From a log to impressions: every row's history is what its user did before, and nothing else."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skmars import Impressions, ItemCatalog


def slow_rows(log: pd.DataFrame, history: str, moment: str | None) -> list[list[int]]:
    """The obvious way: for each row, the places of the rows that are its history."""
    moments = range(len(log)) if moment is None else log[moment].tolist()
    place = sorted(range(len(log)), key=lambda i: moments[i])
    return [
        [
            j
            for j in place
            if log.user_id[j] == log.user_id[i]
            and moments[j] < moments[i]
            and (history == "all" or log.liked[j] == 1)
        ]
        for i in range(len(log))
    ]


@st.composite
def logs(draw: st.DrawFn) -> pd.DataFrame:
    """A log with ties of times and of steps, which contradict one another."""
    n = draw(st.integers(1, 30))
    column = st.lists(st.integers(0, 9), min_size=n, max_size=n)
    return pd.DataFrame(
        {
            "user_id": draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)),
            "item_id": draw(column),
            "timestamp": np.array(draw(column), dtype=float),
            "step": draw(column),
            "liked": draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)),
        }
    )


HISTORIES = st.sampled_from(["all", "positive"])
MOMENTS = st.sampled_from(["timestamp", "step", None])


def impressions(log: pd.DataFrame, history: str = "all", moment: str | None = "timestamp"):
    """Impressions whose moments are times, steps or the order of the log."""
    order = "step" if moment == "step" else None
    time = None if moment is None else "timestamp"
    return Impressions.from_log(
        log, label="liked", history=history, time=time, order=order, duplicates="keep"
    )


def histories(X: Impressions) -> list[list[int]]:
    return [X.catalog.ids[X.history.row(i)].tolist() for i in range(len(X))]


@given(logs(), HISTORIES, MOMENTS)
def test_history_is_what_the_user_did_strictly_before(log, history, moment) -> None:
    X, y = impressions(log, history, moment)
    rows = slow_rows(log, history, moment)
    assert histories(X) == [log.item_id[r].tolist() for r in rows]
    if history == "all":
        assert X.history.feedback is not None
        assert [
            X.history.feedback[X.history.start[i] :][: X.history.length[i]].tolist()
            for i in range(len(X))
        ] == [log.liked[r].tolist() for r in rows]
    if moment == "timestamp":
        np.testing.assert_array_equal(X.time, log.timestamp)
        assert X.history.time is not None
        assert (X.history.time[X.history.positions()] < np.repeat(X.time, X.history.length)).all()
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


@given(logs(), HISTORIES, MOMENTS, st.data())
def test_nothing_from_its_moment_on_changes_a_history(log, history, moment, data) -> None:
    row = data.draw(st.integers(0, len(log) - 1))
    moments = np.arange(len(log)) if moment is None else log[moment].to_numpy()
    late = np.flatnonzero((moments >= moments[row]) & (log.user_id == log.user_id[row]))
    changed = log.copy()
    changed.loc[late, "liked"] = 1 - changed.liked[late]
    changed.loc[late[late != row], "item_id"] = 77
    (X, _), (Z, _) = (impressions(part, history, moment) for part in (log, changed))
    assert histories(X)[row] == histories(Z)[row]
    # Without what came later and with it at the same moment, the history is the same as well.
    kept = np.setdiff1d(np.arange(len(log)), late[late != row])
    Z, _ = impressions(log.iloc[kept].reset_index(drop=True), history, moment)
    assert histories(Z)[int(np.searchsorted(kept, row))] == histories(X)[row]


@pytest.mark.parametrize("history", ["positive", "all"])
def test_items_of_a_slate_are_in_none_of_each_others_histories(history) -> None:
    log = pd.DataFrame(
        {
            "user_id": 1,
            "item_id": range(12),
            "timestamp": [1] + [100] * 10 + [101],
            "liked": [1, 1] + [0] * 9 + [1],
        }
    )
    X, _ = Impressions.from_log(log, label="liked", history=history)
    seen = {"positive": [0, 1], "all": list(range(11))}[history]
    assert histories(X) == [[], *[[0]] * 10, seen]


@given(logs())
def test_order_of_the_log_does_not_matter(log: pd.DataFrame) -> None:
    log["timestamp"] += np.arange(len(log)) / 100  # no ties
    X, _ = Impressions.from_log(log, label="liked")
    shuffled = log.sample(frac=1, random_state=0)
    Z, _ = Impressions.from_log(shuffled, label="liked")
    expected = pd.Series(histories(X), index=log.index)
    assert histories(Z) == expected[shuffled.index].tolist()


@pytest.mark.parametrize("convert", [pl.from_pandas, pa.Table.from_pandas])
@given(log=logs())
def test_same_from_every_frame_library(convert, log: pd.DataFrame) -> None:
    (X, y), (Z, z) = (impressions(table) for table in (log, convert(log)))
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


def test_an_event_of_unknown_time_is_in_nobodys_history() -> None:
    log = pd.DataFrame(
        {
            "user_id": [1, 1, 1, 1, 2],
            "item_id": [10, 11, 12, 13, 14],
            "timestamp": [5.0, None, 6.0, 1.0, np.inf],
        }
    )
    with pytest.warns(UserWarning, match=r"2 rows of log have no time.*order=") as caught:
        X, _ = Impressions.from_log(log)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert histories(X) == [[13], [], [13, 10], [], []]
    assert X.time.tolist() == [5, -np.inf, 6, 1, -np.inf]
    assert X.history.time.tolist() == [1, 5, 6]
    assert X.history.items.tolist() == [3, 0, 2]


@pytest.mark.parametrize("order", [None, "step"])
def test_a_log_whose_times_are_all_unknown_is_refused(order) -> None:
    log = pd.DataFrame(
        {"user_id": [1, 1], "item_id": [1, 2], "step": [1, 2], "timestamp": [None, np.nan]}
    )
    with pytest.raises(ValueError, match=r"'timestamp' of log holds no time at all.*time=None"):
        Impressions.from_log(log, order=order)
    assert histories(Impressions.from_log(log, time=None)[0]) == [[], [1]]


@pytest.mark.filterwarnings("error")
def test_only_a_named_column_orders() -> None:
    log = pd.DataFrame(
        {
            "user_id": [1, 1, 1],
            "item_id": [10, 11, 12],
            "position": [2, 0, 1],
            "timestamp": [None, 7.0, None],
        }
    )
    X, _ = Impressions.from_log(log, order="position")
    assert histories(X) == [[11, 12], [], [11]]
    log["timestamp"] = [1.0, 2.0, 3.0]
    assert histories(Impressions.from_log(log)[0]) == [[], [10], [10, 11]]
    log = log.drop(columns="timestamp")
    assert histories(Impressions.from_log(log)[0]) == [[], [10], [10, 11]]
    # Integers that floats can't tell apart.
    log["position"] = 2**60 + np.array([2, 0, 1])
    assert histories(Impressions.from_log(log, order="position")[0]) == [[11, 12], [], [11]]


def test_with_an_order_times_are_bounded_by_their_neighbours() -> None:
    log = pd.DataFrame(
        {
            "user_id": [1] * 4,
            "item_id": [1, 2, 3, 4],
            "position": range(4),
            "timestamp": [None, 3.0, None, 9.0],
        }
    )
    X, _ = Impressions.from_log(log, order="position")
    assert X.time.tolist() == [-np.inf, 3.0, 3.0, 9.0]  # as an impression: no earlier than
    assert X.history.time.tolist() == [3.0, 3.0, 9.0, 9.0]  # as a donated event: no later than
    Z, _ = Impressions.from_log(log.iloc[[0, 1, 2]], order="position")
    assert Z.history.time[-1] == np.inf
    # Where times contradict the order, they are moved until they do not.
    log["timestamp"] = [5.0, 3.0, 9.0, 7.0]
    X, _ = Impressions.from_log(log, order="position")
    assert X.history.length.tolist() == [0, 1, 2, 3]
    assert X.time.tolist() == [5, 5, 9, 9]
    assert X.history.time.tolist() == [3, 3, 7, 7]


@given(logs())
def test_with_an_order_times_are_the_nearest_that_do_not_contradict_it(log: pd.DataFrame) -> None:
    log.loc[::3, "timestamp"] = np.nan
    if log.timestamp.isna().all():
        return
    X, _ = impressions(log, moment="step")
    # Histories of all rows hold each event where the steps have it.
    event = np.lexsort((log.step, log.user_id))
    for i in range(len(log)):
        own = log[log.user_id == log.user_id[i]]
        earlier = own.timestamp[own.step <= log.step[i]].max()
        assert X.time[i] == (-np.inf if np.isnan(earlier) else earlier)
        later = own.timestamp[own.step >= log.step[i]].min()
        assert X.history.time[event == i].item() == (np.inf if np.isnan(later) else later)


class TestTimeColumn:
    log = pd.DataFrame({"user_id": [1, 1, 1], "item_id": [1, 2, 3], "clicked": [1, 1, 1]})
    late_first = np.array([30, 20, 10])

    @pytest.mark.parametrize("convert", [pd.DataFrame, pl.from_pandas, pa.Table.from_pandas])
    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("when", pd.to_datetime(late_first, unit="s")),
            ("Time", late_first),
            ("unixReviewTime", late_first),
            ("date", pd.to_datetime(late_first, unit="D")),
            ("timestamp", late_first),
        ],
    )
    def test_of_another_name_is_found(self, convert, name, values) -> None:
        X, _ = Impressions.from_log(convert(self.log.assign(**{name: values})), label="clicked")
        assert histories(X) == [[3, 2], [3], []]
        assert X.time is not None

    def test_of_calendar_days_is_found(self) -> None:
        days = [datetime.date(2025, 1, d) for d in (3, 2, 1)]
        log = pl.from_pandas(self.log).with_columns(day=pl.Series(days))
        assert histories(Impressions.from_log(log)[0]) == [[3, 2], [3], []]

    def test_is_asked_for_if_there_are_several(self) -> None:
        log = self.log.assign(ts=self.late_first, seen=pd.to_datetime(self.late_first, unit="s"))
        with pytest.raises(ValueError, match=r"several .*'ts', 'seen'.*time='ts'.*time=None"):
            Impressions.from_log(log)
        assert Impressions.from_log(log, time="ts")[0].time.tolist() == [30, 20, 10]
        assert Impressions.from_log(log, time=None)[0].time is None
        # What is already used for something else does not hold the times.
        X, _ = Impressions.from_log(log, order="seen")
        assert X.time.tolist() == [30, 20, 10]
        assert (
            Impressions.from_log(self.log.rename(columns={"item_id": "ts"}), item="ts")[0].time
            is None
        )

    def test_of_strings_is_refused(self) -> None:
        log = self.log.assign(date=["3 May", "2 May", "1 May"])
        with pytest.raises(TypeError, match=r"'date' of log .*datetimes, got str.*time=None"):
            Impressions.from_log(log)
        assert histories(Impressions.from_log(log, time=None)[0]) == [[], [1], [1, 2]]

    def test_is_no_column_of_any_other_name(self) -> None:
        X, _ = Impressions.from_log(self.log.assign(approximate_time=self.late_first))
        assert X.time is None
        assert histories(X) == [[], [1], [1, 2]]


def test_datetimes_are_seconds() -> None:
    stamps = pd.to_datetime(["2020-01-01 00:00:01", None])
    log = pd.DataFrame({"user_id": [1, 2], "item_id": [1, 1], "timestamp": stamps})
    for frame in (log, pl.from_pandas(log), pa.Table.from_pandas(log)):
        with pytest.warns(UserWarning, match="1 rows of log have no time"):
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
        (
            {"user_id": [1]},
            {},
            ValueError,
            "has no column 'item_id'; it has 'user_id'. Rename .* item='sku'",
        ),
        (GOOD, {"time": "when"}, ValueError, "log has no column 'when'"),
        (GOOD, {"order": "step"}, ValueError, "log has no column 'step'"),
        (
            GOOD | {"step": [1, None]},
            {"order": "step"},
            ValueError,
            r"'step' of log orders .* missing in 1 rows \(first: row 1\).*Fill it",
        ),
        (GOOD, {"label": "clicked"}, ValueError, "log has no column 'clicked'"),
        (GOOD, {"context": ["hour"]}, ValueError, "log has no column 'hour'"),
        (GOOD, {"context": "hour"}, TypeError, r"context must be a list .* Pass \['hour'\]"),
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
