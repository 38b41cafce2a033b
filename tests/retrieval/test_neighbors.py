"""Search for donors: exact against plain sorting, and approximate indices."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from skmars import SequenceRetrievalAugmenter
from skmars.retrieval import CosineNeighbors, HNSWNeighbors, NNDescentNeighbors
from skmars.retrieval import _ann as ann
from skmars.retrieval import _neighbors as module
from skmars.retrieval._ann import fit_index
from skmars.retrieval._embeddings import unit
from skmars.retrieval._neighbors import top_k

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
