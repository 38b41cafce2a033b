"""What does DIN make of items that nobody has touched yet?

    python -m benchmarks.new_items --seeds 0 1 2 3 4

The planted data of `make_multimodal_ctr`; a quarter of the items, drawn at random, is unknown to
fit: neither among its targets nor in any history. All settings are defaults, nothing is borrowed.
DIN reads

ids          ids alone
observed     item factors, of the items that users know
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

from benchmarks.prepare import prepared
from skmars import (
    DINClassifier,
    Impressions,
    MultimodalEncoder,
    SteinAligner,
    leave_last_out,
    make_multimodal_ctr,
)
from skmars.data import Sequences
from skmars.data._columns import FACTORS

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
    tests = np.flatnonzero(is_new), others
    plain = X[train], *(X[test] for test in tests)
    align = Pipeline([("encode", MultimodalEncoder()), ("align", SteinAligner(random_state=seed))])
    predicted = prepared(align, plain, y[train])
    observed = unpredicted(predicted, align["align"])
    models = {
        "ids": (plain, None),
        "observed": (observed, [FACTORS]),
        "predicted": (predicted, "auto"),
        "content": (predicted, ["text", "image"]),
    }
    found = {}
    for name, ((X_train, *X_tests), features) in models.items():
        din = DINClassifier(item_features=features, random_state=seed).fit(X_train, y[train])
        new_items, other_items = (
            float(roc_auc_score(y[test], din.decision_function(X_test)))
            for test, X_test in zip(tests, X_tests)
        )
        found[name] = new_items, other_items
    return found


def unpredicted(rows: tuple[Impressions, ...], aligner: SteinAligner) -> tuple[Impressions, ...]:
    """Give rows back without the factors that were predicted from content, in each fold."""
    train, *others = rows
    catalog = others[0].catalog
    folds = aligner.encoder_.out_of_fold(train, aligner.cv)
    described = aligner.encoder_.with_factors(catalog).with_folds(
        fold.with_factors(catalog) for fold in folds
    )
    return tuple(part.with_catalog(described) for part in rows)


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
