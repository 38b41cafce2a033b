"""The modality-alignment network: Eq. 3-4 and 9-13 of arXiv 2509.01184.

With ``causal=True`` position t of a sequence depends on positions up to t, within a window, and
on nothing else in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from skmars.alignment._attention import RaggedAttention
from skmars.alignment._packing import PackedSequences
from skmars.alignment._parameters import ClickScore

OUT_OF_VOCABULARY = 0
# Adam moves a parameter by about the learning rate a step. This factor lets the weight of disliked
# items change its sign within an epoch rather than a whole training.
GAIN_SPEED = 10.0


@dataclass(frozen=True)
class ItemBatch:
    """The distinct items of a batch as tensors: projected features, masks and ids."""

    projected: list[Tensor]  # of each modality (Eq. 3), shape (n_items, n_components)
    present: list[Tensor]  # which items have the modality
    ids: Tensor  # rows of the id embedding


class Dropout(nn.Module):
    """Set a share of the numbers to zero in training, and scale the others up.

    On the CPU, PyTorch draws a number in double precision for each element, one after another.
    A random byte is enough; `p` is then a multiple of 1/256. The generator, on the device of what
    passes through, is that of one training, and no part of copies and pickles.
    """

    generator: torch.Generator | None = None  # torch's global one

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "generator": None}

    def forward(self, x: Tensor) -> Tensor:
        """Drop numbers of `x`, in training."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            kept = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.generator)
            return x * kept.div_(1 - self.p)
        threshold = min(max(round(256 * self.p), 1), 255)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64)
        words.random_(-(2**63), None, generator=self.generator)
        byte = words.view(torch.uint8)[: x.numel()].view(x.shape)
        return x * (byte >= threshold).to(x.dtype).mul_(256 / (256 - threshold))


