"""GAUC and relative improvement against the equations, loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from skmars.metrics import gauc_score, relative_improvement


def slow_gauc(y_true, y_score, users):
    total = weight = 0.0
    for user in np.unique(users):
        rows = users == user
        if len(np.unique(y_true[rows])) == 2:
            total += rows.sum() * roc_auc_score(y_true[rows], y_score[rows])
            weight += rows.sum()
    return total / weight


@st.composite
def scored_logs(draw):
    n = draw(st.integers(4, 60))
    y_true = draw(arrays(np.int64, n, elements=st.integers(0, 1)))
    users = draw(arrays(np.int64, n, elements=st.integers(0, 6)))
    # Few distinct scores, so that ties are common.
    y_score = draw(arrays(np.float64, n, elements=st.integers(-3, 3))) / 2
    users[:2], y_true[:2] = 3, (0, 1)
    return y_true, y_score, users


@given(scored_logs())
def test_equals_a_loop_over_users(log):
    assert gauc_score(*log) == pytest.approx(slow_gauc(*log))


@given(scored_logs())
def test_one_user_is_the_auc(log):
    y_true, y_score, users = log
    one = np.zeros_like(users)
    assert gauc_score(y_true, y_score, one) == pytest.approx(roc_auc_score(y_true, y_score))


@given(scored_logs(), st.randoms(use_true_random=False))
def test_invariances(log, random):
    y_true, y_score, users = log
    gauc = gauc_score(y_true, y_score, users)
    assert gauc_score(y_true, np.exp(y_score), users) == pytest.approx(gauc)
    assert gauc_score(y_true, -y_score, users) == pytest.approx(1 - gauc)
    # A user's level says nothing about the order within the user.
    assert gauc_score(y_true, y_score + 100.0 * users, users) == pytest.approx(gauc)
    order = random.sample(range(len(users)), len(users))
    assert gauc_score(y_true[order], y_score[order], users[order]) == pytest.approx(gauc)


@given(scored_logs())
def test_details_count_everybody(log):
    y_true, y_score, users = log
    gauc, details = gauc_score(y_true, y_score, users, return_details=True)
    defined = ~np.isnan(details.auc)
    assert details.n_impressions.sum() == len(users)
    assert details.n_users_left_out == (~defined).sum()
    assert details.n_impressions_left_out == details.n_impressions[~defined].sum()
    weighted = np.average(details.auc[defined], weights=details.n_impressions[defined])
    assert gauc == pytest.approx(weighted)


def test_ids_and_targets_of_any_kind_give_the_same():
    y_true, y_score = np.array([1, 0, 1, 0, 1]), [0.9, 0.1, 0.2, 0.3, 0.4]
    users = ["b", "b", "a", "a", "a"]
    expected = gauc_score(y_true, y_score, users)
    for variant in (np.array(users), pd.Series(users), pl.Series(users), [7, 7, 3, 3, 3]):
        assert gauc_score(y_true, y_score, variant) == expected
    for target in (
        y_true == 1,
        2 * y_true - 1,
        np.where(y_true, "yes", "no"),
        y_true.astype(float),
    ):
        assert gauc_score(target, y_score, users) == expected


@pytest.mark.parametrize("y_true", [[1, 0, 1], [1, 1, 1], [0, 0, 0], ["a", "a", "a"]])
def test_only_one_class_users_is_an_error_that_says_so(y_true):
    with pytest.raises(ValueError, match="GAUC is undefined: none of the 3 users has both"):
        gauc_score(y_true, [0.1, 0.2, 0.3], [1, 2, 3])


@pytest.mark.parametrize(
    ("y_true", "y_score", "users", "message"),
    [
        ([0, 1, 2], [1, 2, 3], [1, 1, 1], "y_true must be binary"),
        ([], [], [], "y_true is empty"),
        ([0, 1], [0.1, np.nan], [1, 1], "y_score holds 1 values that are NaN"),
        ([0, 1], [[0.1, 0.9], [0.2, 0.8]], [1, 1], r"predict_proba\(X\)\[:, 1\]"),
        ([0, 1], [0.1, 0.2, 0.3], [1, 1], "inconsistent numbers of samples"),
        ([0, 1], [0.1, 0.2], [1], r"got 1 users for 2 rows.*X\.user_ids"),
        ([0, 1], [0.1, 0.2], [1, None], "users holds 1 missing ids"),
    ],
)
def test_bad_input(y_true, y_score, users, message):
    with pytest.raises(ValueError, match=message):
        gauc_score(y_true, y_score, users)


def test_is_fast_without_a_loop_over_users():
    rng = np.random.RandomState(0)
    n = 300_000
    gauc = gauc_score(rng.randint(2, size=n), rng.normal(size=n), rng.randint(100_000, size=n))
    assert gauc == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("auc", "base", "percent"), [(0.7772, 0.7772, 0.0), (1.0, 0.75, 100.0), (0.5, 0.6, -100.0)]
)
def test_relative_improvement(auc, base, percent):
    assert relative_improvement(auc, base) == pytest.approx(percent)


@pytest.mark.parametrize(
    ("auc", "base", "message"),
    [
        (0.7, 0.5, "base_auc must exceed 0.5"),
        (0.7, 0.3, "base_auc must exceed 0.5"),
        (77.7, 0.7, "'auc' parameter"),
        (0.7, float("nan"), "'base_auc' parameter"),
    ],
)
def test_relative_improvement_without_meaning(auc, base, message):
    with pytest.raises(ValueError, match=message):
        relative_improvement(auc, base)


@pytest.mark.parametrize("value", [None, "a", [0.6], True])
def test_an_auc_that_is_no_number(value):
    with pytest.raises(ValueError, match="The 'auc' parameter of relative_improvement"):
        relative_improvement(value, 0.6)
    with pytest.raises(ValueError, match="The 'base_auc' parameter of relative_improvement"):
        relative_improvement(0.6, value)
