"""Ranking metrics at k against averages over all orders of ties, loops and scikit-learn."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from skmars.metrics import (
    hit_rate_at_k,
    mrr_at_k,
    ndcg_at_k,
    precision_at_k,
    ranking_at_k,
    recall_at_k,
)

METRICS = {
    "precision": precision_at_k,
    "recall": recall_at_k,
    "hit_rate": hit_rate_at_k,
    "ndcg": ndcg_at_k,
    "mrr": mrr_at_k,
}


def of_one_order(clicked, k):
    """The five metrics of one group whose rows stand in this order."""
    top = clicked[:k]
    ranks = [rank for rank, click in enumerate(clicked, 1) if click]
    best = sum(1 / np.log2(1 + rank) for rank in range(1, min(k, len(ranks)) + 1))
    return {
        "precision": sum(top) / k,
        "recall": sum(top) / sum(clicked),
        "hit_rate": float(any(top)),
        "ndcg": sum(1 / np.log2(1 + rank) for rank in ranks if rank <= k) / best,
        "mrr": 1 / ranks[0] if ranks[0] <= k else 0.0,
    }


def slow(y_true, y_score, groups, k):
    """The five metrics: the mean over groups of the mean over all orders that the scores allow."""
    of_groups = []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        if not y_true[rows].any():
            continue
        orders = [
            of_one_order(y_true[list(order)].tolist(), k)
            for order in permutations(rows)
            if all(y_score[a] >= y_score[b] for a, b in zip(order[:-1], order[1:]))
        ]
        of_groups.append({m: np.mean([values[m] for values in orders]) for m in METRICS})
    return {m: np.mean([values[m] for values in of_groups]) for m in METRICS}


@st.composite
def rankings(draw, largest=6):
    sizes = draw(st.lists(st.integers(1, largest), min_size=1, max_size=5))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.RandomState(draw(st.integers(0, 10_000)))
    y_true = rng.randint(2, size=len(groups))
    # Few distinct scores, so that ties are common; one group that can be ranked.
    y_score = rng.randint(draw(st.integers(1, 4)), size=len(groups) + 2) / 2.0
    groups, y_true = np.append(groups, [9, 9]), np.append(y_true, [0, 1])
    order = rng.permutation(len(groups))
    return y_true[order], y_score[order], groups[order]


@given(rankings(), st.integers(1, 8))
def test_equals_the_mean_over_all_orders_of_ties(ranking, k):
    expected = slow(*ranking, k)
    for name, metric in METRICS.items():
        assert metric(*ranking, k=k) == pytest.approx(expected[name], abs=1e-12), name


@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(1, 40))
def test_ndcg_is_that_of_scikit_learn_ties_included(seed, size, k):
    rng = np.random.RandomState(seed)
    y_true, y_score = rng.randint(2, size=(6, size)), rng.randint(5, size=(6, size)) / 4
    y_true[:, :2] = (0, 1)
    groups = np.repeat(np.arange(6), size)
    expected = ndcg_score(y_true, y_score, k=k)
    assert ndcg_at_k(y_true.ravel(), y_score.ravel(), groups, k=k) == pytest.approx(expected)


@given(st.integers(0, 10_000), st.integers(1, 20))
def test_without_ties_a_plain_loop_says_the_same_exactly(seed, k):
    rng = np.random.RandomState(seed)
    groups, y_true = rng.randint(8, size=120), rng.randint(2, size=120)
    groups[:2], y_true[:2] = 0, (0, 1)
    y_score = rng.permutation(120) / 7.0
    of_groups = []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        rows = rows[np.argsort(-y_score[rows])]
        if y_true[rows].any():
            of_groups.append(of_one_order(y_true[rows].tolist(), k))
    for name, metric in METRICS.items():
        expected = np.mean([values[name] for values in of_groups])
        assert metric(y_true, y_score, groups, k=k) == pytest.approx(expected, rel=1e-12), name


@given(rankings(largest=20), st.integers(1, 25))
def test_invariances_and_bounds(ranking, k):
    y_true, y_score, groups = ranking
    for metric in METRICS.values():
        value = metric(y_true, y_score, groups, k=k)
        assert 0 <= value <= 1 + 1e-12
        assert metric(y_true, np.exp(y_score), groups, k=k) == pytest.approx(value)
        assert metric(y_true, y_score + 50.0 * groups, groups, k=k) == pytest.approx(value)
        truth = metric(y_true, y_true, groups, k=k)
        assert truth >= value - 1e-12


def test_a_constant_score_gets_what_chance_would():
    """One click among many rows: a large run of ties, also of more rows than `k`."""
    n, k = 10_000, 10
    y_true = np.zeros(n, dtype=int)
    y_true[-1] = 1
    one = np.zeros(n, dtype=int)
    constant = np.full(n, 0.3)
    assert hit_rate_at_k(y_true, constant, one, k=k) == pytest.approx(k / n)
    assert recall_at_k(y_true, constant, one, k=k) == pytest.approx(k / n)
    assert precision_at_k(y_true, constant, one, k=k) == pytest.approx(1 / n)
    expected = sum(1 / rank for rank in range(1, k + 1)) / n
    assert mrr_at_k(y_true, constant, one, k=k) == pytest.approx(expected)
    expected = sum(1 / np.log2(1 + rank) for rank in range(1, k + 1)) / n
    assert ndcg_at_k(y_true, constant, one, k=k) == pytest.approx(expected)


@given(rankings(), st.integers(1, 8))
def test_details_count_everybody(ranking, k):
    y_true, y_score, groups = ranking
    result = ranking_at_k(y_true, y_score, groups, k=k)
    left_out = np.array([not y_true[groups == g].any() for g in result.groups])
    assert result.n_impressions.tolist() == [(groups == g).sum() for g in result.groups]
    assert result.n_groups_left_out == left_out.sum()
    assert result.n_impressions_left_out == result.n_impressions[left_out].sum()
    for name, metric in METRICS.items():
        np.testing.assert_array_equal(np.isnan(result[name]), left_out)
        assert metric(y_true, y_score, groups, k=k) == pytest.approx(np.nanmean(result[name]))


def test_groups_of_any_kind():
    y_true, y_score, groups = [0, 1, 1, 0], [0.1, 0.2, 0.3, 0.4], ["b", "b", "a", "a"]
    for metric in METRICS.values():
        expected = metric(y_true, y_score, [5, 5, 3, 3], k=1)
        assert metric(y_true, y_score, groups, k=1) == expected
        assert metric(y_true, y_score, pd.Series(groups), k=1) == expected
        assert metric(np.array(y_true) == 1, y_score, groups, k=1) == expected


@pytest.mark.parametrize("metric", [*METRICS.values(), ranking_at_k])
def test_errors(metric):
    good = [0, 1, 1], [0.1, 0.2, 0.3], [7, 7, 7]
    name = metric.__name__
    for k in (0, -1, 1.5, True, None, "3"):
        with pytest.raises(ValueError, match=f"The 'k' parameter of {name}"):
            metric(*good, k=k)
    with pytest.raises(ValueError, match="groups must have one entry a row: got 2 groups"):
        metric(*good[:2], [7, 7])
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples"):
        metric(good[0], [0.1, 0.2], good[2])
    with pytest.raises(ValueError, match="y_score holds 1 values that are NaN"):
        metric(good[0], [0.1, np.nan, 0.2], good[2])
    with pytest.raises(ValueError, match="y_true must be binary"):
        metric([0, 1, 2], *good[1:])
    # One row a group, or clicked rows alone: whatever the score, all would be perfect.
    for y_true, groups in (([0, 1, 1], [1, 2, 3]), ([1, 1, 1], [7, 7, 8]), ([0, 0, 0], [7, 7, 8])):
        with pytest.raises(ValueError, match=f"{name} is undefined: .*sample_negatives"):
            metric(y_true, good[1], groups)
