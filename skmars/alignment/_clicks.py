"""Training on impressions: clicks and alignment together, one pass per user segment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score
from torch import Tensor

from skmars.alignment._encoder import AlignmentEncoder
from skmars.alignment._infonce import alignment_objective
from skmars.alignment._item_factors import ItemFactors
from skmars.alignment._learning import Objective, Sampling
from skmars.alignment._modalities import modality_names, occurring_items
from skmars.alignment._network import AlignmentNetwork
from skmars.alignment._packing import (
    Batch,
    find_segments,
    make_batches,
    pack_batch,
    pack_targets,
    segment_of_each_row,
)
from skmars.alignment._parameters import AlignerParameters
from skmars.alignment._passes import BatchPass
from skmars.alignment._stein import SteinObjective
from skmars.alignment._workers import Run, in_turn, workers
from skmars.data import Impressions
from skmars.data._checks import check_target
from skmars.data._columns import FACTORS
from skmars.data._folds import EVERYBODY, user_folds
from skmars.utils._ids import Lookup
from skmars.utils._stacked import take_rows
from skmars.utils._torch import to_cpu
from skmars.utils._training import EpochCallbacks, TrainingResult

# Items on which the space is measured, at most.
MAX_SAMPLE = 2000


def click_target(
    y: ArrayLike | None, n_rows: int, estimator_name: str, *, one_class: bool
) -> NDArray[np.float32]:
    """Return `y` as 0.0 and 1.0; with `one_class` it may hold only zeros or only ones.

    Raises
    ------
    ValueError
        As `skmars.data._checks.check_target`.
    """
    if one_class and y is not None and np.shape(y) == (n_rows,):
        values = np.asarray(y)
        if values.dtype.kind in "biuf" and np.isin(values, (0, 1)).all():
            return values.astype(np.float32)
    return check_target(y, n_rows, estimator_name=estimator_name)[0]


def new_encoder(X: Impressions, parameters: AlignerParameters, seed: int) -> AlignmentEncoder:
    """Return an encoder with an untrained network for the items of `X`.

    Item factors are fused last.
    """
    modalities = modality_names(parameters.modalities, X.catalog)
    factors = ItemFactors.of(X, parameters.n_factors, seed, modalities)
    items = occurring_items(X)
    sizes = {name: X.catalog.widths[name] for name in modalities}
    if factors is not None:
        sizes.pop(FACTORS, None)
        sizes[FACTORS] = factors.vectors.shape[1]
    network = AlignmentNetwork(
        sizes,
        len(items),
        n_components=parameters.n_components,
        id_dim=parameters.id_dim,
        n_heads=parameters.n_heads,
        click_score=parameters.click_score,
        residual=parameters.residual,
        causal=parameters.causal,
        max_length=parameters.max_length,
        dropout=parameters.dropout,
        normalize=parameters.normalize,
        feedback=X.history.feedback is not None,
    )
    known = Lookup(X.catalog.ids[items], "item_id of the rows of fit")
    encoder = AlignmentEncoder(network, known, factors)
    parts = encoder.inputs(X.catalog).parts
    for name, projection in zip(sizes, network.projections):
        missing = take_rows([part.missing[name] for part in parts], items)
        if not missing.all():
            features = [part.features[name] for part in parts]
            projection.standardize(take_rows(features, items[~missing]))  # type: ignore[operator]
    return encoder


def continued_encoder(encoder: AlignmentEncoder, X: Impressions) -> AlignmentEncoder:
    """Return a copy of a trained encoder that also has an embedding for the new items of `X`."""
    ids = X.catalog.ids[occurring_items(X)]
    new = ids[encoder.items(ids, "item_id of X") < 0]
    network = deepcopy(encoder.network)
    if len(new) == 0:
        return encoder.with_network(network)  # what was read of the catalogue is kept
    network.extend_ids(len(new))
    return AlignmentEncoder(network, encoder.items.extended(new), encoder.factors)


def folds_of_rows(X: Impressions, n_folds: int, known: ItemFactors | None) -> NDArray[np.int8]:
    """Return the fold of each row's user.

    In a continued fit, item factors are those of an earlier fit (`known`). They may then be used
    in full for users of whom that fit saw no event later than these rows: their fold is negative.
    """
    fold = user_folds(X.users, n_folds)[X.user]
    if known is None:
        return fold
    own = np.zeros(len(X.users), dtype=bool)
    own[X.user[known.users.has_later_events(X)]] = True
    return np.where(own[X.user], fold, np.int8(EVERYBODY))


class ClickObjective(Objective[AlignmentNetwork, Batch]):
    """``L_CTR + beta * L_stein`` over batches of user segments.

    `fold` is the fold of each row's user, and `folds` has an encoder for the rows of each fold,
    with item factors made without its users. All share the network of `encoder`, which serves the
    rows of negative fold (by default all rows).
    """

    def __init__(
        self,
        encoder: AlignmentEncoder,
        X: Impressions,
        y: NDArray[np.float32],
        sampling: Sampling,
        stein: SteinObjective,
        beta: float,
        folds: Sequence[AlignmentEncoder] = (),
        fold: NDArray[np.int8] | None = None,
    ) -> None:
        super().__init__(encoder.network, sampling, stein)
        self._run: Run = in_turn
        self.network.dropout.generator = self.generator
        self._X, self._y, self._beta = X, y, beta
        self._weight: NDArray[np.float32] | None = None
        if sampling.weight is not None:
            # Mean one, so that neither the learning rate nor the batch decides what a weight means.
            mean = sampling.weight[sampling.train].mean()
            self._weight = (sampling.weight / mean).astype(np.float32)
        self._encoder, self._fold_encoders = encoder, folds
        readers = {EVERYBODY: encoder, **dict(enumerate(folds))}
        self._inputs = {k: reader.inputs(X.catalog) for k, reader in readers.items()}
        self.fold = np.full(len(X), EVERYBODY, dtype=np.int8) if fold is None else fold
        self._read_as = self.fold if folds else np.full_like(self.fold, EVERYBODY)
        network = self.network
        if network.click_score == "affinity":
            self._segments = find_segments(X, causal=network.causal, reach=network.reach)
        else:
            self._segments = segment_of_each_row(X, context=network.context)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Shuffle the segments and group them; the rows of a batch are of one fold."""
        found = list(self._batches(self.sampling.train, self.sampling.rng))
        # One fold after another would fit the network to the item factors of the last one.
        for at in self.sampling.rng.permutation(len(found)):
            yield found[at]

    def _batches(
        self, rows: NDArray[np.int64], rng: np.random.RandomState | None = None
    ) -> Iterator[Batch]:
        for fold in np.unique(self._read_as[rows]):
            of_fold = rows[self._read_as[rows] == fold]
            yield from make_batches(self._segments, of_fold, self.sampling.batch_size, rng)

    def train(
        self, parameters: AlignerParameters, max_iter: int, callbacks: EpochCallbacks | None
    ) -> tuple[TrainingResult, tuple[float, float, float]]:
        """Train the network on as many threads as torch would use, and measure the space."""
        with workers(self.sampling.device) as run:
            self._run = run
            try:
                return super().train(parameters, max_iter, callbacks)
            finally:
                self._run = in_turn

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch; its gradients are there already, for `backward` to set."""
        one = self._pass(batch)
        y, weight = self._y[batch[1]], None if self._weight is None else self._weight[batch[1]]

        def row_loss(logit: Tensor, row: NDArray[np.int64]) -> Tensor:
            told = torch.from_numpy(y[row]).to(logit.device)
            counted = None if weight is None else torch.from_numpy(weight[row]).to(logit.device)
            total = F.binary_cross_entropy_with_logits(logit, told, weight=counted, reduction="sum")
            return total / len(y)

        def item_loss(projected: Sequence[Tensor], present: Sequence[Tensor]) -> Tensor:
            return self._beta * self.stein(projected, present, self.generator)

        aligns = bool(self._beta and len(self.network.projections))
        parameters = self.network.used_parameters()
        loss, gradients = one.gradients(row_loss, item_loss if aligns else None, parameters)
        return _WithGradients.apply(loss, gradients, *parameters)

    @torch.no_grad()
    def evaluate(self) -> float:
        """Return the AUC of the validation rows (minus their log loss if all are of one class)."""
        valid = self.sampling.valid
        logit = np.empty(len(self._y))
        for batch in self._batches(valid):
            logit[batch[1]] = self._pass(batch).log_odds().cpu().numpy()
        y, logit = self._y[valid], logit[valid]
        weight = None if self._weight is None else self._weight[valid]
        if not np.isfinite(logit).all():
            return -np.inf  # training raises at the next loss
        if y.min() == y.max():
            return -float(log_loss(y, expit(logit), labels=[0, 1], sample_weight=weight))
        return float(roc_auc_score(y, logit, sample_weight=weight))

    def encoder(self) -> AlignmentEncoder:
        """Return the encoder as trained so far, a copy on the CPU."""
        return self._encoder.with_network(to_cpu(deepcopy(self.network)))

    def fold_encoders(self, encoder: AlignmentEncoder) -> tuple[AlignmentEncoder, ...]:
        """Return the encoder for the rows of each fold, with the network of a trained encoder."""
        return tuple(fold.with_network(encoder.network) for fold in self._fold_encoders)

    def embed_sample(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the modality embeddings of some items, and which of these have each modality."""
        inputs = self._inputs[EVERYBODY]
        known = np.flatnonzero(np.concatenate(inputs.ids))
        chosen = np.sort(self.sampling.rng.permutation(known)[:MAX_SAMPLE])
        self.network.eval()
        items = inputs.take(chosen, self.network, self.sampling.device)
        if items.projected:
            return items.projected, items.present
        return [self.network.id_embedding(items.ids)], [items.ids > 0]

    def _pass(self, batch: Batch) -> BatchPass:
        """Return the way of a batch through the network, as its rows read items."""
        network, device, row = self.network, self.sampling.device, batch[1]
        target = None
        if network.click_score == "network":
            sequences = pack_targets(self._X, self._segments, batch, device=device)
        else:
            targets, which = np.unique(self._X.target[row], return_inverse=True)
            sequences = pack_batch(
                self._X.history,
                self._segments,
                batch,
                max_length=network.max_length,
                device=device,
                singles=targets,
            )
            target = torch.from_numpy(which).to(device)
        items = self._inputs[int(self._read_as[row[0]])].read(sequences.codes, network, device)
        items = replace(items, ids=network.mask_ids(items.ids))
        return BatchPass(network, items, sequences, self._run, target)


