"""Intervals over seeds, tests over users and seeds, and how good probabilities are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import sklearn.metrics
from scipy import stats
from scipy.special import expit

N_RESAMPLES = 2000
BLOCK = 5_000_000  # counts that are held at once


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
    below, above = (np.flatnonzero(y != 1), np.flatnonzero(y == 1))
    below, above = (rows[np.argsort(score[rows], kind="stable")] for rows in (below, above))
    first, last = (np.searchsorted(score[below], score[above], side) for side in ("left", "right"))
    drawn = _draws(n_users, N_RESAMPLES)
    step = max(1, BLOCK // len(y))
    parts = []
    for begin in range(0, N_RESAMPLES, step):
        count = drawn[:, begin : begin + step].astype(np.int32)
        down = np.zeros((len(below) + 1, count.shape[1]), dtype=np.int32)
        np.cumsum(count[user[below]], axis=0, out=down[1:])
        up = count[user[above]].astype(np.float64)
        twice = (down[first] + down[last]).astype(np.float64)  # a tie counts half
        with np.errstate(invalid="ignore"):
            parts.append(np.einsum("ij,ij->j", twice, up) / (2 * up.sum(axis=0) * down[-1]))
    return np.concatenate(parts)


@lru_cache(1)
def _draws(n_users: int, n_resamples: int) -> np.ndarray:
    """How often each user is drawn, shape (n_users, n_resamples)."""
    rng = np.random.RandomState(0)
    draws = np.empty((n_users, n_resamples), dtype=np.int16)
    for i in range(n_resamples):
        draws[:, i] = np.bincount(rng.randint(n_users, size=n_users), minlength=n_users)
    return draws


def log_loss(y: np.ndarray, logit: np.ndarray) -> float:
    """Mean log loss of the probabilities that belong to logits.

    Examples
    --------
    >>> round(log_loss(np.array([0, 1]), np.zeros(2)), 3)
    0.693
    """
    return float(sklearn.metrics.log_loss(y, expit(logit.astype(np.float64)), labels=[0, 1]))


def calibration_error(y: np.ndarray, logit: np.ndarray, n_bins: int = 10) -> float:
    """Expected calibration error (ECE) in bins of equally many rows.

    Rows are sorted by probability and cut into `n_bins` parts whose sizes differ by one at most. Of
    each part, the mean probability is compared with the share of clicks; ECE is the mean absolute
    difference, each part weighted by its rows. Rows of equal probability count with the mean of
    their clicks, so that their order does not matter.

    Examples
    --------
    >>> y = np.repeat([0, 1], [75, 25])
    >>> calibration_error(y, np.full(100, np.log(1 / 3)))  # one in four clicks, as promised
    0.0
    >>> round(calibration_error(y, np.zeros(100)), 2)  # one in two promised
    0.25
    """
    probability, row = np.unique(expit(logit.astype(np.float64)), return_inverse=True)
    clicks = (np.bincount(row, y) / np.bincount(row))[np.sort(row)]
    gaps = np.array_split(probability[np.sort(row)] - clicks, min(n_bins, len(y)))
    return float(sum(abs(gap.sum()) for gap in gaps) / len(y))


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
