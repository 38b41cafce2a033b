"""What do look-alikes tell of the clicks of training rows, where clicks are tosses of a coin?

    python -m benchmarks.tell

An aligner is trained on labels of chance (`benchmarks.chance`), and the augmenter lets training
rows borrow out of fold. The AUC with which each look-alike feature, and the mean similarity of what
a row borrowed, tell the click of training rows (`fit_transform`) and of test rows (`transform`);
means over the seeds, each with its standard error where all is chance. 0.5 is right everywhere.

features              as by default
embedding             `item_representation="embedding"`, which decides what is borrowed
factors of the fold   look-alikes are compared by the catalogue's item factors without the row's
                      fold, which are in the basis of all users, instead of by factors that the
                      augmenter makes of the other folds' users alone
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.chance import HISTORIES, coin_flips
from benchmarks.measure import threads
from benchmarks.paper.markdown import table
from benchmarks.prepare import prepared
from skmars import Impressions, SequenceRetrievalAugmenter, SteinAligner, leave_last_out
from skmars.data._columns import FACTORS
from skmars.retrieval import _users

OF_FOLD = "factors of the fold"
PARTS = ("training", "test")
SETTINGS = {"features": "features", "embedding": "embedding", OF_FOLD: "features"}


def of_catalog(X: Impressions, n_factors: int, seed: int) -> SimpleNamespace:
    """Return the factors that the catalogue of some users' rows has, in the place of their own."""
    known = ~X.catalog.missing[FACTORS]
    vectors = X.catalog.features[FACTORS][known]
    return SimpleNamespace(ids=X.catalog.ids[known], vectors=vectors)


def told(X: Impressions, y: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return AUC and variance of each look-alike feature, and of the similarity of borrowed items.

    The variance is that of the AUC of a feature that knows nothing.
    """

    def auc(column: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        ones = int(y.sum())
        variance = (len(y) + 1) / (12 * ones * (len(y) - ones))
        return float(roc_auc_score(y, column)), variance

    found = {name: auc(column, y) for name, column in X.context.items()}
    borrowed = X.borrowed
    assert borrowed is not None
    assert borrowed.similarity is not None
    row = np.repeat(np.arange(len(X)), borrowed.length)
    total = np.bincount(row, borrowed.similarity[borrowed.positions()], minlength=len(X))
    has = borrowed.length > 0
    if len(np.unique(y[has])) == 2:
        found["similarity of borrowed items"] = auc(total[has] / borrowed.length[has], y[has])
    return found


def _mean(found: list[tuple[float, float]]) -> str:
    if not found:
        return ""
    auc, variance = np.transpose(found)
    return f"{auc.mean():.3f} ± {np.sqrt(variance.sum()) / len(found):.3f}"


def main(command: list[str] | None = None) -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--histories", nargs="+", choices=HISTORIES, default=HISTORIES)
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--max-iter", type=int, default=10, help="epochs of the aligner")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args(command)
    cells: dict[tuple[str, str, str, str], list[tuple[float, float]]] = {}
    for history in arguments.histories:
        for seed in arguments.seeds:
            X, y = coin_flips(arguments.users, arguments.items, history, True, seed)
            train, _, test = leave_last_out(X)
            aligner = SteinAligner(modalities=(), max_iter=arguments.max_iter, random_state=seed)
            aligned = prepared(aligner, (X[train], X[test]), y[train])
            for kind, items in SETTINGS.items():
                augmenter = SequenceRetrievalAugmenter(item_representation=items)
                other = patch.object(_users, "ItemFactors", SimpleNamespace(of=of_catalog))
                with other if kind == OF_FOLD else nullcontext():
                    parts = prepared(augmenter, aligned, y[train])
                for part, rows, labels in zip(PARTS, parts, (y[train], y[test])):
                    for name, auc in told(rows, labels).items():
                        cells.setdefault((history, kind, name, part), []).append(auc)
    rows_of_table = [
        [*key, *(_mean(cells.get((*key, part), [])) for part in PARTS)]
        for key in dict.fromkeys(key[:3] for key in cells)
    ]
    head = ["history", "compared by", "told by", "training rows", "test rows"]
    print(table(head, rows_of_table))


if __name__ == "__main__":
    with threads(1):
        main()
