"""Attributes of users stand once a user, go along with the rows, and survive tables."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skmars import Impressions, ItemCatalog, make_multimodal_ctr
from skmars.data._user_histories import UserHistories

USERS = {
    "user_id": ["cid", "ann", "eve"],
    "age": [31.5, None, 50],
    "country": ["fr", "it", None],
    "likes": [["tea", "jam"], [], ["tea"]],
}
LOG = pd.DataFrame({"user_id": ["ann", "bob", "cid", "ann"], "item_id": [1, 2, 3, 4]})


def attributes(X: Impressions) -> dict[str, list]:
    """Those of each row."""
    return {k: v[X.user].to_list() for k, v in X.user_attributes.items()}


EXPECTED = {
    "age": [np.nan, np.nan, 31.5, np.nan],
    "country": ["it", None, "fr", "it"],
    "likes": [[], [], ["tea", "jam"], []],
}


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.table])
def test_users_of_a_log_know_what_a_table_says_and_the_others_nothing(frame) -> None:
    X, _ = Impressions.from_log(LOG, users=frame(USERS))
    np.testing.assert_equal(attributes(X), EXPECTED)
    assert repr(X).endswith("users: age, country, likes)")
    assert X.columns[-3:] == ["user.age", "user.country", "user.likes"]
    assert ">country</th>" in X._repr_html_()
    assert "<td>tea, jam</td>" in X._repr_html_()


def test_columns_of_the_log_may_hold_them() -> None:
    log = LOG.assign(age=[None, 20, 30, 40.5], club=["a", "b", None, "a"])
    X, _ = Impressions.from_log(log, users=["age", "club"])
    np.testing.assert_equal(
        attributes(X), {"age": [40.5, 20, 30, 40.5], "club": ["a", "b", None, "a"]}
    )
    assert not X.context


@pytest.mark.parametrize("frame", ["pandas", "polars", "pyarrow"])
def test_tables_keep_them(frame) -> None:
    X, _ = Impressions.from_log(LOG, users=pd.DataFrame(USERS))
    for rows in (slice(None), [3], [1], [2, 2, 0], []):
        table = X[rows].to_frame(frame)
        again = Impressions.from_frame(table, X.catalog)
        np.testing.assert_equal(attributes(again), attributes(X[rows]))
        assert again.columns == X.columns


def test_they_are_shared_by_what_is_made_of_the_rows() -> None:
    X, _ = Impressions.from_log(LOG, users=pd.DataFrame(USERS))
    made = [
        X[[2, 0]],
        X.with_catalog(X.catalog.extend([99])),
        X.with_catalog(ItemCatalog([4, 3, 2, 1])),
        X.with_fold(np.zeros(4, dtype=np.int8)),
        X.with_borrowed(None),
    ]
    for other in made:
        assert other.user_attributes["age"] is X.user_attributes["age"]
    again = pickle.loads(pickle.dumps(X))
    np.testing.assert_equal(attributes(again), EXPECTED)
    later = X.with_users(pd.DataFrame({"user_id": ["bob", "ann"], "age": [1, 2]}))
    assert attributes(later)["country"] == EXPECTED["country"]
    np.testing.assert_equal(attributes(later)["age"], [2, 1, np.nan, 2])


def test_one_new_user_brings_their_own_and_may_lack_all() -> None:
    row = {"user_id": ["zoe"], "item_id": [1], "history": [[2, 3]]}
    X = Impressions.from_frame(
        pd.DataFrame({**row, "user.age": [7], "user.likes": [["tea"]], "user.country": [None]})
    )
    assert attributes(X) == {"age": [7], "likes": [["tea"]], "country": [None]}
    X = Impressions.from_frame(pd.DataFrame(row)).with_users(pl.DataFrame(USERS))
    np.testing.assert_equal(attributes(X), {"age": [np.nan], "country": [None], "likes": [[]]})


def test_histories_of_a_service_know_their_users() -> None:
    X, _ = Impressions.from_log(LOG, users=pd.DataFrame(USERS))
    rows = UserHistories.of(X).impressions(np.array(["new", "cid"], dtype=object), np.array([1, 2]))
    np.testing.assert_equal(
        attributes(rows),
        {"age": [np.nan, 31.5], "country": [None, "fr"], "likes": [[], ["tea", "jam"]]},
    )


def test_a_table_of_users_counts_for_those_who_come_later() -> None:
    later = pd.DataFrame({"user_id": ["eve", "dan", "ann"], "item_id": [5, 5, 6]})
    both, _ = Impressions.from_log(pd.concat([LOG, later]), users=pd.DataFrame(USERS))
    X, _ = Impressions.from_log(LOG, users=pd.DataFrame(USERS))
    more = pd.DataFrame({"user_id": ["dan", "cid"], "age": [1.0, None], "vip": [True, False]})
    told = [Impressions.from_log(LOG)[0].with_users(pd.DataFrame(USERS)), X]
    for first in told:
        np.testing.assert_equal(attributes(first.append(later)[0]), attributes(both))
        histories = pickle.loads(pickle.dumps(UserHistories.of(first)))
        ids = np.array(["eve", "dan", "ann"], dtype=object)
        served = histories.impressions(ids, np.array([5, 5, 6]))
        np.testing.assert_equal(attributes(served), attributes(both[4:]))
        assert len(histories.users) == 3  # who is only in the table has no history
    again = UserHistories.of(X.append(later, users=more)[0])
    served = again.impressions(np.array(["eve", "dan", "cid"], dtype=object), np.array([5, 5, 6]))
    np.testing.assert_equal(
        {k: v[served.user].to_list() for k, v in served.user_attributes.items()},
        {
            "age": [50.0, 1.0, 31.5],
            "country": [None, None, "fr"],
            "likes": [["tea"], [], ["tea", "jam"]],
            "vip": [None, "True", "False"],
        },
    )
    assert set(attributes(X[:2])) == set(USERS) - {"user_id"}


@given(st.data())
def test_tables_keep_any_attributes(data) -> None:
    X, _ = make_multimodal_ctr(n_users=4, n_items=5, mean_length=3, random_state=0)
    columns = {}
    for name in data.draw(st.lists(st.text("ab.é ", min_size=1, max_size=3), max_size=3)):
        of = data.draw(
            st.sampled_from(
                [
                    st.none() | st.floats(allow_infinity=False),
                    st.none() | st.text("ab", max_size=2),
                    st.lists(st.text("ab", max_size=2), max_size=2),
                ]
            )
        )
        columns[name] = data.draw(st.lists(of, min_size=4, max_size=4))
    whole = Impressions(X.catalog, X.users, X.user, X.target, X.history, user_attributes=columns)
    frame = data.draw(st.sampled_from(["pandas", "polars", "pyarrow"]))
    again = Impressions.from_frame(whole.to_frame(frame), X.catalog)
    found, expected = attributes(again), attributes(whole)
    assert list(found) == list(expected)
    for name, values in expected.items():
        known = [v is not None and v == v for v in values]
        assert [v is not None and v == v for v in found[name]] == known
        assert [v for v, there in zip(found[name], known) if there] == [
            v for v, there in zip(values, known) if there
        ]


def test_what_contradicts_itself_is_refused() -> None:
    log = LOG.assign(age=[1, 2, 3, 4], likes=[["a"], [], [], ["b"]])
    twice = pd.DataFrame({"user_id": ["ann", "bob", "ann"], "age": [1, 2, 3]})
    cases = [
        ({"users": twice}, ValueError, "column 'user_id' of users must be distinct, but 1 users"),
        ({"users": twice[["age"]]}, ValueError, "users has no column 'user_id'"),
        ({"users": twice[["user_id"]][:2]}, ValueError, "users has no column but 'user_id'"),
        ({"users": pd.DataFrame({"user_id": [1], "age": [2]})}, TypeError, "holds integers"),
        ({"users": ["age"]}, ValueError, "rows of one user hold 1.0 and 4.0 (row 3)"),
        ({"users": ["likes"]}, ValueError, "rows of one user hold ['a'] and ['b'] (row 3)"),
        ({"users": "age"}, TypeError, "users must be a table with one row a user, or a list"),
        ({"users": ["item_id"]}, ValueError, "column 'item_id' of log is named twice"),
        ({"users": ["age"], "context": ["age"]}, ValueError, "'age' of log is named twice"),
        ({"users": ["size"]}, ValueError, "log has no column 'size'"),
    ]
    for parameters, error, message in cases:
        with pytest.raises(error) as raised:
            Impressions.from_log(log, **parameters)
        assert message in str(raised.value), message
    with pytest.raises(ValueError, match="'user.age' of log can't be context"):
        Impressions.from_log(LOG.assign(**{"user.age": 1}), context=["user.age"])
    table = pd.DataFrame(
        {"user_id": [1, 1], "item_id": [1, 2], "history": [[], []], "user.n": [1, 2]}
    )
    with pytest.raises(ValueError, match="'user.n' of X is an attribute of users, but rows of one"):
        Impressions.from_frame(table)
    X, _ = Impressions.from_log(LOG)
    fields = X.catalog, X.users, X.user, X.target, X.history
    for given_, error, message in (
        ({"age": [1, 2]}, ValueError, "user_attributes['age'] has 2 entries for 3 users"),
        ([1, 2, 3], TypeError, "user_attributes must be a mapping"),
        ({1: [1, 2, 3]}, TypeError, "named by strings, got 1"),
        ({"age": [{}, {}, {}]}, TypeError, "user_attributes['age'] holds dict"),
    ):
        with pytest.raises(error) as raised:
            Impressions(*fields, user_attributes=given_)
        assert message in str(raised.value)
