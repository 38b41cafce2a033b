"""InfoNCE, the usual contrastive loss of two modalities, in the place of the Stein kernel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from skmars.alignment._parameters import AlignerParameters
from skmars.alignment._stein import SteinObjective

TEMPERATURE = 0.07


def infonce_loss(
    text: Tensor,
    image: Tensor,
    *,
    temperature: float = TEMPERATURE,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Return the symmetric InfoNCE loss of two modalities' embeddings of the same items.

    Among the images of all items a text has to recognise that of its own item, and the other way
    round, by the cosine:

    .. math::
        L = -\frac{1}{2n} \sum_i \log \frac{e^{c_{ii} / \tau}}{\sum_j e^{c_{ij} / \tau}}
            + \log \frac{e^{c_{ii} / \tau}}{\sum_j e^{c_{ji} / \tau}}

    Embeddings have shape (n, d). `mask` tells which items have both modalities; if these are fewer
    than two, the loss is zero, with a graph. An item with a `weight` counts as so many equal items.

    References
    ----------
    van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018,
    arXiv:1807.03748; symmetric, with this temperature at its start: Radford et al., "Learning
    Transferable Visual Models From Natural Language Supervision", ICML 2021 (CLIP).

    Examples
    --------
    >>> import torch
    >>> x = torch.eye(3)
    >>> bool(infonce_loss(x, x) < 1e-5)
    True
    """
    used = torch.ones(len(text), dtype=torch.bool, device=text.device) if mask is None else mask
    if weight is not None:
        used = used & (weight > 0)
    text, image = F.normalize(text[used], dim=1), F.normalize(image[used], dim=1)
    if len(text) < 2:
        return 0.0 * (text.sum() + image.sum())
    w = text.new_ones(len(text)) if weight is None else weight[used].to(text.dtype)
    logits = text @ image.T / temperature
    among = torch.logsumexp(logits + w.log(), 1) + torch.logsumexp(logits.T + w.log(), 1)
    return (w * (0.5 * among - logits.diagonal())).sum() / w.sum()


@dataclass(frozen=True)
class InfoNCEAlignment(SteinObjective):
    """The mean `infonce_loss` over all pairs of any number of modalities.

    A single modality, which has nothing to be aligned with, is its own partner: the loss then
    drives items apart.
    """

    max_items: int = 4096  # pairs of items are all it needs

    def _of_pair(self, a: Tensor, b: Tensor, mask: Tensor, weight: Tensor | None) -> Tensor:
        return infonce_loss(a, b, mask=mask, weight=weight)


def alignment_objective(parameters: AlignerParameters) -> SteinObjective:
    """Return what takes the place of `L_Stein` in the loss of an aligner."""
    kind = InfoNCEAlignment if parameters.alignment == "infonce" else SteinObjective
    return kind(parameters.lam, parameters.entropy, parameters.eta, parameters.normalize)
