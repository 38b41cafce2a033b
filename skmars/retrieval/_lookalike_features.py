"""Look-alike features: how look-alikes interacted with the target of a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from skmars.data import Sequences

# Smoothing: so many interactions and likes, distributed as among all donors, are added to counts.
PRIOR_COUNT, PRIOR_LIKES = 3.0, 5.0
# A look-alike whose cosine is this much below that of the most similar one has the weight 1/e.
TEMPERATURE = 0.1


@dataclass(frozen=True)
class DonorInteractions:
    """Which donors interacted with which items: the first interaction of each pair."""

    n_items: int
    times: NDArray[np.float64]  # distinct moments, ascending; the last is inf if some are unknown
    begun: NDArray[np.int64]  # first event of each donor, as a position in `times`, ascending
    pair: NDArray[np.int64]  # donor * n_items + item, ascending
    moment: NDArray[np.int64]  # when each pair was, as a position in `times`
    liked: NDArray[np.bool_]  # (n_pairs, 2): whether liked, and whether not; neither if unknown
    moments: NDArray[np.int64]  # `moment`, ascending
    by_item: NDArray[np.int64]  # item * (len(times) + 1) + moment, ascending
    total: NDArray[np.int64]  # (n_pairs + 1, 2): `liked`, cumulated in the order of `by_item`

    @classmethod
    def of(cls, donors: Sequences, n_items: int) -> DonorInteractions:
        """Collect the interactions from the histories of donors."""
        position = donors.positions()
        donor = np.repeat(np.arange(len(donors)), donors.length)
        time = np.zeros(len(position)) if donors.time is None else donors.time[position]
        times, moment = np.unique(time, return_inverse=True)
        begun = np.full(len(donors), len(times))
        np.minimum.at(begun, donor, moment)
        # Events of a history stand in order, so that the first of a pair is the earliest.
        pair, first = np.unique(donor * n_items + donors.items[position], return_index=True)
        position, moment = position[first], moment[first]
        liked = np.zeros((len(pair), 2), dtype=bool)
        if donors.feedback is not None:
            liked = donors.feedback[position, None] == np.array([1, 0])
        by_item = donors.items[position] * np.int64(len(times) + 1) + moment
        order = np.argsort(by_item, kind="stable")
        total = np.zeros((1 + len(pair), 2), dtype=np.int64)
        np.cumsum(liked[order], axis=0, out=total[1:])
        moments, by_item = np.sort(moment), by_item[order]
        return cls(n_items, times, np.sort(begun), pair, moment, liked, moments, by_item, total)

    def until(self, before: NDArray[np.float64] | None, n_rows: int) -> NDArray[np.int64]:
        """Return the position in `times` before which events count, for each row."""
        if before is None:
            return np.full(n_rows, len(self.times), dtype=np.int64)
        return np.searchsorted(self.times, before)

    def count(
        self,
        donor: NDArray[np.int32],
        weight: NDArray[np.float64],
        item: NDArray[np.int32],
        until: NDArray[np.int64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Count the donors of each row who interacted with its item before a moment.

        Shapes are (n, k) for `donor` and their `weight`, and (n,) for `item` and `until`. Returns
        weighted counts, shape (n,), and those of likes and dislikes, shape (n, 2).
        """
        if len(self.pair) == 0:
            return np.zeros(len(item)), np.zeros((len(item), 2))
        pair = donor * np.int64(self.n_items) + item[:, None]
        at = np.minimum(np.searchsorted(self.pair, pair), len(self.pair) - 1)
        exists = (self.pair[at] == pair) & (donor >= 0) & (item >= 0)[:, None]
        counted = weight * (exists & (self.moment[at] < until[:, None]))
        likes = [(counted * self.liked[at, j]).sum(axis=1) for j in (0, 1)]
        return counted.sum(axis=1), np.stack(likes, axis=1)

    def count_all(
        self, item: NDArray[np.int32], until: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Count all donors who interacted with each item before a moment, as `count` does."""
        begin = item * np.int64(len(self.times) + 1)
        first, last = (np.searchsorted(self.by_item, key) for key in (begin, begin + until))
        return last - first, self.total[last] - self.total[first]


def lookalike_features(
    interactions: DonorInteractions,
    lookalike: NDArray[np.int32],
    similarity: NDArray[np.float64],
    target: NDArray[np.int32],
    before: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    r"""Compute how all donors, and the look-alikes of each row, interacted with its target.

    A look-alike has the weight :math:`e^{(s - s_1) / \tau}`, where :math:`s` is their similarity,
    :math:`s_1` that of the most similar, and :math:`\tau = 0.1`. Of :math:`k` look-alikes
    :math:`c` interacted with the target, of all :math:`N` donors :math:`C` did:

    .. math::
        \text{donor\_popularity} = \log \frac{C + a}{A + a}, \quad
        \text{lookalike\_support} = \log \frac{c + a}{k C / N + a}, \quad a = 3,

    where :math:`A` is the mean of :math:`C` over all items.
    Of the look-alikes with known feedback, :math:`l` liked the target and :math:`d` did not; of all
    donors :math:`L` and :math:`D`; and :math:`r` is the share of likes among all interactions:

    .. math::
        q &= \frac{L + b r}{L + D + b}, \quad b = 5 \\
        \text{donor\_approval} &= \operatorname{logit} q - \operatorname{logit} r \\
        \text{lookalike\_approval} &=
            \operatorname{logit} \frac{l + b q}{l + d + b} - \operatorname{logit} q

    The two features of look-alikes are 0 where look-alikes act as all donors do, or there are none.

    Parameters
    ----------
    interactions : DonorInteractions
    lookalike, similarity : ndarray of shape (n_rows, k), int32 and float64
        The donors most similar to the row's user (Eq. 15), the most similar first; -1 for none.
    target : ndarray of shape (n_rows,), int32
        Item codes; any that the interactions do not have are items that no donor touched.
    before : ndarray of shape (n_rows,), float64, or None
        Only what happened before this moment counts; None for all.

    Returns
    -------
    ndarray of shape (4, n_rows)
        In the order of the columns `LOOKALIKES`.
    """
    until = interactions.until(before, len(target))
    target = np.where(target < interactions.n_items, target, np.int32(-1))
    weight = np.exp((similarity - similarity[:, :1]) / TEMPERATURE) * (lookalike >= 0)
    c, likes = interactions.count(lookalike, weight, target, until)
    C, all_likes = interactions.count_all(target, until)

    a, b = PRIOR_COUNT, PRIOR_LIKES
    k, N = weight.sum(axis=1), np.searchsorted(interactions.begun, until)
    A = np.searchsorted(interactions.moments, until) / max(1, interactions.n_items)
    popularity = np.log((C + a) / (A + a))
    support = np.log((c + a) / (k * C / np.maximum(N, 1) + a))

    liked, disliked = interactions.total[-1]
    r = (liked + 1) / (liked + disliked + 2)
    q = (all_likes[:, 0] + b * r) / (all_likes.sum(axis=1) + b)
    share = (likes[:, 0] + b * q) / (likes.sum(axis=1) + b)
    return np.stack([popularity, support, logit(q) - logit(r), logit(share) - logit(q)])
