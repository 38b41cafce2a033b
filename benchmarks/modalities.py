"""What does each modality do for the space in which look-alikes are found?

    python -m benchmarks.modalities --seeds 0 1 2 3 4

The planted data of `make_multimodal_ctr`, once as they are and once with texts and pictures that
say less. The paper's Table 3 on them: the aligned space of ids, texts and images (Eq. 7 to 13), and
what is left of it without a part. It is the paper's space, without item factors (`n_factors=0`),
unless said otherwise. Items are compared in it (`item_representation="embedding"`): by default they
are compared by their features, which an aligner leaves as they are. All other settings are
defaults; DIN reads ids, and there are look-alike features.

For each space: how often a donor is of the user's planted group (training and test rows), and the
AUC over the last impressions of all users; mean, and difference to the whole space with its 95 %
interval (paired t over the seeds).
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import roc_auc_score

from benchmarks.planted import borrow, same_group
from benchmarks.prepare import prepared
from skmars import (
    DINClassifier,
    MultimodalEncoder,
    SteinAligner,
    leave_last_out,
    make_multimodal_ctr,
)

NOISE: dict[str, dict[str, Any]] = {
    "as they are": {},
    "noisy": {"text_noise": 0.8, "image_noise": 0.4},
}
SPACES: dict[str, dict[str, Any]] = {
    "ids, text, image": {},
    "without text": {"modalities": ["image"]},
    "without image": {"modalities": ["text"]},
    "ids alone": {"modalities": []},
    "without Stein": {"beta": 0.0},
    "printed sign": {"entropy": "paper"},
    "and item factors": {"n_factors": SteinAligner().n_factors},
}
WHOLE = "ids, text, image"


def run(seed: int, noise: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Return share of donors of the own group, and AUC, of each space on one draw of the data."""
    X, y, truth = make_multimodal_ctr(**noise, random_state=seed, return_truth=True)
    train, _valid, test = leave_last_out(X)
    encoded = prepared(MultimodalEncoder(), (X[train], X[test]))
    found = {}
    for name, settings in SPACES.items():
        aligner = SteinAligner(**{"n_factors": 0, **settings}, random_state=seed)
        rows = prepared(aligner, encoded, y[train])
        X_train, X_test = augmented = borrow(rows, item_representation="embedding")
        din = DINClassifier(item_features=None, random_state=seed)
        score = din.fit(X_train, y[train]).decision_function(X_test)
        found[name] = same_group(augmented, truth.group), float(roc_auc_score(y[test], score))
    return found


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    seeds = parser.parse_args().seeds
    for kind, noise in NOISE.items():
        results = []
        for seed in seeds:
            results.append(run(seed, noise))
            print(kind, seed, results[-1], flush=True)
        for name in SPACES:
            line = f"{kind:12} {name:16}"
            for i, measure in enumerate(("own group", "AUC")):
                values = np.array([found[name][i] for found in results])
                gain = values - [found[WHOLE][i] for found in results]
                line += f" {measure} {values.mean():.4f}"
                if name != WHOLE and len(seeds) > 1:
                    low, high = stats.ttest_1samp(gain, 0.0).confidence_interval()
                    line += f" ({gain.mean():+.4f} [{low:+.4f}, {high:+.4f}])"
            print(line)


if __name__ == "__main__":
    main()
