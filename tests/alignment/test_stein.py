"""The Stein mathematics, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from skmars.alignment import _stein as stein
from skmars.alignment._learning import measure_space
from skmars.metrics import alignment_score, effective_rank, uniformity_score


def gaussian(n: int, d: int, sigma: float = 1.0, seed: int = 0) -> torch.Tensor:
    return sigma * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("d", "least"), [(2, 0.93), (16, 0.88), (64, 0.9)])
@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_score_of_a_gaussian_points_along_minus_x_over_sigma_squared(d, least, sigma) -> None:
    x = gaussian(512, d, sigma)
    score = stein.stein_score(x, stein.median_bandwidth(x, x), eta=0.1)
    cosine = F.cosine_similarity(score.flatten(), (-x / sigma**2).flatten(), dim=0)
    assert cosine > least


def test_magnitude_of_the_score_of_a_gaussian_where_samples_are_dense() -> None:
    x = gaussian(2000, 1, sigma=2.0)
    score = stein.stein_score(x, 2.0, eta=1e-2)
    inner = x.abs().squeeze() < 3.0  # the tails have few samples
    slope = (score * x)[inner].sum() / x[inner].square().sum()
    assert slope.item() == pytest.approx(-1 / 4.0, rel=0.15)


def test_surrogate_has_the_gradient_of_the_entropy() -> None:
    # e = exp(phi) z with z ~ N(0, I): H = d (phi + const), so dH/dphi per dimension is exactly 1,
    # and with the exact score -e / exp(2 phi) so is the gradient of the surrogate.
    z = gaussian(4000, 8)
    phi = torch.tensor(0.7, requires_grad=True)
    e = phi.exp() * z
    exact = (-e / (2 * phi).exp()).detach()
    (gradient,) = torch.autograd.grad(stein.entropy_surrogate(e, exact), phi)
    assert gradient.item() == pytest.approx(1.0, rel=0.03)

    e = phi.exp() * z[:600]
    estimated = stein.stein_score(e, stein.median_bandwidth(e, e), eta=0.1)
    (gradient,) = torch.autograd.grad(stein.entropy_surrogate(e, estimated), phi)
    assert 0.3 < gradient.item() < 1.1  # the right sign; the ridge takes from the magnitude


def test_score_is_algebraic_and_detached() -> None:
    """The O(n^2 d) form equals the definition, pair by pair."""
    x = gaussian(7, 3).double().requires_grad_()
    gamma, eta = 1.3, 0.2
    score = stein.stein_score(x, gamma, eta=eta)
    assert not score.requires_grad
    v = x.detach()
    kernel = torch.exp(-torch.cdist(v, v).square() / (2 * gamma**2))
    repulsion = torch.zeros_like(v)
    for i in range(7):
        for j in range(7):
            # The gradient of k(x_j, x_i) in x_j is -(x_j - x_i) / gamma^2 k.
            repulsion[i] += -(v[j] - v[i]) / gamma**2 * kernel[j, i]
    expected = -torch.linalg.inv(kernel + eta * torch.eye(7).double()) @ repulsion
    torch.testing.assert_close(score, expected)


def two_views(n: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    latent = gaussian(n, 8)
    return latent @ gaussian(8, 12, seed=1), latent @ gaussian(8, 10, seed=2)


def train_toy(lam: float, entropy: stein.Entropy) -> float:
    """Return the effective rank of two linear projections, trained by the loss alone."""
    text, image = two_views()
    torch.manual_seed(0)
    p, q = torch.nn.Linear(12, 16), torch.nn.Linear(10, 16)
    optimizer = torch.optim.AdamW([*p.parameters(), *q.parameters()], lr=1e-2)
    for _ in range(120):
        loss = stein.stein_loss(p(text), q(image), lam=lam, entropy=entropy)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return effective_rank(F.normalize(p(text), dim=1).detach())


def test_entropy_spreads_the_space_and_the_printed_sign_contracts_it() -> None:
    assert train_toy(1.0, "maximize") > train_toy(0.0, None) > train_toy(1.0, "paper")


def test_the_sign_of_the_entropy_is_the_only_difference() -> None:
    text, image = two_views(50)
    text = text[:, :10]
    plus, minus, none = (
        stein.stein_loss(text, image, lam=0.5, entropy=e) for e in ("maximize", "paper", None)
    )
    torch.testing.assert_close(plus + minus, 2 * none)


def test_without_normalisation_lengths_count_and_entropy_is_of_all_dimensions() -> None:
    a, b = gaussian(50, 10), gaussian(50, 10, seed=1)
    raw = stein.stein_loss(a, b, lam=0.2, normalize=False)
    gamma = stein.median_bandwidth(a, b)
    entropy = [-(stein.stein_score(x, gamma) * x).sum(1).mean() for x in (a, b)]
    expected = -stein.kernel_alignment(a, b, gamma) - 0.2 * (entropy[0] + entropy[1]) / 2
    torch.testing.assert_close(raw, expected)
    # The unit of length does not count, down to points that float32 can hardly tell apart.
    for unit in (1e-6, 1e6):
        scaled = stein.stein_loss(unit * a, unit * b, lam=0.2, normalize=False)
        torch.testing.assert_close(scaled, raw, rtol=1e-4, atol=1e-4)
    x, y = F.normalize(a, dim=1), F.normalize(b, dim=1)
    torch.testing.assert_close(
        stein.stein_loss(x, y, lam=0.2, normalize=False), stein.stein_loss(a, b, lam=2.0)
    )


def test_duplicates_give_no_nan() -> None:
    x = gaussian(6, 4).repeat(4, 1).requires_grad_()
    loss = stein.stein_loss(x, x.flip(1), lam=1.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(x.grad).all()
    same = torch.ones(5, 3)
    # A point is perfectly aligned; its score is zero, or what rounding makes of it.
    assert stein.stein_loss(same, same, lam=1.0) == pytest.approx(-1.0, abs=1e-2)
    tiny = stein.stein_score(gaussian(6, 4).repeat(4, 1), 1.0, eta=1e-30)
    assert torch.isfinite(tiny).all()


def test_float32_agrees_with_float64() -> None:
    x = gaussian(200, 16)
    single = stein.stein_score(x, 4.0)
    double = stein.stein_score(x.double(), 4.0)
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-4)


def test_alignment_term_passes_gradcheck() -> None:
    a, b = (gaussian(4, 3, seed=s).double().requires_grad_() for s in (0, 1))
    loss = lambda a, b: stein.stein_loss(a, b, lam=0.0, bandwidth=0.8)  # noqa: E731
    assert torch.autograd.gradcheck(loss, (a, b))


def test_items_that_lack_a_modality_have_no_say() -> None:
    a, b = gaussian(9, 4), gaussian(9, 4, seed=1)
    mask = torch.arange(9) < 6
    full = stein.stein_loss(a, b, lam=0.3, mask=mask)
    torch.testing.assert_close(full, stein.stein_loss(a[:6], b[:6], lam=0.3))
    nobody = stein.stein_loss(a.requires_grad_(), b, lam=0.3, mask=mask & ~mask)
    nobody.backward()
    assert nobody.item() == 0.0


def test_pairs_of_more_than_two_modalities_are_averaged() -> None:
    views = [gaussian(20, 4, seed=s) for s in range(3)]
    there = [torch.ones(20, dtype=torch.bool)] * 3
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = sum(stein.stein_loss(views[i], views[j], lam=0.2) for i, j in pairs) / 3
    torch.testing.assert_close(stein.SteinObjective(0.2)(views, there), expected)


def test_the_space_is_measured_by_the_metrics() -> None:
    """Over the items that have a modality, and over pairs of modalities that they have."""
    a, b = gaussian(40, 5), gaussian(40, 5, seed=1)
    all_have, some_have = torch.ones(40, dtype=torch.bool), torch.arange(40) < 30
    measured = measure_space([a, b], [all_have, some_have])
    x, y = F.normalize(a, dim=1), F.normalize(b, dim=1)[:30]
    expected = (
        alignment_score(x[:30], y),
        (uniformity_score(x) + uniformity_score(y)) / 2,
        (effective_rank(x) + effective_rank(y)) / 2,
    )
    assert measured == pytest.approx(expected, rel=1e-5)
    alignment, uniformity, rank = measure_space([a[:1]], [all_have[:1]])
    assert np.isnan([alignment, uniformity, rank]).all()
