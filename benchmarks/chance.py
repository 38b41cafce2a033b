"""What does the pipeline make of labels of chance?

    python -m benchmarks.chance
    python -m benchmarks.chance --items 300 --histories positive --settings "default pipeline"

Every user is shown 4 to 24 distinct items, drawn at random, and every label is the toss of a coin.
Nothing can be learnt, so that an honest model has an AUC of 0.5 and a log loss of log 2 = 0.693,
and says so of itself by its held-out rows. A feature of a training row that was made with the label
of that row makes the validation AUC rise, and then the test log loss, as the model believes it.

Settings:

default pipeline         aligner (ids alone, as there is no content), augmenter, DIN
aligner early stopping   the same, with `SteinAligner(early_stopping=True)`
no look-alike features   the same, without look-alike features
all item features        items have random vectors as text and image, and DIN reads all features
DIN alone                DIN on ids

For each cell, means over the seeds: the validation AUC of DIN in its best and in its last epoch,
the same of the aligner where it has held-out rows, AUC and log loss of the test rows (each user's
last impression), and the AUC of the training rows. A cell passes when the validation AUC of the
last epoch is within 0.04 of 0.5 (the best of several epochs is above 0.5 by luck alone) and the log
loss is at most 0.71. One line of JSON a fit is appended to the output; what is there is not done
again. Use a new output after a change of the code.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from benchmarks.cells import auc_and_log_loss, measured
from benchmarks.interactions import with_features
from benchmarks.measure import threads
from benchmarks.paper.markdown import table
from skmars import (
    Impressions,
    leave_last_out,
    make_mars,
)
from skmars.data._columns import FACTORS

HISTORIES = ["all", "positive"]
CONTENT = {"text": 16, "image": 16}
SETTINGS: dict[str, dict[str, Any]] = {
    "default pipeline": {},
    "aligner early stopping": {"align__early_stopping": True},
    "no look-alike features": {"augment__n_lookalikes": 0},
    "all item features": {
        "align__modalities": list(CONTENT),
        "ctr__item_features": [FACTORS, *CONTENT],
    },
    "DIN alone": {"align": "passthrough", "augment": "passthrough"},
}
FARTHEST, LARGEST_LOSS = 0.04, 0.71
MEANS = {
    "validation_best": "validation AUC, best",
    "validation_last": "last",
    "aligner_best": "of the aligner, best",
    "aligner_last": "last",
    "auc": "test AUC",
    "log_loss": "test log loss",
    "training_auc": "training AUC",
}
JUDGED = ("validation_last", "aligner_last")


def coin_flips(
    n_users: int, n_items: int, history: str, times: bool, seed: int
) -> tuple[Impressions, np.ndarray]:
    """Draw a log at random."""
    rng = np.random.default_rng(seed)
    n_each = rng.integers(4, 25, n_users)
    user = np.repeat(np.arange(n_users), n_each)
    log = pd.DataFrame(
        {
            "user_id": user,
            "item_id": np.concatenate([rng.choice(n_items, n, replace=False) for n in n_each]),
            "clicked": rng.integers(0, 2, len(user)),
        }
    )
    if times:
        log["timestamp"] = np.concatenate([np.arange(n) for n in n_each]) * n_users + user
    return Impressions.from_log(log, label="clicked", history=history)


def run(
    setting: str, history: str, times: bool, n_items: int, n_users: int, max_iter: int, seed: int
) -> dict[str, Any]:
    """Fit a pipeline on labels of chance, and see what it believes."""
    X, y = coin_flips(n_users, n_items, history, times, seed)
    if setting == "all item features":
        X = with_features(X, CONTENT, seed)
    train, _valid, test = leave_last_out(X)
    ids = {"encode": "passthrough", "align__modalities": ()}
    model = make_mars(random_state=seed, align__max_iter=max_iter, **ids)
    model.set_params(**SETTINGS[setting]).fit(X[train], y[train])
    validation = model["ctr"].validation_scores_
    of_aligner = getattr(model["align"], "validation_scores_", None)
    return {
        "validation_best": max(validation),
        "validation_last": validation[-1],
        "aligner_best": max(of_aligner) if of_aligner else None,
        "aligner_last": of_aligner[-1] if of_aligner else None,
        **auc_and_log_loss(y[test], model.predict_proba(X[test])[:, 1]),
        "training_auc": float(roc_auc_score(y[train], model.decision_function(X[train]))),
    }


def summary(results: list[dict[str, Any]]) -> str:
    """Write one row for each cell, with the means over its seeds."""
    cells: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for found in results:
        cell = found["cell"]
        names = ("setting", "history", "times", "n_items")
        cells.setdefault(tuple(cell[name] for name in names), []).append(found)
    rows = []
    for (setting, history, times, n_items), seeds in cells.items():
        known = [name for name in MEANS if seeds[0][name] is not None]
        mean = {name: float(np.mean([found[name] for found in seeds])) for name in known}
        passed = all(abs(mean[name] - 0.5) <= FARTHEST for name in JUDGED if name in mean)
        passed &= mean["log_loss"] <= LARGEST_LOSS
        row = [setting, history, "yes" if times else "no", str(n_items)]
        row += [f"{mean[name]:.3f}" if name in mean else "" for name in MEANS]
        rows.append([*row, "pass" if passed else "FAIL"])
    head = ["setting", "history", "times", "items", *MEANS.values(), "verdict"]
    n_passed = sum(row[-1] == "pass" for row in rows)
    return table(head, rows) + f"\n{n_passed} of {len(rows)} cells pass.\n"


def main(command: list[str] | None = None) -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--histories", nargs="+", choices=HISTORIES, default=HISTORIES)
    parser.add_argument("--times", nargs="+", choices=["yes", "no"], default=["yes", "no"])
    parser.add_argument("--items", type=int, nargs="+", default=[50, 300, 2000])
    parser.add_argument("--users", type=int, default=600)
    parser.add_argument("--max-iter", type=int, default=10, help="epochs of the aligner")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("chance.jsonl"))
    arguments = parser.parse_args(command)
    cells = [
        {
            "setting": setting,
            "history": history,
            "times": times == "yes",
            "n_items": n_items,
            "n_users": arguments.users,
            "max_iter": arguments.max_iter,
            "seed": seed,
        }
        for setting, history, times, n_items, seed in product(
            arguments.settings,
            arguments.histories,
            arguments.times,
            arguments.items,
            arguments.seeds,
        )
    ]
    with threads(1):
        print(summary(measured(arguments.output, cells, run)))


if __name__ == "__main__":
    main()
