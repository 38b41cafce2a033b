"""Do daily updates keep a model as good as a daily refit does, and what do they cost?

    python -m benchmarks.update --seeds 0 1 2
    python -m benchmarks.update --users 250 --days 4 --set align__max_iter=3

The planted data of `make_multimodal_ctr`, in the order of time. The pipeline is fitted to the first
part of the events (`--first`); the others are ten days (`--days`). Each day is predicted first and
learnt from afterwards, by

stale         nobody: the fitted pipeline stays as it is
classifier    `partial_fit` of the classifier alone
update        `skmars.update`: the classifier, then item factors, thresholds and donors
wrong order   the same, but the classifier learns from rows that the updated steps have made, whose
              factors and donors know the clicks of the day
refit         a fit of the whole pipeline to all events so far

Histories grow for all of them: the rows are the same. Prints AUC and log loss of the days together,
the AUC of the rows with at most five events in their history, and the CPU seconds of a day.
"""

from __future__ import annotations

import argparse
import time
import warnings
from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import Pipeline

from benchmarks.measure import threads
from benchmarks.movielens import settings_of
from skmars import Impressions, ItemCatalog, make_mars, make_multimodal_ctr, update

SHORT = 5
MODELS = ["stale", "classifier", "update", "wrong order", "refit"]


def planted(n_users: int, seed: int) -> tuple[ItemCatalog, pd.DataFrame]:
    """Return the catalogue and log of the planted data."""
    X, y = make_multimodal_ctr(n_users, random_state=seed)
    log = {"user_id": X.user_ids, "item_id": X.item_ids, "timestamp": X.time, "clicked": y}
    return X.catalog, pd.DataFrame(log).sort_values("timestamp", kind="stable")


def in_wrong_order(model: Pipeline, X: Impressions, y: np.ndarray, new: slice) -> Pipeline:
    """Bring the steps forward before the classifier learns."""
    later = update(model, X, y, new)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says what is wrong
        din = deepcopy(model[-1]).partial_fit(later[:-1].transform(X[new]), y[new])
    return Pipeline([*later.steps[:-1], ("ctr", din)])


def learn(name: str, model: Pipeline, X: Impressions, y: np.ndarray, new: slice) -> Pipeline:
    """Return the model after a day."""
    if name == "stale":
        return model
    if name == "classifier":
        din = deepcopy(model[-1]).partial_fit(model[:-1].transform(X[new]), y[new])
        return Pipeline([*model.steps[:-1], ("ctr", din)])
    if name == "refit":
        return clone(model).fit(X, y)
    return update(model, X, y, new) if name == "update" else in_wrong_order(model, X, y, new)


def run(
    catalog: ItemCatalog,
    log: pd.DataFrame,
    seed: int,
    names: list[str],
    first: float,
    n_days: int,
    settings: dict[str, Any],
) -> pd.DataFrame:
    """Return the measures of each model."""
    days = np.array_split(np.arange(int(first * len(log)), len(log)), n_days)
    X, y = Impressions.from_log(
        log[: days[0][0]], catalog, label="clicked", history="all", duplicates="keep"
    )
    begin = time.process_time()
    fitted = make_mars(random_state=seed, **settings).fit(X, y)
    fit_seconds = time.process_time() - begin
    models = dict.fromkeys(names, fitted)
    scores: dict[str, list[np.ndarray]] = {name: [] for name in names}
    seconds = dict.fromkeys(names, 0.0)
    for day in days:
        X, y = X.append(log.iloc[day])
        new = slice(day[0], None)
        for name, model in models.items():
            scores[name].append(model.predict_proba(X[new])[:, 1])
            begin = time.process_time()
            models[name] = learn(name, model, X, y, new)
            seconds[name] += time.process_time() - begin
    clicks, short = y[days[0][0] :], X.history.length[days[0][0] :] <= SHORT
    found = {}
    for name in names:
        p = np.concatenate(scores[name])
        found[name] = {
            "AUC": roc_auc_score(clicks, p),
            "AUC, short": roc_auc_score(clicks[short], p[short]),
            "log loss": log_loss(clicks, p),
            "CPU s a day": seconds[name] / n_days,
        }
    table = pd.DataFrame(found).T
    print(
        f"seed {seed}: {len(log)} events, {len(clicks)} of them in {n_days} days, {short.sum()} "
        f"with short histories; the first fit took {fit_seconds:.1f} s of CPU\n{table.round(4)}\n",
        flush=True,
    )
    return table


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--first", type=float, default=0.8, help="share of the first fit")
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--set", nargs="*", default=[], metavar="PARAMETER=VALUE")
    arguments = parser.parse_args(argv)
    settings = settings_of(arguments.set)
    tables = []
    with threads(1):
        for seed in arguments.seeds:
            data = planted(arguments.users, seed)
            counts = arguments.first, arguments.days
            tables.append(run(*data, seed, arguments.models, *counts, settings))
    print("mean of the seeds")
    print((sum(tables[1:], tables[0]) / len(tables)).round(4))


if __name__ == "__main__":
    main()
