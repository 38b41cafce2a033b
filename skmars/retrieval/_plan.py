"""Plan the searches for donors, one for each distinct history, and choose the rows that borrow."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions
from skmars.retrieval._donors import DonorPool, Own
from skmars.retrieval._embeddings import ItemView

BLOCK_ROWS = 1 << 12  # distinct histories searched for at a time
_BLOCK_PAIRS = 1 << 26  # pairs of these and donors, unless the histories are few
_FEW = 256
_LONGEST = 2**31 - 1  # lengths of histories are int32
_BLOCK_FOUND = 1 << 22  # donors found at a time


@dataclass(frozen=True)
class Settings:
    """How donors are searched and what is borrowed; see `SequenceRetrievalAugmenter`."""

    strategy: str
    theta: float
    n_neighbors: int
    max_borrowed: int | None
    max_length: int
    relevance: str
    respect_time: bool
    n_lookalikes: int
    n_jobs: int | None


@dataclass(frozen=True)
class Plan:
    """Which searches some rows need, and which of them borrow."""

    X: Impressions
    pool: DonorPool
    settings: Settings
    items: ItemView  # the items of X
    own: Own  # who in the pool is the own user of each row
    before: NDArray[np.float64] | None  # only earlier events are borrowed or counted
    borrows: NDArray[np.bool_]  # low-active rows with room for borrowed items
    row: NDArray[np.int64]  # rows that are compared with others, those of one search together
    search: NDArray[np.int64]  # number of the search of each `row`, ascending
    first_row: NDArray[np.int64]  # one row of each search: all have the same history and moment
    finds_donors: NDArray[np.bool_]  # whether donors are searched, for each search

    @property
    def n_donors(self) -> int:
        """Number of donors that a search looks for."""
        return int(min(self.settings.n_neighbors, len(self.pool.ids)))

    @property
    def blocks(self) -> list[range]:
        """Searches that are made together, by one thread; however many threads there are."""
        n = len(self.first_row)
        few = max(_FEW, _BLOCK_PAIRS // max(1, len(self.pool.ids)))
        step = max(1, min(BLOCK_ROWS, few, _BLOCK_FOUND // max(1, self.n_donors)))
        return [range(at, min(at + step, n)) for at in range(0, n, step)]

    def rows_of(self, block: range) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of the searches of a block, and the place of their search in it."""
        first, end = np.searchsorted(self.search, [block.start, block.stop])
        return self.row[first:end], self.search[first:end] - block.start


def make_plan(
    X: Impressions,
    low: NDArray[np.bool_],
    own: Own,
    pool: DonorPool,
    settings: Settings,
) -> Plan:
    """Return the plan for some rows; `low` tells which of them are low-active."""
    items = pool.items.view(X.catalog)
    _check_comparable(pool, settings)
    n_neighbors = 1 if settings.strategy == "most_similar" else settings.n_neighbors
    max_length = min(settings.max_length, _LONGEST)
    settings = replace(settings, n_neighbors=n_neighbors, max_length=max_length)
    before = None
    if X.time is not None and pool.history.time is not None and settings.respect_time:
        before = X.time
    borrows = low & (X.history.length < settings.max_length) & (len(pool.ids) > 0)
    rows = np.flatnonzero(borrows)
    if settings.n_lookalikes and len(pool.users):
        rows = np.arange(len(X))
    keys: list[NDArray[np.generic]] = [X.user, X.history.start, X.history.length]
    if before is not None:
        keys.append(before)
    if X._embedding is not None and pool.user_kind == "embedding":
        keys = [np.arange(len(X))]  # rows may have embeddings of their own
    first, search = distinct([key[rows] for key in keys])
    order = np.argsort(search, kind="stable")
    finds_donors = np.zeros(len(first), dtype=bool)
    finds_donors[search[borrows[rows]]] = True
    return Plan(
        X,
        pool,
        settings,
        items,
        own,
        before,
        borrows,
        rows[order],
        search[order],
        rows[first],
        finds_donors,
    )


def _check_comparable(pool: DonorPool, settings: Settings) -> None:
    """Raise ValueError if the vectors that Eq. 16 compares do not exist or differ in length."""
    units, relevance = pool.items.units, settings.relevance
    if units is None and settings.strategy in ("filter", "dp"):
        raise ValueError(
            f"strategy={settings.strategy!r} compares items, but the catalogue of fit has neither "
            "an embedding nor features. Put an aligner or encoder before this step, build the "
            "catalogue with features, or use strategy='most_similar'."
        )
    if units is None or len(pool.ids) == 0 or relevance == "target":
        return
    if units.shape[1] != pool.units.shape[1]:
        raise ValueError(
            f"relevance={relevance!r} compares users with items, but user embeddings have "
            f"{pool.units.shape[1]} columns and item vectors {units.shape[1]}. Set "
            "item_representation='embedding' if both come from an aligner, or "
            "relevance='target'."
        )


def distinct(keys: list[NDArray[np.generic]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first row of each distinct combination, sorted, and each row's combination."""
    order = np.lexsort(keys[::-1])
    new = np.zeros(len(order), dtype=bool)
    new[:1] = True
    for key in keys:
        new[1:] |= key[order[1:]] != key[order[:-1]]
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.cumsum(new) - 1
    return order[new], number
