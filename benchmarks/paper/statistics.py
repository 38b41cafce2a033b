"""Intervals over seeds, and tests of differences over users and seeds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

N_RESAMPLES = 2000
BLOCK = 500_000  # counts that are held at once


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval (t), NaN for a single value."""
    n = len(values)
    if n < 2:
        return float(np.mean(values)), np.nan
    return float(np.mean(values)), float(stats.t.ppf(0.975, n - 1) * stats.sem(values))


def resampled_auc(y: np.ndarray, score: np.ndarray, user: np.ndarray, n_users: int) -> np.ndarray:
    """AUC over all rows for draws of users with replacement, the same draws in every call.

    Parameters
    ----------
    y, score : ndarray of shape (n_rows,)
    user : ndarray of shape (n_rows,)
        Below `n_users`. Users without a row are drawn too, so that calls on different parts of the
        rows draw the same users.

    Returns
    -------
    ndarray of shape (N_RESAMPLES,)
        NaN where a draw has one class only.
    """
    order = np.argsort(score, kind="stable")
    user, positive = user[order], y[order] == 1
    first = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])  # of each tie
    drawn = _draws(n_users, N_RESAMPLES)
    step = max(1, BLOCK // len(y))
    parts = []
    for begin in range(0, N_RESAMPLES, step):
        count = drawn[begin : begin + step][:, user].astype(np.float64)
        up = np.add.reduceat(count * positive, first, axis=1)
        down = np.add.reduceat(count * ~positive, first, axis=1)
        below = np.cumsum(down, axis=1) - down / 2
        with np.errstate(invalid="ignore"):
            parts.append(np.einsum("ij,ij->i", up, below) / (up.sum(axis=1) * down.sum(axis=1)))
    return np.concatenate(parts)


@lru_cache(1)
def _draws(n_users: int, n_resamples: int) -> np.ndarray:
    """How often each user is drawn, shape (n_resamples, n_users)."""
    rng = np.random.RandomState(0)
    rows = [rng.multinomial(n_users, np.full(n_users, 1 / n_users)) for _ in range(n_resamples)]
    return np.array(rows, dtype=np.int16)


@dataclass(frozen=True)
class Difference:
    """A difference of AUCs, its 95 % interval and two-sided p over users and seeds."""

    value: float
    low: float
    high: float
    p: float


def paired_difference(auc: np.ndarray, draws: np.ndarray) -> Difference:
    """Test a difference between two models over users and seeds.

    Users and seeds are both drawn with replacement, so that the result speaks of other users and
    of other initial weights.

    Parameters
    ----------
    auc : ndarray of shape (n_seeds,)
        Differences of the AUCs.
    draws : ndarray of shape (n_seeds, N_RESAMPLES)
        The same over draws of users.
    """
    n_seeds = len(auc)
    seeds = np.random.RandomState(1).randint(n_seeds, size=(draws.shape[1], n_seeds))
    drawn = draws[seeds, np.arange(draws.shape[1])[:, None]].mean(axis=1)
    drawn = drawn[~np.isnan(drawn)]
    if len(drawn) == 0:
        return Difference(float(np.mean(auc)), np.nan, np.nan, np.nan)
    tail = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
    low, high = np.quantile(drawn, [0.025, 0.975])
    p = min(1.0, 2.0 * (tail + 1) / (len(drawn) + 1))
    return Difference(float(np.mean(auc)), float(low), float(high), p)


def holm(p: list[float]) -> list[float]:
    """Correct p values for their number (Holm); NaN ones are not counted.

    Examples
    --------
    >>> [round(p, 2) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=float)
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]
    factor = len(order) - np.arange(len(order))
    values[order] = np.minimum(np.maximum.accumulate(values[order] * factor), 1.0)
    return values.tolist()
