"""Impressions and clicks of groups of rows up to a moment, and click rates smoothed by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data._histories import Timeline
from skmars.utils import _ragged as ragged

Counts = NDArray[np.int64]

# The least that "auto" smooths by, in impressions: a single click is no certainty.
LEAST_SMOOTHING = 1.0


class Events:
    """The impressions and clicks of groups (users, items), counted up to any moment.

    Parameters
    ----------
    group : ndarray of shape (n_events,), int
        From 0 to ``n_groups - 1``; -1 for none.
    moment : ndarray of shape (n_events,)
        When each event was: numbers that NumPy orders, complex ones first by the real part.
    clicked : ndarray of shape (n_events,)
        0 and 1.
    n_groups : int

    Examples
    --------
    >>> import numpy as np
    >>> events = Events(np.array([0, 0, 1]), np.array([1.0, 5.0, 2.0]), np.array([1, 0, 1]), 2)
    >>> events.before(np.array([0, 0, 1, -1]), np.array([5.0, 6.0, 2.0, 9.0]))
    (array([1, 2, 0, 0]), array([1, 1, 0, 0]))
    """

    def __init__(
        self, group: NDArray[Any], moment: NDArray[Any], clicked: NDArray[Any], n_groups: int
    ) -> None:
        kept = np.flatnonzero(group >= 0)
        group, moment, clicked = group[kept], moment[kept], clicked[kept]
        self._timeline = Timeline(group, moment, n_groups)
        self._clicks = ragged.offsets(clicked[self._timeline.order].astype(np.int64))
        self._timeline.order = self._timeline.order[:0]  # needed no more, and large

    def before(self, group: NDArray[Any], moment: NDArray[Any]) -> tuple[Counts, Counts]:
        """Return the impressions and clicks of each group strictly before each moment.

        Group -1 is one that has none.
        """
        n, clicks = np.zeros((2, len(group)), dtype=np.int64)
        known = np.flatnonzero(group >= 0)
        if len(known):
            group = group[known]
            n[known] = self._timeline.count_before(group, moment[known])
            start = self._timeline.start[group]
            clicks[known] = self._clicks[start + n[known]] - self._clicks[start]
        return n, clicks

    def in_all(self, group: NDArray[Any]) -> tuple[Counts, Counts]:
        """Return the impressions and clicks of each group, whenever they were; -1 has none."""
        start = np.append(self._timeline.start, self._timeline.start[-1])
        first, last = start[group], start[group + 1]
        none = group < 0
        first, last = np.where(none, 0, first), np.where(none, 0, last)
        return last - first, self._clicks[last] - self._clicks[first]


def out_of_fold(
    group: NDArray[Any], fold: NDArray[Any], clicked: NDArray[Any]
) -> tuple[Counts, Counts]:
    """Return for each row the impressions and clicks of its group in the rows of other folds.

    Group -1 is one that has none.
    """
    none = group < 0
    n_groups = int(group.max(initial=-1)) + 2
    group = np.where(none, n_groups - 1, group)
    key = fold.astype(np.int64) * n_groups + group

    def others(weight: NDArray[np.float64]) -> Counts:
        total = np.bincount(group, weight, minlength=n_groups)[group]
        others = np.rint(total - np.bincount(key, weight)[key]).astype(np.int64)
        return np.where(none, 0, others)

    return others(np.ones(len(group))), others(clicked.astype(np.float64))


@dataclass(frozen=True)
class Smoothing:
    """What smooths the rates of groups: so many impressions are added, clicked at this rate."""

    rate: float
    strength: float

    @classmethod
    def of(
        cls, group: NDArray[Any], clicked: NDArray[Any], rate: float, smooth: float | str
    ) -> Smoothing:
        r"""Choose the strength by how far rates of groups differ (empirical Bayes).

        Clicks of a group are taken to be beta-binomial: rates differ between groups by a beta
        distribution of mean :math:`p`, so that two impressions of a group correlate by
        :math:`\rho`. Equating the sum of squares between groups with its expectation gives

        .. math::
            \hat\rho = \frac{Q - (G - 1)}{N - \sum_g n_g^2 / N - (G - 1)}, \quad
            Q = \sum_g \frac{n_g (p_g - p)^2}{p (1 - p)},

        and :math:`(1 - \hat\rho) / \hat\rho` impressions are added. Groups that differ no more
        than by chance get all the same rate: as many are added as there are rows.
        """
        if not isinstance(smooth, str):
            return cls(rate, float(smooth))
        if len(group) == 0:
            return cls(rate, LEAST_SMOOTHING)
        n = np.bincount(group).astype(np.float64)
        clicks = np.bincount(group, clicked)[n > 0]
        n = n[n > 0]
        N, G = n.sum(), len(n)
        Q = (n * (clicks / n - rate) ** 2).sum() / (rate * (1 - rate))
        free = N - (n**2).sum() / N - (G - 1)
        correlation = (Q - (G - 1)) / free if free > 0 else 0.0
        most = max(N, LEAST_SMOOTHING)
        strength = (1 - correlation) / correlation if correlation > 0 else most
        return cls(rate, float(np.clip(strength, LEAST_SMOOTHING, most)))

    def log_odds(self, n: Counts, clicks: Counts) -> NDArray[np.float64]:
        """Return the log-odds of the smoothed rates, less those of the rate of all rows."""
        # Not by the rates, which a small strength rounds to 0 or 1.
        clicked, unclicked = self.strength * self.rate, self.strength * (1 - self.rate)
        return np.log1p(clicks / clicked) - np.log1p((n - clicks) / unclicked)
