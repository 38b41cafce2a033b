"""Alignment, uniformity and effective rank on spaces whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.preprocessing import normalize

from skmars.metrics import (
    _embedding,
    alignment_score,
    effective_rank,
    retrieval_recall_at_k,
    uniformity_score,
)

RNG = np.random.RandomState(0)
X, Y = RNG.normal(size=(60, 5)), RNG.normal(size=(60, 5))
ROTATION = np.linalg.qr(RNG.normal(size=(5, 5)))[0]


def test_alignment_equals_wang_and_isola():
    distance = normalize(X) - normalize(Y)
    assert alignment_score(X, Y) == pytest.approx(1 - (distance**2).sum(axis=1).mean() / 2)
    assert alignment_score(X, 3 * X) == pytest.approx(1)
    assert alignment_score(X, -X) == pytest.approx(-1)


def test_uniformity_equals_wang_and_isola():
    expected = -np.log(np.exp(-2 * pdist(normalize(X)) ** 2).mean())
    assert uniformity_score(X) == pytest.approx(expected)
    assert uniformity_score(X, t=0.5) < uniformity_score(X)


def test_uniformity_in_blocks(monkeypatch):
    whole = uniformity_score(X)
    monkeypatch.setattr(_embedding, "BLOCK", 7)
    assert uniformity_score(X) == pytest.approx(whole)


def test_a_collapsed_space():
    collapsed = np.tile([0.3, 0.1, 0.7], (20, 1))
    assert alignment_score(collapsed, collapsed) == pytest.approx(1)
    assert uniformity_score(collapsed) == pytest.approx(0, abs=1e-12)
    assert effective_rank(collapsed) == 0
    assert effective_rank(collapsed, center=False) == pytest.approx(1)
    assert effective_rank(np.zeros((3, 2))) == 0


@pytest.mark.parametrize("score", [uniformity_score, effective_rank])
def test_rotation_changes_nothing(score):
    assert score(X @ ROTATION) == pytest.approx(score(X))


def test_effective_rank_counts_directions():
    orthonormal = np.linalg.qr(RNG.normal(size=(50, 4)))[0]
    assert effective_rank(orthonormal, center=False) == pytest.approx(4)
    assert effective_rank(orthonormal * [1, 1, 1e-9, 0], center=False) == pytest.approx(2, abs=1e-6)
    assert effective_rank(10.0 * X) == pytest.approx(effective_rank(X))
    assert effective_rank(X + 1000.0) == pytest.approx(effective_rank(X))
    assert effective_rank(X + 1000.0, center=False) < 2


def test_errors():
    with pytest.raises(ValueError, match=r"shapes \(60, 5\) and \(60, 4\)"):
        alignment_score(X, Y[:, :4])
    with pytest.raises(ValueError, match="Input Y contains NaN"):
        alignment_score(X, np.full_like(Y, np.nan))
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        uniformity_score(X[:1])
    with pytest.raises(ValueError, match=r"The 't' parameter .* Got 0"):
        uniformity_score(X, t=0)


def test_lengths_beyond_what_squares_can_hold_do_not_matter():
    scale = np.resize([1e-300, 1, 1e300], (len(X), 1))
    assert alignment_score(scale * X, Y) == pytest.approx(alignment_score(X, Y))
    assert uniformity_score(scale * X) == pytest.approx(uniformity_score(X))
    assert retrieval_recall_at_k(scale * X, X) == 1.0


@pytest.mark.parametrize("t", [None, "a", True, np.nan, np.inf, 2**70])
def test_a_sharpness_that_is_no_number(t):
    with pytest.raises(ValueError, match="The 't' parameter of uniformity_score"):
        uniformity_score(X, t=t)
