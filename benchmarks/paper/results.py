"""Read cells, and compare them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from joblib import Memory
from sklearn.metrics import roc_auc_score

from benchmarks.paper import statistics
from benchmarks.paper.data import KEPT, split_name
from benchmarks.paper.methods import METHODS
from benchmarks.paper.statistics import Difference, holm, paired_difference
from skmars.metrics import delong_test

N_BINS = 10
FEW = 5  # items at most are a short history
LEAST = 200  # rows with short histories, or nothing is said of them
MEMORY = Memory(None, verbose=0)  # `report` puts one here that lasts
Scored = Callable[[np.ndarray, np.ndarray], float]


def auc(y: np.ndarray, logit: np.ndarray) -> float:
    """AUC, NaN where there is one class only."""
    return float(roc_auc_score(y, logit)) if 0 < y.sum() < len(y) else np.nan


SCORES: dict[str, Scored] = {
    "AUC": auc,
    "log loss": statistics.log_loss,
    "ECE": statistics.calibration_error,
}


class Model(Protocol):
    """What has an AUC, and AUCs over draws of users; `part` says of which rows."""

    def score(self, part: str = "all", kind: str = "AUC") -> float: ...
    def draws(self, part: str = "all") -> np.ndarray: ...


@dataclass
class Cell:
    """What a method did on the test rows of one seed."""

    result: dict[str, Any]
    logit: np.ndarray
    rows: dict[str, np.ndarray]
    _draws: dict[str, np.ndarray] = field(default_factory=dict)
    _scores: dict[tuple[str, str], float] = field(default_factory=dict)

    def part(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return y, score and user of all rows ("all"), of low-active users ("low"), or "few".

        "few" are the rows with at most five items in the own history; none, where there are
        fewer than 200 of them.
        """
        chosen = np.ones(len(self.logit), dtype=bool)
        if name == "low":
            chosen = self.rows["low"]
        if name == "few":
            chosen = self.rows["activity"] <= FEW
            chosen &= chosen.sum() >= LEAST
        return self.rows["y"][chosen], self.logit[chosen], self.rows["user"][chosen]

    def score(self, part: str = "all", kind: str = "AUC") -> float:
        """Return AUC, log loss or ECE."""
        if (part, kind) not in self._scores:
            y, logit, _ = self.part(part)
            self._scores[part, kind] = SCORES[kind](y, logit) if len(y) else np.nan
        return self._scores[part, kind]

    def draws(self, part: str = "all") -> np.ndarray:
        """AUC over draws of users."""
        if part not in self._draws:
            y, score, user = self.part(part)
            n_users = int(self.rows["user"].max()) + 1
            resampled = MEMORY.cache(statistics.resampled_auc)
            self._draws[part] = resampled(y, score, user, n_users)
        return self._draws[part]

    def deciles(self) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """AUC by the length of the own history, and the range of each bin; ties stay together."""
        y, score, _ = self.part("all")
        activity = self.rows["activity"]
        edges = np.quantile(activity, np.arange(1, N_BINS) / N_BINS)
        bins = np.searchsorted(edges, activity, side="left")
        values, ranges = np.full(N_BINS, np.nan), [(0, -1)] * N_BINS  # empty
        for b in np.unique(bins):
            at = bins == b
            ranges[b] = (int(activity[at].min()), int(activity[at].max()))
            values[b] = auc(y[at], score[at])
        return values, ranges


@dataclass
class Mean:
    """The mean of several cells of one method and seed, over the same users."""

    cells: list[Cell]

    def score(self, part: str = "all", kind: str = "AUC") -> float:
        """Return the mean of AUC, log loss or ECE."""
        return float(np.mean([cell.score(part, kind) for cell in self.cells]))

    def draws(self, part: str = "all") -> np.ndarray:
        """Mean AUC over draws of users; the same users are drawn for all cells."""
        return np.asarray(np.mean([cell.draws(part) for cell in self.cells], axis=0))


Cells = dict[int, Cell]  # by seed
Points = dict[int | None, dict[str, Cells]]  # of the scarcity curve, by items kept


@lru_cache
def read_cells(folder: Path) -> dict[str, Cells]:
    """Read all cells of a split, by method; refuse those that must not be compared."""
    found: dict[str, Cells] = {}
    rows: dict[int, dict[str, np.ndarray]] = {}
    first: tuple[Path, Any] | None = None
    for name in METHODS:
        for path in sorted(folder.glob(f"{name}/[0-9]*.json")):
            seed = int(path.stem)
            if seed not in rows:
                with np.load(folder / f"rows-{seed}.npz") as file:
                    rows[seed] = dict(file)
            cell = Cell(json.loads(path.read_text()), np.load(path.with_suffix(".npy")), rows[seed])
            first = first or (path, cell.result["protocol"])
            if cell.result["protocol"] != first[1]:
                raise SystemExit(
                    f"{path} was made with {cell.result['protocol']}, but {first[0]} with "
                    f"{first[1]}: they can't be compared. Use another --output for one of them."
                )
            found.setdefault(name, {})[seed] = cell
    return found


def read_points(folder: Path) -> Points:
    """Read the scarcity curve of a folder of data and setting; lengths without cells are absent."""
    points = {kept: read_cells(folder / split_name(kept)) for kept in KEPT}
    return {kept: cells for kept, cells in points.items() if cells}


def short_histories(points: Points) -> dict[str, dict[int, Mean]]:
    """Return the mean over 0, 1, 2, 3 and 5 items kept, by method and seed."""
    every = [points.get(kept, {}) for kept in KEPT if kept is not None and kept <= FEW]
    found: dict[str, dict[int, Mean]] = {}
    for name in METHODS:
        of_name = [cells.get(name, {}) for cells in every]
        seeds = sorted(set.intersection(*map(set, of_name)))
        if seeds:
            found[name] = {s: Mean([cells[s] for cells in of_name]) for s in seeds}
    return found


def over_seeds(models: Mapping[int, Model], part: str = "all", kind: str = "AUC") -> np.ndarray:
    """Score of each seed in which it is defined."""
    values = np.array([model.score(part, kind) for model in models.values()])
    return values[~np.isnan(values)]


def difference(
    model: Mapping[int, Model], base: Mapping[int, Model], part: str = "all"
) -> Difference | None:
    """Compare the AUCs of two methods on the seeds that both have; None where there are none."""
    pairs = [(model[s], base[s]) for s in model if s in base]
    pairs = [(a, b) for a, b in pairs if not np.isnan(a.score(part) - b.score(part))]
    if not pairs:
        return None
    values = np.array([a.score(part) - b.score(part) for a, b in pairs])
    return paired_difference(values, np.stack([a.draws(part) - b.draws(part) for a, b in pairs]))


def corrected(differences: list[Difference | None]) -> list[float]:
    """Return the p values of a family of comparisons after Holm's correction."""
    return holm([np.nan if d is None else d.p for d in differences])


def single_seed_tests(model: Cells, base: Cells) -> list[float]:
    """Return p of DeLong's test of AUCs for each common seed."""
    found = []
    for seed in (s for s in model if s in base):
        y, score, _ = model[seed].part("all")
        _, base_score, _ = base[seed].part("all")
        if min(y.sum(), len(y) - y.sum()) > 1:
            found.append(delong_test(y, score, base_score).pvalue)
    return found
