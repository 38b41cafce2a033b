"""From rows to a fitted DIN: encode, align, borrow or rewrite, and fit."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import FunctionTransformer

from benchmarks.controls import RandomLookalikes, RandomUsers
from benchmarks.movielens import real_encoders
from benchmarks.paper.data import Problem
from benchmarks.paper.experiment import Experiment
from benchmarks.paper.methods import Method, Settings, augmentation, parts
from benchmarks.prepare import prepared
from skmars import (
    ClickRateClassifier,
    DINClassifier,
    Impressions,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
)
from skmars.data._columns import FACTORS

Step = Callable[[Impressions], Impressions]


@dataclass
class Fit:
    """A fitted DIN (or regression on click rates), and the fitted steps before it."""

    din: Any
    steps: list[Step]
    seconds: dict[str, float]
    validation: float  # AUC

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

    def add(name: str, step: Any) -> None:
        nonlocal train, valid
        train, valid = timed(name, lambda: prepared(step, (train, valid), y))
        steps.append(step.transform)

    if problem.content and (method.aligned or problem.setting == "strong"):
        add("encode", encoder(experiment))
        if method.corrupt is not None:
            how = {"corrupt": method.corrupt, "seed": seed}
            add("encode", FunctionTransformer(corrupted, kw_args=how))
    if method.aligned:
        train, aligner, seconds["align"] = aligned(
            experiment, problem, train, method, settings, seed
        )
        valid = timed("align", lambda: aligner.transform(valid))
        steps.append(aligner.transform)
    if method.random_donors:
        add("augment", RandomUsers(seed))
    if method.borrows:
        kind = RandomLookalikes if method.random_donors else SequenceRetrievalAugmenter
        add("augment", kind(**parts(settings, "augment")))
    if method.rewrite:
        rewriter = augmentation(method.rewrite).set_params(random_state=seed)
        rewriter.set_params(**parts(settings, "rewrite"))
        train = timed("augment", lambda: rewriter.fit_transform(train))
    if method.rates:
        rates = timed("fit", lambda: ClickRateClassifier().fit(train, y))
        return Fit(rates, steps, seconds, roc_auc_score(y_valid, rates.decision_function(valid)))
    din = DINClassifier(random_state=seed)
    if method.auxiliary:
        din.set_params(auxiliary=augmentation(method.auxiliary))
    din.set_params(**parts(settings, "ctr"))
    if method.aligned and problem.setting == "strong":  # besides what the base reads
        more = [] if din.item_features == "auto" else din.item_features
        known = [f for f in train.catalog.features if method.vectors or f != FACTORS]
        din.set_params(item_features=list(dict.fromkeys([*known, *more])))
    timed("fit", lambda: din.fit(train, y, X_val=valid, y_val=y_valid))
    return Fit(din, steps, seconds, max(din.validation_scores_ or [np.nan]))


def encoder(experiment: Experiment) -> MultimodalEncoder:
    """Return the encoder of texts and images; each content is encoded once, see there."""
    encoders = real_encoders() if experiment.encoders == "pretrained" else None
    return MultimodalEncoder(encoders, cache=experiment.cache)


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
) -> tuple[Impressions, SteinAligner, float]:
    """Return the training rows as an aligner makes them by `fit_transform`, itself, and seconds.

    It is fitted once for all methods, and read from a file then.
    """
    own = parts(settings, "align")
    if not problem.content:
        own["modalities"] = []
    key = joblib.hash([problem.split, own, method.corrupt])
    path = experiment.folder / "aligned" / f"{key}-{seed}.pickle"
    if not path.exists():
        begin = time.perf_counter()
        aligner = SteinAligner(random_state=seed, **own)
        rows = aligner.fit_transform(train, problem.y[problem.train])
        found = rows, aligner, round(time.perf_counter() - begin, 3)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(pickle.dumps(found))  # writes what the folds share once, unlike joblib
        part.replace(path)
    return pickle.loads(path.read_bytes())  # type: ignore[no-any-return]
