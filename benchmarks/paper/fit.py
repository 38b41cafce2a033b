"""From rows to a fitted DIN: encode, align, borrow or rewrite, and fit."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
from skmars.data.catalog import FACTORS

Step = Callable[[Impressions], Impressions]


@dataclass
class Fit:
    """A fitted DIN, and the fitted steps before it."""

    din: DINClassifier
    steps: list[Step]
    seconds: dict[str, float]

    @property
    def validation(self) -> float:
        return max(self.din.validation_scores_ or [np.nan])

    def prepare(self, X: Impressions) -> Impressions:
        """Return rows as DIN reads them."""
        for step in self.steps:
            X = step(X)
        return X


def fit(
    experiment: Experiment, problem: Problem, method: Method, settings: Settings, seed: int
) -> Fit:
    """Run the steps before DIN, fitted on the training rows; fit DIN, stopped by validation."""
    train, valid = problem.X[problem.train], problem.X[problem.valid]
    y, y_valid = problem.y[problem.train], problem.y[problem.valid]
    steps: list[Step] = []
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = work()
        seconds[name] = round(seconds.get(name, 0.0) + time.perf_counter() - begin, 3)
        return result

    def add(name: str, step: Step) -> None:
        nonlocal train, valid
        steps.append(step)
        train, valid = timed(name, lambda: (step(train), step(valid)))

    if problem.content and (method.aligned or problem.setting == "strong"):
        add("encode", timed("encode", lambda: encoder(experiment, train)).transform)
        if method.corrupt is not None:
            add("encode", partial(corrupted, corrupt=method.corrupt, seed=seed))
    if method.aligned:
        aligner, seconds["align"] = aligned(experiment, problem, train, method, settings, seed)
        add("align", aligner.transform)
    if method.random_donors:
        add("augment", RandomUsers(seed).transform)
    if method.borrows:
        augmenter = SequenceRetrievalAugmenter(**parts(settings, "augment"))
        add("augment", timed("augment", lambda: augmenter.fit(train)).transform)
    if method.rewrite:
        rewriter = augmentation(method.rewrite).set_params(random_state=seed)
        rewriter.set_params(**parts(settings, "rewrite"))
        train = timed("augment", lambda: rewriter.fit_transform(train))
    din = DINClassifier(random_state=seed)
    if method.auxiliary:
        din.set_params(auxiliary=augmentation(method.auxiliary))
    din.set_params(**parts(settings, "ctr"))
    if method.aligned and problem.setting == "strong":  # besides what the base reads
        more = [] if din.item_features == "auto" else din.item_features
        known = [f for f in train.catalog.features if method.vectors or f != FACTORS]
        din.set_params(item_features=list(dict.fromkeys([*known, *more])))
    timed("fit", lambda: din.fit(train, y, X_val=valid, y_val=y_valid))
    return Fit(din, steps, seconds)


def encoder(experiment: Experiment, train: Impressions) -> MultimodalEncoder:
    """Fit the encoder of texts and images; each content is encoded once, see there."""
    encoders = real_encoders() if experiment.encoders == "pretrained" else None
    return MultimodalEncoder(encoders, cache=experiment.cache).fit(train)


def corrupted(X: Impressions, corrupt: tuple[str, float], seed: int) -> Impressions:
    """Add noise to all features, or take a modality from some of the items."""
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
    train: Impressions,
    method: Method,
    settings: Settings,
    seed: int,
) -> tuple[SteinAligner, float]:
    """Fit an aligner to the training rows, or read it: it is fitted once for all methods."""
    own = parts(settings, "align")
    if not problem.content:
        own["modalities"] = []
    key = joblib.hash([problem.split, own, method.corrupt])
    folder = experiment.folder / "aligners"
    path = folder / f"{key}-{seed}.joblib"
    if not path.exists():
        begin = time.perf_counter()
        aligner = SteinAligner(random_state=seed, **own).fit(train, problem.y[problem.train])
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        joblib.dump((aligner, round(time.perf_counter() - begin, 3)), part)
        part.replace(path)
    found: tuple[SteinAligner, float] = joblib.load(path)
    return found
