"""Splits along one line of time: their definitions, and that no training row knows the future."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score
from sklearn.utils import check_random_state

from skmars import Impressions, ItemCatalog, TimeSplit, make_mars, time_split
from skmars.model_selection import freeze_histories

DAY = 86_400.0


def make_log(n=200, n_users=10, n_times=150, seed=0):
    rng = np.random.RandomState(seed)
    return pd.DataFrame(
        {
            "user_id": rng.randint(n_users, size=n),
            "item_id": rng.randint(20, size=n),
            "liked": rng.randint(2, size=n),
            "timestamp": 1e9 + 3600.0 * rng.randint(n_times, size=n),
        }
    )


def read(log, **options):
    return Impressions.from_log(log, label="liked", duplicates="keep", **options)


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


ITEMS = pd.DataFrame({"item_id": range(20), "text": [f"word{i % 7} item{i}" for i in range(20)]})
CATALOG = ItemCatalog.from_frame(ITEMS)
X, Y = read(make_log(), catalog=CATALOG)


@given(st.integers(0, 10_000), st.integers(0, 20), st.one_of(st.none(), st.integers(10, 60)))
def test_parts_by_their_definition(seed, gap, horizon):
    log = make_log(seed=seed)
    X, _ = read(log)
    time = log.timestamp.to_numpy()
    first, second = 1e9 + 3600.0 * 70, 1e9 + 3600.0 * 110
    gap, horizon = 3600.0 * gap, None if horizon is None else 3600.0 * horizon
    longest = np.inf if horizon is None else horizon
    train = time < first - gap
    valid = (time >= first) & (time < min(second - gap, first + longest))
    test = (time >= second) & (time < second + longest)
    parts = [np.flatnonzero(part) for part in (train, valid, test)]
    found = time_split(X, first, second, gap=gap, horizon=horizon)
    assert_same(found, parts)
    assert_same(time_split(X.to_frame("polars"), first, second, gap=gap, horizon=horizon), parts)
    assert_same(time_split(X, first, gap=gap), [parts[0], np.flatnonzero(time >= first)])


def test_a_cutoff_can_be_written_in_many_ways():
    moment = 1e9 + 3600.0 * 70
    naive = datetime(2001, 9, 12, 0, 0)
    moment = (naive - datetime(1970, 1, 1)).total_seconds()
    assert X.time.min() < moment < X.time.max()
    expected = time_split(X, moment)
    for cutoff in (
        int(moment),
        np.float32(0) + np.float64(moment),
        naive,
        naive.replace(tzinfo=UTC),
        date(2001, 9, 12),
        np.datetime64("2001-09-12"),
        np.datetime64("2001-09-12T00:00:00.000000000"),
        pd.Timestamp("2001-09-12"),
        pd.Timestamp("2001-09-12T02:00", tz="Europe/Berlin"),
        "2001-09-12",
        "2001-09-12T00:00:00Z",
        "2001-09-12T02:00+02:00",
    ):
        assert_same(time_split(X, cutoff), expected)
    expected = time_split(X, moment, gap=3600, horizon=DAY)
    for gap, horizon in (
        (timedelta(hours=1), timedelta(days=1)),
        (np.timedelta64(60, "m"), np.timedelta64(1, "D")),
        (pd.Timedelta("1h"), pd.Timedelta("1D")),
    ):
        assert_same(time_split(X, moment, gap=gap, horizon=horizon), expected)


@given(st.integers(0, 10_000), st.floats(0.2, 0.8), st.integers(8, 200))
def test_a_fraction_keeps_rows_of_one_moment_together(seed, fraction, n_times):
    X, _ = read(make_log(n_times=n_times, seed=seed))
    train, test = time_split(X, fraction)
    assert X.time[train].max() < X.time[test].min()
    assert len(train) + len(test) == len(X)
    tied = np.unique(X.time, return_counts=True)[1].max()
    assert fraction * len(X) - tied - 1 <= len(train) <= fraction * len(X) + 1


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(0, 5))
def test_time_split_folds_by_their_definition(seed, n_splits, gap):
    X, _ = read(make_log(seed=seed))
    time, last, length = X.time, X.time.max(), 3600.0 * 12
    folds = list(TimeSplit(n_splits, gap=3600.0 * gap, horizon=length).split(X))
    assert len(folds) == n_splits == TimeSplit(n_splits).get_n_splits()
    for i, (train, test) in enumerate(folds):
        start = last - (n_splits - i) * length
        np.testing.assert_array_equal(
            test, np.flatnonzero((time > start) & (time <= start + length))
        )
        np.testing.assert_array_equal(train, np.flatnonzero(time <= start - 3600.0 * gap))
    equal = list(TimeSplit(n_splits).split(X))
    for (train, test), (following, _) in zip(equal, [*equal[1:], (np.arange(len(X)), None)]):
        assert_same([np.union1d(train, test)], [following])
        assert time[train].max() < time[test].min()


@given(st.integers(8, 60), st.integers(2, 5))
def test_rows_of_different_times_split_as_with_scikit_learn(n, n_splits):
    """Where rows stand in the order of their times, and parts divide evenly."""
    n -= n % (n_splits + 1)
    log = pd.DataFrame({"user_id": 1, "item_id": range(n), "timestamp": range(n)})
    rows, _ = Impressions.from_log(log)
    expected = TimeSeriesSplit(n_splits).split(rows)
    for found, fold in zip(TimeSplit(n_splits).split(rows), expected, strict=True):
        assert_same(found, fold)


def test_inside_a_search_and_with_several_rows_a_user():
    from skmars.model_selection import gauc_scorer

    mars = make_mars(random_state=0, align__max_iter=1, ctr__max_iter=1)
    mars.set_params(align__n_components=4, align__id_dim=4, ctr__early_stopping=False)
    scores = cross_val_score(mars, X, Y, cv=TimeSplit(2), scoring=gauc_scorer, error_score="raise")
    assert ((scores >= 0) & (scores <= 1)).all()
    search = GridSearchCV(mars, {"augment__theta": [0.0, 1.1]}, cv=TimeSplit(1), scoring="roc_auc")
    assert 0 <= search.fit(X, Y).best_score_ <= 1


def future_of_another_kind(log, cutoff, seed):
    """The same log up to the cutoff; what comes after is something else."""
    rng, other = check_random_state(seed), log.copy()
    late = np.flatnonzero(log.timestamp >= cutoff)
    other.loc[late, "item_id"] = rng.randint(20, size=len(late))
    other.loc[late, "liked"] = rng.randint(2, size=len(late))
    return other


@pytest.mark.parametrize("history", ["positive", "all"])
def test_nothing_of_the_future_is_trained_on(history):
    """Rows share flat arrays with the future. A fit on the training rows sees none of it."""
    log = make_log(n=300)
    cutoff = log.timestamp.quantile(0.7)
    probabilities = []
    for variant in (log, future_of_another_kind(log, cutoff, seed=1)):
        X, y = read(variant, catalog=CATALOG, history=history)
        train, _ = time_split(X, cutoff)
        rows = X[train]
        assert (rows.history.compact().time < cutoff).all()
        model = make_mars(random_state=0, align__max_iter=2, ctr__max_iter=2)
        model.set_params(align__n_components=4, align__id_dim=4, augment__theta=-1.0)
        probabilities.append(model.fit(rows, y[train]).predict_proba(rows))
    np.testing.assert_array_equal(*probabilities)


@given(st.integers(0, 10_000), st.integers(0, 150))
def test_frozen_histories_hold_what_came_before(seed, hours):
    log = make_log(seed=seed)
    X, _ = read(log, history="all")
    cutoff = 1e9 + 3600.0 * hours
    frozen = freeze_histories(X, cutoff)
    assert frozen.history.items is X.history.items
    for row in np.flatnonzero(frozen.history.length != X.history.length)[:20]:
        view = slice(X.history.start[row], X.history.start[row] + X.history.length[row])
        kept = X.history.time[view] < cutoff
        np.testing.assert_array_equal(frozen.history.row(row), X.history.items[view][kept])
    early = np.flatnonzero(X.time < cutoff)
    np.testing.assert_array_equal(frozen.history.length[early], X.history.length[early])
    copied = Impressions.from_frame(X.to_frame(), X.catalog)
    np.testing.assert_array_equal(
        freeze_histories(copied, cutoff).history.length, frozen.history.length
    )


def test_histories_that_can_not_be_frozen():
    with pytest.raises(TypeError, match="freeze_histories needs Impressions, got DataFrame"):
        freeze_histories(X.to_frame(), "2001-09-12")
    table = X.to_frame().drop(columns="history_timestamp")
    with pytest.raises(ValueError, match="needs the times of what histories hold"):
        freeze_histories(Impressions.from_frame(table), "2001-09-12")
    rows = pd.DataFrame(
        {"user_id": [1], "item_id": [2], "history": [[3, 4]], "history_timestamp": [[5, 1]]}
    )
    with pytest.raises(ValueError, match="that of row 0 does not"):
        freeze_histories(Impressions.from_frame(rows), 3)
    embedded = X.with_user_embedding(np.zeros((len(X), 2), dtype=np.float32))
    with pytest.raises(ValueError, match="X has a column 'user_embedding'"):
        freeze_histories(embedded, 3)


@pytest.mark.parametrize("cutoff", [None, True, [3], b"2001-09-12", 1j])
def test_a_cutoff_of_another_type(cutoff):
    with pytest.raises(TypeError, match="cutoff must be a date, a datetime, a string"):
        time_split(X, cutoff)


@pytest.mark.parametrize("cutoff", [np.nan, np.inf, np.datetime64("NaT"), pd.NaT])
def test_a_cutoff_that_is_no_moment(cutoff):
    with pytest.raises(ValueError, match="cutoff must be a moment"):
        time_split(X, cutoff)


def test_errors():
    with pytest.raises(ValueError, match="ISO format, such as '2026-09-01'.*got '1 Sept'"):
        time_split(X, "1 Sept")
    with pytest.raises(TypeError, match="time_split needs a cutoff"):
        time_split(X)
    with pytest.raises(TypeError, match="time_split works on Impressions"):
        time_split(np.zeros((3, 2)), 0.5)
    with pytest.raises(ValueError, match="cutoffs must increase, got"):
        time_split(X, "2001-09-12", "2001-09-11")
    with pytest.raises(
        ValueError, match=r"no row of X before .*2001-01-01.* training.*2001-09"
    ) as e:
        time_split(X, "2001-01-01")
    assert "reach from" in str(e.value)
    with pytest.raises(ValueError, match=r"no row of X from .* for the test part"):
        time_split(X, "2020-01-01")
    with pytest.raises(ValueError, match="X has no rows"):
        time_split(X[:0], 0.5)
    for name, bad in (("gap", -1), ("horizon", 0), ("horizon", -3), ("gap", np.nan)):
        with pytest.raises(ValueError, match=f"{name} must be"):
            time_split(X, 0.5, **{name: bad})
        with pytest.raises(ValueError, match=f"{name} must be"):
            TimeSplit(**{name: bad})
    for bad in ("1D", True, [1]):
        with pytest.raises(TypeError, match="gap must be a number of seconds or a"):
            TimeSplit(gap=bad)
    for bad in (1.5, True, "2"):
        with pytest.raises(TypeError, match="n_splits must be an integer"):
            TimeSplit(bad)
    with pytest.raises(ValueError, match="The 'n_splits' parameter of TimeSplit"):
        TimeSplit(0)
    with pytest.raises(ValueError, match="Fold 0 of TimeSplit finds no row .* training part"):
        list(TimeSplit(2, gap=1e6).split(X))
    few = X[X.time < X.time.min() + 1]
    with pytest.raises(ValueError, match="needs rows of at least 3 different times"):
        list(TimeSplit(2).split(few))


@pytest.mark.parametrize(
    "split", [lambda X: time_split(X, 0.5), lambda X: list(TimeSplit(2).split(X))]
)
def test_unknown_times_are_errors_that_say_what_to_do(split):
    log = make_log()
    without, _ = read(log, time=None)
    with pytest.raises(
        ValueError, match=r"needs times, but X has none.*(leave_last_out|LeaveLast)"
    ):
        split(without)
    log.loc[[3, 7], "timestamp"] = np.nan
    with pytest.warns(UserWarning, match="2 rows of log have no time"):
        some, _ = read(log)
    with pytest.raises(ValueError, match=r"2 rows of X have none .first: row 3.*np.isfinite"):
        split(some)
    split(some[np.isfinite(some.time)])
