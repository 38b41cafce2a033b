"""Does a feature that does not know the answer cost anything?

    python -m benchmarks.out_of_fold
    python -m benchmarks.out_of_fold --data-kind amazon-ids --data path/to/beauty.txt
    python -m benchmarks.out_of_fold --data-kind ml-1m --data path/to/ml-1m --recent 20 \
        --set ctr__max_length=50

Item factors come from a truncated SVD of who touched what. If DIN trains on factors that were made
with the histories of the very users of its training rows, these rows look better known than any
other. The aligner's `fit_transform` gives each training row factors that were made without the
users of its fold; `transform` gives everybody those of all users. Features:

ids           DIN on ids
in sample     DIN on ids and factors, training rows by `fit` and `transform`
out of fold   the same, training rows by `fit_transform`

Each is fitted with two kinds of held-out rows for early stopping: `next` are the second-last
impressions of all users (`X_val`), `default` those that DIN holds out by itself. The aligner is
there for its factors alone and is as small as can be (`--set align__...` changes that); it is
fitted once a seed. Test rows are each user's last impression; `low` are the 30 % of the users with
the shortest histories in the training rows.

Prints AUC and log loss of each fit, their means, and the differences with 95 % intervals (paired t
over the seeds). One line of JSON a fit is appended to the output; what is there is not done again.
Use a new output after a change of the code.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import auc_and_log_loss, difference, measured
from benchmarks.measure import threads
from benchmarks.movielens import settings_of
from benchmarks.paper.data import AMAZON, Problem, make_problem, read
from benchmarks.paper.markdown import table
from benchmarks.paper.methods import Settings, parts
from benchmarks.prepare import prepared
from skmars import DINClassifier, Impressions, SteinAligner
from skmars.data._columns import FACTORS

FEATURES = ["ids", "in sample", "out of fold"]
HELD_OUT = ["next", "default"]
SMALL = {"n_components": 8, "id_dim": 8, "modalities": (), "max_iter": 1}
MEASURES = {
    "AUC": ("all", "auc"),
    "AUC, low": ("low", "auc"),
    "log loss": ("all", "log_loss"),
    "log loss, low": ("low", "log_loss"),
}


@dataclass(frozen=True)
class Rows:
    """A split, and its rows for each kind of features."""

    problem: Problem
    train: dict[str, Impressions]
    valid: dict[str, Impressions]
    test: dict[str, Impressions]


@lru_cache(1)
def rows_of(
    kind: str,
    data: str | None,
    setting: str,
    users: int | None,
    recent: int | None,
    align: str,
    seed: int,
) -> Rows:
    """Read and split the rows, and fit the aligner, whose settings are given as JSON."""
    source = read(kind, Path(data) if data else None, setting, users, seed)
    problem = make_problem(source, setting, "full", seed, recent)
    train, valid, test = (problem.X[rows] for rows in (problem.train, problem.valid, problem.test))
    aligner = SteinAligner(**{**SMALL, **json.loads(align)}, random_state=seed)
    out_of_fold, *with_factors = prepared(
        aligner, (train, train, valid, test), problem.y[problem.train]
    )
    in_sample = with_factors[0].with_fold(None)  # or DIN would warn of what is measured here
    return Rows(
        problem,
        dict(zip(FEATURES, (train, in_sample, out_of_fold))),
        dict(zip(FEATURES, (valid, with_factors[1], with_factors[1]))),
        dict(zip(FEATURES, (test, with_factors[2], with_factors[2]))),
    )


def run(
    kind: str,
    data: str | None,
    setting: str,
    users: int | None,
    recent: int | None,
    settings: Settings,
    seed: int,
    held_out: str,
    features: str,
) -> dict[str, Any]:
    """Fit DIN on one kind of features, with one kind of held-out rows."""
    align = json.dumps(parts(settings, "align"))
    rows = rows_of(kind, data, setting, users, recent, align, seed)
    problem = rows.problem
    din = DINClassifier(item_features=None if features == "ids" else [FACTORS], random_state=seed)
    din.set_params(**parts(settings, "ctr"))
    own = {}
    if held_out == "next":
        own = {"X_val": rows.valid[features], "y_val": problem.y[problem.valid]}
    din.fit(rows.train[features], problem.y[problem.train], **own)
    y, low = problem.y[problem.test], problem.low[problem.X.user[problem.test]]
    probability = din.predict_proba(rows.test[features])[:, 1]
    return {
        "all": auc_and_log_loss(y, probability),
        "low": auc_and_log_loss(y[low], probability[low]),
        "validation": max(din.validation_scores_ or [np.nan]),
        "epochs": din.n_iter_,
    }


def summary(results: list[dict[str, Any]]) -> str:
    """Write the means over the seeds, and the differences between features."""
    values: dict[tuple[str, str, str], list[float]] = {}
    for found, measure in product(results, MEASURES):
        who, what = MEASURES[measure]
        cell = found["cell"]
        key = cell["held_out"], cell["features"], measure
        values.setdefault(key, []).append(found[who][what])
    means, differences = [], []
    for held_out in HELD_OUT:
        for name in FEATURES:
            row = [f"{np.mean(values[held_out, name, m]):.4f}" for m in MEASURES]
            means.append([held_out, name, *row])
        for b, a in combinations(FEATURES, 2):
            pairs = [zip(values[held_out, a, m], values[held_out, b, m]) for m in MEASURES]
            row = [difference([x - y for x, y in pair]) for pair in pairs]
            differences.append([held_out, f"{a} - {b}", *row])
    head = ["held out", "features", *MEASURES]
    return table(head, means) + "\n" + table(head, differences)


def main(command: list[str] | None = None) -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    kinds = ["synthetic", *AMAZON, "ml-1m"]
    parser.add_argument("--data-kind", choices=kinds, default="synthetic")
    parser.add_argument("--data", type=Path, help="folder of MovieLens-1M, or file of ids")
    parser.add_argument("--setting", choices=["paper", "strong"], default="paper")
    parser.add_argument("--users", type=int, help="so many users only")
    parser.add_argument("--recent", type=int, help="train on so many events of each user, the last")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--set", nargs="*", default=[], help="align__ or ctr__parameter=value")
    parser.add_argument("--output", type=Path, default=Path("out-of-fold.jsonl"))
    arguments = parser.parse_args(command)
    cells = [
        {
            "kind": arguments.data_kind,
            "data": str(arguments.data) if arguments.data else None,
            "setting": arguments.setting,
            "users": arguments.users,
            "recent": arguments.recent,
            "settings": settings_of(arguments.set),
            "seed": seed,
            "held_out": held_out,
            "features": features,
        }
        for seed, held_out, features in product(arguments.seeds, HELD_OUT, FEATURES)
    ]
    with threads(1):
        print(summary(measured(arguments.output, cells, run)))


if __name__ == "__main__":
    main()
