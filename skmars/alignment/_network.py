"""The modality-alignment network (Eq. 3-4 and 9-13 of arXiv 2509.01184) on ragged sequences.

All sequences of a batch stand one after another in flat tensors of shape (n_positions, ...),
so that nothing but attention ever sees padding. Attention runs over rectangles of sequences
of similar length. With ``causal=True`` position t of a sequence depends on what stands at or
before t, within a window, and on nothing else in the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from skmars.alignment._dropout import Dropout
from skmars.utils import _ragged as ragged

# Sequences share a rectangle if the longest is at most this much longer than the shortest.
PADDING = 1.5
BLOCKS_PER_WINDOW = 4
SUM_BLOCK = 64
OUT_OF_VOCABULARY = 0
# An optimiser like Adam moves a parameter by its learning rate a step: this lets what a disliked
# item says about a user turn into its opposite within an epoch, not within a training.
GAIN_SPEED = 10.0


@dataclass(frozen=True)
class Rectangle:
    """Sequences of similar length, to be padded to a common one.

    Attributes
    ----------
    n_positions, height, width : int
        How many positions the sequences have together, their number and common length.
    pad : Tensor of shape (height * width,), or None
        Which of the positions stands where in the rectangle; None if nothing is padded.
    unpad : Tensor of shape (n_positions,), or None
        The way back.
    valid : Tensor of shape (height, width), bool
        What is real.
    """

    n_positions: int
    height: int
    width: int
    pad: Tensor | None
    unpad: Tensor | None
    valid: Tensor


@dataclass(frozen=True)
class Items:
    """The distinct items of a batch, as the network sees them.

    Attributes
    ----------
    projected : list of Tensor of shape (n_items, n_components)
        One matrix a modality, from `AlignmentNetwork.project`.
    present : list of Tensor of shape (n_items,), bool
        Which items have the modality.
    ids : Tensor of shape (n_items,)
        Rows of the id embedding.
    """

    projected: list[Tensor]
    present: list[Tensor]
    ids: Tensor


def rectangles(lengths: NDArray[np.int64], device: torch.device) -> list[Rectangle]:
    """Cut sequences, which stand one after another, shortest first, into rectangles."""
    result = []
    begin = 0
    while begin < len(lengths):
        end = int(np.searchsorted(lengths, PADDING * lengths[begin], side="right"))
        length, width = lengths[begin:end, None], int(lengths[end - 1])
        valid = np.arange(width) < length
        starts = ragged.offsets(length[:, 0])
        pad = np.where(valid, starts[:-1, None] + np.arange(width), 0).ravel()
        pads = (None, None) if valid.all() else (pad, np.flatnonzero(valid))
        index = [None if p is None else torch.from_numpy(p).to(device) for p in pads]
        mask = torch.from_numpy(valid).to(device)
        result.append(Rectangle(int(starts[-1]), end - begin, width, index[0], index[1], mask))
        begin = end
    return result


def windowed_attention(
    query: Tensor, key: Tensor, value: Tensor, valid: Tensor, *, causal: bool, window: int
) -> Tensor:
    """Attend within padded sequences; all tensors have shape (batch, heads, n, head size).

    Causal attention of position i sees positions i - window + 1 to i. Padding stands at the
    right, so a causal mask hides it already.
    """
    if not causal:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=valid[:, None, None])
    if query.shape[2] <= window:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    return _blocked_attention(query, key, value, window)


def _blocked_attention(query: Tensor, key: Tensor, value: Tensor, window: int) -> Tensor:
    """Causal attention in a sliding window: a block of positions sees itself and those before.

    A block is a quarter of the window, so that it sees 5/4 of what it needs; a mask over all
    pairs of positions would cost n^2.
    """
    batch, heads, n, width = query.shape
    size = -(-window // BLOCKS_PER_WINDOW)
    n_blocks = -(-n // size)
    past = BLOCKS_PER_WINDOW * size

    def padded(tensor: Tensor, n_before: int) -> Tensor:
        return F.pad(tensor, (0, 0, n_before, n_blocks * size - n)).flatten(0, 1)

    def with_past(tensor: Tensor) -> Tensor:
        windows: Tensor = _Windows.apply(padded(tensor, past), past + size, size)
        return windows

    block, i, j = torch.meshgrid(
        *(torch.arange(m, device=query.device) for m in (n_blocks, size, past + size)),
        indexing="ij",
    )
    # Position i of a block stands at `past + i` among what the block sees.
    mask = (j <= past + i) & (j > past + i - window) & (block * size + j >= past)
    out = F.scaled_dot_product_attention(
        padded(query, 0).unflatten(1, (n_blocks, size)),
        with_past(key),
        with_past(value),
        attn_mask=mask[None],
    )
    return out.reshape(batch, heads, n_blocks * size, width)[:, :, :n]


class _Windows(torch.autograd.Function):
    """Overlapping windows over (batch, n, width), a step apart: (batch, n_windows, span, width).

    A view; its gradient adds up the blocks that windows share.
    """

    @staticmethod
    def forward(ctx, x, span, step):  # type: ignore[no-untyped-def, override]
        ctx.step = step
        return x.unfold(1, span, step).transpose(2, 3)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def, override]
        blocks = grad.unflatten(2, (-1, ctx.step))
        n_windows, n_blocks = blocks.shape[1:3]
        total = grad.new_zeros((len(grad), n_windows + n_blocks - 1, *blocks.shape[3:]))
        for i in range(n_blocks):
            total[:, i : i + n_windows] += blocks[:, :, i]
        return total.flatten(1, 2), None, None


class RaggedAttention(nn.Module):
    """Multi-head attention over ragged sequences, queries and keys at the same positions."""

    def __init__(
        self, query_dim: int, memory_dim: int, dim: int, n_heads: int, *, causal: bool, window: int
    ) -> None:
        super().__init__()
        self.query = nn.Linear(query_dim, dim)
        self.key_value = nn.Linear(memory_dim, 2 * dim)
        self.out = nn.Linear(dim, query_dim)
        self.n_heads, self.causal, self.window = n_heads, causal, window

    def forward(self, query: Tensor, memory: Tensor, layout: list[Rectangle]) -> Tensor:
        """Return the attended values, shape (n_positions, query_dim)."""
        projected = torch.cat([self.query(query), self.key_value(memory)], dim=1)
        parts = projected.split([rectangle.n_positions for rectangle in layout])
        attended = [self._attend(part, rectangle) for part, rectangle in zip(parts, layout)]
        return self.out(torch.cat(attended) if attended else projected[:, : query.shape[1]])

    def _attend(self, projected: Tensor, rectangle: Rectangle) -> Tensor:
        if rectangle.pad is not None:
            projected = projected.index_select(0, rectangle.pad)
        shape = (rectangle.height, rectangle.width, 3, self.n_heads, -1)
        q, k, v = projected.view(shape).permute(2, 0, 3, 1, 4)
        out = windowed_attention(q, k, v, rectangle.valid, causal=self.causal, window=self.window)
        out = out.transpose(1, 2).flatten(2).flatten(0, 1)
        return out if rectangle.unpad is None else out.index_select(0, rectangle.unpad)


class Projection(nn.Linear):
    """Standardisation, then a linear map into the shared space (Eq. 3)."""

    mean: Tensor
    spread: Tensor

    def __init__(self, n_features: int, n_components: int) -> None:
        super().__init__(n_features, n_components)
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("spread", torch.ones(n_features))

    def standardize(self, mean: NDArray[np.floating], spread: float) -> None:
        """Set what is subtracted from the features, and by what they are divided."""
        self.mean.copy_(torch.as_tensor(mean))
        self.spread.copy_(torch.as_tensor(spread))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - self.mean) / self.spread)


class AlignmentNetwork(nn.Module):
    """Items of several modalities in sequences -> embeddings in one space.

    Parameters
    ----------
    modality_sizes : mapping of str to int
        Width of each modality's features, in the order of fusion: each modality queries what
        was fused before it, so ``{"text": ..., "image": ...}`` is the paper's order.
    n_ids : int
        Number of known items; one more embedding serves all others.
    n_components, id_dim, n_heads : int
        Sizes of the space and of the id embedding, and the number of attention heads, which
        divides both.
    residual : bool
        Whether Eq. 4 and Eq. 11 have the residual and the LayerNorm that Eq. 10 has.
    causal : bool
        Whether a position sees only what came before it.
    max_length : int
        Window of attention and of the mean.
    dropout : float
        Of the projections and id embeddings of items, and of the branches beside residuals;
        also how often an item hides its id, by which the embedding of unknown ids is learned.
    feedback : bool
        Whether to tell liked items from others in a history.

    Raises
    ------
    ValueError
        If `n_heads` does not divide the sizes.
    """

    def __init__(
        self,
        modality_sizes: Mapping[str, int],
        n_ids: int,
        *,
        n_components: int,
        id_dim: int,
        n_heads: int,
        residual: bool,
        causal: bool,
        max_length: int,
        dropout: float = 0.0,
        feedback: bool = False,
    ) -> None:
        super().__init__()
        for name, size in {"n_components": n_components, "id_dim": id_dim}.items():
            if size % n_heads:
                raise ValueError(f"n_heads={n_heads} must divide {name}={size}.")
        d, names = n_components, list(modality_sizes)
        attention: dict[str, Any] = {"n_heads": n_heads, "causal": causal, "window": max_length}
        self.modality_sizes = dict(modality_sizes)
        self.n_components, self.residual = n_components, residual
        self.causal, self.max_length = causal, max_length
        self.dropout = Dropout(dropout)
        self.projections = nn.ModuleList(Projection(modality_sizes[m], d) for m in names)
        self.id_embedding = nn.Embedding(n_ids + 1, id_dim)
        self.feedback_embedding = nn.Embedding(3, id_dim, padding_idx=0) if feedback else None
        self.feedback_gain = nn.Embedding(3, d, padding_idx=0) if feedback else None
        if self.feedback_gain is not None:
            nn.init.zeros_(self.feedback_gain.weight)
        self.id_attention = RaggedAttention(id_dim, id_dim, id_dim, **attention)
        self.id_norm = nn.LayerNorm(id_dim)
        self.id_content = None if names else nn.Linear(id_dim, d)
        self.fusions = nn.ModuleList(RaggedAttention(d, d, d, **attention) for _ in names[1:])
        self.fusion_norms = nn.ModuleList(nn.LayerNorm(d) for _ in names[1:])
        self.id_fusion = RaggedAttention(d, id_dim, d, **attention)
        self.id_fusion_norm = nn.LayerNorm(d)
        self.feed_forward = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.user_bias = nn.Linear(d, 1)
        self.item_bias = nn.Linear(d, 1, bias=False)
        nn.init.normal_(self.id_embedding.weight, std=0.1)
        for parameter in (*self.user_bias.parameters(), *self.item_bias.parameters()):
            nn.init.zeros_(parameter)
        with torch.no_grad():
            self.id_embedding.weight[OUT_OF_VOCABULARY] = 0.0

    @property
    def reach(self) -> int:
        """On how many of the last items of a history its user embedding depends.

        Every layer of causal attention looks back one window: the two that ids go through, the
        chain in which modalities query each other; then the mean (Eq. 13) over a window.
        """
        n_layers = max(2, len(self.fusions)) if self.causal else 0
        return n_layers * (self.max_length - 1) + self.max_length

    def extend_ids(self, n_new: int) -> None:
        """Make room for further known items; they start where unknown items are."""
        table = self.id_embedding
        new = table.weight[OUT_OF_VOCABULARY].detach().repeat(n_new, 1)
        table.weight = nn.Parameter(torch.cat([table.weight.detach(), new]))
        table.num_embeddings += n_new

    def project(self, features: list[Tensor]) -> list[Tensor]:
        """Return each modality's projection, shape (n_items, n_components): Eq. 3."""
        return [project(x) for project, x in zip(self.projections, features)]

    def encode(
        self,
        items: Items,
        item: Tensor,
        feedback: Tensor | None,
        layout: list[Rectangle],
    ) -> Tensor:
        """Return the embedding of every position, shape (n_positions, n_components).

        Parameters
        ----------
        items : Items
            The distinct items.
        item : Tensor of shape (n_positions,)
            Which of them stands at a position; sequence after sequence, shortest first.
        feedback : Tensor of shape (n_positions,) or None
            0 unknown, 1 not liked, 2 liked.
        layout : list of Rectangle
            Where the sequences are.
        """
        e = self.dropout(self.id_embedding(items.ids)).index_select(0, item)
        if feedback is not None and self.feedback_embedding is not None:
            e = e + self.feedback_embedding(feedback)
        z = self.id_attention(e, e, layout)  # Eq. 4
        if self.residual:
            z = self.id_norm(e + self.dropout(z))
        x = self._content(items, e, item, layout)
        if not self.residual:
            x = self.feed_forward(self.id_fusion(x, z, layout))  # Eq. 11-12 as printed
        else:
            x = self.id_fusion_norm(x + self.dropout(self.id_fusion(x, z, layout)))  # Eq. 11
            x = x + self.dropout(self.feed_forward(x))  # Eq. 12
        if feedback is not None and self.feedback_gain is not None:
            x = x * (1.0 + GAIN_SPEED * self.feedback_gain(feedback))
        return x

    def _content(self, items: Items, e: Tensor, item: Tensor, layout: list[Rectangle]) -> Tensor:
        """Let each modality query what was fused before it (image queries text): Eq. 9-10."""
        if self.id_content is not None:
            return self.id_content(e)
        projected = (self.dropout(h) for h in stand_in_for_missing(items))
        fused, *others = (h.index_select(0, item) for h in projected)
        for h, attention, norm in zip(others, self.fusions, self.fusion_norms):
            fused = norm(h + self.dropout(attention(h, fused, layout)))
        return fused

    def hide_ids(self, ids: Tensor) -> Tensor:
        """Replace some rows of the id embedding by that of unknown ids, in training."""
        if not self.training:
            return ids
        number = torch.rand(len(ids), generator=self.dropout.generator, device=ids.device)
        return ids.masked_fill(number < self.dropout.p, OUT_OF_VOCABULARY)

    def logits(self, user: Tensor, item: Tensor) -> Tensor:
        """Return the log-odds of a click, shape (n_rows,).

        One scale for all dimensions, so that the cosine in the space means what training
        taught it; what users and items bring whatever the other is goes into the biases.
        """
        affinity = self.scale * (user * item).mean(1)
        return affinity + (self.user_bias(user) + self.item_bias(item)).squeeze(1)


