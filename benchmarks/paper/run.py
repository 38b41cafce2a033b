"""One cell: choose settings on the validation rows, fit, look at the test rows once, write.

    OUTPUT/<data>/<setting>/<split>/<method>/search.json   candidates and their validation AUC
    OUTPUT/<data>/<setting>/<test>/<method>/<seed>.json    settings, versions, seconds, scores
    OUTPUT/<data>/<setting>/<test>/<method>/<seed>.npy     logits of the test rows, float32
    OUTPUT/<data>/<setting>/<test>/rows-<seed>.npz         y, user, activity of the test rows
    OUTPUT/<data>/<setting>/aligned                        fitted aligners and the training rows
                                                       that they made, for all methods

The split "full" has test rows of the same name; the split "scarce" has those of each length kept.
Tables share cells: base and MARS are fitted once a split and seed. What is there is not done again.
"""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.paper.data import tests_of
from benchmarks.paper.experiment import Experiment, read_json, versions, write_json
from benchmarks.paper.fit import Fit, fit
from benchmarks.paper.methods import METHODS, Settings, base_settings


def choose(experiment: Experiment, split: str, name: str, seed: int) -> tuple[Settings, Fit | None]:
    """Return the settings of a method, and the fit with them if there is one by now.

    One early-stopped fit for each candidate, on the seed that asks first; the other seeds take
    its choice. All methods build on the DIN that the base chose.
    """
    method = METHODS[name]
    if method.like:
        settings, _ = choose(experiment, split, method.like, seed)
        return {**settings, **method.fixed, **experiment.override}, None
    common = base_settings(experiment.setting)
    if name != "base":
        common = choose(experiment, split, "base", seed)[0]
    path = experiment.folder / split / name / "search.json"
    search = read_json(path, experiment) or {"protocol": experiment.protocol, "candidates": []}
    done: list[dict[str, Any]] = search["candidates"]
    best: Fit | None = None
    for candidate in method.candidates[len(done) : experiment.n_candidates]:
        settings = {**common, **candidate, **method.fixed, **experiment.override}
        found = fit(experiment, experiment.problem(split, seed), method, settings, seed)
        if all(found.validation > c["validation"] for c in done):  # of equal ones, the first
            best = found
        done.append({"candidate": candidate, "seed": seed, "validation": found.validation})
        write_json(path, search)
        print(f"[{split}] {name} {candidate} validation {found.validation:.4f}", flush=True)
    chosen = max(done, key=lambda c: c["validation"])
    settings = {**common, **chosen["candidate"], **method.fixed, **experiment.override}
    return settings, best


def run_cell(experiment: Experiment, split: str, name: str, seed: int) -> None:
    """Fit a method and write its results on the test rows of the split, unless they are there."""
    paths = {test: experiment.folder / test / name / f"{seed}.json" for test in tests_of(split)}
    if all(read_json(path, experiment) is not None for path in paths.values()):
        return
    settings, found = choose(experiment, split, name, seed)
    problem = experiment.problem(split, seed)
    if found is None:
        found = fit(experiment, problem, METHODS[name], settings, seed)
    for test, path in paths.items():
        X_test = found.prepare(problem.tests[test])
        begin = time.perf_counter()
        logit = found.din.decision_function(X_test).astype(np.float32)
        found.seconds["predict"] = round(time.perf_counter() - begin, 3)
        rows = problem.test_rows(test)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path.parents[1] / f"rows-{seed}.npz", **rows)  # type: ignore[arg-type]
        np.save(path.with_suffix(".npy"), logit)
        result = {
            "protocol": experiment.protocol,
            "split": split,
            "method": name,
            "seed": seed,
            "settings": {k: str(v) for k, v in settings.items()},
            "versions": versions(),
            "n_train": len(problem.train),
            "n_test": len(problem.test),
            "epochs": getattr(found.din, "n_iter_", 0),
            "validation": found.validation,
            "auc": _auc(rows["y"], logit),
            "auc_low_active": _auc(rows["y"][rows["low"]], logit[rows["low"]]),
            "seconds": found.seconds,
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        write_json(path, result)  # last, so that a cell is there as a whole or not at all
        print(f"[{test}] {name} seed {seed} AUC {result['auc']}", flush=True)


def _auc(y: np.ndarray, score: np.ndarray) -> float | None:
    return float(roc_auc_score(y, score)) if 0 < y.sum() < len(y) else None
