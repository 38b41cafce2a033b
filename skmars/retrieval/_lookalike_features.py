"""Look-alike features: how look-alikes interacted with the target of a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from skmars.data import Sequences
from skmars.utils import _ragged as ragged

# Smoothing: so many interactions and likes, distributed as among all donors, are added to counts.
PRIOR_COUNT, PRIOR_LIKES = 3.0, 5.0
# A look-alike whose cosine is this much below that of the most similar one has the weight 1/e.
TEMPERATURE = 0.1
# Reading a pair takes so many times less than looking one up among those of a donor.
_CHEAPER = 8


@dataclass(frozen=True)
class DonorInteractions:
    """Which donors interacted with which items: the first interaction of each pair.

    Pairs stand donor after donor, those of one donor by item; and once more item after item, those
    of one item by moment.
    """

    times: NDArray[np.float64]  # distinct moments, ascending; the last is inf if some are unknown
    begun: NDArray[np.int32]  # first event of each donor, as a position in `times`, ascending
    start: NDArray[np.int64]  # (n_donors + 1,): where the pairs of each donor begin
    item: NDArray[np.int32]  # of each pair
    moment: NDArray[np.int32]  # when it was, as a position in `times`
    liked: NDArray[np.bool_] | None  # whether the donor liked it; None without feedback
    moments: NDArray[np.int32]  # `moment`, ascending
    item_start: NDArray[np.int64]  # (n_items + 1,): where the pairs of each item begin
    item_moment: NDArray[np.int32]  # their moments
    item_likes: NDArray[np.int32] | None  # (n_pairs + 1,): number of likes among those before

    @classmethod
    def of(cls, donors: Sequences, n_items: int) -> DonorInteractions:
        """Collect the interactions from the histories of donors."""
        position = donors.positions()
        donor = np.repeat(np.arange(len(donors)), donors.length)
        time = np.zeros(len(position)) if donors.time is None else donors.time[position]
        times, rank = np.unique(time, return_inverse=True)
        moment = rank.astype(np.int32)
        begun = np.full(len(donors), len(times), dtype=np.int32)
        np.minimum.at(begun, donor, moment)
        # Events of a history stand in order, so that the first of a pair is the earliest.
        pair = donor * n_items + donors.items[position]
        _, first = np.unique(pair, return_index=True)
        donor, moment = donor[first], moment[first]
        item = donors.items[position[first]]
        liked = None if donors.feedback is None else donors.feedback[position[first]] == 1
        # Moments are sorted by radix where they are few bits, which is stable, as is that of items.
        by_moment = np.argsort(moment, kind="stable")
        by_item = by_moment[np.argsort(item[by_moment], kind="stable")]
        return cls(
            times,
            np.sort(begun),
            ragged.offsets(np.bincount(donor, minlength=len(donors))),
            item,
            moment,
            liked,
            moment[by_moment],
            ragged.offsets(np.bincount(item, minlength=n_items)),
            moment[by_item],
            None if liked is None else ragged.offsets(liked[by_item]).astype(np.int32),
        )

    @property
    def n_items(self) -> int:
        return len(self.item_start) - 1

    @property
    def share_of_likes(self) -> float:
        """Share of likes among all interactions with feedback, smoothed."""
        if self.item_likes is None:
            return 0.5
        return float((self.item_likes[-1] + 1) / (len(self.item) + 2))

    def until(self, before: NDArray[np.float64] | None, n_rows: int) -> NDArray[np.int32]:
        """Return the position in `times` before which events count, for each row."""
        if before is None:
            return np.full(n_rows, len(self.times), dtype=np.int32)
        return np.searchsorted(self.times, before).astype(np.int32)

    def count(
        self,
        donor: NDArray[np.int32],
        weight: NDArray[np.float64],
        search: NDArray[np.integer],
        item: NDArray[np.int32],
        until: NDArray[np.int32],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Count the donors of each row who interacted with its item before a moment.

        Shapes are (n_searches, k) for `donor` (-1 for none) and their `weight`, and (n,) for
        `search`, which says whose donors those of a row are, `item` (-1 for none) and `until`.
        Returns weighted counts, shape (n,), and those of likes and dislikes, shape (n, 2).
        """
        # How many pairs the donors of all searches have, against those that are asked for.
        there = np.where(donor < 0, 0, self.start[donor + 1] - self.start[donor])
        if there.sum() < _CHEAPER * len(search) * donor.shape[1]:
            row, at, pair = self._gathered(donor, there, search, item)
        else:
            row, at, pair = self._looked_up(donor, search, item)
        counted = self.moment[pair] < until[row]
        row, at, pair = row[counted], at[counted], pair[counted]
        weight, n = weight.ravel()[at], len(item)

        def total(weight: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.bincount(row, weight, minlength=n).astype(np.float64, copy=False)

        if self.liked is None:
            return total(weight), np.zeros((n, 2))
        liked = self.liked[pair]
        return total(weight), np.stack([total(weight * liked), total(weight * ~liked)], axis=1)

    def _gathered(
        self,
        donor: NDArray[np.int32],
        n_pairs: NDArray[np.int64],
        search: NDArray[np.integer],
        item: NDArray[np.int32],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Find the pairs of the donors of each row with its item, among all their pairs.

        Returns the row of each, the place of its donor in `donor`, and the pair, such that those
        of one row stand in the order of its donors.
        """
        asked = np.where(item < 0, -1, search * np.int64(self.n_items) + item)
        rows = np.argsort(asked, kind="stable")
        asked = asked[rows]
        at = np.flatnonzero(n_pairs.ravel())
        n_each = n_pairs.ravel()[at]
        pair = ragged.ranges(self.start[donor.ravel()[at]], n_each)
        found = np.repeat(at // donor.shape[1] * np.int64(self.n_items), n_each) + self.item[pair]
        # Few pairs are asked for. A table of places, several times as many as rows, tells most of
        # the others for less than a search.
        n_places = 1 << (16 * len(asked)).bit_length()
        taken = np.zeros(n_places, dtype=bool)
        taken[asked[asked >= 0] & (n_places - 1)] = True
        match = np.flatnonzero(taken[found & (n_places - 1)])
        first = np.searchsorted(asked, found[match])
        same = asked[np.minimum(first, len(asked) - 1)] == found[match]
        match, first = match[same], first[same]
        n_rows = np.searchsorted(asked, found[match], side="right") - first
        match = np.repeat(match, n_rows)
        return rows[ragged.ranges(first, n_rows)], np.repeat(at, n_each)[match], pair[match]

    def _looked_up(
        self, donor: NDArray[np.int32], search: NDArray[np.integer], item: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Do as `_gathered`, by a binary search for each row and donor."""
        k = donor.shape[1]
        theirs, item = donor[search].ravel(), np.repeat(item, k)
        start = np.where(theirs < 0, 0, self.start[theirs])
        length = np.where(theirs < 0, 0, self.start[theirs + 1]) - start
        n_less = ragged.count_below(self.item, start, length, item)
        exists = np.flatnonzero(n_less < length)
        pair = (start + n_less)[exists]
        same = self.item[pair] == item[exists]
        row, rank = np.divmod(exists[same], k)
        return row, search[row] * k + rank, pair[same]

    def count_all(
        self, item: NDArray[np.int32], until: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Count all donors who interacted with each item before a moment, as `count` does."""
        first = np.where(item < 0, 0, self.item_start[item])
        count = np.where(item < 0, 0, self.item_start[item + 1]) - first
        # Nothing is later than a request.
        early = np.flatnonzero(until < len(self.times))
        count[early] = ragged.count_below(
            self.item_moment, first[early], count[early], until[early]
        )
        if self.item_likes is None:
            return count, np.zeros((len(item), 2), dtype=np.int64)
        likes = (self.item_likes[first + count] - self.item_likes[first]).astype(np.int64)
        return count, np.stack([likes, count - likes], axis=1)


def lookalike_features(
    interactions: DonorInteractions,
    lookalike: NDArray[np.int32],
    similarity: NDArray[np.float64],
    search: NDArray[np.integer],
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
    lookalike, similarity : ndarray of shape (n_searches, k), int32 and float64
        The donors most similar to a user (Eq. 15), the most similar first; -1 for none.
    search : ndarray of shape (n_rows,), int
        Of each row, whose look-alikes its user has.
    target : ndarray of shape (n_rows,), int32
        Item codes; any that the interactions do not have are items that no donor touched.
    before : ndarray of shape (n_rows,), float64, or None
        Only what happened before this moment counts; None for all.

    Returns
    -------
    ndarray of shape (4, n_rows)
        In the order of the columns `LOOKALIKES`; without feedback the last two are zero.
    """
    until = interactions.until(before, len(target))
    target = np.where(target < interactions.n_items, target, np.int32(-1))
    weight = np.exp((similarity - similarity[:, :1]) / TEMPERATURE) * (lookalike >= 0)
    c, likes = interactions.count(lookalike, weight, search, target, until)
    C, all_likes = interactions.count_all(target, until)

    a, b = PRIOR_COUNT, PRIOR_LIKES
    k, N = weight.sum(axis=1)[search], np.searchsorted(interactions.begun, until)
    A = np.searchsorted(interactions.moments, until) / max(1, interactions.n_items)
    popularity = np.log((C + a) / (A + a))
    support = np.log((c + a) / (k * C / np.maximum(N, 1) + a))
    if interactions.liked is None:
        return np.stack([popularity, support, np.zeros(len(C)), np.zeros(len(C))])

    r = interactions.share_of_likes
    q = (all_likes[:, 0] + b * r) / (all_likes.sum(axis=1) + b)
    share = (likes[:, 0] + b * q) / (likes.sum(axis=1) + b)
    return np.stack([popularity, support, logit(q) - logit(r), logit(share) - logit(q)])
