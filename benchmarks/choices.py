"""Are the defaults the right choices?

    python -m benchmarks.choices
    python -m benchmarks.choices --data-kind shop
    python -m benchmarks.choices --data-kind amazon-ids --data path/to/toys.txt --users 6000
    python -m benchmarks.choices --data-kind ml-1m --data path/to/ml-1m --users 2000 --recent 20 \
        --set ctr__max_length=50

Each choice is the default pipeline (encoder, aligner, augmenter, DIN) but for what its name says:

DIN on ids                               no steps before, and no item features
factors                                  no augmenter: DIN reads ids and item factors
default                                  all steps
look-alike features in the network       what look-alikes make of the target is read by the network
                                         itself, instead of joining its logit in the end
no borrowed items                        look-alike features alone
no look-alike features                   borrowed items alone
look-alikes in the aligned space         items are compared by their aligned embeddings
aligned items as features, too           DIN reads the aligned embeddings of items, too
all item features                        DIN reads texts and images, too (data with content only)
held-out users                           DIN stops early by rows of held-out users, instead of by
                                         the last rows of users

The rows that are looked at are the validation rows, each user's second-last impression; test rows
are not. What comes before is trained on, and DIN holds out rows for early stopping by itself. The
aligner is fitted once a seed, for all choices. `low` are the 30 % of the users with the shortest
histories in the training rows.

Prints AUC and log loss of each fit, then the means, and the differences to the default with 95 %
intervals (paired t over the seeds). One line of JSON a fit is appended to the output; what is
there is not done again. Use a new output after a change of the code.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import auc_and_log_loss, difference, measured
from benchmarks.measure import threads
from benchmarks.movielens import settings_of
from benchmarks.paper.data import AMAZON, make_problem, read
from benchmarks.paper.markdown import table
from benchmarks.paper.methods import Settings, parts
from benchmarks.prepare import prepared
from skmars import (
    DINClassifier,
    Impressions,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
)

ALL_FEATURES = "all item features"
# The rows that DIN gets, and the settings that are not those of the default. Choices with the same
# augmenter follow each other, so that it is fitted once.
CHOICES: dict[str, tuple[str, Settings]] = {
    "DIN on ids": ("plain", {"ctr__item_features": None}),
    "factors": ("aligned", {}),
    "default": ("augmented", {}),
    "look-alike features in the network": ("augmented", {"ctr__linear_context": None}),
    "aligned items as features, too": (
        "augmented",
        {"ctr__item_features": ["factors", "aligned"]},
    ),
    ALL_FEATURES: ("augmented", {}),  # their names are those of the catalogue
    "held-out users": ("augmented", {"ctr__holdout": "users"}),
    "no borrowed items": ("augmented", {"augment__theta": 1.1}),
    "no look-alike features": ("augmented", {"augment__n_lookalikes": 0}),
    "look-alikes in the aligned space": (
        "augmented",
        {"augment__item_representation": "embedding"},
    ),
}
MEASURES = {"AUC": ("all", "auc"), "AUC, low": ("low", "auc"), "log loss": ("all", "log_loss")}


@dataclass(frozen=True, eq=False)
class Rows:
    """Training and validation rows, before and after the aligner, and who is low-active."""

    plain: tuple[Impressions, ...]
    aligned: tuple[Impressions, ...]
    y: tuple[np.ndarray, np.ndarray]
    low: np.ndarray


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
    train, valid = problem.train, problem.valid
    plain: tuple[Impressions, ...] = problem.X[train], problem.X[valid]
    encoded = prepared(MultimodalEncoder(), plain) if source.content else plain
    own: Settings = {} if source.content else {"modalities": []}
    aligner = SteinAligner(**{**own, **json.loads(align)}, random_state=seed)
    aligned = prepared(aligner, encoded, problem.y[train])
    y = problem.y[train], problem.y[valid]
    return Rows(plain, aligned, y, problem.low[plain[1].user])


@lru_cache(1)
def augmented(rows: Rows, augment: str) -> tuple[Impressions, ...]:
    """Let the aligned rows borrow; the augmenter's settings are given as JSON."""
    return prepared(SequenceRetrievalAugmenter(**json.loads(augment)), rows.aligned)


def run(
    kind: str,
    data: str | None,
    setting: str,
    users: int | None,
    recent: int | None,
    settings: Settings,
    seed: int,
    choice: str,
) -> dict[str, Any]:
    """Fit one choice, and look at the validation rows."""
    align = json.dumps(parts(settings, "align"))
    rows = rows_of(kind, data, setting, users, recent, align, seed)
    which, change = CHOICES[choice]
    settings = {**settings, **change}
    if which == "augmented":
        train, valid = augmented(rows, json.dumps(parts(settings, "augment")))
    else:
        train, valid = rows.plain if which == "plain" else rows.aligned
    din = DINClassifier(random_state=seed).set_params(**parts(settings, "ctr"))
    if choice == ALL_FEATURES:
        din.set_params(item_features=list(train.catalog.features))
    y_train, y = rows.y
    probability = din.fit(train, y_train).predict_proba(valid)[:, 1]
    return {
        "all": auc_and_log_loss(y, probability),
        "low": auc_and_log_loss(y[rows.low], probability[rows.low]),
        "epochs": din.n_iter_,
    }


def summary(results: list[dict[str, Any]]) -> str:
    """Write the means over the seeds, and the differences to the default."""
    values: dict[str, dict[str, list[float]]] = {}
    for found, (measure, (who, what)) in product(results, MEASURES.items()):
        of_choice = values.setdefault(found["cell"]["choice"], {})
        of_choice.setdefault(measure, []).append(found[who][what])
    rows = []
    for choice, of_choice in values.items():
        row = [choice]
        for measure, own in of_choice.items():
            gain = [a - b for a, b in zip(own, values["default"][measure])]
            row += [f"{np.mean(own):.4f}", "" if choice == "default" else difference(gain)]
        rows.append(row)
    head = ["choice", *(part for measure in MEASURES for part in (measure, "- default"))]
    return table(head, rows)


def choices_of(kind: str) -> list[str]:
    """Name the choices that mean something for these data."""
    return [name for name in CHOICES if name != ALL_FEATURES or kind not in AMAZON]


def main(command: list[str] | None = None) -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    kinds = ["synthetic", "shop", *AMAZON, "ml-1m"]
    parser.add_argument("--data-kind", choices=kinds, default="synthetic")
    parser.add_argument("--data", type=Path, help="folder of MovieLens-1M, or file of ids")
    parser.add_argument("--setting", choices=["paper", "strong"], default="paper")
    parser.add_argument("--users", type=int, help="so many users only")
    parser.add_argument("--recent", type=int, help="train on so many events of each user, the last")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--set", nargs="*", default=[], help="step__parameter=value, for all")
    parser.add_argument("--output", type=Path, default=Path("choices.jsonl"))
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
            "choice": choice,
        }
        for seed, choice in product(arguments.seeds, choices_of(arguments.data_kind))
    ]
    with threads(1):
        print(summary(measured(arguments.output, cells, run)))


if __name__ == "__main__":
    main()
