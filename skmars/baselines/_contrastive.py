"""Contrastive learning on two views of a history. Imports torch: import this file lazily."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional as F

from skmars.baselines._auxiliary import FeatureLookup, Network, Positions, TrainingBatch
from skmars.baselines._operators import Operator, keep, one_of
from skmars.baselines._similarity import hybrid_nearest
from skmars.baselines._views import ItemChoice, View, view_of
from skmars.utils import _ragged as ragged
from skmars.utils._segments import segment_softmax, segment_sum

POSITION_STD = 0.02  # as SASRec
BLOCK_NUMBERS = 1 << 20  # similarities that are held at a time: four megabytes of float32


def nt_xent(
    first: Tensor, second: Tensor, temperature: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    r"""Contrastive loss of n pairs of views (NT-Xent), the mean over all 2n views.

    .. math::
        \ell_i = -\log \frac{\exp(z_i \cdot z_{i'} / \tau)}
                            {\sum_{j \ne i} \exp(z_i \cdot z_j / \tau)}

    where `i'` is the other view of the same history, and the other 2(n - 1) views are negatives
    (Xie et al., arXiv:2010.14395, Eq. 3; Chen et al., arXiv:2002.05709, Eq. 1). Views have shape
    (n, n_features); `weight`, of shape (n,), tells how often the terms of a pair count. Without
    pairs, or weight, the loss is 0.

    >>> nt_xent(torch.eye(2), torch.eye(2))
    tensor(0.5514)
    """
    z = torch.cat([first, second])
    if len(z) == 0:
        return z.sum()
    share = z.new_ones(len(z)) if weight is None else weight.repeat(2)
    total = share.sum().clamp(min=torch.finfo(share.dtype).tiny)
    loss: Tensor = _NTXent.apply(z, share / total, temperature)
    return loss


class _NTXent(torch.autograd.Function):
    """The sum of the losses of all views, of which each counts its share.

    The gradient is found along with the loss. Of the square matrix of similarities, a block of rows
    is there at a time, and each of them is exponentiated once.
    """

    @staticmethod
    def forward(ctx, z, share, temperature):  # type: ignore[no-untyped-def, override]
        n = len(z)
        # Products with matrices of a few long rows are faster than with as many columns.
        scaled = (z / temperature).T.contiguous()
        partner = torch.arange(n, device=z.device).roll(n // 2)[:, None]
        loss, gradient = z.new_zeros(()), torch.zeros_like(scaled)
        n_rows = max(1, BLOCK_NUMBERS // n)
        for start in range(0, n, n_rows):
            rows = slice(start, start + n_rows)
            similarity = z[rows] @ scaled
            similarity.diagonal(start).fill_(-torch.inf)  # to itself
            own = similarity.gather(1, partner[rows])
            top = similarity.amax(1, keepdim=True)
            part = similarity.sub_(top).exp_()
            total = part.sum(1, keepdim=True)
            weight = share[rows, None]
            loss += (weight * (top - own + total.log())).sum()
            part.mul_(weight / total).scatter_add_(1, partner[rows], -weight)
            gradient += scaled[:, rows] @ part
            gradient[:, rows] += scaled @ part.T
        ctx.save_for_backward(gradient.T)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_loss):  # type: ignore[no-untyped-def, override]
        (gradient,) = ctx.saved_tensors
        return d_loss * gradient, None, None


class ViewEncoder(nn.Module):
    """Network that encodes a history, given as embeddings of its positions, as one vector.

    Embeddings have `width` units. The vector is the last position's output of `n_layers` causal
    self-attention layers; with 0 layers, two linear layers map the mean of the positions. A
    history has at most `max_length` positions. With `token`, a learnt vector replaces masked items.
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
        """Return a vector for each history, shape (n_histories, width).

        `x`, of shape (n_positions, width), holds the concatenated histories, and `masked`, of
        shape (n_positions,), marks masked items. `length`, of shape (n_histories,), has no zero.
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
        x = x + self.position.index_select(0, (length[row] - 1) - place)
        *inner, outer = self.tower.layers
        if inner:
            x = _all_positions(inner, x, row, place, length)
        return _last_positions(outer, x, row, length)


def _all_positions(
    layers: Sequence[nn.TransformerEncoderLayer],
    x: Tensor,
    row: Tensor,
    place: Tensor,
    length: Tensor,
) -> Tensor:
    """Return the output of causal layers at all positions; parameters see `_last_positions`.

    `place`, of shape (n_positions,), counts the positions of each history.
    """
    longest = int(length.max())
    # Left-aligned: what stands right of a history is in no position's past.
    at = row * longest + place
    padded = x.new_zeros((len(length) * longest, x.shape[1])).index_copy(0, at, x)
    padded = padded.view(len(length), longest, -1)
    causal = nn.Transformer.generate_square_subsequent_mask(longest, x.device, x.dtype)
    for layer in layers:
        padded = layer(padded, src_mask=causal, is_causal=True)
    return padded.flatten(0, 1).index_select(0, at)


def _last_positions(
    layer: nn.TransformerEncoderLayer, x: Tensor, row: Tensor, length: Tensor
) -> Tensor:
    """Return the output of a causal layer with one head at the last position of each history.

    It alone is a query, so that nothing is padded and the cost is linear in the positions. The
    layer is what `torch.nn.TransformerEncoderLayer` computes, without dropout.

    Parameters
    ----------
    layer : torch.nn.TransformerEncoderLayer
    x : Tensor of shape (n_positions, width)
    row : LongTensor of shape (n_positions,)
        History of each position.
    length : LongTensor of shape (n_histories,)
        Without zeros.

    Returns
    -------
    Tensor of shape (n_histories, width)
    """
    attention: Any = layer.self_attn
    of_query, of_key, of_value = attention.in_proj_weight.chunk(3)
    query_bias, _, value_bias = attention.in_proj_bias.chunk(3)
    own = x.index_select(0, length.cumsum(0) - 1)
    # Both maps of a position are linear: they are applied to what histories are reduced to. The
    # bias of keys adds the same to all scores of a history, which leaves a softmax as it is.
    query = F.linear(own, of_query, query_bias) @ of_key / x.shape[1] ** 0.5
    score = (query.index_select(0, row) * x).sum(1)
    share = segment_softmax(score, row, length)
    pooled = segment_sum(share[:, None] * x, length)
    own = layer.norm1(own + attention.out_proj(F.linear(pooled, of_value, value_bias)))
    out: Tensor = layer.norm2(own + layer.linear2(F.relu(layer.linear1(own))))
    return out


@dataclass(eq=False)
class ContrastiveLoss:
    """Contrastive loss of two random views of each history; see `CL4SRec` and `CoSeRec`.

    A history is changed by two different operators of `ways`; one of at most `short` items by two
    of the first `few`, or by none if these are none. The last `max_length` items of it, and of a
    view, are used. With `similarity`, that of items by co-occurrence, similar items are found anew
    in each epoch after the first `warm_up`, by co-occurrence or embedding.
    """

    module: ViewEncoder
    ways: Sequence[Operator]
    choice: ItemChoice
    few: int
    short: int
    weight: float
    temperature: float
    max_length: int
    similarity: csr_array | None = None
    warm_up: int = 0
    pretrains: bool = False

    @torch.no_grad()
    def begin_epoch(self, epoch: int, network: Network, features: FeatureLookup | None) -> None:
        """Find similar items by the present embeddings."""
        if self.similarity is None or epoch < self.warm_up:
            return
        codes = self.choice.vocabulary
        device = next(self.module.parameters()).device
        items = torch.from_numpy(self.choice.table_row[codes]).to(device)
        vectors = network.item_embedding(items, torch.from_numpy(codes).to(device), features)
        self.choice.similar = hybrid_nearest(self.similarity, vectors.cpu().numpy(), codes)

    def draw(
        self, batch: TrainingBatch[NDArray[Any]], random_state: RandomState
    ) -> View[NDArray[Any]]:
        """Draw the views of a batch: all first ones, then all second ones; empty rows have none."""
        bag: Positions[NDArray[Any]] = batch.history
        rows = np.flatnonzero(bag.length)
        length = np.minimum(bag.length[rows], self.max_length)
        positions = ragged.ranges(ragged.offsets(bag.length)[1:][rows] - length, length)
        n = np.where(length > self.short, len(self.ways), self.few)
        first = random_state.randint(0, np.maximum(n, 1))
        second = (first + 1 + random_state.randint(0, np.maximum(n - 1, 1))) % np.maximum(n, 1)
        way = np.concatenate([np.where(n > 0, w, len(self.ways)) for w in (first, second)])
        edit = one_of([*self.ways, keep], way, np.tile(length, 2), random_state)
        if self.module.token is None:
            edit = edit.without_masked()
        edit, positions = edit.last(self.max_length), np.tile(positions, 2)
        return view_of(batch, positions, edit, rows, self.choice, random_state)

    def loss(
        self,
        network: Network,
        batch: TrainingBatch[Tensor],
        features: FeatureLookup | None,
        target: Tensor,
        weight: Tensor | None,
        seen: Any,
        drawn: View[Tensor],
    ) -> Tensor:
        """Return the weighted loss of a batch of tensors; nothing of it depends on the labels."""
        key = network.keys(drawn.items, drawn.codes, drawn, features)
        first, second = self.module(key, drawn.length, drawn.masked).chunk(2)
        if weight is not None:
            weight = weight[drawn.row]
        return self.weight * nt_xent(first, second, self.temperature, weight)
