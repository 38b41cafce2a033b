"""Does borrowing help where the truth is known? MARS and its controls on planted look-alikes.

    python -m benchmarks.planted --seeds 0 1 2 3 4
    python -m benchmarks.planted --make n_groups=64 n_factors=64    # another world

All estimators have their default settings (but `item_features=None` for DIN on ids). Models:

base     DIN on ids
content  DIN on ids and what users make of items, nothing borrowed
items    DIN on ids, items borrowed from look-alikes, nobody asked about the target
random   DIN on ids, items borrowed from random donors, who are asked about the target
borrow   the same with look-alikes
mars     the whole pipeline: what `content` knows, and what look-alikes lend and say

For each seed it prints how often a donor is of the user's own planted group, and the AUC of each
model over the last impressions of the low-active users (the 30 % with the shortest histories in
the training rows), with DeLong's paired test of each model against its controls; then the mean
gains with their 95 % intervals (paired t over the seeds).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline

from benchmarks.controls import RandomUsers
from benchmarks.movielens import settings_of
from skmars import (
    DINClassifier,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
    leave_last_out,
    make_multimodal_ctr,
)
from skmars.metrics import delong_test

PAIRS = [("content", "base"), ("items", "base"), ("random", "base"), ("borrow", "base")]
PAIRS += [("borrow", "items"), ("borrow", "random"), ("mars", "base"), ("mars", "content")]


def run(seed: int, **world: Any) -> dict[str, Any]:
    """Fit all models on one draw of the data."""
    begin = time.perf_counter()
    X, y, truth = make_multimodal_ctr(**world, random_state=seed, return_truth=True)
    train, _valid, test = leave_last_out(X)
    align = Pipeline([("encode", MultimodalEncoder()), ("align", SteinAligner(random_state=seed))])
    aligned = align.fit(X[train], y[train]).transform(X)
    augmented = borrow(aligned, train)
    rows = {
        "base": X,
        "content": aligned,
        "items": borrow(aligned, train, n_voters=0),
        "random": borrow(RandomUsers(seed).transform(aligned), train, compare="embedding"),
        "borrow": augmented,
        "mars": augmented,
    }
    score = {}
    for model, impressions in rows.items():
        features = "auto" if model in ("content", "mars") else None
        din = DINClassifier(item_features=features, random_state=seed)
        din.fit(impressions[train], y[train])
        score[model] = din.decision_function(impressions[test])
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


def borrow(X: Any, train: np.ndarray, **settings: Any) -> Any:
    """Fit the augmenter on the training rows, and apply it to all."""
    return SequenceRetrievalAugmenter(**settings).fit(X[train]).transform(X)


def low_active(X: Any, train: np.ndarray) -> np.ndarray:
    """Tell for each user whether the longest history in the training rows is among the shortest."""
    longest = np.zeros(len(X.users))
    np.maximum.at(longest, X.user[train], X.history.length[train])
    low: np.ndarray = longest <= np.quantile(longest, 0.3)
    return low


def same_group(X: Any, group: np.ndarray) -> float:
    """Share of (row, donor) pairs in which the donor is of the user's planted group."""
    borrowed = X.borrowed
    user = np.repeat(X.user, borrowed.length)
    donor = borrowed.donors[borrowed.donor[borrowed.positions()]]  # ids are positions in `group`
    pairs = np.unique(
        np.stack([np.repeat(np.arange(len(X)), borrowed.length), user, donor]), axis=1
    )
    return float((group[pairs[1]] == group[pairs[2]]).mean())


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
