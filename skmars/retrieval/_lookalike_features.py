"""Look-alike features: how look-alikes interacted with the target of a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import logit

from skmars.data import Sequences

# Counts and opinions as of all donors that are added to those found, lest one or two decide.
PRIOR_COUNT, PRIOR_OPINIONS = 3.0, 5.0
# How much less similar than the most similar look-alike those are who count by 1/e.
TEMPERATURE = 0.1


@dataclass(frozen=True)
class DonorInteractions:
    """Which donors touched which items: one entry a pair, for the first time that it happened.

    Attributes
    ----------
    pair : csr_array of shape (n_donors, n_items), int64
        One more than the number of each pair.
    moment : ndarray of shape (n_pairs,), int64
        When, as a position in `times`.
    moments : ndarray of shape (n_pairs,), int64
        The same, ascending.
    times : ndarray of float64
        All distinct moments, ascending; the last is `inf` where some are unknown.
    opinion : ndarray of shape (n_pairs, 2), bool
        Whether the donor liked the item, and whether not; neither where that is not known.
    by_item : ndarray of shape (n_pairs,), int64
        ``item * (len(times) + 1) + moment``, ascending.
    total : ndarray of shape (n_pairs + 1, 2), int64
        Opinions, cumulated in the order of `by_item`.
    """

    pair: csr_array
    moment: NDArray[np.int64]
    moments: NDArray[np.int64]
    times: NDArray[np.float64]
    opinion: NDArray[np.bool_]
    by_item: NDArray[np.int64]
    total: NDArray[np.int64]

    @classmethod
    def of(cls, donors: Sequences, n_items: int) -> DonorInteractions:
        """Read the histories of donors."""
        position = donors.positions()
        donor = np.repeat(np.arange(len(donors)), donors.length)
        # Events of a history stand in order, so that the first of a pair is the earliest.
        _, first = np.unique(donor * np.int64(n_items) + donors.items[position], return_index=True)
        donor, position = donor[first], position[first]
        item = donors.items[position].astype(np.int64)
        pair = csr_array((np.arange(1, len(item) + 1), (donor, item)), shape=(len(donors), n_items))
        time = np.zeros(len(item)) if donors.time is None else donors.time[position]
        times, moment = np.unique(time, return_inverse=True)
        opinion = np.zeros((len(item), 2), dtype=bool)
        if donors.feedback is not None:
            opinion = donors.feedback[position, None] == np.array([1, 0])
        by_item = item * (len(times) + 1) + moment
        order = np.argsort(by_item, kind="stable")
        total = np.zeros((1 + len(item), 2), dtype=np.int64)
        np.cumsum(opinion[order], axis=0, out=total[1:])
        return cls(pair, moment, np.sort(moment), times, opinion, by_item[order], total)

    def ask(
        self,
        donor: NDArray[np.int32],
        weight: NDArray[np.float64],
        item: NDArray[np.int32],
        until: NDArray[np.int64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Count of `donor` (n, k) those who touched `item` (n,) before the moment `until` (n,).

        Returns counts of shape (n,), and of likes and dislikes, of shape (n, 2), where each
        donor counts by their `weight` (n, k).
        """
        n = len(item)
        if self.pair.nnz == 0:
            return np.zeros(n), np.zeros((n, 2))
        known = (donor >= 0) & (item >= 0)[:, None]
        touched = self.pair[np.where(known, donor, 0), np.where(known, item[:, None], 0)].tocoo()
        (row, rank), number = touched.coords, touched.data - 1
        counted = weight[row, rank] * known[row, rank] * (self.moment[number] < until[row])
        said = [np.bincount(row, counted * o, minlength=n) for o in (1, *self.opinion[number].T)]
        answers: NDArray[Any] = np.stack(said, axis=1)
        return answers[:, 0], answers[:, 1:]

    def ask_all(
        self, item: NDArray[np.int32], until: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Count as `ask`, of all donors."""
        begin = item * np.int64(len(self.times) + 1)
        first, last = (np.searchsorted(self.by_item, key) for key in (begin, begin + until))
        return last - first, self.total[last] - self.total[first]


def comparable(before: NDArray[np.float64]) -> NDArray[np.float64]:
    """Let what is no moment (NaN) be before everything."""
    return np.where(np.isnan(before), -np.inf, before)


def support(
    interactions: DonorInteractions,
    voters: NDArray[np.int32],
    similarity: NDArray[np.float64],
    target: NDArray[np.int32],
    n_asked: NDArray[np.int64],
    before: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    r"""Tell how all donors, and the look-alikes of each row, interacted with its target.

    A look-alike counts by :math:`e^{(s - s_1) / \tau}`, where :math:`s` is their similarity,
    :math:`s_1` that of the most similar, and :math:`\tau = 0.1`. Of :math:`k` look-alikes
    :math:`c` touched the target, of all :math:`N` donors :math:`C` did:

    .. math::
        \text{popularity} = \log \frac{C + a}{A + a}, \quad
        \text{support} = \log \frac{c + a}{k C / N + a}, \quad a = 3,

    where :math:`A` is the mean of :math:`C` over all items.
    Of the look-alikes whose opinion is known :math:`l` liked it and :math:`d` did not; of all
    donors :math:`L` and :math:`D`; and the share :math:`r` of all opinions are likes:

    .. math::
        q &= \frac{L + b r}{L + D + b}, \quad b = 5 \\
        \text{approval of all} &= \operatorname{logit} q - \operatorname{logit} r \\
        \text{approval} &= \operatorname{logit} \frac{l + b q}{l + d + b} - \operatorname{logit} q

    Support and approval are 0 where look-alikes are like all others, or there are none.

    Parameters
    ----------
    interactions : DonorInteractions
    voters : ndarray of shape (n_rows, k), int32
        The look-alikes, the most similar first; -1 for none.
    similarity : ndarray of shape (n_rows, k), float64
        Eq. 15.
    target : ndarray of shape (n_rows,), int32
        Whatever is no code of an item of the interactions is an item that no donor knows.
    n_asked : ndarray of shape (n_rows,), int64
        How many donors there are in all.
    before : ndarray of shape (n_rows,), float64, or None
        Only what happened before this moment counts; None for all.

    Returns
    -------
    ndarray of shape (4, n_rows)
        `TOUCHED` and `LIKED`.
    """
    until: NDArray[np.int64] = np.full(len(target), len(interactions.times))
    if before is not None:
        until = np.searchsorted(interactions.times, comparable(before))
    target = np.where(target < interactions.pair.shape[1], target, np.int32(-1))
    weight = np.exp((similarity - similarity[:, :1]) / TEMPERATURE) * (voters >= 0)
    count, opinions = interactions.ask(voters, weight, target, until)
    of_all, all_opinions = interactions.ask_all(target, until)

    a, b = PRIOR_COUNT, PRIOR_OPINIONS
    expected = weight.sum(axis=1) * of_all / np.maximum(n_asked, 1)
    average = np.searchsorted(interactions.moments, until) / interactions.pair.shape[1]
    popularity = np.log((of_all + a) / (average + a))
    supported = np.log((count + a) / (expected + a))

    liked, disliked = interactions.opinion.sum(axis=0)
    r = (liked + 1) / (liked + disliked + 2)
    q = (all_opinions[:, 0] + b * r) / (all_opinions.sum(axis=1) + b)
    share = (opinions[:, 0] + b * q) / (opinions.sum(axis=1) + b)
    return np.stack([popularity, supported, logit(q) - logit(r), logit(share) - logit(q)])
