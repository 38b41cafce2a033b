"""Does the default pipeline cost anything in a small shop with few look-alikes?

    python -m benchmarks.shops
    python -m benchmarks.shops --users 600 --seeds 0 1 2 --history all

Data are those of `make_small_shop`: click rates of users and items are known and given as context,
and nobody has look-alikes worth asking, so that DIN alone knows most of what can be known. The
default pipeline (encoder, aligner, augmenter, DIN) may gain nothing here, but should lose nothing
either, and should promise by its held-out rows what it then keeps. All settings are defaults.

For each draw: AUC and log loss of the test rows (each user's last impression), the best validation
AUC, and DeLong's paired test of the pipeline against DIN alone; then, for each number of users, the
means and the differences with their 95 % intervals (paired t over the seeds). One line of JSON a
draw is appended to the output; what is there is not done again. Use a new output after a change of
the code.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.cells import auc_and_log_loss, difference, measured
from benchmarks.measure import threads
from benchmarks.paper.markdown import table
from skmars import (
    DINClassifier,
    leave_last_out,
    make_mars,
    make_small_shop,
)
from skmars.metrics import delong_test


def run(n_users: int, history: str, seed: int) -> dict[str, Any]:
    """Fit DIN alone and the default pipeline on one shop."""
    X, y, truth = make_small_shop(n_users, history=history, random_state=seed, return_truth=True)
    train, _valid, test = leave_last_out(X)
    din = DINClassifier(random_state=seed)
    pipeline = make_mars(random_state=seed)
    found: dict[str, Any] = {}
    probability = {}
    for name, model, last in (("din", din, din), ("default", pipeline, pipeline["ctr"])):
        model.fit(X[train], y[train])
        probability[name] = model.predict_proba(X[test])[:, 1]
        found[name] = auc_and_log_loss(y[test], probability[name])
        found[name]["validation"] = max(last.validation_scores_ or [np.nan])
    test_of_both = delong_test(y[test], probability["default"], probability["din"])
    found["p"] = float(test_of_both.pvalue)
    found["best_possible"] = float(roc_auc_score(y[test], truth.click_probability[test]))
    return found


def summary(results: list[dict[str, Any]]) -> str:
    """Write a table of the draws, and one of the means for each number of users."""
    draws, means = [], []
    for found in results:
        din, default, cell = found["din"], found["default"], found["cell"]
        row = [f"{value:.3f}" for model in (din, default) for value in model.values()]
        p = f"{found['p']:.2g}"
        draws.append([str(cell["n_users"]), str(cell["seed"]), *row, p])
    for n_users in sorted({found["cell"]["n_users"] for found in results}):
        seeds = [found for found in results if found["cell"]["n_users"] == n_users]
        row = [str(n_users), f"{np.mean([found['best_possible'] for found in seeds]):.4f}"]
        for name in ("auc", "log_loss"):
            din, default = ([found[m][name] for found in seeds] for m in ("din", "default"))
            gain = difference([b - a for a, b in zip(din, default)])
            row += [f"{np.mean(din):.4f}", f"{np.mean(default):.4f}", gain]
        for model in ("din", "default"):
            row.append(difference([f[model]["validation"] - f[model]["auc"] for f in seeds]))
        means.append(row)
    columns = ["AUC", "log loss", "validation AUC"]
    head = ["users", "seed", *(f"{m}: {c}" for m in ("DIN", "default") for c in columns), "p"]
    text = table(head, draws) + "\n"
    head = ["users", "best possible AUC"]
    for name in columns[:2]:
        head += [f"{name}: DIN", "default", "difference"]
    head += ["validation - test AUC: DIN", "default"]
    return text + table(head, means)


def main(command: list[str] | None = None) -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--users", type=int, nargs="+", default=[300, 600, 1000, 2000])
    parser.add_argument("--history", choices=["all", "positive"], default="positive")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--output", type=Path, default=Path("shops.jsonl"))
    arguments = parser.parse_args(command)
    cells = [
        {"n_users": n_users, "history": arguments.history, "seed": seed}
        for n_users in arguments.users
        for seed in arguments.seeds
    ]
    with threads(1):
        print(summary(measured(arguments.output, cells, run)))


if __name__ == "__main__":
    main()
