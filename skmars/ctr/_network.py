"""The Deep Interest Network on ragged batches. Knows nothing of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skmars.ctr._attention import AttentionPooling
from skmars.ctr._batches import N_FEEDBACK, UNKNOWN_FEEDBACK, Batch
from skmars.ctr._perceptron import Perceptron

# As small as in the public implementations: larger initial embeddings are noise that a few epochs
# do not unlearn (AUC -0.003 on MovieLens-1M, far more on small logs).
EMBEDDING_STD = 1e-3


@dataclass(frozen=True)
class Representation:
    """What the head of the network reads of some rows.

    Attributes
    ----------
    context : Tensor of shape (n_rows, n_context)
    interest, target, product : Tensor of shape (n_rows, item_dim), or None
        Pooled history, embedded target, and their product; None for rows without items.
    borrowed : Tensor of shape (n_rows, item_dim), or None
        Pooled borrowed items.
    linear : Tensor of shape (n_rows, n_linear), or None
        What passes the network by.
    """

    context: Tensor
    interest: Tensor | None = None
    target: Tensor | None = None
    product: Tensor | None = None
    borrowed: Tensor | None = None
    linear: Tensor | None = None

    def mixed(self, other: Tensor, share: Tensor) -> Representation:
        """Mix each row with the row at `other`: of itself it keeps `share`.

        Parameters
        ----------
        other : LongTensor of shape (n_rows,)
        share : Tensor of shape (n_rows, 1) or (n_rows, item_dim)
            Context keeps the mean of a row's shares.
        """

        def mix(x: Tensor | None, share: Tensor) -> Any:
            return None if x is None else share * x + (1 - share) * x.index_select(0, other)

        interest, target = mix(self.interest, share), mix(self.target, share)
        return Representation(
            mix(self.context, share.mean(dim=1, keepdim=True)),
            interest,
            target,
            None if interest is None else interest * target,
            mix(self.borrowed, share),
        )


class DINNetwork(nn.Module):
    """Scores (logits) of impressions.

    A perceptron on user interest, target embedding, their product, the interest in borrowed
    items, and the context; some of the context may pass it by and join its logit after training
    (`fusion`). Without items it is that perceptron on the context alone.

    Parameters
    ----------
    n_dense : int
        Numeric context features.
    n_linear : int
        So many of them, the last ones, pass the network by.
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
        See `skmars.ctr._attention`.
    feedback : bool
        History items carry feedback, for which an embedding is added to theirs.
    borrowed : {None, "separate", "marked"}
        Borrowed items have a pool of their own, or a provenance embedding is added to theirs.
    activity_feature : bool
        The head sees the logarithm of the length of the user's own history.
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
            self.projections = nn.ModuleDict(
                {
                    k: nn.Linear(d, embedding_dim, bias=False)
                    for k, d in (item_features or {}).items()
                }
            )
            self.item_dim = item_dim = embedding_dim * (1 + len(self.projections))
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

    @property
    def n_linear(self) -> int:
        return len(self.fusion) - 2

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
            Item features, rows selected by ``batch.codes``; those that folds of users see
            differently have shape ((1 + n_folds) * n_catalogue, width).
        weight : Tensor of shape (n_rows,), optional
            Row weights in the batch statistics.

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        return self.score(self.represent(batch, item_features, weight), weight)

    def represent(
        self,
        batch: Batch,
        item_features: Mapping[str, Tensor] | None = None,
        weight: Tensor | None = None,
        mix: Callable[[Tensor], Tensor] | None = None,
    ) -> Representation:
        """Return what the head reads.

        Parameters
        ----------
        batch, item_features, weight
            As for `forward`.
        mix : callable, optional
            Changes the embedded positions of ``batch.history``, of shape
            (n_positions, item_dim), before they are pooled.

        Returns
        -------
        Representation
        """
        dense, linear = batch.dense, None
        if self.n_linear:
            dense, linear = dense.tensor_split([-self.n_linear], dim=1)
        context = [dense]
        context += [table(batch.categorical[:, j]) for j, table in enumerate(self.categories)]
        if self.items is None:
            return Representation(torch.cat(context, dim=1), linear=linear)
        item = self.item_embedding(batch.items, batch.codes, item_features or {})
        target = item.index_select(0, batch.target)
        tagged = self._tagged(item)

        def pool(pooling: AttentionPooling, bag: Any, key: Tensor) -> Tensor:
            out: Tensor = pooling(target, key, bag.row, bag.length, weight)
            return out

        key = self._look_up(tagged, batch.history)
        interest = pool(self.interest, batch.history, key if mix is None else mix(key))
        product, borrowed = interest * target, None
        if self.borrowed is not None:
            if batch.borrowed is None:
                borrowed = torch.zeros_like(interest)
            else:
                key = self._look_up(tagged, batch.borrowed)
                borrowed = pool(self.borrowed, batch.borrowed, key)
        if self.activity_feature:
            context.insert(0, torch.log1p(batch.length.to(target.dtype))[:, None])
        seen = torch.cat(context, dim=1)
        return Representation(seen, interest, target, product, borrowed, linear)

    def score(self, seen: Representation, weight: Tensor | None = None) -> Tensor:
        """Return the logit of each row from what the head reads (when training, of that alone)."""
        parts = [seen.interest, seen.target, seen.product, seen.borrowed, seen.context]
        x = torch.cat([part for part in parts if part is not None], dim=1)
        logit: Tensor = self.head(x, weight).squeeze(1)
        if self.training:
            return logit
        bias, deep = self.fusion[:2]
        logit = bias + deep * logit
        return logit if seen.linear is None else torch.addmv(logit, seen.linear, self.fusion[2:])

    def keys(
        self, items: Tensor, codes: Tensor, bag: Any, item_features: Mapping[str, Tensor]
    ) -> Tensor:
        """Embed the positions of a bag: item, feedback and provenance.

        Parameters
        ----------
        items, codes : LongTensor of shape (n_distinct,)
            The distinct items, see `Batch`.
        bag : RaggedItems, or anything with its `item`, `feedback` and `borrowed` (and `similarity`)
        item_features : mapping of str to Tensor

        Returns
        -------
        Tensor of shape (n_positions, item_dim)
        """
        return self._look_up(self._tagged(self.item_embedding(items, codes, item_features)), bag)

    def _tagged(self, item: Tensor) -> Tensor:
        # All (item, feedback, provenance) triples of the batch are embedded once; a position
        # then only has to look up its triple.
        return item[:, None] + self._tags(item)

    def _look_up(self, tagged: Tensor, bag: Any) -> Tensor:
        n_tags = tagged.shape[1]
        at = bag.item * n_tags
        if self.feedback is not None:
            at = at + bag.feedback * (n_tags // N_FEEDBACK)
        if self.provenance is not None:
            at = at + bag.borrowed
        key = tagged.flatten(0, 1).index_select(0, at)
        similarity = getattr(bag, "similarity", None)
        if self.similarity is None or similarity is None:
            return key
        return torch.addcmul(key, similarity[:, None], self.similarity)

    def item_embedding(
        self, items: Tensor, codes: Tensor, item_features: Mapping[str, Tensor]
    ) -> Tensor:
        """Embed distinct items: id embedding, then one projection a feature matrix."""
        assert self.items is not None
        parts = [self.items(items)]
        for name, projection in self.projections.items():
            # Features that all folds share have a row an item, the others one an item and fold.
            table = item_features[name]
            rows = table.index_select(0, codes % len(table)).to(parts[0].dtype)
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
            ids = batch.items.unique()
            terms.append(_penalty(self.items(ids), item_count[ids]))
        for j, (table, count) in enumerate(zip(self.categories, category_counts)):
            ids = batch.categorical[:, j].unique()
            terms.append(_penalty(table(ids), count[ids]))
        return torch.stack(terms).sum()

    @torch.no_grad()
    def fill_unseen_embeddings(self, feedback_count: Any = None) -> None:
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


def logit_alone(n_linear: int) -> Tensor:
    """Return the fusion that leaves a logit as it is."""
    return torch.eye(2, n_linear + 2)[1]


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
