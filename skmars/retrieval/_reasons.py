"""Why rows borrow something or nothing, and how look-alikes interacted with their target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Sequences
from skmars.data._activity import is_high, is_low
from skmars.retrieval._assemble import borrowed_items, compared_users, lookalike_counts
from skmars.retrieval._neighbors import find_donors
from skmars.retrieval._plan import Plan
from skmars.utils._units import has_embedding

# Reasons why a row borrows nothing, and the sentence for each. The first that holds is given.
NOT_LOW, NO_ROOM, NO_DONORS = "not low-active", "no room left", "no donors"
EMPTY, NO_VECTOR, NO_TIME = "empty history", "no vector", "unknown time"
ONLY_DONOR, NO_EARLIER = "no other donor", "no earlier donor"
BELOW_THETA = "nothing reaches theta"
REASONS = {
    NOT_LOW: "its own history is long enough",
    NO_ROOM: "its own history leaves no room (max_length)",
    NO_DONORS: "fit found no donor",
    EMPTY: "its history is empty, so that it can't be compared with donors",
    NO_VECTOR: "its user has no vector, so that it can't be compared with donors",
    NO_TIME: "its time is unknown, so that no event is known to be earlier",
    ONLY_DONOR: "the only donor is its own user",
    NO_EARLIER: "no donor has an event before it",
    BELOW_THETA: "no item of its donors is relevant enough (theta)",
}


@dataclass(frozen=True)
class Reasons:
    """What decided for each row; arrays have one entry a row."""

    activity: NDArray[Any]  # "low", "middle" or "high": that of the row's own history
    reason: NDArray[Any]  # why nothing is borrowed, one of `REASONS`; "" where something is
    donors: Sequences  # those whose items may be borrowed, the most similar first; in `donor`
    largest: NDArray[np.float64]  # relevance of their best item, where none reaches theta; else NaN
    counts: dict[str, NDArray[Any]]  # empty where there are no look-alike features


def find_reasons(plan: Plan, borrowed: Sequences) -> Reasons:
    """Search the donors of the rows of a plan, and tell what decided.

    Parameters
    ----------
    plan : Plan
    borrowed : Sequences of n_rows rows
        What the rows borrow.
    """
    X, pool, settings = plan.X, plan.pool, plan.settings
    low, high = pool.low_threshold, pool.high_threshold
    n = len(X)
    counts = _counts(n, pool.history.feedback is not None)
    donor = np.full((n, plan.n_donors), -1, dtype=np.int32)
    similarity = np.zeros(donor.shape)
    has_vector = np.zeros(n, dtype=bool)
    largest = np.full(n, np.nan)
    nothing = plan.borrows & (borrowed.length == 0)
    best_alone = replace(plan, settings=replace(settings, theta=-1.0, max_borrowed=1))
    for block in plan.blocks:
        found = find_donors(plan, block)
        row, at = plan.rows_of(block)
        donor[row], similarity[row] = found.donor[at], found.similarity[at]
        has_vector[row] = has_embedding(found.user)[at]
        if settings.n_lookalikes:
            told = lookalike_counts(plan, row, at, compared_users(plan, block))
            for name, column in counts.items():
                column[row] = getattr(told, _COUNTS[name])
        some = nothing[row] & (found.donor[at] >= 0).any(axis=1)
        if settings.strategy == "filter" and some.any():
            best = borrowed_items(best_alone, row[some], at[some], found)
            assert best.similarity is not None
            largest[row[some]] = best.similarity[best.start]

    mine, wanted = X.history.length, donor[:, : settings.n_neighbors]
    first_of = {
        NOT_LOW: ~is_low(mine, low),
        NO_ROOM: mine >= settings.max_length,
        NO_DONORS: np.full(n, len(pool.ids) == 0),
        EMPTY: ~has_vector & (mine == 0),
        NO_VECTOR: ~has_vector,
        NO_TIME: np.zeros(n, bool) if plan.before is None else np.isneginf(plan.before),
        ONLY_DONOR: (donor < 0).all(axis=1) & (plan.own.donor >= 0) & (len(pool.ids) == 1),
        NO_EARLIER: (donor < 0).all(axis=1),
        BELOW_THETA: np.ones(n, dtype=bool),
    }
    reason = np.select(list(first_of.values()), [np.array(r, dtype=object) for r in first_of], "")
    reason = np.where(borrowed.length > 0, "", reason)
    used = wanted >= 0
    length = used.sum(axis=1, dtype=np.int32)
    donors = Sequences(
        np.zeros(length.sum(), dtype=np.int32),
        np.cumsum(length, dtype=np.int64) - length,
        length,
        donor=wanted[used],
        donors=pool.ids,
        donor_similarity=similarity[:, : wanted.shape[1]][used].astype(np.float32),
    )
    activity = np.where(is_high(mine, low, high), "high", "middle").astype(object)
    activity[is_low(mine, low)] = "low"
    return Reasons(activity, reason, donors, largest, counts if settings.n_lookalikes else {})


# The columns that tell of users and look-alikes, and their names as counts.
_COUNTS = {
    "users": "users",
    "users_touched": "touched",
    "lookalikes_touched": "lookalikes",
    "users_liked": "liked",
    "lookalikes_liked": "lookalikes_liked",
}


def _counts(n: int, feedback: bool) -> dict[str, NDArray[Any]]:
    """Return columns for `n` rows; those of likes only where there is feedback."""
    names = [name for name in _COUNTS if feedback or not name.endswith("_liked")]
    return {name: np.zeros(n, np.float64 if "alike" in name else np.int64) for name in names}
