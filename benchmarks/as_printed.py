"""What does each choice that differs from the paper do? One switch at a time, in both directions.

    python -m benchmarks.as_printed --output as_printed.jsonl
    python -m benchmarks.as_printed --seeds 0 1 --set align__n_components=32 align__id_dim=16 \
        align__max_iter=5 --output as_printed.jsonl

The data are those of `make_multimodal_ctr`. Each switch is set to what is printed in the default
pipeline, and to the default in the printed one; all else stays. Switches of the aligned space are
not turned in the default pipeline, which compares items by their features and whose classifier
reads item factors: predictions are the same to the bit (`tests/pipeline/test_as_printed.py`).

Prints one line of JSON a fit, then a table: AUC of all test rows, AUC and rows of the users who are
low-active in the training rows, and log loss, each as the difference to the pipeline that was
changed, with a 95 % interval (t over the seeds) from two seeds on. What is in the output is not
measured again; use a new one after a change of the code.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.cells import Cell, auc_and_log_loss, difference, measured
from benchmarks.measure import threads
from benchmarks.movielens import settings_of
from benchmarks.paper.markdown import table
from benchmarks.planted import low_active
from skmars import Impressions, leave_last_out, make_mars, make_multimodal_ctr
from skmars.pipeline._mars import AS_PRINTED

# The parameters of each switch, and whether turning it changes the default pipeline.
SWITCHES: dict[str, tuple[tuple[str, ...], bool]] = {
    "sign of the entropy": (("align__entropy",), False),
    "raw scale": (("align__normalize",), False),
    "click score by a network": (("align__click_score",), False),
    "no residual": (("align__residual",), False),
    "attention in both directions": (("align__causal",), False),
    "one head, no dropout, 512 rows a step": (
        ("align__n_heads", "align__dropout", "align__batch_size"),
        False,
    ),
    "no item factors": (("align__n_factors",), True),
    "users by the aligned space": (("augment__user_representation",), True),
    # Alone, items by their features can't be compared with users of the aligned space.
    "items and users by the aligned space": (
        ("augment__item_representation", "augment__user_representation"),
        True,
    ),
    "cosines without centring": (("augment__center",), True),
    "relevance to the user": (("augment__relevance",), True),
    "quantiles over users": (("augment__activity",), True),
    "no look-alike features": (("augment__n_lookalikes",), True),
    "one pool": (("ctr__borrowed",), True),
    "DIN on ids": (("ctr__item_features",), True),
    "plain sum of attention": (("ctr__attention_normalization",), True),
    "no activity feature": (("ctr__activity_feature",), True),
    "no L2, 512 rows a step": (("ctr__embedding_l2", "ctr__batch_size"), True),
}
# Pipelines that differ in a later step only share the fits of the earlier ones in this folder.
CACHE: str | None = None
MEASURES = {"AUC": ("all", "auc"), "AUC, low": ("low", "auc"), "log loss": ("all", "log_loss")}


def settings(variant: str, switch: str | None) -> dict[str, Any]:
    """Return the parameters that turn a switch in a variant of the pipeline."""
    if switch is None:
        return {}
    defaults = make_mars().get_params()
    values = AS_PRINTED if variant == "default" else defaults
    return {name: values[name] for name in SWITCHES[switch][0]}


@lru_cache(1)
def rows_of(users: int, items: int, seed: int) -> tuple[Impressions, np.ndarray, Any, np.ndarray]:
    """Draw the data: rows, clicks, the rows to train on and to test on, and who is low-active."""
    X, y = make_multimodal_ctr(n_users=users, n_items=items, random_state=seed)
    train, _, test = leave_last_out(X)
    return X, y, (train, test), low_active(X, train)[X.user[test]]


def run(
    users: int, items: int, variant: str, switch: str | None, common: dict[str, Any], seed: int
) -> dict[str, Any]:
    """Fit one pipeline, and score it on the last row of each user."""
    X, y, (train, test), low = rows_of(users, items, seed)
    mars = make_mars(variant, random_state=seed, memory=CACHE, **common)
    mars.set_params(**settings(variant, switch))
    p = mars.fit(X[train], y[train]).predict_proba(X[test])[:, 1]
    score = auc_and_log_loss(y[test], p)
    low_auc = {"auc": float(roc_auc_score(y[test][low], p[low])), "n": int(low.sum())}
    return {"all": score, "low": low_auc}


def cells(arguments: argparse.Namespace) -> Iterator[Cell]:
    """Yield what is to be fitted, seed by seed."""
    common = settings_of(arguments.set)
    for seed in arguments.seeds:
        for variant in ("default", "paper"):
            for switch in (None, *SWITCHES):
                if switch is None or variant == "paper" or SWITCHES[switch][1]:
                    yield {
                        "users": arguments.users,
                        "items": arguments.items,
                        "variant": variant,
                        "switch": switch,
                        "common": common,
                        "seed": seed,
                    }


def report(results: list[dict[str, Any]]) -> str:
    """Return the tables of both directions."""
    found = {(r["cell"]["variant"], r["cell"]["switch"], r["cell"]["seed"]): r for r in results}
    seeds = sorted({seed for _, _, seed in found})
    parts = []
    for variant, how in (("default", "printed"), ("paper", "as by default")):
        lines = []
        for switch in (None, *SWITCHES):
            pairs = [
                (found[variant, switch, s], found[variant, None, s])
                for s in seeds
                if (variant, switch, s) in found and (variant, None, s) in found
            ]
            if not pairs:
                continue
            line: list[Any] = [switch or variant]
            for who, what in MEASURES.values():
                values = [r[who][what] for r, _ in pairs]
                if switch is None:
                    line.append(f"{np.mean(values):.4f}")
                else:
                    line.append(difference([r[who][what] - b[who][what] for r, b in pairs]))
            lines.append([*line, str(len(pairs))])
        parts.append(table([f"{variant}, but {how}:", *MEASURES, "seeds"], lines))
    return "\n".join(parts)


def main() -> None:
    """Read the command line, measure what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], help="parameter=value of all pipelines")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    with threads(1):
        print(report(measured(arguments.output, cells(arguments), run)))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as CACHE:
        main()
