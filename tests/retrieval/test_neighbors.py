"""Search for donors: exact against plain sorting, and approximate indices."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from copy import copy
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_info

from skmars import SequenceRetrievalAugmenter
from skmars.retrieval import CosineNeighbors, HNSWNeighbors, NNDescentNeighbors
from skmars.retrieval import _ann as ann
from skmars.retrieval import _neighbors as module
from skmars.retrieval._ann import fit_index
from skmars.retrieval._neighbors import top_k
from skmars.utils._units import unit

from .worlds import as_tuples, world


def sorted_by_hand(queries, donors, k, exclude, first_event, before):
    """Rank by rounded cosine, then by number; -1 where nobody is left."""
    result = np.full((len(queries), k), -1)
    for r, query in enumerate(queries.astype(float)):
        ranking = [
            (-round(float(query @ donor), 6), d)
            for d, donor in enumerate(donors.astype(float))
            if d != exclude[r] and first_event[d] < before[r]
        ]
        best = [d for _, d in sorted(ranking)[:k]]
        result[r, : len(best)] = best
    return result


@given(
    st.integers(0, 10**6),
    st.integers(1, 400),
    st.integers(1, 12),
    st.booleans(),
    st.sampled_from([1, 7, 64, 10**4]),
)
def test_exact_search_is_sorting(seed, n_donors, k, integers, rows):
    rng = np.random.default_rng(seed)

    def vectors(n):
        # Few values: many exact ties.
        return unit(rng.integers(-1, 2, (n, 3)) if integers else rng.normal(size=(n, 3)))

    donors, queries = vectors(n_donors), vectors(30)
    exclude = rng.integers(-1, n_donors, 30).astype(np.int32)
    first_event, before = rng.integers(0, 5, n_donors) * 1.0, rng.integers(0, 6, 30) * 1.0
    tile = module._TILE_QUERIES, module._TILE_DONORS
    try:
        module._TILE_QUERIES, module._TILE_DONORS = rows, 2 * rows
        found, similarity = top_k(
            queries, donors, k, exclude=exclude, first_event=first_event, before=before
        )
    finally:
        module._TILE_QUERIES, module._TILE_DONORS = tile
    assert np.array_equal(found, sorted_by_hand(queries, donors, k, exclude, first_event, before))
    expected = np.einsum("rd,rkd->rk", queries.astype(float), donors[found].astype(float))
    assert np.allclose(similarity, np.where(found < 0, 0, expected), atol=1e-6)


def test_cosine_neighbors_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    donors, queries = rng.normal(size=(500, 8)), rng.normal(size=(50, 8))
    distance, found = CosineNeighbors().fit(donors).kneighbors(queries, n_neighbors=7)
    peer = NearestNeighbors(metric="cosine").fit(donors).kneighbors(queries, n_neighbors=7)
    assert np.array_equal(found, peer[1])
    assert np.allclose(distance, peer[0], atol=2e-6)
    with pytest.raises(ValueError, match="n_neighbors must be between 1 and .* 500; got 501"):
        CosineNeighbors().fit(donors).kneighbors(queries, n_neighbors=501)


# Compiles for half a minute and more in every process.
nndescent = pytest.param("nndescent", marks=pytest.mark.slow)


def index(name):
    if name == "hnsw":
        pytest.importorskip("faiss")
        return HNSWNeighbors()
    if name == "nndescent":
        pytest.importorskip("pynndescent")
        return NNDescentNeighbors()
    return CosineNeighbors()


@pytest.mark.parametrize("name", ["cosine", "hnsw", nndescent])
def test_indices_find_the_nearest(name):
    estimator = index(name)
    rng = np.random.default_rng(0)
    donors, queries = rng.normal(size=(1500, 16)), rng.normal(size=(200, 16))
    estimator.fit(donors)
    distance, found = estimator.kneighbors(queries, n_neighbors=5)
    exact_distance, exact = CosineNeighbors().fit(donors).kneighbors(queries, n_neighbors=5)
    assert found.shape == distance.shape == (200, 5)
    assert np.mean(found[:, 0] == exact[:, 0]) > 0.95
    same = found == exact
    assert np.allclose(distance[same], exact_distance[same], atol=1e-5)
    restored = pickle.loads(pickle.dumps(estimator))
    only = restored.kneighbors(queries, n_neighbors=5, return_distance=False)
    assert np.mean(only == found) > 0.95


@pytest.mark.parametrize("name", ["scikit-learn", "cosine", "hnsw", nndescent])
@pytest.mark.parametrize("activity", ["user", "row"])
def test_indices_lead_to_the_same_donors(name, activity):
    estimator = NearestNeighbors() if name == "scikit-learn" else index(name)
    X = world(11, n_users=150, n_items=60, n_events=3000, width=6)
    arguments = {"activity": activity, "n_neighbors": 2}
    exact = SequenceRetrievalAugmenter(neighbors="exact", **arguments).fit(X)
    other = SequenceRetrievalAugmenter(neighbors=estimator, **arguments).fit(X)
    a, b = as_tuples(exact.transform(X)), as_tuples(other.transform(X))
    assert any(a)
    agreement = np.mean([one == two for one, two in zip(a, b)])
    assert agreement == 1 if name in ("scikit-learn", "cosine") else agreement > 0.95
    assert not hasattr(estimator, "n_features_in_")  # the parameter itself is not fitted
    restored = pickle.loads(pickle.dumps(other))
    assert np.mean([x == y for x, y in zip(as_tuples(restored.transform(X)), b)]) > 0.95


def vectors_and_queries(n=1500):
    rng = np.random.default_rng(3)
    return unit(rng.normal(size=(n, 16))), rng.normal(size=(60, 16))


def test_hnsw_gives_a_query_the_same_alone_and_among_others():
    pytest.importorskip("faiss")
    donors, queries = vectors_and_queries()
    estimator = HNSWNeighbors().fit(donors)
    distance, found = estimator.kneighbors(queries, n_neighbors=12)
    for other in (
        HNSWNeighbors().fit(donors.astype(float)),
        pickle.loads(pickle.dumps(estimator)),
        copy(estimator).set_params(n_jobs=2),
        copy(estimator).set_params(n_jobs=-1),
    ):
        again = other.kneighbors(queries, n_neighbors=12)
        assert np.array_equal(again[1], found)
        assert np.array_equal(again[0], distance)
    for i in range(len(queries)):
        one, number = estimator.kneighbors(queries[i : i + 1], n_neighbors=12)
        assert np.array_equal(number[0], found[i])
        assert np.array_equal(one[0], distance[i])
    none = estimator.kneighbors(queries[:0], n_neighbors=12, return_distance=False)
    assert none.shape == (0, 12)
    assert (HNSWNeighbors().fit(donors[:3]).kneighbors(queries, 5)[1][:, 3:] == -1).all()


def test_hnsw_keeps_vectors_once():
    pytest.importorskip("faiss")
    donors, queries = vectors_and_queries()
    estimator = HNSWNeighbors().fit(donors)
    assert estimator.vectors_ is donors
    assert estimator.graph_.nbytes < 1.1 * len(donors) * (2 * 32 + 8) * 4
    expected = estimator.kneighbors(queries)[1]
    again = pickle.loads(pickle.dumps(estimator))
    del estimator
    assert np.array_equal(again.kneighbors(queries)[1], expected)
    other = HNSWNeighbors().fit(2 * donors)
    assert np.allclose(other.vectors_, donors, atol=1e-6)


def test_hnsw_refuses_a_graph_of_other_vectors():
    pytest.importorskip("faiss")
    donors, queries = vectors_and_queries()
    estimator = HNSWNeighbors().fit(donors)
    for vectors in (donors[:-1], donors[:, :8]):
        other = copy(estimator)
        other.vectors_ = np.ascontiguousarray(vectors)
        with pytest.raises(ValueError, match="is one of 1500 vectors of length 16, but"):
            other.kneighbors(queries)
    other = copy(estimator)
    other.graph_ = estimator.graph_[: len(estimator.graph_) // 2]
    with pytest.raises(ValueError, match="can't read the graph"):
        other.kneighbors(queries)


def numbers_of_threads():
    """Numbers that OpenMP has for each thread. (OpenBLAS has one, of whoever asked last.)"""
    faiss = pytest.importorskip("faiss")
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "openmp"]
    return faiss.omp_get_max_threads(), torch.get_num_threads(), pools


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_hnsw_leaves_threads_as_they_are(n_jobs):
    faiss = pytest.importorskip("faiss")
    donors, queries = vectors_and_queries(300)
    wrong = []

    def work(own):
        torch.get_num_threads()  # which sets that of a new thread when it is first called
        faiss.omp_set_num_threads(own)  # of this thread alone
        before = numbers_of_threads()
        assert before[0] == own
        estimator = HNSWNeighbors(n_jobs=n_jobs).fit(donors)
        estimator.kneighbors(queries)
        if numbers_of_threads() != before:
            wrong.append(own)

    before = numbers_of_threads()
    HNSWNeighbors(n_jobs=n_jobs).fit(donors).kneighbors(queries)
    assert numbers_of_threads() == before
    threads = [Thread(target=work, args=(n,)) for n in (1, 3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        assert numbers_of_threads() == before
        thread.join()
    assert not wrong


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs the threads of Linux")
def test_hnsw_alone_starts_no_threads():
    pytest.importorskip("faiss")
    code = """
