"""From rows to a fitted DIN: encode, align, borrow or rewrite, and fit."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np

from benchmarks.controls import RandomUsers
from benchmarks.movielens import real_encoders
from benchmarks.paper.data import Problem
from benchmarks.paper.experiment import Experiment
from benchmarks.paper.methods import Method, Settings, augmentation, parts
from skmars import (
    DINClassifier,
    Impressions,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
)


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
    if method.aligned and problem.setting == "strong":  # beside what the base reads
        whole = din.item_features == "auto"
        din.set_params(item_features=[*X.catalog.features, *(["aligned"] if whole else [])])
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
