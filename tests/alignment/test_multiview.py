"""Plain arrays: standardised columns, one projection a view, unit vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skmars.alignment._learning import Sampling
from skmars.alignment._multiview import MultiviewEncoder, MultiviewObjective
from skmars.alignment._stein import SteinObjective


@pytest.fixture
def X() -> np.ndarray:
    X = np.random.default_rng(0).normal(loc=5, scale=3, size=(40, 6))
    X[:, 1] = 0.1  # rounding gives it a spread
    return X


def embed(encoder: MultiviewEncoder, X: np.ndarray) -> list[np.ndarray]:
    """The embedding of each view, written down once more."""
    spread = X.std(0)
    spread[1] = 1.0
    blocks = np.split((X - X.mean(0)) / spread, np.cumsum(encoder.network.sizes)[:-1], axis=1)
    weights = [p.weight.detach().double().numpy() for p in encoder.network.projections]
    views = [block @ weight.T for block, weight in zip(blocks, weights)]
    return [v / np.linalg.norm(v, axis=1, keepdims=True) for v in views]


@pytest.mark.parametrize("sizes", [[6], [2, 4], [3, 1, 2]], ids=len)
def test_a_row_is_the_mean_of_its_views(X, sizes) -> None:
    encoder = MultiviewEncoder.new(X, sizes, 4)
    expected = np.mean(embed(encoder, X), axis=0)
    np.testing.assert_allclose(encoder(X), expected, atol=1e-6)
    np.testing.assert_allclose(encoder(X[[3]]), encoder(X)[[3]], rtol=1e-12)
    assert encoder(X.astype(np.float32)).dtype == np.float32


def test_loss_and_validation_score_are_those_of_the_rows(X) -> None:
    encoder = MultiviewEncoder.new(X, [2, 4], 4)
    everything = np.arange(40)
    rng, device = np.random.RandomState(0), torch.device("cpu")
    sampling = Sampling(everything, everything[:20], 10, rng, device)
    stein = SteinObjective(0.2, "maximize", 0.1)
    objective = MultiviewObjective(encoder, X, sampling, stein)
    views = [torch.from_numpy(v[:20]).float() for v in embed(encoder, X)]
    there = [torch.ones(20, dtype=torch.bool)] * 2
    expected = stein(views, there)
    assert objective.evaluate() == pytest.approx(-float(expected), rel=1e-4)
    assert [len(batch) for batch in objective.batches(0)] == [10] * 4
    assert sorted(torch.cat(list(objective.batches(0))).tolist()) == everything.tolist()
