"""The Stein-kernel alignment loss (Eq. 5-8 of arXiv 2509.01184).

Pure functions of tensors. The entropy term follows the purpose that the paper states, not
the sign that it prints: with a detached score, ``-E[s(e) . e]`` has the gradient *of the
entropy*, so that adding it to a loss which is minimised (Eq. 8) contracts the space until it
collapses. `stein_loss` therefore subtracts it; ``entropy="paper"`` keeps the printed sign, and
``normalize=False`` the printed scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from skmars.alignment._parameters import Entropy

# What the entropy estimate H is multiplied by in the loss.
ENTROPY_SIGN: dict[str | None, float] = {"maximize": -1.0, "paper": 1.0, None: 0.0}
# Below this, times the length of the embeddings, all distances are rounding errors of float32.
SMALLEST_BANDWIDTH = 1e-3


def rbf_kernel(a: Tensor, b: Tensor, bandwidth: Tensor | float) -> Tensor:
    """Return ``exp(-|a_i - b_j|^2 / (2 bandwidth^2))`` for all pairs, shape (n_a, n_b)."""
    squared = a.square().sum(1)[:, None] + b.square().sum(1) - 2.0 * a @ b.T
    return torch.exp(squared.clamp_min(0.0) / (-2.0 * bandwidth**2))


@torch.no_grad()
def median_bandwidth(
    a: Tensor, b: Tensor, *, length: Tensor | float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """Return the median distance over all pairs of a row of `a` and a row of `b`, detached.

    Over matched pairs alone the kernel of the median pair would be ``exp(-1/2)`` whatever
    the embeddings, and alignment would work against its own bandwidth. `length` is that of the
    embeddings, which decides what is a rounding error. `weight` counts a row that often.
    """
    distance = torch.cdist(a, b)
    if weight is None:
        median = distance.median()
    else:
        distance, order = distance.flatten().sort()
        counted = (weight[:, None] * weight).flatten()[order].cumsum(0)
        median = distance[torch.searchsorted(counted, counted[-1:] / 2).clamp_max(len(order) - 1)]
        median = median.squeeze()
    return median.clamp_min(SMALLEST_BANDWIDTH * length)


@torch.no_grad()
def stein_score(
    x: Tensor, bandwidth: Tensor | float, *, eta: float = 0.1, weight: Tensor | None = None
) -> Tensor:
    r"""Estimate the score :math:`\nabla_x \log q(x)` at samples of an unknown density q.

    The Stein gradient estimator with an RBF kernel, the ingredient of Eq. 6:
    :math:`\hat G = -(K + \eta I)^{-1} \langle\nabla, K\rangle` with
    :math:`\langle\nabla, K\rangle = (\mathrm{diag}(K 1) X - K X) / \gamma^2`, which takes
    :math:`O(n^2 d + n^3)` operations and no tensor of shape (n, n, d). The bandwidth is
    :math:`\gamma`. The ridge :math:`\eta` is positive, because the kernel matrix is singular as
    soon as a sample repeats, and not less than what rounding leaves of the matrix. The magnitude
    of the scores shrinks with d, :math:`\eta` and small n; their direction is what counts. A sample
    of `weight` 2 is a sample that stands there twice.

    References
    ----------
    Li and Turner, "Gradient Estimators for Implicit Models", ICLR 2018.
    """
    kernel = rbf_kernel(x, x, bandwidth)
    n: Tensor | int = len(x)
    if weight is not None:
        kernel, n = kernel * weight, weight.sum()
    repulsion = (kernel.sum(1, keepdim=True) * x - kernel @ x) / bandwidth**2
    kernel.diagonal().add_(max(eta, float(n) * torch.finfo(x.dtype).eps))
    return -torch.linalg.solve(kernel, repulsion)


def mean_of(values: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean of values that count as often as `weight` says."""
    return values.mean() if weight is None else (weight * values).sum() / weight.sum()


def kernel_alignment(
    a: Tensor, b: Tensor, bandwidth: Tensor | float, weight: Tensor | None = None
) -> Tensor:
    """Return the mean kernel value of the matched pairs: `L_align` of Eq. 5, in (0, 1]."""
    return mean_of(torch.exp((a - b).square().sum(1) / (-2.0 * bandwidth**2)), weight)


