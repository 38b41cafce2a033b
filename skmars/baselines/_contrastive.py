"""Contrast of two views of a history: the loss and the networks. Imports torch: import lazily."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional as F

from skmars.baselines._operators import Operator
from skmars.baselines._similarity import hybrid_nearest
from skmars.baselines._views import ItemChoice, View, two_views

POSITION_STD = 0.02  # as SASRec


def nt_xent(
    first: Tensor, second: Tensor, temperature: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    r"""Contrastive loss of n pairs of views (NT-Xent), the mean over all 2n views.

    .. math::
        \ell_i = -\log \frac{\exp(z_i \cdot z_{i'} / \tau)}
                            {\sum_{j \ne i} \exp(z_i \cdot z_j / \tau)}

    where `i'` is the other view of the same history; the other 2(n - 1) views are negatives.

    Parameters
    ----------
    first, second : Tensor of shape (n, n_features)
    temperature : float, default=1.0
    weight : Tensor of shape (n,), optional
        How often the terms of a pair count.

    Returns
    -------
    Tensor
        A scalar; 0 without pairs.

    References
    ----------
    Xie et al., arXiv:2010.14395, Eq. 3; Chen et al., arXiv:2002.05709, Eq. 1.

    Examples
    --------
    >>> nt_xent(torch.eye(2), torch.eye(2))
    tensor(0.5514)
    """
    z = torch.cat([first, second])
    if len(z) == 0:
        return z.sum()
    similarity = z @ z.T / temperature
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    partner = torch.arange(len(z), device=z.device).roll(len(first))
    loss = F.cross_entropy(similarity.masked_fill(itself, -torch.inf), partner, reduction="none")
    if weight is None:
        return loss.mean()
    weight = weight.repeat(2)
    return (weight * loss).sum() / weight.sum()


class ViewEncoder(nn.Module):
    """One vector a history, from the embeddings of its positions.

    Parameters
    ----------
    width : int
        Of the embeddings.
    max_length : int
        Most positions of a history.
    n_layers : int
        Causal self-attention layers, of which the last position's output is taken; 0 takes the
        mean of the positions, and two linear layers after it.
    token : bool
        A learnt vector stands for masked items.
    """

    def __init__(self, width: int, max_length: int, n_layers: int, token: bool) -> None:
        super().__init__()
        self.token = nn.Parameter(POSITION_STD * torch.randn(width)) if token else None
        self.tower: nn.TransformerEncoder | None = None
        if n_layers > 0:
            self.position = nn.Parameter(POSITION_STD * torch.randn(max_length, width))
            # Without dropout, the two views are all that differs between two passes.
            layer = nn.TransformerEncoderLayer(
                width, nhead=1, dim_feedforward=width, dropout=0.0, batch_first=True
            )
            self.tower = nn.TransformerEncoder(layer, n_layers, enable_nested_tensor=False)
        else:
            self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, x: Tensor, length: Tensor, masked: Tensor) -> Tensor:
        """Map (n_positions, width), history after history, to (n_histories, width).

        `length`, of shape (n_histories,), has no zero; `masked` has shape (n_positions,).
        """
        if self.token is not None:
            x = torch.where(masked.bool()[:, None], self.token, x)
        if len(length) == 0:
            return x.new_zeros((0, x.shape[1])) + x.sum()
        if self.tower is None:
            pooled = torch.segment_reduce(x, "mean", lengths=length, axis=0)
            out: Tensor = self.head(pooled)
            return out
        row = torch.repeat_interleave(length)
        end = length.cumsum(0)
        place = torch.arange(len(x), device=x.device) - (end - length)[row]
        # The most recent item has position 0, however long the history is.
        x = x + self.position[(length[row] - 1) - place]
        # Left-aligned: what stands right of a history is in no position's past.
        n, longest = len(length), int(length.max())
        padded = x.new_zeros((n * longest, x.shape[1])).index_copy(0, row * longest + place, x)
        causal = nn.Transformer.generate_square_subsequent_mask(longest, x.device, x.dtype)
        seen = self.tower(padded.view(n, longest, -1), mask=causal, is_causal=True)
        last: Tensor = seen[torch.arange(n, device=x.device), length - 1]
        return last


class ContrastiveObjective:
    """Two views of each history should be recognisable as such; see `CL4SRec` and `CoSeRec`.

    Parameters
    ----------
    module : ViewEncoder
        Trained along with the network.
    ways : sequence of operators
    choice : ItemChoice
    few, short : int
        Of how many of the first operators a history of at most `short` items may choose.
    weight, temperature : float
    max_length : int
    similarity : csr_array or None
        Of items by co-occurrence; with it, similar items are found anew in each epoch, by
        co-occurrence or embedding.
    warm_up : int
        Epochs before that begins.
    """

    pretrains = False

    def __init__(
        self,
        module: ViewEncoder,
        ways: Sequence[Operator],
        choice: ItemChoice,
        *,
        few: int,
        short: int,
        weight: float,
        temperature: float,
        max_length: int,
        similarity: csr_array | None = None,
        warm_up: int = 0,
    ) -> None:
        self.module = module
        self.ways, self.choice = ways, choice
        self.few, self.short = few, short
        self.weight, self.temperature, self.max_length = weight, temperature, max_length
        self.similarity, self.warm_up = similarity, warm_up

    @torch.no_grad()
    def begin_epoch(self, epoch: int, network: Any, features: Any) -> None:
        """Find similar items by the embeddings of now."""
        if self.similarity is None or epoch < self.warm_up:
            return
        codes = self.choice.vocabulary
        device = network.items.weight.device
        ids = (torch.from_numpy(a).to(device) for a in (self.choice.table_row[codes], codes))
        vectors = network.item_embedding(*ids, features).cpu().numpy()
        self.choice.similar = hybrid_nearest(self.similarity, vectors, codes)

    def draw(self, batch: Any, random_state: np.random.RandomState) -> View:
        """Draw the views of a batch of arrays."""
        return two_views(
            batch,
            self.ways,
            self.choice,
            random_state,
            few=self.few,
            short=self.short,
            max_length=self.max_length,
            token=self.module.token is not None,
        )

    def loss(
        self,
        network: Any,
        batch: Any,
        features: Any,
        target: Tensor,
        weight: Tensor | None,
        seen: Any,
        drawn: View,
    ) -> Tensor:
        """Return the weighted loss of a batch of tensors; nothing of it depends on the labels."""
        key = network.keys(drawn.items, drawn.codes, drawn, features)
        first, second = self.module(key, drawn.length, drawn.masked).chunk(2)
        if weight is not None:
            weight = weight[drawn.row]
        return self.weight * nt_xent(first, second, self.temperature, weight)
