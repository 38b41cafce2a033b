"""Is the default pipeline anywhere below its base, on small data that nobody tuned it on?

    python -m benchmarks.kinds
    python -m benchmarks.kinds --kinds "tiny catalogue" "no content" --seeds 0 1 2
    python -m benchmarks.kinds --models factors default --seeds 100 101 --set align__n_factors=16

Data are those of `make_multimodal_ctr` with other parameters, clicks or items (`KINDS`), drawn anew
for each seed. All settings are defaults. Models:

ids          DIN on ids
factors      DIN on ids and item factors, nothing borrowed: the base
no borrowed  the default pipeline without borrowed items: look-alike features alone
default      the default pipeline
rates        `ClickRateClassifier`

The earlier half of the rows is trained on, the later half is looked at. To choose anything, use
other seeds than those of the table.

One line of JSON a fit is appended to the output; what is there is not done again. Use a new output
after a change of the code.
"""

from __future__ import annotations

import argparse
import json
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.pipeline import Pipeline

from benchmarks.cells import auc_and_log_loss, difference, measured
from benchmarks.measure import threads
from benchmarks.movielens import settings_of
from benchmarks.paper.markdown import table
from benchmarks.paper.methods import NO_BORROWED, parts
from benchmarks.prepare import prepared
from skmars import (
    DINClassifier,
    Impressions,
    ItemCatalog,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
    make_multimodal_ctr,
    time_split,
)
from skmars.rates import ClickRateClassifier

USUAL: dict[str, Any] = {"n_users": 200, "n_items": 200, "mean_length": 16}
# Parameters of the generator, but for: `by` ("appeal": all like the same items, "chance": a coin),
# `rate` of clicks, `launched` (the share of items that appear late), `content`.
KINDS: dict[str, dict[str, Any]] = {
    "tiny catalogue": {"n_items": 80},
    "few users, many items": {"n_users": 80, "n_items": 1000, "mean_length": 40},
    "popularity only": {"by": "appeal", "chance": 1.0},
    "groups of one taste": {"deviation": 0.0},
    "individual taste": {"deviation": 1.0},
    "long histories": {"n_users": 50, "mean_length": 60},
    "feedback in histories": {"history": "all"},
    "labels of chance": {"by": "chance"},
    "half of the items new": {"launched": 0.5},
    "3 % clicks": {"rate": 0.03, "n_users": 400},
    "90 % clicks": {"rate": 0.9},
    "no content": {"content": False},
    "content is noise": {"text_noise": 1.0, "image_noise": 10.0},
}
MODELS = ("ids", "factors", "no borrowed", "default", "rates")
BASES = ("ids", "factors", "rates")
LAUNCH = 0.5  # the moment at which new items appear, as a share of the time


def draw(kind: str, seed: int) -> tuple[Impressions, np.ndarray]:
    """Draw the data of a kind."""
    options = {**USUAL, **KINDS[kind]}
    own = {"by": None, "rate": None, "launched": 0.0, "content": True}
    by, rate, launched, content = (options.pop(name, value) for name, value in own.items())
    X, y, truth = make_multimodal_ctr(**options, random_state=seed, return_truth=True)
    rng = np.random.RandomState(seed)
    odds = logit(truth.click_probability)
    if by:
        odds = 2.0 * truth.item_appeal[X.target] * (by == "appeal")
    if rate:
        odds = odds + brentq(lambda shift: expit(odds + shift).mean() - rate, -20, 20)
    if by or rate:
        y = (rng.uniform(size=len(y)) < expit(odds)).astype(np.int64)
    ids = {"user_id": X.users[X.user], "item_id": X.catalog.ids[X.target]}
    log = pd.DataFrame({**ids, "timestamp": X.time, "clicked": y})
    new = rng.uniform(size=len(X.catalog)) < launched
    log = log[~new[X.target] | (X.time >= np.quantile(X.time, LAUNCH))]
    history = options.get("history", "positive")
    catalog = X.catalog if content else ItemCatalog(X.catalog.ids)
    return Impressions.from_log(log, catalog, label="clicked", history=history)


@lru_cache(1)
def rows_of(kind: str, align: str, seed: int) -> tuple[tuple[Impressions, ...], ...]:
    """Draw and split the rows, and fit the aligner, whose settings are given as JSON.

    Returns training and test rows before and after the aligner, and their clicks.
    """
    X, y = draw(kind, seed)
    train, test = time_split(X, 0.5)
    plain = X[train], X[test]
    # The aligned space has no part in what the default pipeline predicts: one epoch is enough.
    known = {"max_iter": 1} if X.catalog.content else {"max_iter": 1, "modalities": ()}
    aligner = SteinAligner(**{**known, **json.loads(align)}, random_state=seed)
    encoder = MultimodalEncoder(random_state=seed) if X.catalog.content else "passthrough"
    first = Pipeline([("encode", encoder), ("align", aligner)])
    return plain, prepared(first, plain, y[train]), (y[train], y[test])


def run(kind: str, settings: dict[str, Any], seed: int, model: str) -> dict[str, Any]:
    """Fit one model to one draw."""
    plain, rows, (y_train, y) = rows_of(kind, json.dumps(parts(settings, "align")), seed)
    last: Any = DINClassifier(random_state=seed).set_params(**parts(settings, "ctr"))
    if model in ("ids", "rates"):
        rows = plain
    elif model != "factors":
        own = NO_BORROWED if model == "no borrowed" else {}
        augmenter = SequenceRetrievalAugmenter(**parts({**settings, **own}, "augment"))
        rows = prepared(augmenter, rows)
    if model == "rates":
        last = ClickRateClassifier()
    probability = last.fit(rows[0], y_train).predict_proba(rows[1])[:, 1]
    return auc_and_log_loss(y, probability)


def summary(results: list[dict[str, Any]], models: list[str]) -> str:
    """Write the means of each kind over the seeds, and how far the default is from its bases."""
    bases = [name for name in BASES if name in models and "default" in models]
    head = ["kind", "seeds"]
    for measure in ("AUC", "log loss"):
        head += [f"{measure}: {models[0]}", *models[1:], *(f"default - {name}" for name in bases)]
    lines = []
    for kind in dict.fromkeys(found["cell"]["kind"] for found in results):
        fits = [found for found in results if found["cell"]["kind"] == kind]
        line = [kind, str(len(fits) // len(models))]
        for measure in ("auc", "log_loss"):
            value = {m: [f[measure] for f in fits if f["cell"]["model"] == m] for m in models}
            line += [f"{np.mean(value[name]):.3f}" for name in models]
            for name in bases:
                line.append(difference(list(np.subtract(value["default"], value[name]))))
        lines.append(line)
    return table(head, lines)


def main(command: list[str] | None = None) -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--set", nargs="*", default=[], help="step__parameter=value, for all")
    parser.add_argument("--output", type=Path, default=Path("kinds.jsonl"))
    arguments = parser.parse_args(command)
    settings = settings_of(arguments.set)
    cells = [
        {"kind": kind, "settings": settings, "seed": seed, "model": model}
        for seed, kind, model in product(arguments.seeds, arguments.kinds, arguments.models)
    ]
    with threads(1):
        print(summary(measured(arguments.output, cells, run), arguments.models))


if __name__ == "__main__":
    main()
