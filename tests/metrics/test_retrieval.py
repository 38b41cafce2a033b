"""Precision and recall at k against a loop over queries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skmars.metrics import _retrieval, retrieval_precision_at_k, retrieval_recall_at_k


def slow(queries, candidates, query_labels, candidate_labels, k):
    precision, recall = [], []
    for query, label in zip(queries, query_labels):
        relevant = candidate_labels == label
        if not relevant.any():
            continue
        norms = np.linalg.norm(query) * np.linalg.norm(candidates, axis=1)
        nearest = np.argsort(-(candidates @ query) / norms)[:k]
        precision.append(relevant[nearest].mean())
        recall.append(relevant[nearest].sum() / relevant.sum())
    return np.mean(precision), np.mean(recall)


@given(st.integers(0, 10_000), st.integers(1, 15))
def test_equals_a_loop(seed, k):
    rng = np.random.RandomState(seed)
    Q, C = rng.normal(size=(8, 3)), rng.normal(size=(15, 3))
    labels = {
        "query_labels": rng.randint(5, size=8),
        "candidate_labels": rng.randint(4, size=15),
    }
    labels["query_labels"][0] = labels["candidate_labels"][0]
    precision, recall = slow(Q, C, *labels.values(), k)
    assert retrieval_precision_at_k(Q, C, **labels, k=k) == pytest.approx(precision)
    assert retrieval_recall_at_k(Q, C, **labels, k=k) == pytest.approx(recall)


def test_several_k_cost_one_search_and_agree():
    rng = np.random.RandomState(0)
    Q, C = rng.normal(size=(30, 4)), rng.normal(size=(30, 4))
    for score in (retrieval_precision_at_k, retrieval_recall_at_k):
        together = score(Q, C, k=[1, 5, 30])
        assert together.tolist() == [score(Q, C, k=k) for k in (1, 5, 30)]
    assert retrieval_recall_at_k(Q, C, k=30) == 1
    assert (np.diff(retrieval_recall_at_k(Q, C, k=range(1, 31))) >= 0).all()


def test_matched_pairs():
    rng = np.random.RandomState(0)
    Q = rng.normal(size=(50, 8))
    assert retrieval_recall_at_k(Q, 2.0 * Q + 0.01 * rng.normal(size=Q.shape)) == 1
    # A collapsed space finds nothing, however the ties fall.
    assert retrieval_recall_at_k(Q, np.ones_like(Q)) <= 0.1


def test_blocks(monkeypatch):
    rng = np.random.RandomState(0)
    Q, C = rng.normal(size=(30, 4)), rng.normal(size=(30, 4))
    whole = retrieval_recall_at_k(Q, C, k=3)
    monkeypatch.setattr(_retrieval, "BLOCK", 100)
    assert retrieval_recall_at_k(Q, C, k=3) == whole


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": 0}, ValueError, "between 1 and the 3 candidates, got 0"),
        ({"k": [1, 4]}, ValueError, "between 1 and the 3 candidates"),
        ({"k": 0.5}, TypeError, "k must be an integer"),
        ({"query_labels": [1, 2]}, ValueError, "together, or neither"),
        ({"query_labels": [1], "candidate_labels": [1, 2, 3]}, ValueError, "1 entries for 2 rows"),
        ({"query_labels": [1, 2], "candidate_labels": [5, 6, 7]}, ValueError, "No query has a rel"),
        (
            {"query_labels": ["a", "b"], "candidate_labels": [5, 6, 7]},
            TypeError,
            "query_labels holds strings but candidate_labels holds integers",
        ),
        ({}, ValueError, "there are 2 queries and 3 candidates"),
    ],
)
def test_errors(options, error, message):
    with pytest.raises(error, match=message):
        retrieval_precision_at_k(np.eye(3)[:2], np.eye(3), **options)


def test_spaces_must_agree():
    with pytest.raises(ValueError, match="got 3 and 2 components"):
        retrieval_recall_at_k(np.eye(3), np.eye(3)[:, :2])