def entropy_surrogate(x: Tensor, score: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return ``-mean(score . x) / d``: its gradient is that of the entropy per dimension (Eq. 7).

    The *value* has no meaning: by Stein's identity it is 1 for every density when the score is
    exact. `score` must be detached, or the gradient is zero for the same reason.
    """
    return -mean_of((score * x).sum(1), weight) / x.shape[1]


def stein_loss(
    text: Tensor,
    image: Tensor,
    *,
    lam: float,
    entropy: Entropy = "maximize",
    normalize: bool = True,
    bandwidth: Tensor | float | None = None,
    eta: float = 0.1,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Return ``-L_align - lam * H`` of two modalities' embeddings of the same items (Eq. 8).

    Embeddings, shape (n, d), are taken to the unit sphere here, and H is the entropy per dimension:
    an entropy bonus on raw ones has no upper bound. With ``normalize=False`` (as printed) they
    stay as they are, and H is the entropy. `lam` has a meaning only together with d, eta and n. The
    bandwidth is the median over all cross-modal pairs by default. `mask` tells which items have
    both modalities; if these are fewer than two, the loss is zero, with a graph. `weight` counts
    an item that often.

    Examples
    --------
    >>> import torch
    >>> x = torch.eye(3)
    >>> round(float(stein_loss(x, x, lam=0.0)), 4)
    -1.0
    """
    if normalize:
        text, image = F.normalize(text, dim=1), F.normalize(image, dim=1)
    if mask is not None:
        text, image = text[mask], image[mask]
        weight = None if weight is None else weight[mask]
    if len(text) < 2:
        return 0.0 * (text.sum() + image.sum())
    if bandwidth is None:
        length = 1.0 if normalize else torch.stack([text, image]).detach().norm(dim=2).max()
        bandwidth = median_bandwidth(text, image, length=length, weight=weight)
    loss = -kernel_alignment(text, image, bandwidth, weight)
    if ENTROPY_SIGN[entropy] and lam:
        # Per modality, then averaged: a pooled cloud would reward a gap between the two.
        h = 0.5 * sum(
            entropy_surrogate(x, stein_score(x, bandwidth, eta=eta, weight=weight), weight)
            for x in (text, image)
        )
        if not normalize:
            h = h * text.shape[1]
        loss = loss + ENTROPY_SIGN[entropy] * lam * h
    return loss


@dataclass(frozen=True)
class SteinObjective:
    """The mean `stein_loss` over all pairs of any number of modalities.

    Of more than `max_items` it takes so many at random: the score takes O(n^3) operations.
    """

    lam: float
    entropy: Entropy = "maximize"
    eta: float = 0.1
    normalize: bool = True
    max_items: int = 256

    def __call__(
        self,
        embeddings: Sequence[Tensor],
        present: Sequence[Tensor],
        generator: torch.Generator | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of items: for each modality, their embeddings and which have it.

        Of a single modality, which has nothing to be aligned with, it is the entropy term alone.
        """
        n, device = len(embeddings[0]), embeddings[0].device
        if n > self.max_items:
            chosen = torch.randperm(n, generator=generator, device=device)[: self.max_items]
            embeddings = [e[chosen] for e in embeddings]
            present = [p[chosen] for p in present]
            weight = None if weight is None else weight[chosen]
        if len(embeddings) == 1:
            # Aligned with itself a modality contributes the constant -1 and no gradient.
            return 1.0 + self._of_pair(embeddings[0], embeddings[0], present[0], weight)
        losses = [
            self._of_pair(embeddings[i], embeddings[j], present[i] & present[j], weight)
            for i, j in combinations(range(len(embeddings)), 2)
        ]
        return torch.stack(losses).mean()

    def _of_pair(self, a: Tensor, b: Tensor, mask: Tensor, weight: Tensor | None) -> Tensor:
        return stein_loss(
            a,
            b,
            lam=self.lam,
            entropy=self.entropy,
            normalize=self.normalize,
            eta=self.eta,
            mask=mask,
            weight=weight,
        )
