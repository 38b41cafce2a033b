"""Paired tests against the textbook formula, the bootstrap, and their own promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest
from sklearn.metrics import roc_auc_score

from skmars.metrics import delong_test, gauc_bootstrap_test, gauc_score


def two_models(rng, n=200, skill=1.0, base_skill=0.7):
    y_true = rng.randint(2, size=n)
    common = rng.normal(size=n)
    return (
        y_true,
        skill * y_true + common + 0.5 * rng.normal(size=n),
        base_skill * y_true + common + 0.5 * rng.normal(size=n),
    )


def slow_delong_z(y_true, *scores):
    """DeLong's structural components by pairs, as the paper of 1988 has them."""
    v10, v01 = [], []
    for s in scores:
        positive, negative = s[y_true == 1][:, None], s[y_true == 0]
        psi = (positive > negative) + 0.5 * (positive == negative)
        v10.append(psi.mean(axis=1))
        v01.append(psi.mean(axis=0))
    covariance = np.cov(v10) / len(v10[0]) + np.cov(v01) / len(v01[0])
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return (v10[0].mean() - v10[1].mean()) / np.sqrt(variance)


@given(st.integers(0, 10_000), st.integers(0, 2))
def test_delong_equals_the_formula_over_pairs(seed, decimals):
    rng = np.random.RandomState(seed)
    y_true, model, base = two_models(rng, n=40)
    y_true[:4] = [0, 0, 1, 1]
    model, base = np.round(model, decimals), np.round(base, decimals)  # with ties
    test = delong_test(y_true, model, base)
    assert test.statistic == pytest.approx(slow_delong_z(y_true, model, base))
    assert test.score == pytest.approx(roc_auc_score(y_true, model))
    assert test.base_score == pytest.approx(roc_auc_score(y_true, base))
    assert test.difference == pytest.approx(test.score - test.base_score)


def test_delong_interval_agrees_with_the_bootstrap():
    rng = np.random.RandomState(1)
    y_true, model, base = two_models(rng, n=800)
    test = delong_test(y_true, model, base, confidence_level=0.9)
    draws = []
    for _ in range(500):
        rows = rng.randint(len(y_true), size=len(y_true))
        aucs = [roc_auc_score(y_true[rows], s[rows]) for s in (model, base)]
        draws.append(aucs[0] - aucs[1])
    np.testing.assert_allclose(
        test.confidence_interval, np.quantile(draws, [0.05, 0.95]), atol=5e-3
    )


def test_delong_pvalues_are_uniform_where_there_is_no_difference():
    rng = np.random.RandomState(2)
    tests = [delong_test(*two_models(rng, 150, 0.8, 0.8)) for _ in range(300)]
    assert kstest([t.pvalue for t in tests], "uniform").pvalue > 0.01


def test_swapping_the_models_turns_the_sign():
    y_true, model, base = two_models(np.random.RandomState(3))
    users = np.arange(len(y_true)) // 20
    for test in (
        delong_test,
        lambda *args: gauc_bootstrap_test(*args, users, random_state=0),
    ):
        there, back = test(y_true, model, base), test(y_true, base, model)
        assert there.difference == pytest.approx(-back.difference)
        assert there.statistic == pytest.approx(-back.statistic)
        assert there.pvalue == pytest.approx(back.pvalue)
        low, high = there.confidence_interval
        np.testing.assert_allclose(back.confidence_interval, (-high, -low), atol=1e-12)
        assert low <= there.difference <= high


def test_equal_rankings_differ_by_nothing():
    y_true, model, _ = two_models(np.random.RandomState(4))
    users = np.arange(len(y_true)) // 20
    for test in (
        delong_test(y_true, model, 3 * model + 1),
        gauc_bootstrap_test(y_true, model, 3 * model + 1, users, random_state=0),
    ):
        assert (test.statistic, test.pvalue, test.difference) == (0.0, 1.0, 0.0)
        assert test.confidence_interval == pytest.approx((0.0, 0.0))


def slow_bootstrap(y_true, model, base, users, n_resamples, rng):
    ids = np.unique(users)
    rows_of = {u: np.flatnonzero(users == u) for u in ids}
    draws = []
    for _ in range(n_resamples):
        drawn = rng.choice(ids, size=len(ids))
        rows = np.concatenate([rows_of[u] for u in drawn])
        # A user drawn twice counts as two users.
        copies = np.concatenate([np.full(len(rows_of[u]), i) for i, u in enumerate(drawn)])
        scores = [gauc_score(y_true[rows], s[rows], copies) for s in (model, base)]
        draws.append(scores[0] - scores[1])
    return np.array(draws)


