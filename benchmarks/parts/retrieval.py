"""The nearest donor: search alone, and the whole of the augmenter."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from benchmarks.measure import Result, chosen, compare
from skmars import Impressions, ItemCatalog, SequenceRetrievalAugmenter
from skmars.data import Sequences
from skmars.retrieval._ann import HNSWNeighbors, NNDescentNeighbors
from skmars.retrieval._neighbors import CosineNeighbors
from skmars.utils import _ragged as ragged
from skmars.utils._units import unit

# Few factors: embeddings of users, means of items, have far fewer dimensions than components.
N_FACTORS, N_GROUPS, NOISE = 16, 1000, 0.7
EXACT = "skmars, exact"
LOW_LENGTH, DONOR_LENGTH, ROWS_A_USER = 3, 20, 10


def vectors(n: int, width: int, seed: int) -> NDArray[np.float32]:
    """Draw unit vectors of a few factors around common centres: float32, (n, width)."""
    common = np.random.default_rng(0)
    centers = common.standard_normal((N_GROUPS, N_FACTORS), dtype=np.float32)
    loadings = common.standard_normal((N_FACTORS, width), dtype=np.float32)
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((n, N_FACTORS), dtype=np.float32)
    return unit((centers[rng.integers(N_GROUPS, size=n)] + NOISE * noise) @ loadings)


class FaissFlat:
    """faiss, exact inner product."""

    def fit(self, X: NDArray[np.float32]) -> FaissFlat:
        import faiss

        self.index: Any = faiss.IndexFlatIP(X.shape[1])
        self.index.add(X)
        return self

    def kneighbors(self, X: NDArray[np.float32], k: int, return_distance: bool) -> Any:
        return self.index.search(X, k)[1]


class FaissHNSW(FaissFlat):
    """faiss, graph, with the settings that `HNSWNeighbors` has by default."""

    def fit(self, X: NDArray[np.float32]) -> FaissHNSW:
        import faiss

        self.index = faiss.IndexHNSWFlat(X.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction, self.index.hnsw.efSearch = 80, 128
        self.index.add(X)
        return self


class PyNNDescent:
    """pynndescent with its own defaults; `kneighbors` answers from a prepared index."""

    def fit(self, X: NDArray[np.float32]) -> PyNNDescent:
        import pynndescent

        self.index = pynndescent.NNDescent(X, metric="cosine", random_state=0)
        self.index.prepare()
        return self

    def kneighbors(self, X: NDArray[np.float32], k: int, return_distance: bool) -> Any:
        return self.index.query(X, k=max(k, 10))[0][:, :k]


class MatrixProduct:
    """The limit: blocked product and the largest entries of each row, nothing else."""

    def fit(self, X: NDArray[np.float32]) -> MatrixProduct:
        self.donors = X
        return self

    def kneighbors(self, X: NDArray[np.float32], k: int, return_distance: bool) -> Any:
        found = [self._of(X[at : at + 256], k) for at in range(0, len(X), 256)]
        return np.concatenate(found)

    def _of(self, X: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        # In tiles that stay in the cache, as any careful product of this size.
        best = np.full((len(X), k), -np.inf, dtype=np.float32)
        found = np.full((len(X), k), -1)
        for at in range(0, len(self.donors), 8192):
            product = X @ self.donors[at : at + 8192].T
            m = min(k, product.shape[1])
            top = product.argmax(1)[:, None] if k == 1 else np.argpartition(product, -m)[:, -m:]
            value = np.concatenate([best, np.take_along_axis(product, top, 1)], axis=1)
            where = np.concatenate([found, top + at], axis=1)
            order = np.argsort(-value, axis=1)[:, :k]
            best, found = (np.take_along_axis(x, order, 1) for x in (value, where))
        return found


def _contenders(threads: int) -> dict[str, Callable[[], Any]]:
    from sklearn.neighbors import NearestNeighbors

    return {
        EXACT: CosineNeighbors,
        "matrix product + top-k": MatrixProduct,
        "skmars, hnsw": lambda: HNSWNeighbors(n_jobs=threads),
        "skmars, nndescent": lambda: NNDescentNeighbors(n_jobs=threads),
        "faiss, flat": FaissFlat,
        "faiss, HNSW": FaissHNSW,
        "pynndescent": PyNNDescent,
        "scikit-learn, brute": lambda: NearestNeighbors(algorithm="brute", metric="cosine"),
    }


def search(arguments: Any) -> list[Result]:
    """Time the building of each index, and its answers; count how often the nearest is right.

    Useful work is that of the product of all queries with all donors, 2 n m d: what a graph
    does not compute, it saves, so that its share may exceed 100 %.
    """
    donors = vectors(arguments.donors, arguments.width, seed=1)
    queries = vectors(arguments.queries, arguments.width, seed=2)
    size = f"{len(queries):,} queries, {len(donors):,} donors, {arguments.width} components"
    _set_faiss_threads(arguments.threads)
    built: dict[str, Any] = {}
    results = []
    names = arguments.contenders and [EXACT, *arguments.contenders]  # recall is measured against it
    for name, make in chosen(_contenders(arguments.threads), names).items():
        try:
            index = make()
            # The first index of a process may compile: `built` is fitted before anything is timed.
            built[name] = index.fit(donors[: max(1000, len(donors) // 100)])
        except ImportError as error:
            print(f"[retrieval] {name} is left out: {error}")
    build = {name: partial(index.fit, donors) for name, index in built.items()}
    results += compare(f"index ({size})", build, arguments.repeats)
    found: dict[str, Any] = {}

    def ask(name: str) -> Callable[[], None]:
        def call() -> None:
            answer = built[name].kneighbors(queries, arguments.k, return_distance=False)
            found[name] = np.asarray(answer)

        return call

    part = f"retrieval ({size}, k = {arguments.k})"
    work = 2.0 * len(queries) * len(donors) * arguments.width
    calls = {name: ask(name) for name in built}
    searched = compare(part, calls, arguments.repeats, work=work)
    nearest = found[EXACT][:, 0]
    for result in searched:
        rate = len(queries) / median(result.seconds)
        recall = float((found[result.contender][:, 0] == nearest).mean())
        result.note = f"{rate:,.0f} queries/s, recall@1 {recall:.4f}"
    return results + searched


def _set_faiss_threads(n: int) -> None:
    try:
        import faiss
    except ImportError:
        return
    faiss.omp_set_num_threads(n)


def shop(n_low: int, n_donors: int, n_items: int, width: int) -> tuple[Impressions, Impressions]:
    """Make rows of donors and of low-active users: (for fit, for transform).

    A low-active user stands before `ROWS_A_USER` candidate items with one and the same history.
    """
    rng = np.random.default_rng(0)
    catalog = ItemCatalog(np.arange(n_items), embedding=vectors(n_items, width, seed=1))
    length = np.r_[np.full(n_low, LOW_LENGTH), np.full(n_donors, DONOR_LENGTH)]
    user = np.arange(n_low + n_donors, dtype=np.int32)
    items = rng.integers(n_items, size=length.sum()).astype(np.int32)
    history = Sequences(items, ragged.offsets(length)[:-1], length.astype(np.int32))
    target = rng.integers(n_items, size=len(user)).astype(np.int32)
    fitted = Impressions(catalog, user, user, target, history)
    rows = np.repeat(np.arange(n_low), ROWS_A_USER)
    shown = rng.integers(n_items, size=len(rows)).astype(np.int32)
    return fitted, Impressions(catalog, user, user[rows], shown, history[rows])


def transform(arguments: Any) -> list[Result]:
    """Time `SequenceRetrievalAugmenter.transform` against the product and top-k that it needs.

    One donor is enough to borrow from; the default number of look-alikes takes as many.
    """
    n_low, n_donors = max(1, arguments.queries // ROWS_A_USER), arguments.donors
    fitted, X = shop(n_low, n_donors, arguments.items, arguments.width)
    contenders: dict[str, Callable[[], Any]] = {}
    augmenter = SequenceRetrievalAugmenter(low_quantile=0.0, high_quantile=1.0, neighbors="exact")
    n_lookalikes = augmenter.n_lookalikes
    for strategy, n in (("filter", 0), ("most_similar", 0), ("filter", n_lookalikes)):
        augmenter = clone(augmenter).set_params(strategy=strategy, n_lookalikes=n).fit(fitted)
        contenders[f"skmars, {strategy}, {n} look-alikes"] = partial(augmenter.transform, X)
    users = vectors(n_low, arguments.width, seed=2)
    bare = MatrixProduct().fit(augmenter.donor_embedding_)
    for k in (1, n_lookalikes):
        contenders[f"matrix product + top {k}"] = partial(
            bare.kneighbors, users, min(k, n_donors), False
        )
    return compare(
        f"transform ({len(X):,} rows of {n_low:,} users, {n_donors:,} donors)",
        contenders,
        arguments.repeats,
        work=2.0 * n_low * n_donors * arguments.width,
    )
