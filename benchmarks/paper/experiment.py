"""What the cells of one run have in common, and how they are written."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import skmars
from benchmarks.paper.data import AMAZON, Problem, Source, make_problem, read
from benchmarks.paper.methods import Settings

RECENT = 20  # training events of each user that the documentation's tables have


@dataclass
class Experiment:
    """What all cells of one run have in common.

    Attributes
    ----------
    cache : Path or None
        Folder for encoded items.
    n_candidates : int
        So many candidates of every method, the first ones.
    recent : int or None
        Train on so many events of each user, the latest; None for all.
    override : dict
        Settings that go before all others, for all methods.
    """

    kind: str = "ml-1m"
    data: Path | None = None
    setting: str = "paper"
    users: int | None = None
    encoders: str = "offline"
    output: Path = Path("results")
    cache: Path | None = None
    n_candidates: int = 1
    recent: int | None = RECENT
    override: Settings = field(default_factory=dict)
    _problems: dict[tuple[str, int], Problem] = field(default_factory=dict, init=False)

    @property
    def protocol(self) -> dict[str, Any]:
        """What has to be the same in all cells that are compared."""
        override = {k: str(v) for k, v in self.override.items()}
        return {
            "data": self.name,
            "kind": self.kind,
            "setting": self.setting,
            "encoders": self.encoders,
            "candidates": self.n_candidates,
            "recent": self.recent,
            "set": override,
        }

    @cached_property
    def name(self) -> str:
        """Name of the data, which is also that of the folder."""
        stem = self.data.stem if self.kind in AMAZON and self.data else self.kind
        stem += f"-{AMAZON[self.kind]}-core" if AMAZON.get(self.kind, 1) > 1 else ""
        stem += "-all-rows" if self.recent is None else ""
        return f"{stem}-{self.users}-users" if self.users else stem

    @property
    def folder(self) -> Path:
        return self.output / self.name / self.setting

    def source(self, seed: int) -> Source:
        return read(self.kind, self.data, self.setting, self.users, seed)

    def problem(self, split: str, seed: int) -> Problem:
        """Return the rows of a split; the last one is remembered."""
        if (split, seed) not in self._problems:
            self._problems.clear()
            self._problems[split, seed] = make_problem(
                self.source(seed), self.setting, split, seed, self.recent
            )
        return self._problems[split, seed]


def versions() -> dict[str, str]:
    """Return what the numbers depend on."""
    packages = ("numpy", "scipy", "scikit-learn", "torch")
    found = {"python": platform.python_version(), "skmars": skmars.__version__}
    return found | {p: version(p) for p in packages}


def read_json(path: Path, experiment: Experiment) -> Any:
    """Read a file of this protocol; None if there is none yet."""
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    if found["protocol"] != experiment.protocol:
        raise SystemExit(
            f"{path} was made with {found['protocol']}, but this run has {experiment.protocol}. "
            "Use another --output."
        )
    return found


def write_json(path: Path, value: Any) -> None:
    """Write a file, as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n")
    part.replace(path)
