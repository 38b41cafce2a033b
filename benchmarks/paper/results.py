"""Read cells, and compare them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.paper.methods import METHODS
from benchmarks.paper.statistics import (
    Difference,
    holm,
    paired_difference,
    resampled_auc,
)
from skmars.metrics import delong_test, gauc_bootstrap_test

N_BINS = 10


@dataclass
class Cell:
    """What a method did on the test rows of one seed."""

    result: dict[str, Any]
    logit: np.ndarray
    rows: dict[str, np.ndarray]

    def part(self, low: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return y, score and user of the rows that count, of all or of low-active users."""
        chosen = self.rows["low"] | (not low)
        return self.rows["y"][chosen], self.logit[chosen], self.rows["user"][chosen]

    def auc(self, low: bool = False) -> float:
        y, score, _ = self.part(low)
        return float(roc_auc_score(y, score)) if 0 < y.sum() < len(y) else np.nan

    @cached_property
    def _draws(self) -> dict[bool, np.ndarray]:
        return {}

    def draws(self, low: bool = False) -> np.ndarray:
        """AUC over draws of users."""
        if low not in self._draws:
            y, score, user = self.part(low)
            n_users = int(self.rows["user"].max()) + 1
            self._draws[low] = resampled_auc(y, score, user, n_users)
        return self._draws[low]

    def deciles(self) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """AUC by the length of the own history, and the range of each bin; ties stay together."""
        y, score, _ = self.part(False)
        activity = self.rows["activity"]
        edges = np.quantile(activity, np.arange(1, N_BINS) / N_BINS)
        bins = np.searchsorted(edges, activity, side="left")
        auc, ranges = np.full(N_BINS, np.nan), [(0, -1)] * N_BINS  # empty
        for b in np.unique(bins):
            at = bins == b
            ranges[b] = (int(activity[at].min()), int(activity[at].max()))
            if 0 < y[at].sum() < at.sum():
                auc[b] = roc_auc_score(y[at], score[at])
        return auc, ranges


Cells = dict[int, Cell]  # by seed


@lru_cache
def read_cells(folder: Path) -> dict[str, Cells]:
    """Read all cells of a split, by method."""
    found: dict[str, Cells] = {}
    rows: dict[int, dict[str, np.ndarray]] = {}
    for name in METHODS:
        for path in sorted(folder.glob(f"{name}/[0-9]*.json")):
            seed = int(path.stem)
            if seed not in rows:
                with np.load(folder / f"rows-{seed}.npz") as file:
                    rows[seed] = dict(file)
            cell = Cell(json.loads(path.read_text()), np.load(path.with_suffix(".npy")), rows[seed])
            found.setdefault(name, {})[seed] = cell
    return found


def over_seeds(cells: Cells, low: bool = False) -> np.ndarray:
    """AUC of each seed in which it is defined."""
    values = np.array([cell.auc(low) for cell in cells.values()])
    return values[~np.isnan(values)]


def difference(model: Cells, base: Cells, low: bool = False) -> Difference | None:
    """Compare two methods on the seeds that both have."""
    pairs = [(model[s], base[s]) for s in model if s in base]
    pairs = [(a, b) for a, b in pairs if not np.isnan(a.auc(low) - b.auc(low))]
    if not pairs:
        return None
    auc = np.array([a.auc(low) - b.auc(low) for a, b in pairs])
    return paired_difference(auc, np.stack([a.draws(low) - b.draws(low) for a, b in pairs]))


def corrected(differences: list[Difference | None]) -> list[float]:
    """Return the p values of a family of comparisons after Holm's correction."""
    return holm([np.nan if d is None else d.p for d in differences])


def single_seed_tests(model: Cells, base: Cells) -> tuple[list[float], list[float]]:
    """Return p of DeLong's test, and of the user bootstrap of GAUC, for each common seed.

    GAUC needs users with several test rows; without them the second list is empty.
    """
    delong, gauc = [], []
    for seed in (s for s in model if s in base):
        y, score, user = model[seed].part(False)
        _, base_score, _ = base[seed].part(False)
        if min(y.sum(), len(y) - y.sum()) < 2:
            continue
        delong.append(delong_test(y, score, base_score).pvalue)
        if len(np.unique(user)) < len(user):
            gauc.append(gauc_bootstrap_test(y, score, base_score, user, random_state=0).pvalue)
    return delong, gauc
