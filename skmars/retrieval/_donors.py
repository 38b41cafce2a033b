"""The donors of `fit`: their ids, their histories, and the vectors by which they are searched."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions, Sequences
from skmars.retrieval._ann import NeighborIndex, fit_index
from skmars.retrieval._embeddings import (
    ItemSpace,
    Vectors,
    center_of,
    centred_units,
    has_embedding,
    user_vectors,
)
from skmars.retrieval._lookalike_features import DonorInteractions


@dataclass(frozen=True)
class DonorPool:
    """The donors of `fit`, one row each."""

    ids: NDArray[Any]
    history: Sequences  # the longest of each, in codes of `items`
    units: Vectors  # their centred unit vectors
    center: NDArray[np.float64]  # mean of their vectors, the user centre of Eq. 15, or zeros
    items: ItemSpace
    user_kind: str  # kind of user vector, see `user_vectors`
    index: NeighborIndex | None  # over `units`; None searches exactly

    @cached_property
    def first_event(self) -> NDArray[np.float64] | None:
        """Time of each donor's first event."""
        if self.history.time is None or len(self.ids) == 0:
            return None
        times = self.history.time[self.history.positions()]
        return np.minimum.reduceat(times, self.history.offsets[:-1])

    @cached_property
    def interactions(self) -> DonorInteractions:
        """Which donors interacted with which items."""
        return DonorInteractions.of(self.history, len(self.items.ids))

    def __getstate__(self) -> dict[str, Any]:
        # Cached properties are computed again faster than they are read.
        fields = self.__dataclass_fields__
        return {name: value for name, value in vars(self).items() if name in fields}


def collect_donors(
    X: Impressions,
    user_representation: str,
    item_representation: str,
    centred: bool,
    neighbors: str | NeighborIndex,
    n_jobs: int | None,
) -> DonorPool:
    """Make the pool of the users of some rows, each with their longest history."""
    items = ItemSpace(X.catalog, item_representation, centred)
    if items.vectors is not None and user_representation == "history":
        kind = "units"
    elif X._embedding is not None or X._encoder is not None:
        kind = "embedding"
    else:
        kind = "vectors"
    if len(X) == 0:
        found = np.zeros((0, 0), dtype=np.float32)
    elif kind == "vectors" and items.vectors is None:
        raise ValueError(
            "there is nothing to compare users by: X has no user embedding, and its catalogue "
            "neither an embedding nor features. Put an aligner or encoder before this step, or "
            "build the catalogue with features."
        )
    else:
        found = user_vectors(X, items.view(X.catalog), kind)
    known = has_embedding(found)
    X, found = X[known], found[known]
    center = center_of(found, centred)
    units = centred_units(found, center)
    index = fit_index(neighbors, units, n_jobs)
    return DonorPool(X.user_ids, X.history.compact(), units, center, items, kind, index)


def user_units(X: Impressions, pool: DonorPool) -> Vectors:
    """Return the centred unit vector of each row's user, as it is compared with `pool.units`."""
    return centred_units(user_vectors(X, pool.items.view(X.catalog), pool.user_kind), pool.center)


def why_nothing_is_borrowed(X: Impressions, pool: DonorPool, low: float, high: float) -> str | None:
    """Return the reason why no row of `fit` can borrow, and a remedy; None if one can.

    `low` and `high` are the thresholds of activity.
    """
    if len(pool.ids) == 0:
        return (
            f"there is no donor: users are low-active up to {low:g} items and high-active "
            f"from {high:g}, and nobody with a vector is high-active only. Lower "
            "low_quantile or high_quantile"
        )
    empty = X[np.flatnonzero(X.history.length == 0)[:1]]
    if low < 1 and not has_embedding(user_units(empty, pool)).any():
        return (
            f"only rows without any history are low-active ({np.mean(X.history.length == 0):.0%} "
            "of the rows have none), which can't be compared with donors. Raise low_quantile"
        )
    return None
