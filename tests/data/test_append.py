"""Logs are appended to impressions as if they had been one log from the beginning."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skmars import Impressions, ItemCatalog
from skmars.encoding import MultimodalEncoder

COLUMNS = {
    "times": {},
    "order": {"time": None, "order": "place"},
    "times and order": {"order": "place"},
    "neither": {"time": None},
}


@st.composite
def logs(draw) -> pd.DataFrame:
    """Return a log of few users, items and moments, in any order, with unknown times."""
    n = draw(st.integers(2, 25))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    time = rng.integers(0, 12, n).astype(float)
    time[rng.random(n) < draw(st.sampled_from([0, 0.2]))] = np.nan
    time[rng.integers(n)] = 3.0  # not all are unknown
    ids = draw(st.sampled_from([np.asarray, lambda codes: np.char.add("i", codes.astype(str))]))
    return pd.DataFrame(
        {
            "user_id": ids(rng.integers(0, 5, n)),
            "item_id": ids(rng.integers(0, 8, n)),
            "timestamp": time,
            "place": rng.integers(0, 9, n),
            "clicked": rng.integers(0, 2, n),
            "hour": rng.integers(0, 24, n),
            "device": rng.choice(["phone", "desk"], n),
        }
    )


DATES = pd.to_datetime(["2026-01-01 10:00", "2026-01-01 11:00"])


def read(log, **settings) -> tuple[Impressions, np.ndarray | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Impressions.from_log(log, **settings)


def append(X, log, **settings) -> tuple[Impressions, np.ndarray | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return X.append(log, **settings)


def assert_same(found: tuple, expected: tuple) -> None:
    pd.testing.assert_frame_equal(found[0].to_frame(), expected[0].to_frame())
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0].users, expected[0].users)


@given(
    logs(),
    st.integers(0, 10**6),
    st.sampled_from(list(COLUMNS)),
    st.sampled_from(["positive", "all"]),
    st.sampled_from(["clicked", None]),
    st.sampled_from(["keep", "drop", "warn"]),
    st.booleans(),
)
def test_rows_are_those_of_one_log(log, seed, columns, history, label, duplicates, copied) -> None:
    """Also where events come late, repeat, have no time, or share a moment with earlier ones."""
    settings = {
        "history": history,
        "label": label,
        "duplicates": duplicates,
        "context": ["hour", "device"],
        **COLUMNS[columns],
    }
    timed = settings.get("time", "timestamp") is not None
    cuts = np.sort(np.random.default_rng(seed).integers(1, len(log), 2))
    days = np.split(np.arange(len(log)), cuts)
    frames = [log.iloc[day] for day in days]
    if timed and any(frame.timestamp.isna().all() for frame in frames if len(frame)):
        return  # from_log refuses a log without any time
    X, y = read(frames[0], **settings)
    for frame in frames[1:]:
        X = pickle.loads(pickle.dumps(X)) if copied else X
        X, y = append(X, frame)
    assert_same((X, y), read(log, **settings))


@given(logs(), st.integers(1, 10**6), st.sampled_from(list(COLUMNS)))
def test_the_history_of_a_row_is_what_came_strictly_before(log, seed, columns) -> None:
    """A reference by hand, which knows nothing of from_log."""
    log = log.dropna().reset_index(drop=True)
    if len(log) < 2:
        return
    cut = 1 + seed % (len(log) - 1)
    moment = {"times": log.timestamp, "neither": pd.Series(range(len(log)))}.get(columns, log.place)
    X, _ = read(log[:cut], label="clicked", **COLUMNS[columns])
    X, _ = append(X, log[cut:])
    for i in range(len(log)):
        before = (log.user_id == log.user_id[i]) & (moment < moment[i]) & (log.clicked == 1)
        order = np.argsort(moment[before].to_numpy(), kind="stable")
        expected = log.item_id[before].to_numpy()[order]
        assert X.catalog.ids[X.history.row(i)].tolist() == expected.tolist()


MONDAY = pd.DataFrame(
    {
        "user_id": [1, 1, 2],
        "item_id": [10, 11, 10],
        "timestamp": [1.0, 2.0, 3.0],
        "clicked": [1, 0, 1],
        "hour": [1, 2, 3],
    }
)
TUESDAY = pd.DataFrame(
    {
        "user_id": [1, 3],
        "item_id": [12, 10],
        "timestamp": [4.0, 5.0],
        "clicked": [1, 1],
        "hour": [4, 5],
    }
)


def test_histories_are_views_into_one_array_and_old_impressions_stay() -> None:
    X, _ = Impressions.from_log(MONDAY, label="clicked", history="all")
    before = X.to_frame()
    more, labels = X.append(TUESDAY)
    pd.testing.assert_frame_equal(X.to_frame(), before)
    pd.testing.assert_frame_equal(more[: len(X)].to_frame(), before)
    assert labels.tolist() == [1, 0, 1, 1, 1]
    assert len(more.history.items) == 5
    assert more.catalog.continues(X.catalog)
    assert more.history.row(3).base is not None


def test_columns_keep_their_names() -> None:
    names = {"user_id": "u", "item_id": "i", "timestamp": "t", "clicked": "c"}
    settings = {"user": "u", "item": "i", "time": "t", "label": "c", "context": ["hour"]}
    monday, tuesday = (day.rename(columns=names) for day in (MONDAY, TUESDAY))
    X, _ = Impressions.from_log(monday, history="all", **settings)
    both = Impressions.from_log(pd.concat([monday, tuesday]), history="all", **settings)
    assert_same(X.append(tuesday), both)
    assert_same(X.append(pl.from_pandas(tuesday)), both)


def test_a_new_catalogue_knows_the_new_items_in_any_order() -> None:
    catalog = ItemCatalog([11, 10], content={"text": ["b", "a"]})
    X, _ = Impressions.from_log(MONDAY, catalog, label="clicked")
    grown = ItemCatalog([12, 10, 11], content={"text": ["c", "a", "b"]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        more, _ = X.append(TUESDAY, grown)
    assert more.catalog is grown
    assert more.item_ids.tolist() == [10, 11, 10, 12, 10]
    with pytest.warns(UserWarning, match="1 items of log are not in the catalogue"):
        without, _ = X.append(TUESDAY)
    assert without.item_ids.tolist() == more.item_ids.tolist()
    with pytest.raises(ValueError, match="catalog lacks 1 items of X"):
        X.append(TUESDAY, ItemCatalog([10, 12]))


def test_what_was_warned_of_before_is_not_warned_of_again() -> None:
    unknown = MONDAY.assign(timestamp=[1.0, np.nan, 3.0])
    doubled = pd.concat([unknown, unknown.iloc[:1]])
    with pytest.warns(UserWarning, match="rows of log") as caught:
        X, _ = Impressions.from_log(doubled)
    assert len(caught) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        X, _ = X.append(TUESDAY)
    with pytest.warns(UserWarning, match="2 rows of log repeat") as caught:
        X.append(TUESDAY)  # the same day once more
    assert len(caught) == 1


def test_no_events_change_nothing() -> None:
    X, y = Impressions.from_log(MONDAY, label="clicked")
    assert_same(X.append(TUESDAY[:0]), (X, y))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda log: log.drop(columns="clicked"), ValueError, "log has no column 'clicked'"),
        (lambda log: log.drop(columns="hour"), ValueError, "no column 'hour'.* those of from_log"),
        (lambda log: log.drop(columns="timestamp"), ValueError, "X has times, but log has none"),
        (lambda log: log.assign(user_id=["a", "b"]), TypeError, "'user_id' of log holds strings"),
        (lambda log: log.assign(item_id=["a", "b"]), TypeError, "'item_id' of log holds strings"),
        (lambda log: log.assign(hour=["a", "b"]), TypeError, "'hour' of log holds strings"),
        (lambda log: log.assign(clicked=[2, 0]), ValueError, "must be binary"),
        (lambda log: {"user_id": [1]}, TypeError, "log"),
    ],
)
def test_another_kind_of_log_is_refused(change, error, message) -> None:
    X, _ = Impressions.from_log(MONDAY, label="clicked", context=["hour"])
    with pytest.raises(error, match=message):
        X.append(change(TUESDAY))


def test_times_of_another_unit_and_logs_that_now_have_times_are_refused() -> None:
    at = 1.7e9
    X, _ = Impressions.from_log(MONDAY.assign(timestamp=MONDAY.timestamp + at))
    with pytest.raises(ValueError, match="factor of 1e\\+03"):
        X.append(TUESDAY.assign(timestamp=(TUESDAY.timestamp + at) * 1000))
    X, _ = Impressions.from_log(MONDAY.drop(columns="timestamp"))
    with pytest.raises(ValueError, match="log has times, but X has none"):
        X.append(TUESDAY)
    settings = {"time": None, "order": "timestamp"}
    X, _ = Impressions.from_log(MONDAY.assign(timestamp=[1, 2, 3]), **settings)
    with pytest.raises(TypeError, match="whole numbers"):
        X.append(TUESDAY)


def test_only_what_from_log_returned_can_be_appended_to() -> None:
    X, _ = Impressions.from_log(MONDAY)
    for part in (X[:2], X[::-1], X[[0, 1, 2]]):
        with pytest.raises(ValueError, match="part of the rows of a log"):
            part.append(TUESDAY)
    with pytest.raises(ValueError, match="or was made otherwise"):
        Impressions.from_frame(X.to_frame()).append(TUESDAY)
    with pytest.raises(ValueError, match="user_embedding"):
        X.with_user_embedding(np.zeros((3, 2))).append(TUESDAY)
    catalog = ItemCatalog([10, 11, 12], content={"text": ["a", "b", "c"]})
    X, _ = Impressions.from_log(MONDAY, catalog)
    encoded = MultimodalEncoder().fit_transform(X)
    assert len(encoded.append(TUESDAY)[0]) == 5  # has features, but no further columns


def test_attributes_of_users_go_on():
    monday = pd.DataFrame({"user_id": [3, 1], "item_id": [5, 6], "timestamp": [1, 2]})
    tuesday = pd.DataFrame({"user_id": [2, 1], "item_id": [5, 6], "timestamp": [3, 4]})
    who = pd.DataFrame({"user_id": [1, 3], "age": [20.0, 30.0], "likes": [["a"], ["b", "c"]]})
    X, _ = Impressions.from_log(monday, users=who)
    kept = X.append(tuesday)[0].user_attributes
    assert kept["likes"].to_list() == [["a"], [], ["b", "c"]]
    assert kept["age"].missing.tolist() == [False, True, False]
    more = pd.DataFrame({"user_id": [2, 1], "age": [40.0, None], "country": ["fr", "it"]})
    told = X.append(tuesday, users=more)[0].user_attributes
    assert told["age"].to_list() == [20.0, 40.0, 30.0]
    assert told["country"].to_list() == ["it", "fr", None]
    assert told["likes"].to_list() == [["a"], [], ["b", "c"]]


def test_dates_with_and_without_a_zone_do_not_mix() -> None:
    """Noon in Tokyo would come before ten o'clock of who knows where."""
    plain = pd.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "timestamp": DATES})
    tokyo = plain.assign(timestamp=DATES.tz_localize("Asia/Tokyo"))
    paris = plain.assign(timestamp=tokyo.timestamp.dt.tz_convert("Europe/Paris"))
    numbers = plain.assign(timestamp=[1.8e9, 1.8e9 + 5])
    as_objects = tokyo.assign(timestamp=tokyo.timestamp.astype(object))
    for first, second in ((plain, tokyo), (tokyo, plain), (as_objects, plain)):
        X, _ = Impressions.from_log(first)
        with pytest.raises(ValueError, match="a time zone, but that of X held dates with"):
            X.append(second)
        with pytest.raises(ValueError, match="time zone, but that of X"):
            X.append(numbers)[0].append(second)
        for more in (first.assign(item_id=3), numbers):
            assert len(X.append(more)[0]) == 4
    assert len(Impressions.from_log(tokyo)[0].append(paris.assign(item_id=3))[0]) == 4
