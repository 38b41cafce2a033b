"""Leave-last-out against a loop over users, on logs in any order and form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, learning_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmars import Impressions, LeaveLastOut, leave_last_out, sample_negatives
from skmars.data._checks import as_impressions
from skmars.datasets import make_multimodal_ctr


def slow_split(users, chronology):
    """Roles by the definition; `chronology` is the true place in time of each row."""
    role = np.full(len(users), "train", dtype=object)
    for user in np.unique(users):
        rows = np.flatnonzero(users == user)
        rows = rows[np.argsort(chronology[rows])]
        if len(rows) >= 2:
            role[rows[-1]] = "test"
        if len(rows) >= 3:
            role[rows[-2]] = "valid"
    return tuple(np.flatnonzero(role == name) for name in ("train", "valid", "test"))


def assert_split(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@st.composite
def logs(draw):
    """A log in random order: the true time of each row stands in `true_time`."""
    n = draw(st.integers(1, 40))
    rng = np.random.RandomState(draw(st.integers(0, 10_000)))
    log = pd.DataFrame(
        {
            "user_id": rng.randint(draw(st.integers(1, 8)), size=n),
            "item_id": rng.randint(10, size=n),
            "liked": rng.randint(2, size=n),
            "true_time": rng.permutation(n),
        }
    )
    log["position"] = log.groupby("user_id").true_time.rank().astype(int)
    return log


@given(logs(), st.sampled_from(["positive", "all"]), st.sampled_from(["Impressions", "frame"]))
def test_with_times_the_order_of_the_rows_does_not_matter(log, history, form):
    log["timestamp"] = 60.0 * log.true_time
    X, _ = Impressions.from_log(log, label="liked", history=history, duplicates="keep")
    X = X if form == "Impressions" else X.to_frame("pandas")
    users, time = log.user_id.to_numpy(), log.true_time.to_numpy()
    assert_split(leave_last_out(X), slow_split(users, time))


@given(logs(), st.sampled_from(["Impressions", "frame"]))
def test_full_histories_tell_the_order_without_and_against_times(log, form):
    log["timestamp"] = -1.0 * log.true_time  # a clock that runs backwards
    for time in (None, "timestamp"):
        X, _ = Impressions.from_log(log, time=time, order="position", duplicates="keep")
        X = X if form == "Impressions" else X.to_frame("pandas")
        expected = slow_split(log.user_id.to_numpy(), log.true_time.to_numpy())
        assert_split(leave_last_out(X), expected)


@given(logs())
def test_positive_histories_without_times_fall_back_on_the_order_of_rows(log):
    log = log.sort_values("true_time")
    X, _ = Impressions.from_log(log, label="liked", history="positive")
    expected = slow_split(log.user_id.to_numpy(), log.true_time.to_numpy())
    assert_split(leave_last_out(X), expected)


def test_time_decides_before_the_order_of_rows():
    # Nothing is liked, so that all histories are empty; the log stands newest first.
    log = pd.DataFrame({"user_id": 1, "item_id": range(4), "timestamp": [4, 3, 2, 1], "liked": 0})
    X, _ = Impressions.from_log(log, label="liked")
    assert X.history.length.max() == 0
    assert_split(leave_last_out(X), ([2, 3], [1], [0]))


def test_histories_cut_to_their_last_items_are_ordered_by_time():
    table = pd.DataFrame(
        {
            "user_id": 1,
            "item_id": [5, 4, 3, 2, 1],
            "history": [[3, 4], [2, 3], [1, 2], [1], []],
            "timestamp": [50, 40, 30, 20, 10],
        }
    )
    assert_split(leave_last_out(table), ([2, 3, 4], [1], [0]))
    # Without times: the length as far as it goes, then the order of the rows.
    assert_split(leave_last_out(table.drop(columns="timestamp")), ([0, 3, 4], [1], [2]))


def test_time_decides_before_the_lengths_of_histories():
    table = pd.DataFrame(
        {"user_id": 1, "item_id": [1, 2, 3], "history": [[], [1], []], "timestamp": [1, 2, 3]}
    )
    assert_split(leave_last_out(table), ([0], [1], [2]))
    assert_split(leave_last_out(table.drop(columns="timestamp")), ([0], [2], [1]))
    # Among equal times the longer history is later; what has no time comes first.
    assert_split(leave_last_out(table.assign(timestamp=1)), ([0], [2], [1]))
    assert_split(leave_last_out(table.assign(timestamp=[1, 2, None])), ([2], [0], [1]))


@pytest.mark.parametrize(
    ("n_rows", "sizes"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (5, (3, 1, 1))]
)
def test_users_with_few_impressions(n_rows, sizes):
    X, _ = Impressions.from_log(pd.DataFrame({"user_id": "u", "item_id": range(n_rows)}))
    assert tuple(map(len, leave_last_out(X))) == sizes


@given(logs())
def test_selectors_are_a_partition(log):
    X, _ = Impressions.from_log(log, order="position")
    train, valid, test = leave_last_out(X)
    assert sorted([*train, *valid, *test]) == list(range(len(X)))
    assert set(X.user[train]) == set(X.user)  # nobody is tested who was never seen
    assert len(np.unique(X.user[test])) == len(test)


@given(logs(), st.integers(1, 4))
def test_folds_are_leave_last_out_again_and_again(log, n_splits):
    X, _ = Impressions.from_log(log, order="position")
    cv = LeaveLastOut(n_splits)
    if log.position.max() <= n_splits:
        with pytest.raises(ValueError, match="needs a user with at least"):
            list(cv.split(X))
        return
    folds = list(cv.split(X))
    assert len(folds) == cv.get_n_splits() == n_splits
    time = log.true_time.to_numpy()
    rows = np.arange(len(X))
    for train, test in folds:
        part_train, part_valid, part_test = leave_last_out(X[rows])
        np.testing.assert_array_equal(np.sort(rows[part_test]), test)
        rows = np.sort(np.concatenate([rows[part_train], rows[part_valid]]))
        np.testing.assert_array_equal(rows, train)
        latest = pd.Series(time[train]).groupby(X.user[train]).max()
        assert (time[test] > latest[X.user[test]]).all()


def test_second_fold_of_leave_last_out_is_validation():
    X, _ = make_multimodal_ctr(40, 30, mean_length=6, random_state=0)
    train, valid, test = leave_last_out(X)
    (_, first), (before, second) = LeaveLastOut(2).split(X)
    np.testing.assert_array_equal(first, test)
    np.testing.assert_array_equal(second, valid)
    np.testing.assert_array_equal(before, train)


def length(X):
    return as_impressions(X).history.length[:, None].astype(float)


@pytest.mark.parametrize("frame", [None, "pandas", "polars"])
def test_inside_scikit_learn(frame):
    X, y = make_multimodal_ctr(60, 40, mean_length=8, random_state=0)
    rows = np.concatenate(leave_last_out(X)[:2])
    X, y = X[rows], y[rows]
    X = X if frame is None else X.to_frame(frame)
    model = make_pipeline(FunctionTransformer(length), LogisticRegression())
    options = {"cv": LeaveLastOut(2), "scoring": "roc_auc", "error_score": "raise"}
    scores = cross_val_score(model, X, y, **options)
    assert scores.shape == (2,)
    search = GridSearchCV(model, {"logisticregression__C": [0.01, 1.0]}, **options).fit(X, y)
    assert search.n_splits_ == 2
    np.testing.assert_allclose(search.cv_results_["mean_test_score"][1], scores.mean())
    tested = learning_curve(model, X, y, train_sizes=[0.5, 1.0], **options)[2]
    np.testing.assert_allclose(tested[-1].mean(), cross_val_score(model, X, y, **options).mean())


def test_repr_and_equality_of_splits():
    assert repr(LeaveLastOut()) == "LeaveLastOut(n_splits=1, unit='row')"
    assert repr(LeaveLastOut(n_splits=3)) == "LeaveLastOut(n_splits=3, unit='row')"
    X, y = make_multimodal_ctr(40, 30, mean_length=6, random_state=0)
    for (train, test), (again, tested) in zip(LeaveLastOut().split(X), LeaveLastOut().split(X, y)):
        np.testing.assert_array_equal(train, again)
        np.testing.assert_array_equal(test, tested)


def test_errors():
    with pytest.raises(TypeError, match="n_splits must be an integer, got 0.5"):
        LeaveLastOut(0.5)
    with pytest.raises(ValueError, match="n_splits must be at least 1, got 0"):
        LeaveLastOut(0)
    with pytest.raises(TypeError, match="leave_last_out works on Impressions .* got ndarray"):
        leave_last_out(np.zeros((3, 2)))
    with pytest.raises(TypeError, match="LeaveLastOut works on Impressions .* got ndarray"):
        cross_val_score(DummyClassifier(), np.zeros((3, 2)), [0, 1, 1], cv=LeaveLastOut())
    X, _ = Impressions.from_log(pd.DataFrame({"user_id": [1, 2], "item_id": [1, 1]}))
    with pytest.raises(ValueError, match="at least 2 impressions, but the most .* is 1"):
        next(LeaveLastOut().split(X))


def test_real_log(ml_1m):
    log = pd.read_parquet(ml_1m / "interactions.parquet").sample(frac=1, random_state=0)
    log = log[log.user_id < 500].assign(liked=lambda d: d.rating >= 4)
    expected = slow_split(log.user_id.to_numpy(), log.position.to_numpy())
    X, _ = Impressions.from_log(
        log, item="movie_id", label="liked", history="all", order="position", duplicates="keep"
    )
    assert_split(leave_last_out(X), expected)


@given(logs(), st.sampled_from(["positive", "all"]))
def test_moments_stay_together(log, history):
    log["timestamp"] = 60.0 * (log.true_time // 3)  # pages
    X, y = Impressions.from_log(log, label="liked", history=history, duplicates="keep")
    moments = [sorted(set(X.time[X.user == u])) for u in range(len(X.users))]
    if max(map(len, moments)) < 3:
        with pytest.raises(ValueError, match="at least 3 moments"):
            next(LeaveLastOut(2, unit="moment").split(X, y))
        return
    for fold, (train, test) in enumerate(LeaveLastOut(2, unit="moment").split(X, y)):
        for row in range(len(X)):
            after = sum(time > X.time[row] for time in moments[X.user[row]])
            first = X.time[row] == moments[X.user[row]][0]
            assert (row in test) == (after == fold and not first)
            assert (row in train) == (after > fold or first)


@pytest.mark.parametrize("times", [True, False])
def test_a_click_and_its_negatives_are_one_moment(times):
    rng = np.random.RandomState(0)
    log = pd.DataFrame({"user_id": rng.randint(5, size=40), "item_id": rng.randint(30, size=40)})
    if times:
        log["timestamp"] = np.arange(40)
    clicks, _ = Impressions.from_log(log)
    X, y = sample_negatives(clicks, n_negatives=2, exclude="before", random_state=0)
    cv = LeaveLastOut(unit="moment")
    ((train, test),) = cv.split(X, y)
    ((_, last_clicks),) = LeaveLastOut().split(clicks)
    np.testing.assert_array_equal(test, (3 * last_clicks[:, None] + np.arange(3)).ravel())
    assert len(train) + len(test) == len(X)
    if not times:
        with pytest.raises(ValueError, match="Pass y, or take unit='row'"):
            next(cv.split(X))


def test_unknown_units_are_refused():
    with pytest.raises(ValueError, match="unit"):
        LeaveLastOut(unit="user")


def test_times_that_are_bounds_do_not_make_a_moment():
    """Where a column orders the events, their times may be coarse."""
    log = pd.DataFrame(
        {"user_id": [1] * 6, "item_id": range(6), "liked": [1, 0, 1, 1, 0, 1], "place": range(6)}
    )
    log["timestamp"] = [10.0, 20.0, None, None, None, None]
    X, y = Impressions.from_log(log, label="liked", history="all", order="place")
    ((train, test),) = LeaveLastOut(unit="moment").split(X, y)
    assert (train.tolist(), test.tolist()) == ([0, 1, 2, 3, 4], [5])
