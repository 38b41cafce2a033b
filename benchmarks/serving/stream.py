"""Does a model that learns from the stream predict better than one that stays as it was fitted?

    python -m benchmarks.serving.stream --data ../shared/data/ml-1m --models din mars
    python -m benchmarks.serving.stream --learners frozen step batch --stretches 0 1

MovieLens-1M (rating >= 4) in the order of time, in stretches that share no event. A model is
fitted to the first events of a stretch (`--first`); then the stream goes on in steps of `--step`
events. Each step is predicted first and learnt afterwards. Histories grow for everybody: what users
have done is known, whether a model learns or not. Learners:

frozen        nobody learns
step          `partial_fit` of the classifier on the rows of each step
slow-step     the same, with a tenth of the learning rate
batch         `partial_fit` on 25 steps together, when they are over
slow-batch    the same, with three tenths of the learning rate
uncalibrated  as step, but the calibration of the fit is given up: the logit itself is trained

Prints AUC and log loss of all steps together, one line of JSON a cell in `--output`: a cell that is
there is not measured again. Events of unknown time are left out. With ``--check``, the rows of the
first steps also go through a store and its stream: the parameters have to be the same, to the bit.
"""

from __future__ import annotations

import argparse
from copy import deepcopy
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from benchmarks.cells import auc_and_log_loss, difference, measured
from benchmarks.measure import threads
from benchmarks.movielens import settings_of
from skmars import DINClassifier, Impressions, ItemCatalog, load_movielens_1m, make_mars
from skmars.persistence import Model
from skmars.pipeline._steps import before_classifier
from skmars.serving import Events, open_store
from skmars.serving.scoring._histories import ItemNumbers
from skmars.serving.trainer._training_rows import training_rows

LEARNERS: dict[str, dict[str, Any]] = {
    "frozen": {},
    "step": {},
    "slow-step": {"learning_rate": 0.3},
    "batch": {"n_steps": 25},
    "slow-batch": {"learning_rate": 0.3, "n_steps": 25},
    "uncalibrated": {"uncalibrated": True},
}
MODERATE = {"align__max_iter": 3}
READ = {"label": "liked", "history": "all", "time": None, "duplicates": "keep"}


@cache
def ratings(data: str) -> tuple[ItemCatalog, pd.DataFrame]:
    """Return the movies, and the ratings whose time is known, in its order."""
    catalog, log = load_movielens_1m(data, content=False)
    time = "timestamp" if "timestamp" in log else "approximate_time"
    log = log[log[time].notna()].sort_values(time, kind="stable", ignore_index=True)
    return catalog, log.drop(columns=["position", "gender", "age", "occupation"])


def stretch_of(data: str, stretch: int, n: int) -> tuple[ItemCatalog, pd.DataFrame]:
    """Return the movies, and `n` ratings: those of a stretch."""
    catalog, log = ratings(data)
    if (stretch + 1) * n > len(log):
        raise ValueError(f"stretch {stretch} of {n} events goes beyond the {len(log)} of the log.")
    return catalog, log[stretch * n : (stretch + 1) * n].reset_index(drop=True)


def fitted(model: str, X: Impressions, y: Any, seed: int, settings: dict[str, Any]) -> Pipeline:
    """Return a model that is fitted to rows."""
    if model == "din":
        of_step = {name.removeprefix("ctr__"): v for name, v in settings.items()}
        made = Pipeline([("ctr", DINClassifier(random_state=seed, **of_step))])
    else:
        made = make_mars(random_state=seed, **{**MODERATE, **settings})
    return made.fit(X, y)


class Learner:
    """A classifier that learns what it has predicted, `n_steps` steps at a time."""

    def __init__(
        self,
        classifier: DINClassifier,
        learning_rate: float = 1.0,
        n_steps: int = 1,
        uncalibrated: bool = False,
    ) -> None:
        self.din, self.n_steps = deepcopy(classifier), n_steps
        self.din.set_params(learning_rate=learning_rate * self.din.learning_rate)
        if uncalibrated:
            self.din.validation_scores_ = None

    def learn(self, pipeline: Pipeline, X: Impressions, y: Any, rows: slice, first: int) -> None:
        """Learn the rows of the last steps, if they are enough."""
        step = rows.stop - rows.start
        if (rows.stop - first) % (step * self.n_steps) == 0:
            rows = slice(rows.stop - step * self.n_steps, rows.stop)
            self.din.partial_fit(before_classifier(pipeline, X[rows])[1], y[rows])


