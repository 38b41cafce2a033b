"""The Deep Interest Network on ragged batches. Knows nothing of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from skmars.baselines._auxiliary import FeatureLookup, Positions
from skmars.ctr._batches import N_FEEDBACK, Batch, Entries, RaggedItems, Representation
from skmars.ctr._layers import AttentionPooling, Perceptron
from skmars.ctr._row_encoder import EncodedRows
from skmars.ctr._together import own_rows, row_work
from skmars.utils._segments import segment_sum
from skmars.utils._threads import one_thread_each
from skmars.utils._torch import resolve_device
from skmars.utils._worker_group import WorkerGroup

# As small as in the public implementations: larger initial embeddings are noise that a few epochs
# do not unlearn (AUC -0.003 on MovieLens-1M, far more on small logs).
EMBEDDING_STD = 1e-3

T = TypeVar("T")
# Where the parameter `device` leads, without asking the driver in every call.
known_device = lru_cache(resolve_device)


class DINNetwork(nn.Module):
    """Scores (logits) of impressions.

    A perceptron on user interest, target embedding, their product, the interest in borrowed
    items, and the context; some of the context may pass it by and join its logit after training
    (`fusion`). Without items it is that perceptron on the context alone.

    Parameters
    ----------
    n_dense, n_linear : int
        Numeric context features; so many of them, the last ones, pass the network by.
    n_categories : sequence of int
        Number of categories of each categorical context feature.
    n_items : int or None
        Items with an id embedding of their own; None for rows without target and history.
    item_features : mapping of str to int
        Width of each item feature matrix that is projected and joins the id embedding.
    item_attributes, user_attributes : sequence of (int or None)
        Number of categories of each attribute, None for numbers. Embedded, those of items join the
        id embedding, those of users the context.
    embedding_dim, attention_units, hidden_units, activation, activity_feature
        See `DINClassifier`.
    attention_normalization : {None, "softmax", "sqrt"}
        See `AttentionPooling`.
    feedback : bool
        History items carry feedback, for which an embedding is added to theirs.
    borrowed : {None, "separate", "marked"}
        Borrowed items have a pool of their own, or a provenance embedding is added to theirs.
    """

    fusion: Tensor

    # Row 0 of every embedding table stands for whatever was not there in training.
    def __init__(
        self,
        *,
        n_dense: int = 0,
        n_linear: int = 0,
        n_categories: Sequence[int] = (),
        n_items: int | None = None,
        item_features: Mapping[str, int] | None = None,
        item_attributes: Sequence[int | None] = (),
        user_attributes: Sequence[int | None] = (),
        embedding_dim: int = 10,
        attention_units: Sequence[int] = (80, 40),
        hidden_units: Sequence[int] = (200, 80),
        activation: str = "dice",
        attention_normalization: str | None = None,
        feedback: bool = False,
        borrowed: str | None = None,
        activity_feature: bool = False,
    ) -> None:
        super().__init__()
        self.categories = nn.ModuleList(_embedding(n + 1, embedding_dim) for n in n_categories)
        # Bias, weight of the logit, weight of each column: see `skmars.ctr._fusion`.
        self.register_buffer("fusion", logit_alone(n_linear))
        width = n_dense - n_linear + embedding_dim * len(n_categories)
        self.items: nn.Embedding | None = None
        self.activity_feature = activity_feature
        self.auxiliary: nn.Module | None = None
        if n_items is not None:
            self.items = _embedding(n_items + 1, embedding_dim)
            # Without bias: an item that lacks a modality (a row of zeros) gets zeros from it.
            widths = (item_features or {}).items()
            self.projections = nn.ModuleDict(
                {name: nn.Linear(n, embedding_dim, bias=False) for name, n in widths}
            )
            self.item_attributes = _attributes(item_attributes, embedding_dim)
            self.user_attributes = _attributes(user_attributes, embedding_dim)
            n_parts = 1 + len(self.projections) + len(self.item_attributes)
            self.item_dim = item_dim = embedding_dim * n_parts
            self.feedback = _vectors(N_FEEDBACK, item_dim) if feedback else None
            self.provenance = _vectors(2, item_dim) if borrowed == "marked" else None
            # How well a borrowed item fits (Eq. 16), times a vector: own items have none.
            has_similarity = borrowed in ("separate", "marked")
            self.similarity = _vectors(1, item_dim) if has_similarity else None
            pooling = (item_dim, attention_units, activation, attention_normalization)
            self.interest = AttentionPooling(*pooling)
            self.borrowed = AttentionPooling(*pooling) if borrowed == "separate" else None
            width += item_dim * (4 if borrowed == "separate" else 3) + activity_feature
            width += embedding_dim * len(self.user_attributes)
        self.head = Perceptron(width, hidden_units, activation)

    @property
    def n_linear(self) -> int:
        return len(self.fusion) - 2

    @property
    def tables(self) -> list[nn.Embedding | None]:
        """All embedding tables: of items, context, and attributes (None for numbers)."""
        context: list[Any] = [*self.categories]
        if self.items is None:
            return context
        attributes: list[Any] = [*self.item_attributes, *self.user_attributes]
        return [self.items, *context, *(each.table for each in attributes)]

    def forward(
        self,
        batch: Batch[Tensor],
        item_features: FeatureLookup | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return the logit of each row, shape (n_rows,).

        Parameters
        ----------
        batch : Batch of tensors
        item_features : callable, optional
            Gives the features of that name of ``batch.codes``, see `FeatureLookup`.
        weight : Tensor of shape (n_rows,), optional
            Row weights in the batch statistics.
        """
        return self.score(self.represent(batch, item_features, weight), weight)

    def represent(
        self,
        batch: Batch[Tensor],
        item_features: FeatureLookup | None = None,
        weight: Tensor | None = None,
        mix: Callable[[Tensor], Tensor] | None = None,
    ) -> Representation:
        """Return what the head reads; parameters are those of `forward`.

        `mix` changes the embedded positions of ``batch.history``, of shape (n_positions, item_dim),
        before they are pooled.
        """
        dense, linear = batch.dense, None
        if self.n_linear:
            dense, linear = dense.tensor_split([-self.n_linear], dim=1)
        context = [dense]
        context += [table(batch.categorical[:, j]) for j, table in enumerate(self.categories)]
        if self.items is None:
            return Representation(torch.cat(context, dim=1), linear=linear)
        assert batch.items is not None
        assert batch.codes is not None
        assert batch.target is not None
        assert batch.length is not None
        assert batch.history is not None
        item = self.item_embedding(batch.items, batch.codes, item_features)
        target, tagged = item.index_select(0, batch.target), self._tagged(item)

        def pool(
            pooling: AttentionPooling, positions: RaggedItems[Tensor], key: Tensor, at: Any
        ) -> Tensor:
            pooled: Tensor = pooling(target, key, positions.row, positions.length, weight, at)
            return pooled

        key, at = self._look_up(tagged, batch.history)
        if mix is not None:
            key, at = mix(key if at is None else key.index_select(0, at)), None
        if batch.n_sharing is None:
            interest = pool(self.interest, batch.history, key, at)
        else:
            interest = self.interest.shared(target, key, batch.n_sharing, batch.history.length, at)
        product, borrowed = interest * target, None
        if self.borrowed is not None:
            borrowed = torch.zeros_like(interest)
            if batch.borrowed is not None:
                borrowed = pool(
                    self.borrowed, batch.borrowed, *self._look_up(tagged, batch.borrowed)
                )
        if self.activity_feature:
            context.insert(0, torch.log1p(batch.length.to(target.dtype))[:, None])
        context += [table(a) for table, a in zip(self.user_attributes, batch.user_attributes)]
        seen = torch.cat(context, dim=1)
        return Representation(seen, interest, target, product, borrowed, linear)

    def score(self, seen: Representation, weight: Tensor | None = None) -> Tensor:
        """Return the logit of each row from what the head reads (when training, of that alone)."""
        parts = [seen.interest, seen.target, seen.product, seen.borrowed, seen.context]
        x = torch.cat([part for part in parts if part is not None], dim=1)
        logit: Tensor = self.head(x, weight).squeeze(1)
        return logit if self.training else self.fuse(logit, seen)

    def fuse(self, logit: Tensor, seen: Representation) -> Tensor:
        """Return the calibrated logit, which the columns have joined that pass the network by."""
        bias, deep = self.fusion[:2]
        logit = bias + deep * logit
        return logit if seen.linear is None else torch.addmv(logit, seen.linear, self.fusion[2:])

    def keys(
        self,
        items: Tensor,
        codes: Tensor,
        positions: Positions[Tensor],
        item_features: FeatureLookup | None = None,
    ) -> Tensor:
        """Embed history positions, shape (n_positions, item_dim): item, feedback and provenance.

        Parameters
        ----------
        items, codes : LongTensor of shape (n_distinct,)
            The distinct items, see `Batch`.
        positions : RaggedItems, or what has the same attributes
        item_features : callable, optional
            As for `forward`.
        """
        item = self.item_embedding(items, codes, item_features)
        key, at = self._look_up(self._tagged(item), positions)
        return key if at is None else key.index_select(0, at)

    def item_embedding(
        self, items: Tensor, codes: Tensor, item_features: FeatureLookup | None = None
    ) -> Tensor:
        """Embed distinct items: id embedding, a projection a feature matrix, then attributes."""
        assert self.items is not None
        parts = [self.items(items)]
        for name, projection in self.projections.items():
            assert item_features is not None
            # What was centred has unit length; item factors and the aligned embedding get it here.
            rows = item_features(name, codes).to(parts[0].dtype)
            parts.append(projection(F.normalize(rows, dim=1)))
        if len(self.item_attributes):
            lookup: Any = item_features
            parts += [
                table(entries)
                for table, entries in zip(self.item_attributes, lookup.attributes(codes))
            ]
        return torch.cat(parts, dim=1)

    def _tagged(self, item: Tensor) -> Tensor:
        # All (item, feedback, provenance) triples of the batch are embedded once; a position
        # then only has to look up its triple.
        tag = item.new_zeros((1, item.shape[1]))
        if self.feedback is not None:
            tag = self.feedback
        if self.provenance is not None:
            tag = (tag[:, None] + self.provenance).flatten(0, 1)
        return item[:, None] + tag

    def _look_up(
        self, tagged: Tensor, positions: Positions[Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Return keys, and which of them each position has; None for one each, in order."""
        n_tags = tagged.shape[1]
        at = positions.item * n_tags
        if self.feedback is not None:
            at = at + positions.feedback * (n_tags // N_FEEDBACK)
        if self.provenance is not None:
            at = at + positions.borrowed
        key = tagged.flatten(0, 1)
        similarity: Tensor | None = getattr(positions, "similarity", None)
        if self.similarity is None or similarity is None:
            return key, at
        return torch.addcmul(key.index_select(0, at), similarity[:, None], self.similarity), None

    def attach(self, auxiliary: nn.Module | None) -> bool:
        """Train another module along, which scoring does not use.

        It goes on from the one that was there if their weights have the same shapes. Returns
        whether the network's parameters are those of before.
        """
        old, self.auxiliary = self.auxiliary, auxiliary
        shapes = [
            {} if m is None else {name: p.shape for name, p in m.named_parameters()}
            for m in (old, auxiliary)
        ]
        same = shapes[0] == shapes[1]
        if same and old is not None and auxiliary is not None:
            auxiliary.load_state_dict(old.state_dict())
        return same


class AttributeEmbedding(nn.Module):
    """Embeds one attribute: the mean of the vectors of its categories, or a number times a vector.

    Parameters
    ----------
    n_categories : int or None
        None for numbers.
    width : int
    """

    def __init__(self, n_categories: int | None, width: int) -> None:
        super().__init__()
        self.table = None if n_categories is None else _embedding(n_categories + 1, width)
        self.vector = _vectors(1, width) if n_categories is None else None

    def forward(self, entries: Entries[Tensor]) -> Tensor:
        """Embed entries, shape (n_entries, width)."""
        if self.vector is not None:
            return entries.values.to(self.vector.dtype)[:, None] * self.vector
        assert self.table is not None
        rows: Tensor = self.table(entries.values)
        if entries.length is None:
            return rows
        return segment_sum(rows, entries.length) / entries.length[:, None]


def logit_alone(n_linear: int) -> Tensor:
    """Return the fusion that leaves a logit as it is."""
    return torch.eye(2, n_linear + 2)[1]


def _embedding(n: int, width: int) -> nn.Embedding:
    # Sparse gradients: a step costs what the batch touches, not what the table holds.
    table = nn.Embedding(n, width, sparse=True)
    nn.init.normal_(table.weight, std=EMBEDDING_STD)
    return table


def _attributes(n_categories: Sequence[int | None], width: int) -> nn.ModuleList:
    return nn.ModuleList(AttributeEmbedding(n, width) for n in n_categories)


def _vectors(n: int, width: int) -> nn.Parameter:
    return nn.Parameter(EMBEDDING_STD * torch.randn(n, width))


def to_tensors(value: T, device: torch.device, dtype: torch.dtype) -> T:
    """Return a batch with its arrays as tensors (floats in the network's `dtype`)."""
    if value is None:
        return value
    if isinstance(value, tuple):
        tensors: Any = tuple(to_tensors(part, device, dtype) for part in value)
        return tensors
    if not isinstance(value, np.ndarray):
        parts = {k: to_tensors(part, device, dtype) for k, part in vars(value).items()}
        return type(value)(**parts)
    # Slices of memory-mapped input are not writable, which torch warns of.
    array: Any = value
    tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
    result: Any = tensor.to(device, dtype if tensor.is_floating_point() else torch.int64)
    return result


@torch.inference_mode()
def logits(
    network: DINNetwork, rows: EncodedRows, group: WorkerGroup | None = None
) -> NDArray[np.float64]:
    """Return the logit of each row, computed block by block where the network is.

    The processes of a group compute some rows each.
    """
    if network.training:
        network.eval()
    parameter = network.head.output.bias
    result = np.empty(len(rows)) if group is None else np.zeros(len(rows))
    own = slice(None) if group is None else own_rows(row_work(rows), group)
    with one_thread_each():
        for block in rows.blocks(own):
            arrays = rows.batch(block, sharing=True)
            batch: Any = to_tensors(arrays, parameter.device, parameter.dtype)
            result[block] = network(batch, rows.features).cpu().numpy()
    if group is not None:
        group.sum_(torch.from_numpy(result))
    return result
