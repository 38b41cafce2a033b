"""What does DIN make of items that nobody has touched yet?

    python -m benchmarks.new_items --seeds 0 1 2 3 4

The planted data of `make_multimodal_ctr`; a quarter of the items, drawn at random, is unknown to
fit: neither among its targets nor in any history. All settings are defaults, nothing is borrowed.
DIN reads

ids          ids alone
observed     what users make of items, of those that they know
predicted    the same, and for others what ridge regression makes of their content: the default
content      text and image

and is tested on all rows of the new items, and on the last two impressions of each user that are
about others.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline

from skmars import (
    DINClassifier,
    Impressions,
    MultimodalEncoder,
    SteinAligner,
    leave_last_out,
    make_multimodal_ctr,
)
from skmars.data import Sequences
from skmars.data.catalog import FACTORS

NEW_SHARE = 0.25


def without(X: Impressions, new: np.ndarray) -> Impressions:
    """Take new items out of all histories."""
    position = X.history.positions()
    stays = ~new[X.history.items[position]]
    row = np.repeat(np.arange(len(X)), X.history.length)[stays]
    length = np.bincount(row, minlength=len(X)).astype(np.int32)
    kept = {
        name: getattr(X.history, name)[position[stays]]
        for name in ("items", "time", "feedback")
        if getattr(X.history, name) is not None
    }
    return replace(X, history=Sequences(start=np.cumsum(length) - length, length=length, **kept))


def run(seed: int) -> dict[str, tuple[float, float]]:
    """Return the AUC over new items, and over others, of each model on one draw of the data."""
    X, y = make_multimodal_ctr(500, 300, random_state=seed)
    new = np.random.RandomState(seed).uniform(size=len(X.catalog)) < NEW_SHARE
    train, valid, test = leave_last_out(X)
    is_new = new[X.target]
    X = without(X, new)
    train = train[~is_new[train]]
    others = np.concatenate([valid, test])
    others = others[~is_new[others]]
    align = Pipeline([("encode", MultimodalEncoder()), ("align", SteinAligner(random_state=seed))])
    predicted = align.fit(X[train], y[train]).transform(X)
    observed = predicted.with_catalog(align["align"].encoder_.describe(predicted.catalog))
    models = {
        "ids": (X, None),
        "observed": (observed, [FACTORS]),
        "predicted": (predicted, "auto"),
        "content": (predicted, ["text", "image"]),
    }
    found = {}
    for name, (rows, features) in models.items():
        din = DINClassifier(item_features=features, random_state=seed).fit(rows[train], y[train])
        score = din.decision_function(rows)
        found[name] = tuple(float(roc_auc_score(y[r], score[r])) for r in (is_new, others))
    return found  # type: ignore[return-value]


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    results = []
    for seed in parser.parse_args().seeds:
        results.append(run(seed))
        print(seed, {k: tuple(round(v, 4) for v in pair) for k, pair in results[-1].items()})
    for i, rows in enumerate(("new items", "other items")):
        for name in results[0]:
            auc = [found[name][i] for found in results]
            print(f"{rows:12} {name:10} AUC {np.mean(auc):.4f}, sd {np.std(auc, ddof=1):.4f}")


if __name__ == "__main__":
    main()