def replay(
    pipeline: Pipeline, X: Impressions, y: Any, first: int, step: int, learners: list[str]
) -> dict[str, Any]:
    """Predict and learn the rows from `first` on; return the measures of each learner."""
    learning = {k: Learner(pipeline[-1], **LEARNERS[k]) for k in learners if k != "frozen"}
    scores: dict[str, list[Any]] = {name: [] for name in learners}
    for begin in range(first, len(y), step):
        rows = slice(begin, begin + step)
        classifier, Z = before_classifier(pipeline, X[rows])
        for name in learners:
            din = learning[name].din if name in learning else classifier
            scores[name].append(din.predict_proba(Z)[:, 1])
        for learner in learning.values():
            learner.learn(pipeline, X, y, rows, first)
    return {name: auc_and_log_loss(y[first:], np.concatenate(p)) for name, p in scores.items()}


def check(
    pipeline: Pipeline, log: pd.DataFrame, X: Impressions, y: Any, first: int, step: int, n: int
) -> None:
    """Raise AssertionError unless rows of a store's stream teach what rows of the log teach."""
    model = Model.of(pipeline, X)
    plain = deepcopy(pipeline[-1])
    for begin in range(first, first + n * step, step):
        rows = slice(begin, begin + step)
        plain.partial_fit(before_classifier(pipeline, X[rows])[1], y[rows])
    with TemporaryDirectory() as folder:
        store = open_store(f"lmdb:{folder}")
        for streamed, rows in ((False, slice(0, first)), (True, slice(first, first + n * step))):
            part = log[rows]
            store.append(
                Events(
                    part.user_id.tolist(),
                    part.item_id.tolist(),
                    np.full(len(part), np.nan),
                    part.liked.to_numpy().astype(np.uint8),
                    [str(at) for at in part.index],
                ),
                streamed=streamed,
            )
        numbers, position, learner = ItemNumbers(store), first, deepcopy(pipeline[-1])
        while events := store.stream(position, step):
            Z, labels = training_rows(model, numbers, events, store)
            learner.partial_fit(before_classifier(pipeline, Z)[1], labels)
            position = events[-1].position
        store.close()
    assert list(learner.item_ids_) == list(plain.item_ids_)
    pairs = zip(plain._network.state_dict().items(), learner._network.state_dict().values())
    for (name, expected), found in pairs:
        assert expected.equal(found), f"{name} differs"
    print(f"{n * step} events: the parameters are the same, to the bit", flush=True)


def measure(
    model: str, data: str, stretch: int, first: int, n: int, step: int, settings: Any, learners: Any
) -> dict[str, Any]:
    """Fit to the first rows of a stretch, and let the others pass."""
    catalog, log = stretch_of(data, stretch, n)
    X, y = Impressions.from_log(log, catalog, **READ)
    pipeline = fitted(model, X[:first], y[:first], stretch, settings)
    new = ~log.user_id[first:].isin(log.user_id[:first])
    return {
        "new_users": round(float(new.mean()), 3),
        "epochs": pipeline[-1].n_iter_,
        **replay(pipeline, X, y, first, step, learners),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", default="../shared/data/ml-1m", help="folder of MovieLens-1M")
    parser.add_argument("--models", nargs="+", choices=["din", "mars"], default=["din", "mars"])
    parser.add_argument("--stretches", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--first", type=int, default=20_000, help="events of the fit")
    parser.add_argument("--events", type=int, default=30_000, help="events of a stretch")
    parser.add_argument("--step", type=int, default=100)
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=["frozen", "batch"])
    parser.add_argument("--set", nargs="*", default=[], metavar="PARAMETER=VALUE")
    parser.add_argument("--check", type=int, default=0, metavar="STEPS")
    parser.add_argument("--output", type=Path, default=Path("results/stream.jsonl"))
    asked = parser.parse_args(argv)
    settings = settings_of(asked.set)
    with threads(1):
        for model in asked.models:
            if asked.check:
                catalog, log = stretch_of(asked.data, asked.stretches[0], asked.events)
                X, y = Impressions.from_log(log, catalog, **READ)
                known = slice(0, asked.first)
                pipeline = fitted(model, X[known], y[known], 0, {**settings, "ctr__max_iter": 1})
                check(pipeline, log, X, y, asked.first, asked.step, asked.check)
                continue
            cells = [
                {
                    "model": model,
                    "data": asked.data,
                    "stretch": stretch,
                    "first": asked.first,
                    "n": asked.events,
                    "step": asked.step,
                    "settings": settings,
                    "learners": asked.learners,
                }
                for stretch in asked.stretches
            ]
            results = measured(asked.output, cells, measure)
            for name in asked.learners[1:]:
                base = asked.learners[0]
                for what in ("auc", "log_loss"):
                    gains = [result[name][what] - result[base][what] for result in results]
                    mean = np.mean([result[base][what] for result in results])
                    print(f"{model} {name} - {base} ({mean:.4f}): {what} {difference(gains)}")


if __name__ == "__main__":
    main()
