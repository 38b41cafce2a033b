"""The contrastive loss in the place of the Stein kernel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from skmars import SteinAligner, make_multimodal_ctr
from skmars.alignment._infonce import InfoNCEAlignment, infonce_loss

RNG = np.random.RandomState(0)
A, B = (torch.from_numpy(RNG.normal(size=(7, 3))) for _ in range(2))
MASK = torch.tensor([1, 1, 0, 1, 0, 1, 1], dtype=torch.bool)


def by_hand(a, b, temperature=0.07):
    """Both directions, item by item."""
    a, b = ([row / np.linalg.norm(row) for row in x.numpy()] for x in (a, b))
    n, total = len(a), 0.0
    for first, second in ((a, b), (b, a)):
        for i in range(n):
            terms = [math.exp(first[i] @ second[j] / temperature) for j in range(n)]
            total -= math.log(terms[i] / sum(terms))
    return total / (2 * n)


def test_against_a_loop():
    assert float(infonce_loss(A, B)) == pytest.approx(by_hand(A, B))
    assert float(infonce_loss(A, B, temperature=0.5)) == pytest.approx(by_hand(A, B, 0.5))
    masked = float(infonce_loss(A, B, mask=MASK))
    assert masked == pytest.approx(by_hand(A[MASK], B[MASK]))
    assert float(infonce_loss(5 * A, B)) == pytest.approx(by_hand(A, B))


def test_without_a_pair_to_contrast_it_is_zero_with_a_graph():
    a = A.clone().requires_grad_()
    loss = infonce_loss(a, B, mask=torch.arange(7) == 2)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not a.grad.any()


def test_the_objective_is_the_mean_over_pairs_of_modalities():
    C, everything = A + B, torch.ones(7, dtype=torch.bool)
    found = InfoNCEAlignment(0.1)([A, B, C], [everything, MASK, everything])
    pairs = [(A[MASK], B[MASK]), (A, C), (B[MASK], C[MASK])]
    assert float(found) == pytest.approx(np.mean([by_hand(*pair) for pair in pairs]))


def test_views_of_an_array_are_aligned():
    latent = RNG.normal(size=(300, 4))
    X = np.hstack([latent @ RNG.normal(size=(4, 8)), latent @ RNG.normal(size=(4, 6))])
    options = {"alignment": "infonce", "modalities": [8, 6], "random_state": 0}
    options |= {"max_iter": 60, "learning_rate": 0.01}
    aligner = SteinAligner(8, **options).fit(X)
    assert aligner.alignment_ > 0.8
    assert aligner.loss_curve_[-1] < 0.5 * aligner.loss_curve_[0]
    other = SteinAligner(8, **options, lam=5.0, entropy=None).fit(X)
    np.testing.assert_array_equal(aligner.transform(X), other.transform(X))


def test_items_of_impressions_are_aligned():
    X, y = make_multimodal_ctr(n_users=60, n_items=40, random_state=0)
    latent = RNG.normal(size=(40, 4))
    features = {name: latent @ RNG.normal(size=(4, 6)) for name in ("text", "image")}
    X = X.with_catalog(X.catalog.with_features(features))
    small = {"id_dim": 4, "n_factors": 0, "beta": 5.0, "max_iter": 30, "random_state": 0}
    aligned, free = (
        SteinAligner(8, alignment="infonce", **{**small, "beta": beta}).fit(X, y)
        for beta in (5.0, 0.0)
    )
    assert aligned.alignment_ > free.alignment_ + 0.2


def test_a_weight_counts_as_so_many_equal_items():
    weight = torch.arange(len(A)) % 3
    repeated = torch.repeat_interleave(torch.arange(len(A)), weight)
    expected = float(infonce_loss(A[repeated], B[repeated]))
    assert float(infonce_loss(A, B, weight=weight)) == pytest.approx(expected)
