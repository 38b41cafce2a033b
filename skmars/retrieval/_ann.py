"""Neighbour indices over the donors: how one is chosen, and adaptors of faiss and pynndescent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
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

from skmars.utils._base import DocLinkMixin
from skmars.utils._blocks import in_threads
from skmars.utils._units import Vectors, unit

# Up to this many donors "auto" searches exactly, beyond it takes an index if one is installed.
# Against a million (128 components, one thread) the build of the graph has paid off after some
# 48,000 queries.
AUTO_EXACT_MAX_DONORS = 50_000
_SEARCHED = 64  # queries that a thread takes at a time

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
    if isinstance(neighbors, str):
        adaptor = HNSWNeighbors if neighbors == "hnsw" else NNDescentNeighbors
        # The threads that build it; who searches it, perhaps elsewhere, has others.
        return adaptor(n_jobs=n_jobs).fit(donors).set_params(n_jobs=None)
    try:
        index: NeighborIndex = clone(neighbors)
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


def _n_threads(n_jobs: int | None) -> int:
    n_jobs = effective_n_jobs(n_jobs)
    return n_jobs if n_jobs == 1 else min(n_jobs, cpu_count())  # which reads files


class HNSWNeighbors(DocLinkMixin, BaseEstimator):
    """Approximate neighbours by cosine: hierarchical navigable small world graph of faiss.

    A search is deterministic: a query has the same neighbours alone and among others, whatever
    `n_jobs` is, and in every process that has the graph.

    Parameters
    ----------
    n_links : int, default=32
        Links of each point in the graph (M).
    ef_construction : int, default=80
        Candidates compared when a point is added.
    ef_search : int, default=128
        Candidates compared in a query; at least `n_neighbors` are.
    n_jobs : int, default=None
        Threads. Those of the caller, of torch for example, are left as they are. With more than
        one, versions of faiss before 1.15 may build a graph, and so find a rare neighbour, that
        differs between fits.

    Attributes
    ----------
    vectors_ : ndarray of shape (n_samples, n_features), float32
        What `fit` was given, at unit length.
    graph_ : ndarray of shape (n_bytes,), uint8
        The graph, as faiss writes it, without the vectors. Both may be memory-mapped.

    References
    ----------
    Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
    Hierarchical Navigable Small World graphs", TPAMI 2020.
    """

    def __init__(
        self,
        n_links: int = 32,
        ef_construction: int = 80,
        ef_search: int = 128,
        n_jobs: int | None = None,
    ) -> None:
        self.n_links = n_links
        self.ef_construction = ef_construction
        self.ef_search = ef_search
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: object = None) -> HNSWNeighbors:
        """Build the graph; ImportError if faiss is not installed. `y` is ignored."""
        faiss = _import("faiss-cpu")
        vectors = _at_unit_length(X)

        def build() -> NDArray[np.uint8]:
            faiss.omp_set_num_threads(_n_threads(self.n_jobs))
            index = faiss.IndexHNSWFlat(vectors.shape[1], self.n_links, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = self.ef_construction
            index.add(vectors)
            graph: NDArray[np.uint8] = faiss.serialize_index(index, faiss.IO_FLAG_SKIP_STORAGE)
            return graph

        # OpenMP's number of threads belongs to the thread that sets it, so that it is set in one
        # of its own and nobody else's changes.
        with ThreadPoolExecutor(1) as executor:
            graph = executor.submit(build).result()
        self.__dict__.pop("_index", None)
        self.vectors_, self.graph_ = vectors, graph
        return self

    @cached_property
    def _index(self) -> tuple[Any, ...]:
        """The graph and the vectors as an index of faiss, and what it views without a copy."""
        faiss = _import("faiss-cpu")
        vectors, graph = (np.asarray(a) for a in (self.vectors_, self.graph_))
        try:
            index = faiss.read_index(faiss.ZeroCopyIOReader(faiss.swig_ptr(graph), graph.nbytes))
        except RuntimeError as error:
            raise ValueError(
                f"faiss can't read the graph of {type(self).__name__}: {error}"
            ) from error
        if (index.ntotal, index.d) != vectors.shape:
            raise ValueError(
                f"the graph of {type(self).__name__} is one of {index.ntotal} vectors of length "
                f"{index.d}, but the vectors have the shape {vectors.shape}. Fit it again."
            )
        storage = faiss.IndexFlatIP(index.d)
        storage.codes = storage.codes.create_view(
            faiss.swig_ptr(vectors.view(np.uint8).reshape(-1)), vectors.nbytes, storage.codes.owner
        )
        storage.ntotal = index.ntotal
        index.storage, index.own_fields = storage, False
        return index, storage, vectors, graph

    def kneighbors(
        self, X: ArrayLike, n_neighbors: int = 5, return_distance: bool = True
    ) -> Neighbors:
        """Return (1 - cosine, row numbers), each of shape (n_queries, n_neighbors).

        A row number is -1 where the search found no more neighbours.
        """
        check_is_fitted(self)
        cosine, neighbor = self._nearest(unit(X), n_neighbors, self.n_jobs)
        return (1.0 - cosine, neighbor) if return_distance else neighbor

    def proposed(
        self, queries: Vectors, n_neighbors: int, n_jobs: int | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return cosines, and the row numbers that `kneighbors` does.

        Queries are at unit length. `n_jobs` holds where `self` has none.
        """
        n_jobs = n_jobs if self.n_jobs is None else self.n_jobs
        return self._nearest(queries, n_neighbors, n_jobs)

    def _nearest(
        self, queries: Vectors, n_neighbors: int, n_jobs: int | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return cosines and row numbers of the neighbours."""
        faiss = _import("faiss-cpu")
        index, *_viewed = self._index
        parameters = faiss.SearchParametersHNSW(efSearch=max(self.ef_search, n_neighbors))
        cosine = np.empty((len(queries), n_neighbors), dtype=np.float32)
        neighbor = np.empty((len(queries), n_neighbors), dtype=np.int64)

        def search(first: int) -> None:
            # One by one: faiss then uses the calling thread alone.
            for i in range(first, min(first + _SEARCHED, len(queries))):
                at = slice(i, i + 1)
                index.search(
                    queries[at], n_neighbors, params=parameters, D=cosine[at], I=neighbor[at]
                )

        with in_threads(search, range(0, len(queries), _SEARCHED), n_jobs) as done:
            for _ in done:
                pass
        return cosine, neighbor

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_index"}


def _at_unit_length(X: ArrayLike) -> Vectors:
    """Return rows at unit length; the array itself, without a copy, if all of them are already."""
    if isinstance(X, np.ndarray) and X.dtype == np.float32 and X.flags.c_contiguous:
        norm = np.sqrt(np.einsum("ij,ij->i", X, X))
        if ((np.abs(norm - 1) <= 1e-6) | (norm == 0)).all():
            return X
    return unit(X)


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