class _WithGradients(torch.autograd.Function):
    """A loss whose gradients are known."""

    @staticmethod
    def forward(ctx, loss: Tensor, gradients: list[Tensor], *parameters: Tensor):  # type: ignore[no-untyped-def, override]
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx, d_loss: Tensor):  # type: ignore[no-untyped-def, override]
        found = ctx.gradients
        return None, None, *(g * d_loss for g in found)


def click_objective(
    X: Impressions,
    y: NDArray[np.float32],
    known: AlignmentEncoder | None,
    parameters: AlignerParameters,
    seeds: tuple[int, int],
    weight: NDArray[np.float64] | None = None,
) -> ClickObjective:
    """Return the objective of a fit on impressions, for a new network or a copy of a known one."""
    encoder = continued_encoder(known, X) if known else new_encoder(X, parameters, seeds[1])
    # Where it computes when trained: it may be loaded on a machine without a GPU.
    encoder.device = "cpu" if parameters.device == "cpu" else "auto"
    encoder.network.dropout.p = parameters.dropout
    return ClickObjective(
        encoder,
        X,
        y,
        Sampling.of(X, y, parameters, seeds, weight),
        alignment_objective(parameters),
        parameters.beta,
        encoder.out_of_fold(X, parameters.cv),
        folds_of_rows(X, parameters.cv, None if known is None else known.factors),
    )
