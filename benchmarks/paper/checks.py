"""Does the space deserve its name? Checks that need no click model.

retrieval   Does a donor like what the user likes next? Donors by the aligned space, by ids alone,
            by content alone, and at random, for the low-active users' liked test items.
            precision@k: the share of the k donors whose history has the item as a liked one;
            recall@k: the share of the users for whom one of the k donors has it. Both are easy for
            donors with long histories of popular items; AUC of support is not: how well the share
            of 30 donors who have the target, beside that of all donors, tells clicked from not.
alignment   Do text and image find each other, and how much of the space is used, epoch by epoch?
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.decomposition import TruncatedSVD
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import normalize

from benchmarks.paper.data import Problem
from benchmarks.paper.experiment import Experiment, read_json, versions, write_json
from benchmarks.paper.fit import aligned, encoder
from benchmarks.paper.methods import METHODS, Settings, parts
from skmars import Impressions, SteinAligner
from skmars.data import Sequences
from skmars.data._activity import UserActivity, is_high, thresholds
from skmars.metrics import (
    alignment_score,
    effective_rank,
    retrieval_recall_at_k,
    uniformity_score,
)
from skmars.retrieval._embeddings import ItemSpace, user_vectors

KS = (1, 3, 10, 30)
N_LOOKALIKES, PRIOR = 30, 3  # of the AUC of support
Row = dict[str, Any]
Embed = Callable[[Impressions], np.ndarray]


def run_check(experiment: Experiment, name: str, seed: int) -> None:
    """Write the results of a check, unless they are there."""
    path = experiment.folder / "checks" / name / f"{seed}.json"
    if read_json(path, experiment) is not None:
        return
    title, check = CHECKS[name]
    begin = time.perf_counter()
    rows = check(experiment, experiment.problem("full", seed), seed)
    result = {
        "protocol": experiment.protocol,
        "versions": versions(),
        "title": title,
        "seed": seed,
        "rows": rows,
        "seconds": round(time.perf_counter() - begin, 1),
    }
    write_json(path, result)
    print(f"[{name}] seed {seed}: {result['seconds']} s", flush=True)


# --- whom does one ask? -----------------------------------------------------------------------


def retrieval(experiment: Experiment, problem: Problem, seed: int) -> list[Row]:
    """Return precision and recall at k of the donors that each space finds."""
    train = problem.X[problem.train]
    active, row = UserActivity.of(train)
    donors = row[is_high(active.longest, *thresholds(active.longest, 0.3, 0.7))]
    asks = problem.low[problem.X.user[problem.test]]
    asks &= problem.X.history.length[problem.test] > 0
    queries = problem.test[asks]
    liked = problem.y[queries] == 1
    likes = (history_matrix(train.history[donors], len(train.catalog)) > 0).toarray()
    target = problem.X.target[queries]
    share = likes.mean(axis=0)[target]
    length = train.history.length[donors]
    rows = []
    for name, X, embed in spaces(experiment, problem, seed):
        nearest = nearest_donors(embed(X[queries]), embed(X[problem.train[donors]]))
        touched = likes[nearest, target[:, None]]
        n = min(N_LOOKALIKES, nearest.shape[1])
        support = (touched[:, :n].sum(axis=1) + PRIOR) / (n * share + PRIOR)
        hits = touched[liked]
        found = [k for k in KS if k <= nearest.shape[1]]
        rows.append(
            {
                "donors by": name,
                **{f"precision@{k}": float(hits[:, :k].mean()) for k in found},
                **{f"recall@{k}": float(hits[:, :k].max(axis=1).mean()) for k in found},
                "AUC of support": float(roc_auc_score(liked, support)),
                "items of a donor": float(length[nearest].mean()),
            }
        )
    return rows


def spaces(
    experiment: Experiment, problem: Problem, seed: int
) -> Iterator[tuple[str, Impressions, Embed]]:
    """Yield each space: its name, the rows in it, and how to embed some of them."""
    X, mars = problem.X, METHODS["mars"]
    override: Settings = experiment.override

    def of_rows(rows: Impressions) -> np.ndarray:
        return np.asarray(rows.user_embedding)

    if problem.content:
        X = encoder(experiment).fit(X[problem.train]).transform(X)
        _, aligner, _ = aligned(experiment, problem, X[problem.train], mars, override, seed)
        Z = aligner.transform(X)
        items = ItemSpace(Z.catalog, "embedding", True).view(Z.catalog)
        yield "aligned items of the history", Z, lambda Z: user_vectors(Z, items, "units")
        yield "aligned space, Eq. 13", Z, of_rows
        content = ItemSpace(X.catalog, "features", True).view(X.catalog)
        yield "mean content", X, lambda rows: user_vectors(rows, content, "vectors")
    ids_only = {**override, "align__modalities": []}
    _, aligner, _ = aligned(experiment, problem, X[problem.train], mars, ids_only, seed)
    yield "aligner on ids alone", aligner.transform(X), of_rows

    # Items that the same users like are alike: the best-known space of ids alone.
    _, row = UserActivity.of(X[problem.train])
    n_items = len(X.catalog)
    likes = history_matrix(X[problem.train].history[row], n_items)
    svd = TruncatedSVD(min(64, n_items - 1), random_state=seed).fit(normalize(likes, axis=0))
    items = normalize(svd.components_.T * svd.singular_values_)

    def mean_item(rows: Impressions) -> np.ndarray:
        n = np.maximum(rows.history.length, 1)[:, None]
        return np.asarray(history_matrix(rows.history, n_items) @ (items - items.mean(axis=0)) / n)

    yield "mean item factors", X, mean_item
    rng = np.random.RandomState(seed)
    yield "random donors", X, lambda rows: rng.normal(size=(len(rows), 16))


def history_matrix(history: Sequences, n_items: int) -> csr_array:
    """Rows over items: 1 for a liked item, -1 for a disliked one."""
    positions = history.positions()
    liked: Any = np.ones(len(positions))
    if history.feedback is not None:
        liked = 2.0 * history.feedback[positions] - 1.0
    columns = history.items[positions]
    return csr_array((liked, columns, history.offsets), shape=(len(history), n_items))


def nearest_donors(queries: np.ndarray, donors: np.ndarray) -> np.ndarray:
    """Return the nearest donors by centred cosine (Eq. 15), the nearest first."""
    center = donors.mean(axis=0)
    cosine = normalize(queries - center) @ normalize(donors - center).T
    return np.argsort(-cosine, axis=1, kind="stable")[:, : max(KS)]


# --- do text and image meet? ------------------------------------------------------------------


OBJECTIVES: dict[str, Settings] = {
    "entropy maximised": {},
    "no entropy": {"entropy": None},
    "printed sign": {"entropy": "paper"},
    "no Stein": {"beta": 0.0},
}


class EachEpoch:
    """A callback that looks at the space after each epoch."""

    max_propagation_depth = 0

    def __init__(self, look: Callable[[Any], Row]) -> None:
        self.look = look
        self.rows: list[Row] = []

    def setup(self, estimator: Any, context: Any) -> None:
        """Nothing to prepare."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Nothing to release."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Nothing yet."""

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any) -> bool:
        """Look, and go on."""
        if context.task_name.startswith("epoch"):
            epoch = str(int(context.task_name.split()[-1]) + 1)
            self.rows.append({"epoch": epoch, **self.look(fitted_estimator.encoder_)})
        return False


def alignment(experiment: Experiment, problem: Problem, seed: int) -> list[Row]:
    """Return cross-modal recall, alignment, uniformity and rank after each epoch."""
    if not problem.content:
        raise SystemExit("The check 'alignment' compares modalities; these data have ids only.")
    X = encoder(experiment).fit(problem.X[problem.train]).transform(problem.X)
    missing = np.any(list(X.catalog.missing.values()), axis=0)

    def look(encoder: Any) -> Row:
        embedded = encoder.embed_modalities(X.catalog)
        one, two = (embedded[name][~missing] for name in X.catalog.features)
        ks = [k for k in (1, 10) if k <= len(one)]
        there, back = (
            np.asarray(retrieval_recall_at_k(a, b, k=ks)) for a, b in ((one, two), (two, one))
        )
        recall = (there + back) / 2
        return {
            **{f"cross-modal recall@{k}": float(r) for k, r in zip(ks, recall)},
            "alignment": alignment_score(one, two),
            "uniformity": (uniformity_score(one) + uniformity_score(two)) / 2,
            "effective rank": (effective_rank(one) + effective_rank(two)) / 2,
        }

    rows = []
    for name, change in OBJECTIVES.items():
        settings = {**parts(experiment.override, "align"), **change}
        watch = EachEpoch(look)
        aligner = SteinAligner(random_state=seed, **settings).set_callbacks(watch)
        aligner.fit(X[problem.train], problem.y[problem.train])
        rows += [{"objective": name, **row} for row in watch.rows]
    return rows


CHECKS = {
    "retrieval": ("Retrieval: does a donor like what the user likes next?", retrieval),
    "alignment": ("Alignment over training", alignment),
}
