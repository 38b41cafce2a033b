"""The modality-alignment network: Eq. 3-4 and 9-13 of arXiv 2509.01184.

With ``causal=True`` position t of a sequence depends on positions up to t, within a window, and
on nothing else in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from skmars.alignment._attention import RaggedAttention
from skmars.alignment._packing import Part
from skmars.alignment._parameters import ClickScore

OUT_OF_VOCABULARY = 0
# Adam moves a parameter by about the learning rate a step. This factor lets the weight of disliked
# items change its sign within an epoch rather than a whole training.
GAIN_SPEED = 10.0

# What the network makes of each item, or reads at each position, by name.
States = dict[str, Tensor]


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
        return self.apply_mask(x, self.draw(x.shape, x.device)) if self.active else x

    @property
    def active(self) -> bool:
        """Whether it drops anything at present."""
        return self.training and self.p > 0

    def draw(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Draw what decides about numbers of this shape: a random byte each, or their factors."""
        if device.type != "cpu":
            kept = torch.empty(tuple(shape), device=device)
            return kept.bernoulli_(1 - self.p, generator=self.generator).div_(1 - self.p)
        n = math.prod(shape)
        words = torch.empty(-(-n // 8), dtype=torch.int64)
        words.random_(-(2**63), None, generator=self.generator)
        return words.view(torch.uint8)[:n].view(tuple(shape))

    def apply_mask(self, x: Tensor, drawn: Tensor | None) -> Tensor:
        """Drop the numbers of `x` that were drawn; None drops nothing."""
        if drawn is None:
            return x
        if drawn.dtype != torch.uint8:
            return x * drawn
        threshold = min(max(round(256 * self.p), 1), 255)
        return x * (drawn >= threshold).to(x.dtype).mul_(256 / (256 - threshold))


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
    def _fusions(self) -> list[RaggedAttention]:
        return cast("list[RaggedAttention]", list(self.fusions))

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

    def used_parameters(self) -> list[nn.Parameter]:
        """Return the parameters on which the loss can depend."""
        unused = () if self.residual else ("id_norm.", "id_fusion_norm.")
        return [p for name, p in self.named_parameters() if not name.startswith(unused)]

    def extend_ids(self, n_new: int) -> None:
        """Make room for further known items; they start where unknown items are."""
        table = self.id_embedding
        new = table.weight[OUT_OF_VOCABULARY].detach().repeat(n_new, 1)
        table.weight = nn.Parameter(torch.cat([table.weight.detach(), new]))
        table.num_embeddings += n_new

    def project(self, features: list[Tensor]) -> list[Tensor]:
        """Return each modality's projection, shape (n_items, n_components): Eq. 3."""
        return [project(x) for project, x in zip(self.projections, features)]

    def draw(self, n_items: int, n_positions: int, device: torch.device) -> States:
        """Draw the dropout of a batch, by the name of what it drops; nothing but in training."""
        if not self.dropout.active:
            return {}
        i, d, n_modalities = (
            self.id_embedding.embedding_dim,
            self.n_components,
            len(self.projections),
        )
        sizes = {"id": (n_items, i)}
        if self.residual:
            sizes["id attended"] = (n_positions, i)
        sizes |= {f"content {k}": (n_items, d) for k in range(n_modalities)}
        sizes |= {f"fused {k}": (n_positions, d) for k in range(1, n_modalities)}
        if self.residual:
            sizes["attended"] = (n_positions, d)
            if self.click_score == "affinity":
                sizes["output"] = (n_positions, d)
        return {name: self.dropout.draw(size, device) for name, size in sizes.items()}

    def item_states(self, items: ItemBatch, id_rows: Tensor, drawn: States) -> States:
        """Return all that positions read of their item, whatever stands around it.

        `id_rows` are the rows of the id embedding. What is linear in the item alone, most queries,
        keys and values, is computed once an item and not once a position.
        """
        dropped = self.dropout.apply_mask
        e = dropped(id_rows, drawn.get("id"))
        states = {
            "id": e,
            "id query": self.id_attention.query(e),
            "id key_value": self.id_attention.key_value(e),
        }
        projected = [
            dropped(h, drawn.get(f"content {k}")) for k, h in enumerate(impute_missing(items))
        ]
        if len(projected) == 1:
            return states | {"content": projected[0]}
        for k, attention in enumerate(self._fusions, 1):
            states[f"content {k}"] = projected[k]
            states[f"query {k}"] = attention.query(projected[k])
        if projected:
            states["key_value 1"] = self._fusions[0].key_value(projected[0])
        return states

    def read_states(self, states: States, items: Tensor, alone: bool) -> States:
        """Return the states of the items at some positions.

        `alone` means that each position is a sequence, of which no query or key matters.
        """
        return {
            name: state.index_select(0, items)
            for name, state in self.read_columns(states, alone).items()
        }

    def read_columns(self, states: States, alone: bool) -> States:
        """Return what positions read of states of items, or of the gradients at these: views."""
        if not alone:
            return states
        return {
            name: state[:, state.shape[1] // 2 :] if "key_value" in name else state
            for name, state in states.items()
            if "query" not in name
        }

    def encode(self, states: States, part: Part, feedback: Tensor | None, drawn: States) -> Tensor:
        """Return the embedding of each position of a part, shape (n_positions, n_components).

        It is what Eq. 12 makes of it, or, if that is the score, the output of Eq. 11. `states` are
        those that its positions read, `feedback` and `drawn` those of its positions.
        """
        dropped = self.dropout.apply_mask
        e, z = self._attend_ids(states, part, feedback)  # Eq. 4
        if self.residual:
            z = self.id_norm(e + dropped(z, drawn.get("id attended")))
        x = self._fuse(states, e, part, drawn)
        attended = self._attend(self.id_fusion, x, z, part)  # Eq. 11
        if self.residual:
            x = self.id_fusion_norm(x + dropped(attended, drawn.get("attended")))
        else:
            x = attended
        if self.click_score == "affinity":  # Eq. 12
            out = self.feed_forward(x)
            x = x + dropped(out, drawn.get("output")) if self.residual else out
        if feedback is not None and self.feedback_gain is not None:
            x = x * (1.0 + GAIN_SPEED * self.feedback_gain(feedback))
        return x

    def _attend_ids(
        self, states: States, part: Part, feedback: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        e, attention, width = states["id"], self.id_attention, self.id_embedding.embedding_dim
        query, key_value = states.get("id query"), states["id key_value"]
        if feedback is not None and self.feedback_embedding is not None:
            # What is linear in the sum of two embeddings is the sum of what it is of each.
            told = self.feedback_embedding(torch.arange(3, device=feedback.device))
            e = e + F.embedding(feedback, told)
            weight = attention.key_value.weight[-key_value.shape[1] :]
            key_value = key_value + F.embedding(feedback, told @ weight.T)
            if query is not None:
                query = query + F.embedding(feedback, told @ attention.query.weight.T)
        if query is None:
            return e, attention.out(key_value[:, -width:])
        return e, attention.out(attention.attend(query, key_value, part.buckets))

    def _attend(
        self, attention: RaggedAttention, query: Tensor, memory: Tensor, part: Part
    ) -> Tensor:
        if part.alone:
            return attention.out(attention.values(memory))
        return attention(query, memory, part.buckets)

    def _fuse(self, states: States, e: Tensor, part: Part, drawn: States) -> Tensor:
        """Let each modality query what was fused before it (image queries text): Eq. 9-10."""
        if self.id_projection is not None:
            return self.id_projection(e)
        if "content" in states:
            return states["content"]
        fused = e
        for k, (attention, norm) in enumerate(zip(self._fusions, self.fusion_norms), 1):
            values = states["key_value 1"] if k == 1 else None
            if part.alone:
                attended = attention.values(fused) if values is None else values
            else:
                values = attention.key_value(fused) if values is None else values
                attended = attention.attend(states[f"query {k}"], values, part.buckets)
            attended = self.dropout.apply_mask(attention.out(attended), drawn.get(f"fused {k}"))
            fused = norm(states[f"content {k}"] + attended)
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

    def score(self, embedding: Tensor, part: Part) -> Tensor:
        """Return the log-odds of a click, shape (n_rows,), of ``click_score="network"``: Eq. 12.

        Each row has a sequence of its own, which ends with its target.
        """
        return self.feed_forward(embedding.index_select(0, part.end - 1)).squeeze(1)


def impute_missing(items: ItemBatch) -> list[Tensor]:
    """Give an item that lacks a modality the mean of those it has: they share one space."""
    present = torch.stack(items.present, 1) if items.present else torch.ones((0, 0))
    lacking = torch.nonzero(~present.all(1)).squeeze(1)
    if not len(lacking):
        return items.projected
    there = present[lacking].T[:, :, None]
    projected = torch.stack([h.index_select(0, lacking) for h in items.projected])
    mean = (projected * there).sum(0) / there.sum(0).clamp_min(1)
    imputed = torch.where(there, projected, mean)
    return [h.index_copy(0, lacking, new) for h, new in zip(items.projected, imputed)]


def prefix_means(embedding: Tensor, end: Tensor, length: Tensor) -> Tensor:
    """Return the mean of the `length` positions before `end`, zero where length is 0: Eq. 13.

    A running sum serves all prefixes. In float64, so that a short prefix late among many positions
    loses nothing to the size of the sum.
    """
    return _PrefixMeans.apply(embedding, end, length)


class _PrefixMeans(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, embedding: Tensor, end: Tensor, length: Tensor) -> Tensor:  # type: ignore[override]
        n, width = embedding.shape
        running = torch.zeros((n + 1, width), dtype=torch.float64, device=embedding.device)
        torch.cumsum(embedding, 0, dtype=torch.float64, out=running[1:])
        total = running.index_select(0, end).sub_(running.index_select(0, end - length))
        share = 1.0 / length.clamp_min(1).to(torch.float64)[:, None]
        ctx.save_for_backward(end, length, share)
        ctx.n = n
        return total.mul_(share).to(embedding.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_mean: Tensor) -> Any:  # type: ignore[override]
        end, length, share = ctx.saved_tensors
        d_total = d_mean * share  # in float64
        at = d_total.new_zeros((ctx.n + 1, d_mean.shape[1]))
        at.index_add_(0, end - length, d_total).index_add_(0, end, d_total, alpha=-1)
        # Each position is in the means that begin at or before it, but not in those that end there.
        return at.cumsum_(0)[:-1].to(d_mean.dtype), None, None
