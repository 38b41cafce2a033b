"""The Deep Interest Network on ragged batches. Knows nothing of scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skmars.ctr.attention import AttentionPooling, Perceptron
from skmars.ctr.batches import N_FEEDBACK, UNKNOWN_FEEDBACK, Batch

# As small as in the public implementations: larger initial embeddings are noise that a few epochs
# do not unlearn (AUC -0.003 on MovieLens-1M, far more on small logs).
EMBEDDING_STD = 1e-3


class DINNetwork(nn.Module):
    """Scores (logits) of impressions.

    A perceptron on user interest, target embedding, their product, the interest in borrowed
    items, and the context. Without items it is that perceptron on the context alone.

    Parameters
    ----------
    n_dense : int
        Numeric context features.
    n_categories : sequence of int
        Number of categories of each categorical context feature.
    n_items : int or None
        Items with an id embedding of their own; None for rows without target and history.
    item_features : mapping of str to int
        Width of each item feature matrix that is projected and joins the id embedding.
    embedding_dim : int
        Width of id, projected feature and category embeddings.
    attention_units, hidden_units : sequence of int
        Hidden layers of the activation unit and of the head.
    activation, attention_normalization : str
        See `skmars.ctr.attention`.
    feedback : bool
        History items carry feedback, for which an embedding is added to theirs.
    borrowed : {None, "separate", "marked"}
        Borrowed items have a pool of their own, or a provenance embedding is added to theirs.
    activity_feature : bool
        The head sees the logarithm of the length of the user's own history.
    """

    # Row 0 of every embedding table stands for whatever was not there in training.
    def __init__(
        self,
        *,
        n_dense: int = 0,
        n_categories: Sequence[int] = (),
        n_items: int | None = None,
        item_features: Mapping[str, int] | None = None,
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
        width = n_dense + embedding_dim * len(n_categories)
        self.items: nn.Embedding | None = None
        self.activity_feature = activity_feature
        if n_items is not None:
            self.items = _embedding(n_items + 1, embedding_dim)
            # Without bias: an item that lacks a modality (a row of zeros) gets zeros from it.
            self.projections = nn.ModuleDict(
                {
                    k: nn.Linear(d, embedding_dim, bias=False)
                    for k, d in (item_features or {}).items()
                }
            )
            item_dim = embedding_dim * (1 + len(self.projections))
            self.feedback = _vectors(N_FEEDBACK, item_dim) if feedback else None
            self.provenance = _vectors(2, item_dim) if borrowed == "marked" else None
            # How well a borrowed item fits (Eq. 16), times a vector: own items have none.
            has_similarity = borrowed in ("separate", "marked")
            self.similarity = _vectors(1, item_dim) if has_similarity else None
            pooling = (item_dim, attention_units, activation, attention_normalization)
            self.interest = AttentionPooling(*pooling)
            self.borrowed = AttentionPooling(*pooling) if borrowed == "separate" else None
            width += item_dim * (4 if borrowed == "separate" else 3) + activity_feature
        self.head = Perceptron(width, hidden_units, activation)

    def forward(
        self,
        batch: Batch,
        item_features: Mapping[str, Tensor] | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return the logit of each row.

        Parameters
        ----------
        batch : Batch of tensors
        item_features : mapping of str to Tensor of shape (n_catalogue, width)
            Item features, rows selected by ``batch.codes``.
        weight : Tensor of shape (n_rows,), optional
            Row weights in the batch statistics.

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        parts = [batch.dense]
        parts += [table(batch.categorical[:, j]) for j, table in enumerate(self.categories)]
        if self.items is not None:
            parts = self._interests(batch, item_features or {}, weight) + parts
        logit: Tensor = self.head(torch.cat(parts, dim=1), weight)
        return logit.squeeze(1)

    def _interests(
        self, batch: Batch, item_features: Mapping[str, Tensor], weight: Tensor | None
    ) -> list[Tensor]:
        item = self.item_embedding(batch.items, batch.codes, item_features)
        target = item.index_select(0, batch.target)
        # All (item, feedback, provenance) triples of the batch are embedded once; a position
        # then only has to look up its triple.
        tag = self._tags(item)
        key = (item[:, None] + tag).flatten(0, 1)

        def pool(pooling: AttentionPooling, bag: Any) -> Tensor:
            at = bag.item * len(tag)
            if self.feedback is not None:
                at = at + bag.feedback * (len(tag) // N_FEEDBACK)
            if self.provenance is not None:
                at = at + bag.borrowed
            keys = key.index_select(0, at)
            if self.similarity is not None and bag.similarity is not None:
                keys = torch.addcmul(keys, bag.similarity[:, None], self.similarity)
            out: Tensor = pooling(target, keys, bag.row, bag.length, weight)
            return out

        interest = pool(self.interest, batch.history)
        parts = [interest, target, interest * target]
        if self.borrowed is not None:
            if batch.borrowed is None:
                parts.append(torch.zeros_like(interest))
            else:
                parts.append(pool(self.borrowed, batch.borrowed))
        if self.activity_feature:
            parts.append(torch.log1p(batch.length.to(target.dtype))[:, None])
        return parts

    def item_embedding(
        self, items: Tensor, codes: Tensor, item_features: Mapping[str, Tensor]
    ) -> Tensor:
        """Embed distinct items: id embedding, then one projection a feature matrix."""
        assert self.items is not None
        parts = [self.items(items)]
        for name, projection in self.projections.items():
            rows = item_features[name].index_select(0, codes).to(parts[0].dtype)
            parts.append(projection(F.normalize(rows, dim=1)))
        return torch.cat(parts, dim=1)

    def _tags(self, like: Tensor) -> Tensor:
        tag = like.new_zeros((1, like.shape[1]))
        if self.feedback is not None:
            tag = self.feedback
        if self.provenance is not None:
            tag = (tag[:, None] + self.provenance).flatten(0, 1)
        return tag

    def penalty(
        self, batch: Batch, item_count: Tensor, category_counts: Sequence[Tensor]
    ) -> Tensor:
        r"""Mini-batch aware regularisation (DIN, Eq. 6), to be scaled by lambda.

        .. math:: \frac{1}{2} \sum_{j \in batch} \frac{1}{n_j} \lVert w_j \rVert^2

        over the distinct ids `j` of the batch, `n_j` their count in training: its gradient is
        the published update, and touches no embedding that the batch does not.
        """
        terms = [self.head.output.bias.new_zeros(())]
        if self.items is not None:
            terms.append(_penalty(self.items(batch.items), item_count[batch.items]))
        for j, (table, count) in enumerate(zip(self.categories, category_counts)):
            ids = batch.categorical[:, j].unique()
            terms.append(_penalty(table(ids), count[ids]))
        return torch.stack(terms).sum()

    @torch.no_grad()
    def settle(self, feedback_count: Any = None) -> None:
        """Give what training never saw a sane vector: the mean of what it saw.

        Row 0 of each table becomes the mean of its other rows. Where all feedback was known
        (`feedback_count` of codes 0, 1, 2), unknown feedback becomes the mean of the known.
        """
        for table in [self.items, *self.categories]:
            if table is not None and len(table.weight) > 1:
                table.weight[0] = table.weight[1:].mean(dim=0)
        if self.items is not None and self.feedback is not None and feedback_count is not None:
            known = torch.as_tensor(feedback_count[:UNKNOWN_FEEDBACK]).to(self.feedback)
            if feedback_count[UNKNOWN_FEEDBACK] == 0 and known.sum() > 0:
                mean = (known / known.sum()) @ self.feedback[:UNKNOWN_FEEDBACK]
                self.feedback[UNKNOWN_FEEDBACK] = mean

    @torch.no_grad()
    def add_items(self, n_new: int) -> None:
        """Append rows to the item table; a new item begins as the unknown one."""
        if self.items is None or n_new == 0:
            return
        old = self.items.weight
        table = nn.Embedding.from_pretrained(
            torch.cat([old, old[:1].expand(n_new, -1)]), freeze=False, sparse=True
        )
        self.items = table


def _embedding(n: int, width: int) -> nn.Embedding:
    # Sparse gradients: a step costs what the batch touches, not what the table holds.
    table = nn.Embedding(n, width, sparse=True)
    nn.init.normal_(table.weight, std=EMBEDDING_STD)
    return table


def _vectors(n: int, width: int) -> nn.Parameter:
    return nn.Parameter(EMBEDDING_STD * torch.randn(n, width))


def _penalty(rows: Tensor, count: Tensor) -> Tensor:
    return 0.5 * (rows.square().sum(dim=1) / count.clamp(min=1)).sum()


def to_tensors(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Return a batch with its arrays as tensors (floats in the network's `dtype`)."""
    if value is None:
        return None
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: to_tensors(getattr(value, f.name), device, dtype) for f in fields(value)}
        return replace(value, **parts)
    # Slices of memory-mapped input are not writable, which torch warns of.
    tensor = torch.from_numpy(value if value.flags.writeable else value.copy())
    return tensor.to(device, dtype if tensor.is_floating_point() else torch.int64)
