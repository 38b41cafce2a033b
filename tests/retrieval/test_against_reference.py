"""The augmenter against slow loops written from the paper, on random impressions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skmars import SequenceRetrievalAugmenter
from skmars.retrieval import _borrowing as borrowing
from skmars.retrieval import _dynamic_programming as dynamic_programming
from skmars.retrieval import _neighbors as neighbors
from skmars.retrieval import _plan as plan
from skmars.retrieval._dynamic_programming import best_matching as fast_matching

from .reference import Reference, best_matching, best_sum
from .worlds import as_tuples, world

worlds = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**6),
        "n_users": st.integers(2, 15),
        "n_items": st.integers(1, 12),
        "n_events": st.integers(1, 90),
        "width": st.integers(1, 4),
        "integers": st.booleans(),
        "timed": st.booleans(),
        "missing_times": st.booleans(),
        "history": st.sampled_from(["all", "positive"]),
        "users": st.sampled_from(["encoder", "rows", None]),
        "strings": st.booleans(),
    }
)
parameters = st.fixed_dictionaries(
    {
        "strategy": st.sampled_from(["filter", "most_similar", "kth", "dp"]),
        "theta": st.sampled_from([-1.0, -0.3, 0.0, 0.1, 0.5, 1.0, 1.01]),
        "n_neighbors": st.integers(1, 4),
        "user_representation": st.sampled_from(["history", "embedding"]),
        "relevance": st.sampled_from(["user", "target", "both"]),
        "center": st.booleans(),
        "low_quantile": st.sampled_from([0.1, 0.3, 0.5]),
        "high_quantile": st.sampled_from([0.5, 0.7, 0.9]),
        "max_length": st.sampled_from([1, 3, 8, 200]),
        "max_borrowed": st.sampled_from([None, 1, 3, 10]),
        "activity": st.sampled_from(["user", "row"]),
        "respect_time": st.booleans(),
    }
)


def expected(rows):
    return [
        [(i, d, np.float32(s), np.float32(c), f, t) for i, d, s, c, f, t in row] for row in rows
    ]


def compare(world_arguments, arguments) -> int:
    X = world(**world_arguments)
    train = X[np.arange(len(X)) % 4 != 3]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # nobody to borrow from, now and then
        augmenter = SequenceRetrievalAugmenter(**arguments).fit(train)
    found = as_tuples(augmenter.transform(X))
    assert found == expected(Reference(**arguments).fit(train).transform(X))
    return sum(map(len, found))


@settings(max_examples=150)
@given(worlds, parameters)
def test_same_as_reference(world_arguments, arguments):
    compare(world_arguments, arguments)


@pytest.mark.parametrize("strategy", ["filter", "most_similar", "kth", "dp"])
@pytest.mark.parametrize("relevance", ["user", "target", "both"])
@pytest.mark.parametrize("by", ["history", "embedding"])
@pytest.mark.parametrize("center", [True, False])
def test_same_as_reference_on_a_larger_world(strategy, relevance, by, center):
    arguments = {"n_users": 40, "n_items": 30, "n_events": 500, "width": 8}
    settings_ = {"strategy": strategy, "relevance": relevance, "n_neighbors": 3, "max_length": 30}
    settings_ |= {"user_representation": by, "center": center}
    assert compare(arguments, settings_) > 100  # or else the comparison says nothing


@pytest.mark.parametrize("strategy", ["filter", "dp"])
def test_block_sizes_do_not_matter(monkeypatch, strategy):
    for module, name in [
        (borrowing, "_BLOCK"), (dynamic_programming, "_BLOCK"),
        (plan, "BLOCK_ROWS"), (plan, "_BLOCK_FOUND"),
        (neighbors, "_TILE_QUERIES"), (neighbors, "_TILE_DONORS"),
    ]:  # fmt: skip
        monkeypatch.setattr(module, name, 3)
    arguments = {"n_users": 40, "n_items": 20, "n_events": 400, "seed": 3, "integers": True}
    assert compare(arguments, {"strategy": strategy, "n_neighbors": 2, "relevance": "both"}) > 100


@pytest.mark.parametrize("strategy", ["filter", "dp"])
@pytest.mark.parametrize("neighbors_", ["exact", "hnsw"])
@pytest.mark.parametrize("users", ["encoder", None])
def test_threads_do_not_matter(monkeypatch, strategy, neighbors_, users):
    """To the bit: blocks are the same however many threads take them."""
    if neighbors_ == "hnsw":
        pytest.importorskip("faiss")
    for module, name in [(plan, "_FEW"), (plan, "_BLOCK_PAIRS"), (neighbors, "_TILE_QUERIES")]:
        monkeypatch.setattr(module, name, 5)
    by = "history" if users is None else "embedding"
    X = world(5, n_users=60, n_items=40, n_events=900, width=8, users=users)
    made = []
    for n_jobs in (None, 1, 2, 5):
        augmenter = SequenceRetrievalAugmenter(
            strategy, n_neighbors=2, n_lookalikes=7, neighbors=neighbors_,
            user_representation=by, high_quantile=0.5, n_jobs=n_jobs,
        )  # fmt: skip
        made += [(augmenter.fit_transform(X), augmenter.transform(X))]
    assert len(augmenter._plan(X, np.full(len(X), -1, np.int32), augmenter.pool_).blocks) > 20
    for of_one, of_others in zip(made[1], zip(*made)):
        assert sum(map(len, as_tuples(of_one))) > 100
        for other in of_others:
            for name in ("items", "start", "length", "donor", "similarity", "donor_similarity"):
                expected = getattr(of_one.borrowed, name)
                assert np.array_equal(getattr(other.borrowed, name), expected)
            for name, column in of_one.context.items():
                assert np.array_equal(other.context[name], column)


small_tables = st.integers(1, 4).flatmap(
    lambda n: st.integers(1, 4).flatmap(
        lambda m: st.lists(
            st.lists(st.integers(0, 5), min_size=m, max_size=m), min_size=n, max_size=n
        )
    )
)


def fast(table: list[list[int]]) -> list[int]:
    return np.flatnonzero(fast_matching(np.array([table]))).tolist()


@settings(max_examples=100)
@given(small_tables)
def test_dynamic_programming_attains_the_best_sum(table):
    used = fast(table)
    assert set(used) == best_matching(table)
    # The best that these donor items can do, matched in order, is the best there is.
    cut = [[row[j] for j in used] for row in table]
    assert best_sum(cut) == best_sum(table)


def test_dynamic_programming_prefers_recent_donor_items():
    assert fast([[4, 4, 0, 4]]) == [3]


def test_dynamic_programming_pads_without_effect():
    rng = np.random.default_rng(0)
    tables = [rng.integers(0, 4, (n, m)) for n, m in [(1, 5), (4, 2), (3, 3)]]
    padded = np.zeros((3, 4, 5), dtype=np.int64)
    for batch, table in zip(padded, tables):
        batch[: table.shape[0], : table.shape[1]] = table
    found = fast_matching(padded)
    for row, table in zip(found, tables):
        assert np.flatnonzero(row).tolist() == fast(table)
