"""One cell: choose settings on the validation rows, fit, look at the test rows once, write.

    OUTPUT/<data>/<setting>/<split>/<method>/search.json   candidates and their validation AUC
    OUTPUT/<data>/<setting>/<split>/<method>/<seed>.json   settings, versions, seconds, scores
    OUTPUT/<data>/<setting>/<split>/<method>/<seed>.npy    logits of the test rows, float32
    OUTPUT/<data>/<setting>/<split>/rows-<seed>.npz        y, user, activity of the test rows
    OUTPUT/<data>/<setting>/aligners                       fitted aligners, for all methods

Tables share cells: base and MARS are fitted once a split and seed. What is there is not done again.
"""

from __future__ import annotations

import json
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.metrics import roc_auc_score

import skmars
from benchmarks.controls import RandomUsers
from benchmarks.movielens import real_encoders
from benchmarks.paper.data import Problem, Source, make_problem, read
from benchmarks.paper.methods import METHODS, Method, Settings, augmentation, base_settings, parts
from skmars import (
    DINClassifier,
    Impressions,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
)

SEARCH_SPLIT = "keep-5"  # where settings for all points of the scarcity curve are chosen


@dataclass
class Experiment:
    """What all cells of one run have in common.

    Attributes
    ----------
    cache : Path or None
        Folder for encoded items.
    n_candidates : int or None
        So many candidates of every method, the first ones; None for all.
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
    n_candidates: int | None = None
    override: Settings = field(default_factory=dict)
    _problems: dict[tuple[str, int], Problem] = field(default_factory=dict, repr=False)

    @property
    def protocol(self) -> dict[str, Any]:
        """What has to be the same in all cells that are compared."""
        override = {k: str(v) for k, v in self.override.items()}
        return {
            "data": self.name,
            "kind": self.kind,
            "setting": self.setting,
            "encoders": self.encoders,
            "candidates": self.n_candidates or len(METHODS["base"].candidates),
            "set": override,
        }

    @cached_property
    def name(self) -> str:
        """Name of the data, which is also that of the folder."""
        stem = self.data.stem if self.kind == "amazon-ids" and self.data else self.kind
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
            self._problems[split, seed] = make_problem(self.source(seed), self.setting, split, seed)
        return self._problems[split, seed]


@dataclass
class Fit:
    """A fitted DIN, and the test rows as it reads them."""

    din: DINClassifier
    X_test: Impressions
    seconds: dict[str, float]

    @property
    def validation(self) -> float:
        return max(self.din.validation_scores_ or [np.nan])


def fit(
    experiment: Experiment, problem: Problem, method: Method, settings: Settings, seed: int
) -> Fit:
    """Run the steps before DIN, fitted on the training rows; fit DIN, stopped by validation."""
    X, train, y = problem.X, problem.train, problem.y
    seconds: dict[str, float] = {}
    clock = _clock(seconds)
    if problem.content and (method.aligned or problem.setting == "strong"):
        X = clock("encode", lambda: corrupted(encoded(experiment, X, train), method.corrupt, seed))
    if method.aligned:
        X, seconds["align"] = aligned(experiment, problem, X, method, settings, seed)
    if method.random_donors:
        X = RandomUsers(seed).transform(X)
    if method.borrows:
        augmenter = SequenceRetrievalAugmenter(**parts(settings, "augment"))
        X = clock("augment", lambda: augmenter.fit(X[train]).transform(X))
    X_train = X[train]
    if method.rewrite:
        rewriter = augmentation(method.rewrite).set_params(random_state=seed)
        rewriter.set_params(**parts(settings, "rewrite"))
        X_train = clock("augment", lambda: rewriter.fit_transform(X[train]))
    din = DINClassifier(random_state=seed)
    if method.auxiliary:
        din.set_params(auxiliary=augmentation(method.auxiliary))
    din.set_params(**parts(settings, "ctr"))
    if din.item_features == "aligned":
        raw = X.catalog.features if problem.setting == "strong" else ()
        din.set_params(item_features=[*raw, "aligned"])
    valid = problem.valid
    clock("fit", lambda: din.fit(X_train, y[train], X_val=X[valid], y_val=y[valid]))
    return Fit(din, X[problem.test], seconds)


def _clock(seconds: dict[str, float]) -> Callable[[str, Callable[[], Any]], Any]:
    def timed(step: str, work: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = work()
        seconds[step] = round(time.perf_counter() - begin, 3)
        return result

    return timed


def encoded(experiment: Experiment, X: Impressions, train: np.ndarray) -> Impressions:
    """Encode texts and images; each content once, see `MultimodalEncoder`."""
    encoders = real_encoders() if experiment.encoders == "pretrained" else None
    return MultimodalEncoder(encoders, cache=experiment.cache).fit(X[train]).transform(X)


def corrupted(X: Impressions, corrupt: tuple[str, float] | None, seed: int) -> Impressions:
    """Add noise to all features, or take a modality from some of the items."""
    if corrupt is None:
        return X
    kind, amount = corrupt
    rng = np.random.RandomState(seed)
    catalog = X.catalog
    features, missing = dict(catalog.features), dict(catalog.missing)
    if kind == "noise":
        for name, matrix in features.items():
            features[name] = matrix + amount * matrix.std() * rng.normal(size=matrix.shape)
    else:
        missing[kind] = missing[kind] | (rng.uniform(size=len(catalog)) < amount)
        features[kind] = np.where(missing[kind][:, None], 0.0, features[kind])
    return X.with_catalog(catalog.with_features(features, missing))


def aligned(
    experiment: Experiment,
    problem: Problem,
    X: Impressions,
    method: Method,
    settings: Settings,
    seed: int,
) -> tuple[Impressions, float]:
    """Align; an aligner of the same rows, settings and seed is fitted once for all methods."""
    own = parts(settings, "align")
    if not problem.content:
        own["modalities"] = []
    key = joblib.hash([problem.split, own, method.corrupt])
    folder = experiment.folder / "aligners"
    path = folder / f"{key}-{seed}.joblib"
    if not path.exists():
        begin = time.perf_counter()
        aligner = SteinAligner(random_state=seed, **own)
        aligner.fit(X[problem.train], problem.y[problem.train])
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        joblib.dump((aligner, round(time.perf_counter() - begin, 3)), part)
        part.replace(path)
    aligner, seconds = joblib.load(path)
    return aligner.transform(X), seconds


def choose(experiment: Experiment, split: str, name: str, seed: int) -> tuple[Settings, Fit | None]:
    """Return the settings of a method, and the fit with them if there is one by now.

    One early-stopped fit for each candidate, on the seed that asks first; the other seeds take
    its choice. All methods build on the DIN that the base chose.
    """
    method = METHODS[name]
    if split not in ("full", SEARCH_SPLIT):
        return choose(experiment, SEARCH_SPLIT, name, seed)[0], None
    if method.like:
        settings, _ = choose(experiment, split, method.like, seed)
        return {**settings, **method.fixed, **experiment.override}, None
    common = base_settings(experiment.setting)
    if name != "base":
        common = choose(experiment, split, "base", seed)[0]
    path = experiment.folder / split / name / "search.json"
    search = read_json(path, experiment) or {"protocol": experiment.protocol, "candidates": []}
    done, best = search["candidates"], None
    for candidate in method.candidates[len(done) : experiment.n_candidates]:
        settings = {**common, **candidate, **method.fixed, **experiment.override}
        found = fit(experiment, experiment.problem(split, seed), method, settings, seed)
        done.append({"candidate": candidate, "seed": seed, "validation": found.validation})
        if found.validation == max(c["validation"] for c in done):
            best = found
        write_json(path, search)
        print(f"[{split}] {name} {candidate} validation {found.validation:.4f}", flush=True)
    chosen = max(done, key=lambda c: c["validation"])
    settings = {**common, **chosen["candidate"], **method.fixed, **experiment.override}
    return settings, best if chosen["validation"] == getattr(best, "validation", None) else None


def run_cell(experiment: Experiment, split: str, name: str, seed: int) -> dict[str, Any]:
    """Return the results of a cell, made now if they are not there yet."""
    path = experiment.folder / split / name / f"{seed}.json"
    known = read_json(path, experiment)
    if known is not None:
        return known
    method = METHODS[name]
    settings, found = choose(experiment, split, name, seed)
    problem = experiment.problem(split, seed)
    if found is None:
        found = fit(experiment, problem, method, settings, seed)
    begin = time.perf_counter()
    logit = found.din.decision_function(found.X_test).astype(np.float32)
    found.seconds["predict"] = round(time.perf_counter() - begin, 3)
    rows = problem.test_rows()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path.parents[1] / f"rows-{seed}.npz", **rows)  # type: ignore[arg-type]
    np.save(path.with_suffix(".npy"), logit)
    scored, low = rows["scored"], rows["scored"] & rows["low"]
    result = {
        "protocol": experiment.protocol,
        "split": split,
        "method": name,
        "seed": seed,
        "settings": {k: str(v) for k, v in settings.items()},
        "versions": versions(),
        "n_train": len(problem.train),
        "n_test": int(scored.sum()),
        "epochs": found.din.n_iter_,
        "validation": found.validation,
        "auc": _auc(rows["y"][scored], logit[scored]),
        "auc_low_active": _auc(rows["y"][low], logit[low]),
        "seconds": found.seconds,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    write_json(path, result)  # last, so that a cell is there as a whole or not at all
    print(f"[{split}] {name} seed {seed} AUC {result['auc']:.4f}", flush=True)
    return result


def versions() -> dict[str, str]:
    """Return what the numbers depend on."""
    packages = ("numpy", "scipy", "scikit-learn", "torch")
    found = {"python": platform.python_version(), "skmars": skmars.__version__}
    return found | {p: version(p) for p in packages}


def _auc(y: np.ndarray, score: np.ndarray) -> float | None:
    return float(roc_auc_score(y, score)) if 0 < y.sum() < len(y) else None


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
