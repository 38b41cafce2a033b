"""Rows that are held out look like the rows to come, and hold both classes."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skmars import Impressions
from skmars.data._holdout import hold_out


def split(X, y, how="auto", fraction="auto", seed=0):
    rng = np.random.RandomState(seed)
    return hold_out(X, np.asarray(y), how, fraction, rng, "DINClassifier")


def log(n_users: int = 40, n: int = 20, seed: int = 0, times: bool = True) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "user_id": np.repeat(np.arange(n_users), n),
            "item_id": rng.integers(0, 30, n_users * n),
            "clicked": rng.integers(0, 2, n_users * n),
        }
    )
    return frame.assign(timestamp=np.arange(len(frame))) if times else frame


@given(st.integers(0, 10**6), st.sampled_from(["all", "positive"]), st.booleans())
def test_the_last_moments_of_users_are_held_out(seed, history, times) -> None:
    X, y = Impressions.from_log(log(seed=seed, times=times), label="clicked", history=history)
    train, held = split(X, y, seed=seed)
    assert sorted([*train, *held]) == list(range(len(X)))
    assert abs(len(held) - 0.125 * len(X)) < 5  # 100 of 800 rows, the least
    # Rows of a user stand in order here: what is held out comes after what is trained on.
    last_trained = np.full(len(X.users), -1)
    np.maximum.at(last_trained, X.user[train], train)
    first_held = np.full(len(X.users), len(X))
    np.minimum.at(first_held, X.user[held], held)
    assert (last_trained < first_held).all()
    n_held = np.bincount(X.user[held], minlength=len(X.users))
    assert n_held.max() - n_held.min() <= 1


def test_a_slate_is_held_out_as_a_whole() -> None:
    frame = log(n=24)
    frame["timestamp"] //= 4  # pages of four
    X, y = Impressions.from_log(frame, label="clicked", duplicates="keep")
    train, held = split(X, y)
    pages = set(zip(X.user[train], X.time[train]))
    assert not pages & set(zip(X.user[held], X.time[held]))


def test_a_click_and_its_sampled_negatives_stay_together() -> None:
    """Tables hold the history of a click once more for each item that was not clicked."""
    rng = np.random.default_rng(0)
    rows = [
        {"user_id": u, "item_id": int(i), "history": list(range(t)), "clicked": int(j == 0)}
        for u in range(50)
        for t in range(8)
        for j, i in enumerate(rng.integers(0, 30, 3))
    ]
    frame = pd.DataFrame(rows)
    X = Impressions.from_frame(frame.drop(columns="clicked"))
    _, held = split(X, frame.clicked)
    assert len(held) > 100
    assert frame.clicked[held].mean() == pytest.approx(1 / 3, abs=1e-9)


def test_large_data_hold_out_no_more_than_tells() -> None:
    X, y = Impressions.from_log(log(n_users=2000, n=30), label="clicked")
    assert len(split(X, y)[1]) == 5000
    assert len(split(X, y, fraction=0.2)[1]) == 12_000


def test_users_as_a_whole() -> None:
    X, y = Impressions.from_log(log(), label="clicked")
    train, held = split(X, y, "users")
    assert not set(X.user[train]) & set(X.user[held])
    assert len(held) == 100


def test_users_with_a_single_moment_are_held_out_as_a_whole() -> None:
    X, y = Impressions.from_log(log(n_users=300, n=1), label="clicked")
    train, held = split(X, y)
    assert len(held) == 90  # 30 % of 300 rows are less than 100
    assert not set(X.user[train]) & set(X.user[held])


def test_one_user_with_most_of_the_rows_is_not_all_that_is_held_out() -> None:
    frame = log(n_users=41)
    large = frame.user_id < 1
    frame = pd.concat([frame[~large], pd.concat([frame[large]] * 500)])
    frame["timestamp"] = np.arange(len(frame))
    X, y = Impressions.from_log(frame, label="clicked")
    for how in ("last", "users"):
        _, held = split(X, y, how)
        assert len(np.unique(X.user[held])) == (41 if how == "last" else 40)
        assert len(held) < 0.2 * len(X)


@pytest.mark.parametrize("n_clicks", [2, 4])
def test_few_clicks_are_shared_with_a_warning(n_clicks) -> None:
    for seed in range(20):
        frame = log(100, 20, seed).assign(clicked=0)
        at = np.random.default_rng(seed).choice(len(frame), n_clicks, replace=False)
        frame.loc[at, "clicked"] = 1
        X, y = Impressions.from_log(frame, label="clicked")
        with pytest.warns(UserWarning, match="score is mostly chance"):
            train, held = split(X, y, seed=seed)
        assert 0 < y[train].sum() < n_clicks + 1
        assert 0 < y[held].sum() < n_clicks
        assert len(held) < 0.12 * len(X)


def test_a_single_click_can_not_be_shared() -> None:
    frame = log().assign(clicked=0)
    frame.loc[5, "clicked"] = 1
    X, y = Impressions.from_log(frame, label="clicked")
    with pytest.warns(UserWarning, match="too few rows"):
        assert split(X, y) is None


def test_one_user_only() -> None:
    X, y = Impressions.from_log(log(n_users=1, n=400), label="clicked")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, held = split(X, y)
    assert held.tolist() == list(range(300, 400))
    with pytest.raises(ValueError, match=r"only one user. Set holdout='last'"):
        split(X, y, "users")


def test_one_user_at_one_moment_still_gives_both_parts_both_classes() -> None:
    frame = pd.DataFrame({"user_id": 1, "item_id": range(40), "history": [[1, 2]] * 40})
    y = np.arange(40) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = split(Impressions.from_frame(frame), y)
    assert parts is None or all(len(np.unique(y[rows])) == 2 for rows in parts)
