"""What does a grid search cost on a cluster of Ray, against one process and loky?

    OMP_NUM_THREADS=1 python -m benchmarks.distributed.search --users 1000

prints seconds and CPU of `GridSearchCV` over four settings, the largest difference of scores, and
how often the rows were pickled, and into how many megabytes.
"""

from __future__ import annotations

import argparse
import pickle
from typing import Any
from unittest.mock import patch

import joblib
import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from benchmarks.distributed.usage import start, usage
from skmars import (
    DINClassifier,
    Impressions,
    ItemCatalog,
    LeaveLastOut,
    SequenceRetrievalAugmenter,
    make_multimodal_ctr,
)

GRID = {"augment__theta": [0.0, 0.9], "ctr__embedding_dim": [10, 16]}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--cpus", type=int, default=2)
    options = parser.parse_args(arguments)
    X, y = make_multimodal_ctr(n_users=options.users, n_items=300, random_state=0)
    vectors = np.random.default_rng(0).normal(size=(len(X.catalog), 256)).astype(np.float32)
    X = X.with_catalog(ItemCatalog(X.catalog.ids, features={"text": vectors}))
    classifier = DINClassifier(max_iter=2, early_stopping=False, random_state=0)
    pipeline = Pipeline([("augment", SequenceRetrievalAugmenter()), ("ctr", classifier)])
    search = GridSearchCV(pipeline, GRID, cv=LeaveLastOut(), scoring="neg_log_loss", refit=False)
    print(f"{len(X):,} rows, {len(pickle.dumps(X)) / 1e6:.1f} MB")

    times = [0]

    def counting(self: Impressions, protocol: Any) -> Any:
        times[0] += 1
        return object.__reduce_ex__(self, protocol)

    def fit(name: str, where: Any) -> Any:
        times[0] = 0
        with where, patch.object(Impressions, "__reduce_ex__", counting), usage() as used:
            found = search.fit(X, y).cv_results_["mean_test_score"]
        print(f"{name}: {used}; rows pickled {times[0]} times", flush=True)
        return found

    expected = fit("one process", joblib.parallel_config("loky", n_jobs=1))
    others = [fit("loky", joblib.parallel_config("loky", n_jobs=options.cpus))]
    with usage() as used:
        ray = start(options.cpus)
    print(f"start of Ray: {used}", flush=True)
    from ray.util.joblib import register_ray

    from skmars.distributed import parallel_backend

    register_ray()
    others.append(fit("Ray's own backend", joblib.parallel_config("ray", n_jobs=options.cpus)))
    others.append(fit("skmars.distributed.parallel_backend", parallel_backend(options.cpus)))
    ray.shutdown()
    print(f"largest difference of scores: {np.abs(np.array(others) - expected).max():.2g}")


if __name__ == "__main__":
    main()