class Projection(nn.Linear):
    """Standardisation, then a linear map into the shared space (Eq. 3)."""

    mean: Tensor
    spread: Tensor

    def __init__(self, n_features: int, n_components: int) -> None:
        super().__init__(n_features, n_components)
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("spread", torch.ones(n_features))

    def standardize(self, features: NDArray[np.float32]) -> None:
        """Set shift and scale so that these features get mean zero and mean variance one.

        One scale for all columns: how much each column varies is information of the encoder.
        """
        spread = math.sqrt(features.var(axis=0, dtype=np.float64).mean())
        # Features that never vary have rounding errors for a spread.
        rounding = 10 * np.finfo(np.float32).eps * np.abs(features).max()
        varies = spread > max(float(rounding), 1e-38)  # what float32 holds in full
        self.mean.copy_(torch.as_tensor(features.mean(axis=0, dtype=np.float64)))
        self.spread.fill_(spread if varies else 1.0)

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
    feedback : bool
        Whether to tell liked items from others in a history.
    n_components, id_dim, n_heads, click_score, residual, causal, max_length, dropout, normalize
        As of `SteinAligner`.

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
        click_score: ClickScore = "affinity",
        dropout: float = 0.0,
        normalize: bool = True,
        feedback: bool = False,
    ) -> None:
        super().__init__()
        for name, size in {"n_components": n_components, "id_dim": id_dim}.items():
            if size % n_heads:
                raise ValueError(f"n_heads={n_heads} must divide {name}={size}.")
        self.n_components, self.residual = n_components, residual
        self.causal, self.max_length = causal, max_length
        self.click_score, self.normalize = click_score, normalize
        looks: dict[str, Any] = {"causal": causal, "window": max_length}
        d = n_components
        names = list(modality_sizes)
        self.modality_sizes = dict(modality_sizes)
        self.dropout = Dropout(dropout)
        self.projections = nn.ModuleList(Projection(modality_sizes[m], d) for m in names)
        self.id_embedding = nn.Embedding(n_ids + 1, id_dim)
        self.feedback_embedding = nn.Embedding(3, id_dim, padding_idx=0) if feedback else None
        # What only weighs the items in the mean is not trained where the mean is not scored.
        weighs = feedback and click_score == "affinity"
        self.feedback_gain = nn.Embedding(3, d, padding_idx=0) if weighs else None
        if self.feedback_gain is not None:
            nn.init.zeros_(self.feedback_gain.weight)
        self.id_attention = RaggedAttention(id_dim, id_dim, id_dim, n_heads, **looks)
        self.id_norm = nn.LayerNorm(id_dim)
        self.id_projection = None if names else nn.Linear(id_dim, d)
        self.fusions = nn.ModuleList(RaggedAttention(d, d, d, n_heads, **looks) for _ in names[1:])
        self.fusion_norms = nn.ModuleList(nn.LayerNorm(d) for _ in names[1:])
        self.id_fusion = RaggedAttention(d, id_dim, d, n_heads, **looks)
        self.id_fusion_norm = nn.LayerNorm(d)
        n_out = d if click_score == "affinity" else 1
        self.feed_forward = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, n_out))
        if click_score == "affinity":
            self.scale = nn.Parameter(torch.tensor(1.0))
            self.user_bias = nn.Linear(d, 1)
            self.item_bias = nn.Linear(d, 1, bias=False)
            for parameter in (*self.user_bias.parameters(), *self.item_bias.parameters()):
                nn.init.zeros_(parameter)
        nn.init.normal_(self.id_embedding.weight, std=0.1)
        with torch.no_grad():
            self.id_embedding.weight[OUT_OF_VOCABULARY] = 0.0

    @property
    def reach(self) -> int:
        """Number of the last items of a history on which the user embedding depends.

        Every layer of causal attention looks back one window: the two that ids go through, the
        chain in which modalities query each other; then the mean (Eq. 13) over a window.
        """
        return (self.context if self.causal else 0) + self.max_length

    @property
    def context(self) -> int:
        """Number of the last items of a history on which the score of a target after it depends."""
        n_layers = max(2, len(self.fusions)) if self.causal else 1
        return n_layers * (self.max_length - 1)

    def extend_ids(self, n_new: int) -> None:
        """Make room for further known items; they start where unknown items are."""
        table = self.id_embedding
        new = table.weight[OUT_OF_VOCABULARY].detach().repeat(n_new, 1)
        table.weight = nn.Parameter(torch.cat([table.weight.detach(), new]))
        table.num_embeddings += n_new

    def project(self, features: list[Tensor]) -> list[Tensor]:
        """Return each modality's projection, shape (n_items, n_components): Eq. 3."""
        return [project(x) for project, x in zip(self.projections, features)]

    def forward(self, items: ItemBatch, sequences: PackedSequences) -> tuple[Tensor, Tensor]:
        """Return the embeddings of single items, and the user embedding of every row (Eq. 13)."""
        embedding = self.encode(items, sequences)
        users = prefix_means(embedding, sequences.end, sequences.length)
        return embedding[: sequences.n_singles], users

    def encode(self, items: ItemBatch, sequences: PackedSequences) -> Tensor:
        """Return the embedding of every position, shape (n_positions, n_components).

        It is what Eq. 12 makes of it, or, if that is the score, the output of Eq. 11.
        """
        item, feedback, buckets = sequences.item, sequences.feedback, sequences.buckets
        e = self.dropout(self.id_embedding(items.ids)).index_select(0, item)
        if feedback is not None and self.feedback_embedding is not None:
            e = e + self.feedback_embedding(feedback)
        z = self.id_attention(e, e, buckets)  # Eq. 4
        if self.residual:
            z = self.id_norm(e + self.dropout(z))
        x = self._fuse(items, e, sequences)
        attended = self.id_fusion(x, z, buckets)  # Eq. 11
        x = self.id_fusion_norm(x + self.dropout(attended)) if self.residual else attended
        if self.click_score == "affinity":  # Eq. 12
            x = x + self.dropout(self.feed_forward(x)) if self.residual else self.feed_forward(x)
        if feedback is not None and self.feedback_gain is not None:
            x = x * (1.0 + GAIN_SPEED * self.feedback_gain(feedback))
        return x

    def _fuse(self, items: ItemBatch, e: Tensor, sequences: PackedSequences) -> Tensor:
        """Let each modality query what was fused before it (image queries text): Eq. 9-10."""
        if self.id_projection is not None:
            return self.id_projection(e)
        projected = (self.dropout(h) for h in impute_missing(items))
        fused, *others = (h.index_select(0, sequences.item) for h in projected)
        for h, attention, norm in zip(others, self.fusions, self.fusion_norms):
            fused = norm(h + self.dropout(attention(h, fused, sequences.buckets)))
        return fused

    def mask_ids(self, ids: Tensor) -> Tensor:
        """Replace some rows of the id embedding by that of unknown ids, in training."""
        if not self.training:
            return ids
        number = torch.rand(len(ids), generator=self.dropout.generator, device=ids.device)
        return ids.masked_fill(number < self.dropout.p, OUT_OF_VOCABULARY)

    def affinity(self, user: Tensor, item: Tensor) -> Tensor:
        """Return the log-odds of a click, shape (n_rows,), of ``click_score="affinity"``.

        One scale for all dimensions, so that training shapes the cosine in the space; what depends
        on the user alone or the item alone goes into the biases.
        """
        affinity = self.scale * (user * item).mean(1)
        return affinity + (self.user_bias(user) + self.item_bias(item)).squeeze(1)

    def score_targets(self, items: ItemBatch, sequences: PackedSequences) -> Tensor:
        """Return the log-odds of a click, shape (n_rows,), of ``click_score="network"``: Eq. 12.

        Each row has a sequence of its own, which ends with its target.
        """
        embedding = self.encode(items, sequences).index_select(0, sequences.end - 1)
        return self.feed_forward(embedding).squeeze(1)


def impute_missing(items: ItemBatch) -> list[Tensor]:
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
    running = F.pad(embedding.double().cumsum(0), (0, 0, 1, 0))
    total = running.index_select(0, end) - running.index_select(0, end - length)
    return (total / length.clamp_min(1)[:, None]).to(embedding.dtype)
