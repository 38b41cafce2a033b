"""Look-alike features: how users interacted with a row's target, weighed by likeness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from skmars.data import Sequences
from skmars.retrieval._embeddings import pairwise_cosine
from skmars.utils import _ragged as ragged
from skmars.utils._units import Vectors, has_embedding

# Smoothing: so many interactions and likes, distributed as among all users, are added to counts.
PRIOR_COUNT, PRIOR_SUPPORT, PRIOR_LIKES = 3.0, 0.5, 5.0


@dataclass(frozen=True)
class Interactions:
    """Which users interacted with which items: the first interaction of each pair.

    Pairs stand item after item, those of one item by moment, then by user.
    """

    times: NDArray[np.float64]  # distinct moments, ascending; the last is inf if some are unknown
    moments: NDArray[np.int32]  # of all pairs, as positions in `times`, ascending
    begun: NDArray[np.int32]  # first event of each user, as a position in `times`, ascending
    start: NDArray[np.int64]  # (n_items + 1,): where the pairs of each item begin
    moment: NDArray[np.int32]  # of each pair
    user: NDArray[np.int32]  # of each pair
    likes: NDArray[np.int32] | None  # (n_pairs + 1,): number of likes among the pairs before

    @classmethod
    def of(cls, histories: Sequences, n_items: int) -> Interactions:
        """Collect the interactions from the histories of users."""
        position = histories.positions()
        user = np.repeat(np.arange(len(histories)), histories.length)
        time = np.zeros(len(position)) if histories.time is None else histories.time[position]
        times, rank = np.unique(time, return_inverse=True)
        moment = rank.astype(np.int32)
        begun = np.full(len(histories), len(times), dtype=np.int32)
        np.minimum.at(begun, user, moment)
        # Events of a history stand in order, so that the first of a pair is the earliest.
        pair = user * n_items + histories.items[position]
        _, first = np.unique(pair, return_index=True)
        user, moment, item = user[first], moment[first], histories.items[position[first]]
        # Moments are sorted by radix where they are few bits, which is stable, as is that of items.
        by_moment = np.argsort(moment, kind="stable")
        by_item = by_moment[np.argsort(item[by_moment], kind="stable")]
        likes = None
        if histories.feedback is not None:
            liked = histories.feedback[position[first]][by_item] == 1
            likes = ragged.offsets(liked).astype(np.int32)
        return cls(
            times,
            moment[by_moment],
            np.sort(begun),
            ragged.offsets(np.bincount(item, minlength=n_items)),
            moment[by_item],
            user[by_item].astype(np.int32),
            likes,
        )

    @property
    def n_items(self) -> int:
        return len(self.start) - 1

    @property
    def share_of_likes(self) -> float | None:
        """Share of likes among all interactions, smoothed; None without feedback."""
        if self.likes is None:
            return None
        return float((self.likes[-1] + 1) / (len(self.user) + 2))

    def until(self, before: NDArray[np.float64] | None, n_rows: int) -> NDArray[np.int32]:
        """Return the position in `times` before which events count, for each row."""
        if before is None:
            return np.full(n_rows, len(self.times), dtype=np.int32)
        return np.searchsorted(self.times, before).astype(np.int32)

    def pairs(
        self, item: NDArray[np.int32], until: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where the pairs of each item begin, and how many are before a moment.

        Items of code -1, or beyond those of the interactions, have none.
        """
        known = (item >= 0) & (item < self.n_items)
        item = np.where(known, item, 0)
        first = self.start[item]
        count = np.where(known, self.start[np.minimum(item + 1, self.n_items)] - first, 0)
        # Nothing is later than a request.
        early = np.flatnonzero(until < len(self.times))
        count[early] = ragged.count_below(self.moment, first[early], count[early], until[early])
        return first, count

    def n_likes(self, first: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count likes and dislikes among so many pairs in a row, shape (2, n)."""
        if self.likes is None:
            return np.zeros((2, len(first)), dtype=np.int64)
        liked = (self.likes[first + count] - self.likes[first]).astype(np.int64)
        return np.stack([liked, count - liked])


@dataclass(frozen=True)
class Counts:
    """How users interacted with the target of each row before it; arrays have one entry a row."""

    users: NDArray[np.int64]  # how many had an event by then
    touched: NDArray[np.int64]  # how many of them touched the target
    mean: NDArray[np.float64]  # the same, mean of all items
    liked: NDArray[np.int64]  # how many of those who touched it liked it, 0 without feedback
    disliked: NDArray[np.int64]
    others: NDArray[np.int64]  # how many touched it, the row's own user left out
    others_liked: NDArray[np.int64]
    others_disliked: NDArray[np.int64]
    # What these count for, weighed by how alike they are; where the row's user has no vector, each
    # counts for one, and likes and dislikes for nothing.
    lookalikes: NDArray[np.float64]
    lookalikes_liked: NDArray[np.float64]
    lookalikes_disliked: NDArray[np.float64]


def count_lookalikes(
    interactions: Interactions,
    vectors: Vectors,
    spread: NDArray[np.float64],
    users: Vectors,
    search: NDArray[np.integer],
    own: NDArray[np.int32],
    target: NDArray[np.int32],
    before: NDArray[np.float64] | None,
    n_lookalikes: int,
) -> Counts:
    r"""Count all users who interacted with the target of each row, and weigh the latest of them.

    The latest `n_lookalikes` users who touched the target, other than the row's own user, have the
    weight

    .. math::
        w_v = \frac{\max(0, \cos(e_u, e_v))^2}{\frac12 \operatorname{mean}_x \cos(e_u, e_x)^2},

    where the mean is over all users, so that users drawn at random would count for about one each.

    Parameters
    ----------
    interactions : Interactions
    vectors : ndarray of shape (n_users, n_components), float32
        Centred unit vectors of the users of the interactions.
    spread : ndarray of shape (n_components, n_components), float64
        Mean of the outer products of these vectors with themselves.
    users : ndarray of shape (n_searches, n_components), float32
        Centred unit vectors of the rows' users; zeros for none.
    search : ndarray of shape (n_rows,), int
        Of each row, which of these is that of its user.
    own : ndarray of shape (n_rows,), int32
        Which of the users of the interactions is the row's own user, -1 for none.
    target : ndarray of shape (n_rows,), int32
        Item codes; any that the interactions do not have are items that nobody touched.
    before : ndarray of shape (n_rows,), float64, or None
        Only what happened before this moment counts; None for all.
    n_lookalikes : int
        Most users who are compared for a row.
    """
    until = interactions.until(before, len(target))
    first, touched = interactions.pairs(target, until)
    liked, disliked = interactions.n_likes(first, touched)
    n = np.minimum(touched, min(n_lookalikes, len(interactions.user)))
    row, pair = np.repeat(np.arange(len(n)), n), ragged.ranges(first + touched - n, n)
    like = np.zeros(len(pair), dtype=bool)
    if interactions.likes is not None:
        like = interactions.likes[pair + 1] > interactions.likes[pair]
    other = interactions.user[pair] != own[row]
    own_row, own_like = row[~other], like[~other]
    row, pair, like = row[other], pair[other], like[other]
    weight = _weights(users, search[row], vectors, interactions.user[pair], spread)
    compared = np.bincount(row, minlength=len(n))
    others = (touched - n + compared).astype(np.int64)

    def total(weight: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(row, weight, minlength=len(n)).astype(np.float64, copy=False)

    def without_own(count: NDArray[np.int64], own: NDArray[np.int64]) -> NDArray[np.int64]:
        return count - np.bincount(own, minlength=len(n))

    known = has_embedding(users)[search]
    return Counts(
        users=np.searchsorted(interactions.begun, until),
        touched=touched,
        mean=np.searchsorted(interactions.moments, until) / max(1, interactions.n_items),
        liked=liked,
        disliked=disliked,
        others=others,
        others_liked=without_own(liked, own_row[own_like]),
        others_disliked=without_own(
            disliked, own_row[~own_like & (interactions.likes is not None)]
        ),
        # Those who touched it earlier count as the latest do.
        lookalikes=np.where(known, total(weight) / np.maximum(compared, 1), 1.0) * others,
        lookalikes_liked=total(weight * like),
        lookalikes_disliked=total(weight * ~like),
    )


def _weights(
    users: Vectors,
    user: NDArray[np.integer],
    vectors: Vectors,
    other: NDArray[np.int32],
    spread: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return how much each pair of a row's user and another user counts; 0 without a vector."""
    wide = users.astype(np.float64)
    # The last bits of a product depend on the number of its rows.
    usual = np.round(((wide @ spread) * wide).sum(axis=1), 12) / 2
    usual[usual <= 0] = np.inf
    return np.square(np.maximum(pairwise_cosine(users, user, vectors, other), 0)) / usual[user]


def lookalike_features(counts: Counts, share_of_likes: float | None) -> NDArray[np.float64]:
    r"""Compute how users interacted with each target, by numbers and weighed by likeness.

    Of all users :math:`C` touched the target, and other users than the row's own, :math:`C'` of
    them, count for :math:`c` if each is weighed by how alike they are (see `count_lookalikes`):

    .. math::
        \text{item\_popularity} = \log \frac{C + a}{A + a}, \quad
        \text{lookalike\_support} = \log \frac{c + a'}{C' + a'}, \quad a = 3, \; a' = 0.5,

    where :math:`A` is the mean of :math:`C` over all items. Of all users :math:`L` liked the
    target and :math:`D` did not, of users other than the row's own :math:`L'` and :math:`D'`;
    look-alikes who did count for :math:`l` and :math:`d`; and :math:`r` is the share of likes among
    all interactions:

    .. math::
        q &= \frac{L + b r}{L + D + b}, \quad q' = \frac{L' + b r}{L' + D' + b}, \quad b = 5 \\
        \text{item\_approval} &= \operatorname{logit} q - \operatorname{logit} r \\
        \text{lookalike\_approval} &=
            \operatorname{logit} \frac{l + b q'}{l + d + b} - \operatorname{logit} q'

    Both shares of `lookalike_approval` are without the row's own user, or it would tell the row's
    own click wherever this user is among those of the fit.

    The two features of look-alikes are 0 where a row's user has no vector.

    Parameters
    ----------
    counts : Counts
    share_of_likes : float or None
        :math:`r`; None without feedback.

    Returns
    -------
    ndarray of shape (4, n_rows)
        In the order of the columns `LOOKALIKES`; without feedback the last two are zero.
    """
    a, support = PRIOR_COUNT, PRIOR_SUPPORT
    features = np.zeros((4, len(counts.touched)))
    features[0] = np.log((counts.touched + a) / (counts.mean + a))
    features[1] = np.log((counts.lookalikes + support) / (counts.others + support))
    if share_of_likes is not None:
        b, r = PRIOR_LIKES, share_of_likes

        def smoothed(likes: NDArray[np.int64], dislikes: NDArray[np.int64]) -> NDArray[np.float64]:
            return np.asarray((likes + b * r) / (likes + dislikes + b))

        q = smoothed(counts.others_liked, counts.others_disliked)
        told = counts.lookalikes_liked + counts.lookalikes_disliked + b
        features[2] = logit(smoothed(counts.liked, counts.disliked)) - logit(r)
        features[3] = logit((counts.lookalikes_liked + b * q) / told) - logit(q)
    return features