import os
import numpy as np
from skmars.retrieval import HNSWNeighbors
vectors = np.random.default_rng(0).normal(size=(2000, 16))
before = len(os.listdir("/proc/self/task"))
HNSWNeighbors().fit(vectors).kneighbors(vectors[:300])
print(len(os.listdir("/proc/self/task")) - before)
"""
    root = str(Path(__file__).parents[2])
    few = {"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": root}
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **few},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == ["0"]


@pytest.mark.parametrize("name", ["hnsw", "nndescent"])
def test_a_missing_package_is_named(monkeypatch, name):
    package = {"hnsw": "faiss", "nndescent": "pynndescent"}[name]
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ImportError, match=rf"needs the package {package}.*skmars\[ann\]"):
        SequenceRetrievalAugmenter(neighbors=name).fit(world(0, n_users=20, n_events=200))


def test_auto_is_exact_up_to_a_size_and_without_faiss(monkeypatch):
    donors = np.eye(4, dtype=np.float32)
    assert fit_index("auto", donors, None) is None
    monkeypatch.setattr(ann, "AUTO_EXACT_MAX_DONORS", 3)
    monkeypatch.setattr(ann, "find_spec", lambda name: None)
    assert fit_index("auto", donors, None) is None
    monkeypatch.setattr(ann, "find_spec", lambda name: name)
    pytest.importorskip("faiss")
    assert isinstance(fit_index("auto", donors, None), HNSWNeighbors)
