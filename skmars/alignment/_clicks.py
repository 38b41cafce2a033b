"""Training on impressions: clicks and alignment together, one pass per user segment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score
from torch import Tensor

from skmars.alignment import _stein as stein
from skmars.alignment._encoder import AlignmentEncoder
from skmars.alignment._inputs import ItemInputs, make_passage, run_passage
from skmars.alignment._item_factors import ItemFactors
from skmars.alignment._network import AlignmentNetwork, Items, Projection
from skmars.alignment._segments import batches, find_segments
from skmars.data import Impressions
from skmars.data._checks import check_target
from skmars.data._columns import FACTORS
from skmars.data._folds import EVERYBODY
from skmars.utils._ids import joined
from skmars.utils._stacked import take_rows
from skmars.utils._torch import new_generator, to_cpu

# Items on which the geometry of the space is measured, at most.
MEASURED_ITEMS = 2000

Batch = tuple[NDArray[np.int64], NDArray[np.int64]]


def click_target(
    y: Any, n_rows: int, estimator_name: str, *, one_class: bool
) -> NDArray[np.float32]:
    """Return `y` as 0.0 and 1.0; with `one_class` zeros or ones alone will do.

    Raises
    ------
    ValueError
        As `skmars.data._checks.check_target`.
    """
    if one_class and y is not None and len(y) == n_rows:
        values = np.asarray(y)
        if values.ndim == 1 and values.dtype.kind in "biuf" and np.isin(values, (0, 1)).all():
            return values.astype(np.float32)
    return check_target(y, n_rows, estimator_name=estimator_name)[0]


def occurring_items(X: Impressions) -> NDArray[np.int64]:
    """Return the codes of all items that occur as target or in a history."""
    history = X.history
    begins_minus_ends = np.zeros(len(history.items) + 1, dtype=np.int64)
    np.add.at(begins_minus_ends, history.start, 1)
    np.add.at(begins_minus_ends, history.start + history.length, -1)
    covered = np.cumsum(begins_minus_ends)[:-1] > 0
    return np.unique(np.concatenate([X.target, history.items[covered]]))


def new_encoder(
    X: Impressions,
    modalities: Sequence[str],
    device: str,
    factors: ItemFactors | None = None,
    **options: Any,
) -> AlignmentEncoder:
    """Return an encoder with an untrained network for the items of `X`.

    Item factors are fused last.
    """
    items = occurring_items(X)
    sizes = {m: X.catalog.features[m].shape[1] for m in modalities}
    if factors is not None:
        sizes.pop(FACTORS, None)
        sizes[FACTORS] = factors.vectors.shape[1]
    feedback = X.history.feedback is not None
    network = AlignmentNetwork(sizes, len(items), feedback=feedback, **options)
    encoder = AlignmentEncoder(network, X.catalog.ids[items], device, factors)
    inputs = encoder.inputs(X.catalog)
    for projection, matrix, there in zip(network.projections, inputs.features, inputs.present):
        measured = take_rows(matrix, items[take_rows(there, items)])
        if len(measured):
            # One spread for all columns: how much each varies is part of what an encoder says.
            spread = float(np.sqrt(measured.var(0, dtype=np.float64).mean())) or 1.0
            assert isinstance(projection, Projection)
            projection.standardize(measured.mean(0, dtype=np.float64), spread)
    return encoder


def continued_encoder(encoder: AlignmentEncoder, X: Impressions, device: str) -> AlignmentEncoder:
    """Return a copy of a trained encoder that also has an embedding for the new items of `X`."""
    ids = X.catalog.ids[occurring_items(X)]
    new = ids[encoder.items(ids, "item_id of X") < 0]
    network = deepcopy(encoder.network)
    network.extend_ids(len(new))
    return AlignmentEncoder(network, joined(encoder.item_ids, new), device, encoder.factors)


class ClickObjective:
    """``L_CTR + beta * L_stein`` over batches of user segments.

    Parameters
    ----------
    encoder : AlignmentEncoder
        Its network is trained in place, on `device`.
    X : Impressions
    y : ndarray of shape (n_rows,), float32
    train, valid : ndarray of int64
        Rows to learn from, and rows to score.
    batch_size : int
        Rows a step, more or less.
    beta : float
    stein_objective : SteinObjective
    rng : RandomState
        Shuffles, and seeds what torch draws.
    device : torch.device
    folds : sequence of AlignmentEncoder, default=()
        The encoder without the users of each fold. Empty where it learnt nothing of users.
    fold : ndarray of shape (n_rows,), int8, default=None
        Which of these each row reads; negative for the encoder as it is.
    """

    def __init__(
        self,
        encoder: AlignmentEncoder,
        X: Impressions,
        y: NDArray[np.float32],
        *,
        train: NDArray[np.int64],
        valid: NDArray[np.int64],
        batch_size: int,
        beta: float,
        stein_objective: stein.SteinObjective,
        rng: np.random.RandomState,
        device: torch.device,
        folds: Sequence[AlignmentEncoder] = (),
        fold: NDArray[np.int8] | None = None,
    ) -> None:
        self.network = encoder.network.to(device)
        self._encoder, self._device = encoder, device
        self._inputs: ItemInputs = encoder.inputs(X.catalog)
        nobody = np.full(len(X), EVERYBODY, dtype=np.int8)
        self._fold = fold if folds and fold is not None else nobody
        self._inputs_of_fold = [each.inputs(X.catalog) for each in folds]
        self._X, self._y, self._train, self.valid = X, y, train, valid
        self._batch_size, self._beta, self._stein = batch_size, beta, stein_objective
        self._rng = rng
        self._generator = self.network.dropout.generator = new_generator(rng, device)
        self._segments = find_segments(X, causal=self.network.causal, reach=self.network.reach)
        self._local = np.zeros(len(X.catalog), dtype=np.int64)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Shuffle the segments and group them; the rows of a batch are of one fold."""
        found = list(self._batches(self._train, self._rng))
        # One fold after another would leave the network with the items as the last one sees them.
        for at in self._rng.permutation(len(found)):
            yield found[at]

    def _batches(
        self, rows: NDArray[np.int64], rng: np.random.RandomState | None = None
    ) -> Iterator[Batch]:
        for fold in np.unique(self._fold[rows]):
            of_fold = rows[self._fold[rows] == fold]
            yield from batches(self._segments, of_fold, self._batch_size, rng)

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch."""
        logit, items = self._forward(*batch)
        y = torch.from_numpy(self._y[batch[1]]).to(self._device)
        loss = F.binary_cross_entropy_with_logits(logit, y)
        if self._beta and items.projected:
            stein_loss = self._stein(items.projected, items.present, self._generator)
            loss = loss + self._beta * stein_loss
        return loss

    @torch.no_grad()
    def evaluate(self) -> float:
        """Return the AUC of the validation rows (minus their log loss if all are of one class)."""
        logit = np.empty(len(self._y))
        for batch in self._batches(self.valid):
            logit[batch[1]] = self._forward(*batch)[0].cpu().numpy()
        y, logit = self._y[self.valid], logit[self.valid]
        if not np.isfinite(logit).all():
            return -np.inf  # the next loss says so
        if y.min() == y.max():
            return -float(log_loss(y, 1.0 / (1.0 + np.exp(-logit)), labels=[0, 1]))
        return float(roc_auc_score(y, logit))

    def encoder(self) -> AlignmentEncoder:
        """Return the encoder as trained so far, a copy on the CPU."""
        network, trained = to_cpu(deepcopy(self.network)), self._encoder
        return AlignmentEncoder(network, trained.item_ids, trained.device, trained.factors)

    @torch.no_grad()
    def measured(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the modalities of items that occur, and which of the items have them."""
        known = np.flatnonzero(np.concatenate(self._inputs.ids))
        chosen = np.sort(self._rng.permutation(known)[:MEASURED_ITEMS])
        self.network.eval()
        items = self._inputs.take(chosen, self.network, self._device)
        if items.projected:
            return items.projected, items.present
        return [self.network.id_embedding(items.ids)], [items.ids > 0]

    def _forward(self, segment: NDArray[np.int64], row: NDArray[np.int64]) -> tuple[Tensor, Items]:
        """Return the log-odds of some rows, and the distinct items they needed."""
        network = self.network
        targets, single = np.unique(self._X.target[row], return_inverse=True)
        passage = make_passage(
            self._X.history,
            self._segments,
            segment,
            row,
            max_length=network.max_length,
            device=self._device,
            singles=targets,
        )
        codes = np.unique(passage.code)
        self._local[codes] = np.arange(len(codes))
        fold = self._fold[row[0]]
        inputs = self._inputs if fold < 0 else self._inputs_of_fold[fold]
        items = inputs.take(codes, network, self._device)
        items = replace(items, ids=network.hide_ids(items.ids))
        shown, users = run_passage(network, passage, items, self._local[passage.code])
        of_row = torch.from_numpy(single).to(self._device)
        return network.logits(users, shown[of_row]), items
