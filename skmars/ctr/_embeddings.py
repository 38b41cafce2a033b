"""What training does to the embedding tables of a DIN network. Imports torch: import it lazily."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skmars.ctr._batches import UNKNOWN_FEEDBACK, Batch
from skmars.ctr._network import DINNetwork
from skmars.ctr._row_encoder import ItemFeatures


def used_rows(
    network: DINNetwork, batch: Batch[Tensor], features: ItemFeatures | None = None
) -> list[Tensor]:
    """Return the ids that a batch looks up in each of ``network.tables``; some repeat."""
    used = [batch.categorical[:, j] for j in range(len(network.categories))]
    if network.items is not None:
        assert batch.items is not None
        # An item that rows of several folds share is there several times.
        used = [batch.items, *used]
        entries = list(batch.user_attributes)
        if len(network.item_attributes):
            assert features is not None
            assert batch.codes is not None
            entries = [*features.attributes(batch.codes), *entries]
        used += [entry.values for entry in entries]
    return used


def penalty(network: DINNetwork, used: Sequence[Tensor], counts: Sequence[Tensor]) -> Tensor:
    r"""Mini-batch aware regularisation (DIN, Eq. 6), to be scaled by lambda.

    .. math:: \frac{1}{2} \sum_{j \in batch} \frac{1}{n_j} \lVert w_j \rVert^2

    over the distinct ids `j` of the batch (`used`, see `used_rows`), `n_j` their count in training
    (of the rows of ``network.tables``): its gradient is the published update, and touches no
    embedding that the batch does not.
    """
    total = network.head.output.bias.new_zeros(())
    for table, ids, count in zip(network.tables, used, counts):
        if table is None:
            continue
        distinct = ids.unique()
        squares = table(distinct).square().sum(dim=1)
        n_each = count[distinct].to(squares.dtype).clamp(min=1)
        total = total + 0.5 * (squares / n_each).sum()
    return total


@torch.no_grad()
def fill_unseen(
    network: DINNetwork,
    counts: Sequence[NDArray[np.int64]],
    feedback_count: NDArray[np.int64],
) -> None:
    """Give what training never saw a sane vector: the mean of what it saw.

    Row 0 of each table becomes the mean of its other rows, unless it occurs in training, as that
    of an attribute with missing values does (`counts` of the rows of ``network.tables``). Where all
    feedback was known (`feedback_count` of codes 0, 1, 2), unknown feedback becomes the mean of
    the known.
    """
    for table, n_each in zip(network.tables, counts):
        if table is not None and len(table.weight) > 1 and n_each[0] == 0:
            table.weight[0] = table.weight[1:].mean(dim=0)
    if network.items is not None and network.feedback is not None:
        count = torch.tensor(feedback_count).to(network.feedback)
        known = count[:UNKNOWN_FEEDBACK]
        if count[UNKNOWN_FEEDBACK] == 0 and known.sum() > 0:
            mean = (known / known.sum()) @ network.feedback[:UNKNOWN_FEEDBACK]
            network.feedback[UNKNOWN_FEEDBACK] = mean


@torch.no_grad()
def add_items(network: DINNetwork, n_new: int) -> None:
    """Append rows to the item table; a new item begins as the unknown one."""
    if network.items is None or n_new == 0:
        return
    old = network.items.weight
    rows = torch.cat([old, old[:1].expand(n_new, -1)])
    network.items = nn.Embedding.from_pretrained(rows, freeze=False, sparse=True)
