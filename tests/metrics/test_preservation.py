"""What one space keeps of the similarities of another: against plain loops, and at the extremes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.manifold import trustworthiness

from skmars.metrics import similarity_preservation

RNG = np.random.RandomState(0)
X, Y = RNG.normal(size=(40, 6)), RNG.normal(size=(40, 3))
ROTATION = np.linalg.qr(RNG.normal(size=(6, 6)))[0]


def neighbors(space, i, k):
    """All other items by decreasing cosine with item i, the first k of them."""
    cosine = [
        float(space[i] @ space[j] / np.linalg.norm(space[i]) / np.linalg.norm(space[j]))
        for j in range(len(space))
    ]
    return sorted((j for j in range(len(space)) if j != i), key=lambda j: -cosine[j])[:k]


def trust(first, second, k):
    """Venna and Kaski's formula, item by item."""
    n = len(first)
    penalty = 0
    for i in range(n):
        rank = {j: r + 1 for r, j in enumerate(neighbors(first, i, n))}
        penalty += sum(max(rank[j] - k, 0) for j in neighbors(second, i, k))
    return 1 - penalty * 2 / (n * k * (2 * n - 3 * k - 1))


@given(st.integers(0, 10**6), st.integers(5, 12), st.integers(1, 2))
@settings(max_examples=20, deadline=None)
def test_against_loops(seed, n, k):
    rng = np.random.RandomState(seed)
    first, second = rng.normal(size=(n, 4)), rng.normal(size=(n, 3))
    found = similarity_preservation(first, second, n_neighbors=k, center=False)
    assert found.trustworthiness == pytest.approx(trust(first, second, k))
    assert found.continuity == pytest.approx(trust(second, first, k))
    common = [len({*neighbors(first, i, k)} & {*neighbors(second, i, k)}) for i in range(n)]
    assert found.neighbor_overlap == pytest.approx(np.mean(common) / k)
    assert found.n_items == n


def test_rank_correlation_is_that_of_the_pairs():
    unit = [space / np.linalg.norm(space, axis=1, keepdims=True) for space in (X, Y)]
    pairs = [(i, j) for i in range(40) for j in range(i)]
    ranks = [np.argsort(np.argsort([u[i] @ u[j] for i, j in pairs])) for u in unit]
    found = similarity_preservation(X, Y, center=False)
    assert found.rank_correlation == pytest.approx(np.corrcoef(ranks)[0, 1])


def test_the_same_space_in_other_words_keeps_everything():
    scale = RNG.uniform(0.5, 2, size=(40, 1))  # lengths do not count without centring
    for other, center in ((3 * X @ ROTATION + 5, True), (scale * X @ ROTATION, False)):
        found = similarity_preservation(X, other, center=center)
        assert found.trustworthiness == found.continuity == found.neighbor_overlap == 1
        assert found.rank_correlation == pytest.approx(1)


def test_an_offset_hides_similarities_unless_it_is_taken_away():
    assert similarity_preservation(X, X + 100).neighbor_overlap == 1
    assert similarity_preservation(X, X + 100, center=False).neighbor_overlap < 0.9


def test_roles():
    one, two = similarity_preservation(X, Y), similarity_preservation(Y, X)
    assert (one.trustworthiness, one.continuity) == (two.continuity, two.trustworthiness)
    assert one.neighbor_overlap == two.neighbor_overlap
    assert one.rank_correlation == pytest.approx(two.rank_correlation)
    # Merged groups: neighbours of the first space stay together, with strangers among them.
    groups = np.repeat(np.eye(4), 20, axis=0) + RNG.normal(scale=0.05, size=(80, 4))
    merged = groups[:, :2] + groups[:, 2:]
    found = similarity_preservation(groups, merged, n_neighbors=15)
    assert found.continuity > found.trustworthiness + 0.05


def test_a_collapsed_space():
    found = similarity_preservation(X, np.ones((40, 3)))
    assert math.isnan(found.rank_correlation)
    assert np.isfinite([found.trustworthiness, found.continuity, found.neighbor_overlap]).all()


def test_masked_items_are_not_looked_at():
    mask = np.arange(40) % 4 > 0
    broken = np.where(mask[:, None], X, np.nan)
    expected = similarity_preservation(X[mask], Y[mask])
    assert similarity_preservation(broken, Y, mask=mask) == expected
    with pytest.raises(ValueError, match="Input X contains NaN"):
        similarity_preservation(broken, Y)


def test_a_sample_of_many():
    draws = [similarity_preservation(X, Y, max_items=30, random_state=i) for i in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert draws[0].n_items == 30


def test_errors():
    with pytest.raises(ValueError, match=r"row by row, got shapes \(40, 6\) and \(39, 3\)"):
        similarity_preservation(X, Y[:39])
    with pytest.raises(ValueError, match="n_neighbors=20 must be less than half of the 40 items"):
        similarity_preservation(X, Y, n_neighbors=20)
    with pytest.raises(ValueError, match="less than half of the 0 items"):
        similarity_preservation(X, Y, mask=np.zeros(40, bool))
    with pytest.raises(TypeError, match="mask must hold booleans, got dtype int64"):
        similarity_preservation(X, Y, mask=np.arange(40))
    with pytest.raises(ValueError, match=r"mask must have shape \(40,\), got \(3,\)"):
        similarity_preservation(X, Y, mask=np.ones(3, bool))
    for name, value in {"n_neighbors": 0, "max_items": 1.5}.items():
        with pytest.raises(ValueError, match=f"The '{name}' parameter"):
            similarity_preservation(X, Y, **{name: value})


def test_trustworthiness_is_scikit_learns():
    unit = [space / np.linalg.norm(space, axis=1, keepdims=True) for space in (X, Y)]
    found = similarity_preservation(X, Y, n_neighbors=5, center=False)
    assert found.trustworthiness == trustworthiness(*unit, n_neighbors=5)
