"""Does borrowing help where the truth is known? MARS and its controls on planted look-alikes.

    python -m benchmarks.planted --seeds 0 1 2 3 4
    python -m benchmarks.planted --make n_groups=64 n_factors=64    # another world

All estimators have their default settings (but `item_features=None` for DIN on ids). Models:

base     DIN on ids
factors  DIN on ids and item factors, nothing borrowed
items    DIN on ids, items borrowed from look-alikes, no look-alike features about the target
random   DIN on ids, items borrowed from random donors, and look-alike features of these
borrow   the same with look-alikes
mars     the whole pipeline: item factors, borrowed items and look-alike features

For each seed it prints how often a donor is of the user's own planted group (training and test
rows, as DIN reads them), and the AUC of each model over the last impressions of the low-active
users (the 30 % with the shortest histories in the training rows), with DeLong's paired test of each
model against its controls; then the mean gains with their 95 % intervals (paired t over the seeds).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline

from benchmarks.controls import RandomLookalikes, RandomUsers
from benchmarks.movielens import settings_of
from benchmarks.prepare import prepared
from skmars import (
    DINClassifier,
    Impressions,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
    leave_last_out,
    make_multimodal_ctr,
)
from skmars.metrics import delong_test

PAIRS = [("factors", "base"), ("items", "base"), ("random", "base"), ("borrow", "base")]
PAIRS += [("borrow", "items"), ("borrow", "random"), ("mars", "base"), ("mars", "factors")]


def run(seed: int, **world: Any) -> dict[str, Any]:
    """Fit all models on one draw of the data."""
    begin = time.perf_counter()
    X, y, truth = make_multimodal_ctr(**world, random_state=seed, return_truth=True)
    train, _valid, test = leave_last_out(X)
    align = Pipeline([("encode", MultimodalEncoder()), ("align", SteinAligner(random_state=seed))])
    plain = X[train], X[test]
    aligned = prepared(align, plain, y[train])
    augmented = borrow(aligned)
    rows = {
        "base": plain,
        "factors": aligned,
        "items": borrow(aligned, n_lookalikes=0),
        "random": borrow(
            prepared(RandomUsers(seed), aligned), RandomLookalikes, user_representation="embedding"
        ),
        "borrow": augmented,
        "mars": augmented,
    }
    score = {}
    for model, (X_train, X_test) in rows.items():
        features = "auto" if model in ("factors", "mars") else None
        din = DINClassifier(item_features=features, random_state=seed)
        score[model] = din.fit(X_train, y[train]).decision_function(X_test)
    low = low_active(X, train)[X.user[test]]
    y_low = y[test][low]
    return {
        "seed": seed,
        "same_group": same_group(augmented, truth.group),
        "n_low": int(low.sum()),
        "low": {m: float(roc_auc_score(y_low, s[low])) for m, s in score.items()},
        "all": {m: float(roc_auc_score(y[test], s)) for m, s in score.items()},
        "best_possible_low": float(roc_auc_score(y_low, truth.click_probability[test][low])),
        "p": {
            f"{a} - {b}": float(delong_test(y_low, score[a][low], score[b][low]).pvalue)
            for a, b in PAIRS
        },
        "seconds": round(time.perf_counter() - begin, 1),
    }


def borrow(
    rows: tuple[Impressions, ...], kind: Any = SequenceRetrievalAugmenter, **settings: Any
) -> tuple[Impressions, ...]:
    """Let training rows, which are the first, and others borrow."""
    return prepared(kind(**settings), rows)


def low_active(X: Impressions, train: np.ndarray) -> np.ndarray:
    """Tell for each user whether the longest history in the training rows is among the shortest."""
    longest = np.zeros(len(X.users))
    np.maximum.at(longest, X.user[train], X.history.length[train])
    low: np.ndarray = longest <= np.quantile(longest, 0.3)
    return low


def same_group(parts: Iterable[Impressions], group: np.ndarray) -> float:
    """Share of (row, donor) pairs in which the donor is of the user's planted group."""
    same = []
    for X in parts:
        borrowed: Any = X.borrowed
        row = np.repeat(np.arange(len(X)), borrowed.length)
        donor = borrowed.donors[borrowed.donor[borrowed.positions()]]
        row, donor = np.unique(np.stack([row, donor]), axis=1)
        same.append(group[X.user[row]] == group[donor])  # ids are positions in `group`
    return float(np.concatenate(same).mean())


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--make", nargs="*", default=[], help="parameter=value of the generator")
    parser.add_argument("--output", type=Path, default=None)
    arguments = parser.parse_args()
    world = settings_of(arguments.make)
    results = []
    for seed in arguments.seeds:
        results.append(run(seed, **world))
        print(json.dumps(results[-1]), flush=True)
    for model in results[0]["low"]:
        low_auc, all_auc = (np.mean([r[who][model] for r in results]) for who in ("low", "all"))
        print(f"{model:7} AUC of low-active users {low_auc:.4f}, of all {all_auc:.4f}")
    for a, b in PAIRS if len(results) > 1 else []:
        gain = [r["low"][a] - r["low"][b] for r in results]
        test = stats.ttest_1samp(gain, 0.0)
        low, high = test.confidence_interval()
        print(
            f"{a:7} - {b:7} low-active AUC {np.mean(gain):+.4f}, 95 % interval [{low:+.4f}, "
            f"{high:+.4f}], p = {test.pvalue:.4f} over {len(gain)} seeds"
        )
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