def stand_in_for_missing(items: Items) -> list[Tensor]:
    """Give an item that lacks a modality the mean of those it has: they share one space."""
    if all(bool(p.all()) for p in items.present):
        return items.projected
    present = torch.stack(items.present)[:, :, None]
    projected = torch.stack(items.projected)
    mean = (projected * present).sum(0) / present.sum(0).clamp_min(1)
    return list(torch.where(present, projected, mean))


def prefix_means(embedding: Tensor, end: Tensor, length: Tensor) -> Tensor:
    """Return the mean of the `length` positions before `end`, zero where length is 0: Eq. 13.

    A running sum serves all prefixes. In float64, so that a short prefix late in a large batch
    loses nothing to the size of the sum.
    """
    running = F.pad(running_sum(embedding.double()), (0, 0, 1, 0))
    total = running.index_select(0, end) - running.index_select(0, end - length)
    return (total / length.clamp_min(1)[:, None]).to(embedding.dtype)


def running_sum(x: Tensor) -> Tensor:
    """Return `x.cumsum(0)`, block by block as matrix products: three times as fast."""
    blocks = F.pad(x, (0, 0, 0, -len(x) % SUM_BLOCK)).unflatten(0, (-1, SUM_BLOCK))
    lower = torch.ones(SUM_BLOCK, SUM_BLOCK, dtype=x.dtype, device=x.device).tril()
    within = lower @ blocks
    before = F.pad(within[:, -1].cumsum(0), (0, 0, 1, 0))[:-1]
    return (within + before[:, None]).flatten(0, 1)[: len(x)]
