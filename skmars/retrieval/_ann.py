"""Neighbour indices over the donors: how one is chosen, and adaptors of faiss and pynndescent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from joblib import cpu_count, effective_n_jobs
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skmars.retrieval._embeddings import Vectors, unit
from skmars.utils._base import DocLinkMixin

# Up to this many donors "auto" searches exactly, beyond it takes an index if one is installed.
# Against a million (128 components, one thread) the build of the graph has paid off after some
# 48,000 queries.
AUTO_EXACT_MAX_DONORS = 50_000

Neighbors = tuple[NDArray[np.floating], NDArray[np.integer]] | NDArray[np.integer]


class NeighborIndex(Protocol):
    """A neighbour estimator in the manner of scikit-learn's `NearestNeighbors`."""

    def fit(self, X: Any, /) -> Any: ...

    def kneighbors(self, X: Any, n_neighbors: int, return_distance: bool) -> Any: ...


def fit_index(
    neighbors: str | NeighborIndex, donors: Vectors, n_jobs: int | None
) -> NeighborIndex | None:
    """Return a fitted neighbour estimator over the donors, or None for the exact search."""
    if neighbors == "auto":
        large = len(donors) > AUTO_EXACT_MAX_DONORS
        neighbors = "hnsw" if large and find_spec("faiss") is not None else "exact"
    if neighbors == "exact" or len(donors) == 0:
        return None
    index: NeighborIndex
    if isinstance(neighbors, str):
        adaptor = HNSWNeighbors if neighbors == "hnsw" else NNDescentNeighbors
        index = adaptor(n_jobs=n_jobs)
    else:
        try:
            index = clone(neighbors)
        except TypeError as error:
            raise TypeError(
                f"neighbors={neighbors!r} must be an instance of an estimator with get_params, "
                f"fit and kneighbors, which can be cloned: {error}"
            ) from error
    index.fit(donors)
    return index


def _import(package: str) -> ModuleType:
    try:
        return import_module(package.removesuffix("-cpu"))
    except ImportError as error:
        raise ImportError(
            f"This neighbour search needs the package {package}: pip install 'skmars[ann]', "
            "or search exactly with neighbors='exact'."
        ) from error


@contextmanager
def _threads(faiss: ModuleType, n_jobs: int | None) -> Iterator[None]:
    """Set the number of threads of faiss, which has a global one, for the duration of a call."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(min(effective_n_jobs(n_jobs), cpu_count()))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


class HNSWNeighbors(DocLinkMixin, BaseEstimator):
    """Approximate neighbours by cosine: hierarchical navigable small world graph of faiss.

    Parameters
    ----------
    n_links : int, default=32
        Links of each point in the graph (M).
    ef_construction : int, default=80
        Candidates compared when a point is added.
    ef_search : int, default=64
        Candidates compared in a query; at least `n_neighbors` are.
    n_jobs : int, default=None
        Threads. With more than one the graph, and so a rare neighbour, may differ between fits.

    References
    ----------
    Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
    Hierarchical Navigable Small World graphs", TPAMI 2020.
    """

    def __init__(
        self,
        n_links: int = 32,
        ef_construction: int = 80,
        ef_search: int = 64,
        n_jobs: int | None = None,
    ) -> None:
        self.n_links = n_links
        self.ef_construction = ef_construction
        self.ef_search = ef_search
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: object = None) -> HNSWNeighbors:
        """Build the graph; ImportError if faiss is not installed. `y` is ignored."""
        faiss = _import("faiss-cpu")
        vectors = unit(X)
        index = faiss.IndexHNSWFlat(vectors.shape[1], self.n_links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.ef_construction
        with _threads(faiss, self.n_jobs):
            index.add(vectors)
        self.index_ = index
        return self

    def kneighbors(
        self, X: ArrayLike, n_neighbors: int = 5, return_distance: bool = True
    ) -> Neighbors:
        """Return (1 - cosine, row numbers), each of shape (n_queries, n_neighbors).

        A row number is -1 where the search found no more neighbours.
        """
        check_is_fitted(self)
        faiss = _import("faiss-cpu")
        parameters = faiss.SearchParametersHNSW(efSearch=max(self.ef_search, n_neighbors))
        with _threads(faiss, self.n_jobs):
            cosine, neighbor = self.index_.search(unit(X), n_neighbors, params=parameters)
        return (1.0 - cosine, neighbor) if return_distance else neighbor

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        if "index_" in state:
            state = {**state, "index_": _import("faiss-cpu").serialize_index(state["index_"])}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if isinstance(state.get("index_"), np.ndarray):
            self.index_ = _import("faiss-cpu").deserialize_index(state["index_"])


class NNDescentNeighbors(DocLinkMixin, BaseEstimator):
    """Approximate neighbours by cosine: nearest neighbour descent of pynndescent.

    The first index of a process compiles for tens of seconds.

    Parameters
    ----------
    graph_neighbors : int, default=30
        Neighbours of each point in the graph.
    n_candidates : int, default=24
        Neighbours that a query looks for; at least `n_neighbors` are. With one or two it would
        often stop short of the nearest.
    epsilon : float, default=0.2
        How far beyond the current neighbours a query looks.
    random_state : int, RandomState or None, default=0
        Seed of the graph.
    n_jobs : int, default=None
        Threads of the graph's construction; -1 for all.

    References
    ----------
    Dong, Moses and Li, "Efficient k-nearest neighbor graph construction for generic
    similarity measures", WWW 2011.
    """

    def __init__(
        self,
        graph_neighbors: int = 30,
        n_candidates: int = 24,
        epsilon: float = 0.2,
        random_state: int | RandomState | None = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.graph_neighbors = graph_neighbors
        self.n_candidates = n_candidates
        self.epsilon = epsilon
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: object = None) -> NNDescentNeighbors:
        """Build the graph; ImportError if pynndescent is not installed. `y` is ignored."""
        pynndescent = _import("pynndescent")
        vectors = unit(X)
        index = pynndescent.NNDescent(
            vectors,
            metric="cosine",
            n_neighbors=min(self.graph_neighbors, len(vectors) - 1),
            random_state=check_random_state(self.random_state).randint(2**31 - 1),
            n_jobs=self.n_jobs,
        )
        index.prepare()
        self.index_, self.n_samples_fit_ = index, len(vectors)
        return self

    def kneighbors(
        self, X: ArrayLike, n_neighbors: int = 5, return_distance: bool = True
    ) -> Neighbors:
        """Return (1 - cosine, row numbers), each of shape (n_queries, n_neighbors)."""
        check_is_fitted(self)
        k = min(self.n_samples_fit_, max(n_neighbors, self.n_candidates))
        neighbor, distance = self.index_.query(unit(X), k=k, epsilon=self.epsilon)
        neighbor, distance = neighbor[:, :n_neighbors], distance[:, :n_neighbors]
        return (distance, neighbor) if return_distance else neighbor