def test_bootstrap_draws_whole_users():
    rng = np.random.RandomState(5)
    y_true, model, base = two_models(rng, n=600)
    users = np.sort(rng.randint(40, size=600))
    y_true[np.unique(users, return_index=True)[1]] = 1
    y_true[np.unique(users[::-1], return_index=True)[1] * -1 - 1] = 0
    slow = slow_bootstrap(y_true, model, base, users, 400, rng)
    test = gauc_bootstrap_test(y_true, model, base, users, n_resamples=4000, random_state=0)
    assert test.score == pytest.approx(gauc_score(y_true, model, users))
    assert test.base_score == pytest.approx(gauc_score(y_true, base, users))
    np.testing.assert_allclose(
        test.confidence_interval, np.quantile(slow, [0.025, 0.975]), atol=0.01
    )


def test_bootstrap_repeats_and_sees_a_difference():
    y_true, model, base = two_models(np.random.RandomState(6), 2000, 1.5, 0.5)
    users = np.arange(len(y_true)) // 20
    first = gauc_bootstrap_test(y_true, model, base, users, random_state=0)
    assert first == gauc_bootstrap_test(y_true, model, base, users, random_state=0)
    assert first.pvalue < 0.01
    assert first.confidence_interval[0] > 0


def test_bootstrap_memory_does_not_depend_on_the_number_of_resamples(monkeypatch):
    from skmars.metrics import _significance

    y_true, model, base = two_models(np.random.RandomState(7))
    users = np.arange(len(y_true)) // 20
    whole = gauc_bootstrap_test(y_true, model, base, users, random_state=0)
    monkeypatch.setattr(_significance, "BLOCK", 50)
    assert gauc_bootstrap_test(y_true, model, base, users, random_state=0) == whole


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1, 1, 1], [1, 2, 3], [1, 2, 3]), {}, "two rows of each class.*3 positive and 0 neg"),
        (([0, 0, 1], [1, 2, 3], [1, 2, 3]), {}, "1 positive and 2 negative"),
        (([0, 0, 1, 1], [1, 2, 3, 4], [1, 2, 3, np.inf]), {}, "base_score holds 1 values"),
        (([0, 0, 1, 1], [1, 2, 3], [1, 2, 3, 4]), {}, "inconsistent numbers of samples"),
        (([0, 0, 1, 1],) + ([1, 2, 3, 4],) * 2, {"confidence_level": 95}, "Got 95"),
    ],
)
def test_delong_bad_input(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        delong_test(*arguments, **options)


def test_bootstrap_bad_input():
    arguments = ([0, 1, 0, 1], [1, 2, 3, 4], [1, 2, 3, 4])
    with pytest.raises(ValueError, match="at least two users .* got 1 of 3"):
        gauc_bootstrap_test(*arguments, [1, 1, 2, 3])
    with pytest.raises(ValueError, match=r"The 'n_resamples' parameter .* Got 1"):
        gauc_bootstrap_test(*arguments, [1, 1, 2, 2], n_resamples=1)


@pytest.mark.parametrize("level", [None, "a", True, np.nan, [0.9]])
def test_a_confidence_level_that_is_no_number(level):
    with pytest.raises(ValueError, match="The 'confidence_level' parameter"):
        delong_test([0, 0, 1, 1], [1, 2, 3, 4], [1, 2, 4, 3], confidence_level=level)


def test_delong_of_users_counts_the_rows_of_a_user_together() -> None:
    rng = np.random.RandomState(0)
    y, model, base = two_models(rng, 300, 0.8, 0.6)
    alone = delong_test(y, model, base)
    each = delong_test(y, model, base, users=np.arange(len(y)))
    assert each.difference == alone.difference
    assert each.statistic == pytest.approx(alone.statistic, rel=0.02)
    # Rows that are there ten times tell no more than once, if they are of one user.
    ten = [np.repeat(column, 10) for column in (y, model, base, np.arange(len(y)))]
    repeated = delong_test(*ten[:3], users=ten[3])
    assert repeated.difference == pytest.approx(each.difference)
    assert repeated.statistic == pytest.approx(each.statistic, rel=1e-6)
    assert delong_test(*ten[:3]).statistic > 3 * each.statistic


def test_delong_of_users_is_sure_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    pvalues = []
    for _ in range(200):
        users = np.repeat(np.arange(60), 8)
        taste, noise = rng.normal(size=(2, 60)), rng.normal(size=(2, 480))
        y = (rng.random(480) < 0.5).astype(int)
        scores = 0.5 * y + taste[:, users] + 0.5 * noise  # whole users score high or low
        pvalues.append(delong_test(y, *scores, users=users).pvalue)
    assert np.mean(np.array(pvalues) < 0.05) == pytest.approx(0.05, abs=0.04)
    with pytest.raises(ValueError, match="two users"):
        delong_test(y, *scores, users=np.zeros(480, dtype=int))
