"""One training of a DIN network, and what comes of it. Imports torch: import it lazily."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from skmars.baselines import AuxiliaryLoss
from skmars.baselines._auxiliary import auxiliary_loss
from skmars.ctr._batches import Batch
from skmars.ctr._embeddings import add_items, fill_unseen, penalty, used_rows
from skmars.ctr._fusion import ENOUGH, fuse_if_better, prior_of
from skmars.ctr._labelled_rows import Data, LabelledRows, rows_a_step
from skmars.ctr._layers import frozen_statistics, shared_statistics
from skmars.ctr._network import DINNetwork, logit_alone, logits, to_tensors
from skmars.ctr._optimizer import NetworkOptimizer, OptimizerState
from skmars.ctr._parameters import check_together
from skmars.ctr._row_encoder import EncodedRows, RowEncoder
from skmars.ctr._together import own_rows, row_work, sum_gradients
from skmars.ctr._vocabulary import learn_encoder, with_items_of
from skmars.data import Impressions
from skmars.utils._on_disk import blocks, release
from skmars.utils._shuffling import equal_batches, shuffled
from skmars.utils._threads import one_thread_each
from skmars.utils._torch import DrawFrom, new_generator, to_cpu
from skmars.utils._training import EpochCallbacks, TrainingResult, check_finite, train
from skmars.utils._worker_group import WorkerGroup, current_group

if TYPE_CHECKING:
    from skmars.baselines._auxiliary import TrainingBatch

_OF_COLUMNS = (
    "max_length",
    "borrowed",
    "item_features",
    "linear_context",
    "item_attributes",
    "user_attributes",
)
_OF_NETWORK = (
    "embedding_dim",
    "attention_units",
    "hidden_units",
    "activation",
    "attention_normalization",
    "activity_feature",
)
# So many training rows, at most, weigh the columns that join the logit.
MOST_WEIGHED = 100_000


@dataclass(frozen=True)
class EarlierFit:
    """What a training goes on from; it changes nothing of it."""

    encoder: RowEncoder
    network: DINNetwork
    moments: OptimizerState | None  # of the optimiser
    n_epochs: int
    calibrated: bool  # on held-out rows


@dataclass(frozen=True)
class Step:
    """What a training step reads; of a group, each process has some of the rows."""

    batch: Batch[Tensor]
    target: Tensor
    weight: Tensor | None
    drawn: Any  # by the auxiliary objective
    whole: Batch[Tensor] | None  # of all processes together; None for one
    used: list[Tensor] | None  # the rows of embedding tables that all together use


class TrainingRun:
    """Makes a network for some rows, or goes on with that of an earlier fit, and trains it.

    In a group (see `training_together`) all processes train the same network together.

    Parameters
    ----------
    parameters : mapping of str to object
        Those of `DINClassifier`.
    data, held_out : LabelledRows
        What is trained on; what stops training and calibrates the logit, or None.
    max_iter : int
        Largest number of epochs; an objective that pretrains has as many of its own (`n_epochs`).
    random_state : RandomState
    device : torch.device
    earlier : EarlierFit or None
    incremental : bool
        Whether this is a `partial_fit`.
    name : str
        Of the estimator, for messages.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        data: Data,
        held_out: Data | None,
        *,
        max_iter: int,
        random_state: np.random.RandomState,
        device: torch.device,
        earlier: EarlierFit | None,
        incremental: bool,
        name: str,
    ) -> None:
        self.parameters, self.max_iter, self.name = parameters, max_iter, name
        self.group = current_group()
        if self.group is not None:
            check_together(parameters["auxiliary"], device.type)
        if earlier is None:
            self.encoder = learn_encoder(
                data.X, data.count, **{k: parameters[k] for k in _OF_COLUMNS}
            )
            self.network = _new_network(parameters, self.encoder, random_state)
            if not isinstance(data.X, Impressions) and data.X.dtype == np.float64:
                self.network.double()
        else:
            # A later call must not repeat the draws of the earlier ones.
            seed = random_state.randint(np.iinfo(np.int32).max) + earlier.n_epochs
            random_state = np.random.RandomState(seed)
            self.encoder, self.network = earlier.encoder, deepcopy(earlier.network)
            if isinstance(data.X, Impressions):
                self.encoder = with_items_of(earlier.encoder, data.X)
                n_new = len(self.encoder.item_count) - len(earlier.encoder.item_count)
                add_items(self.network, n_new)
        # Without held-out rows of its own, a training keeps the calibration of the earlier one, and
        # trains what is predicted: the logit alone may be far too sure of itself.
        self.keeps_fusion = held_out is None and earlier is not None and earlier.calibrated
        self.random_state = random_state
        self.data, self.held_out = self._encoded(data), None
        if held_out is not None:
            self.held_out = self._encoded(held_out)
        if earlier is None:
            _start_at_base_rate(self.network, self.data)

        n_before = 0 if earlier is None else earlier.n_epochs
        self.objective = self._auxiliary_objective(data.X, n_before)
        pretrains = self.objective is not None and self.objective.pretrains and earlier is None
        if pretrains and incremental:
            self.objective, pretrains = None, False
        self.pretrains = pretrains
        self.n_epochs = max_iter * (1 + pretrains)
        same = self.network.attach(None if self.objective is None else self.objective.module)
        self.network.to(device)
        self.optimizer = NetworkOptimizer(self.network, parameters["learning_rate"])
        if earlier is not None and same and earlier.moments is not None:
            self.optimizer.restore(earlier.moments)
        self.prior = self.network.fusion.clone()
        if earlier is None and self.held_out is not None and len(self.held_out) < ENOUGH:
            self.prior = self._prior_of_training_rows()

    def _encoded(self, data: Data) -> LabelledRows[EncodedRows]:
        return LabelledRows(self.encoder.encode(data.X), data.y, data.count, data.weight)

    def _prior_of_training_rows(self) -> Tensor:
        n, X = self.network.n_linear, self.data.X
        if n == 0:
            return self.prior
        some = slice(None, None, 1 + len(self.data) // MOST_WEIGHED)
        weight = None if self.data.weight is None else self.data.weight[some]
        prior = prior_of(X.dense[some, X.dense.shape[1] - n :], self.data.y[some], weight)
        return torch.from_numpy(prior).to(self.prior)

    def _auxiliary_objective(
        self, X: Impressions | NDArray[Any], n_epochs: int
    ) -> AuxiliaryLoss | None:
        auxiliary = self.parameters["auxiliary"]
        if auxiliary is None:
            return None
        if not isinstance(X, Impressions):
            raise ValueError(
                f"auxiliary={auxiliary!r} works on histories, but X is a plain numeric array. "
                "Pass impressions, or set auxiliary=None."
            )
        table_row = self.encoder.table_rows(X.catalog).all()
        with DrawFrom(new_generator(self.random_state)):
            return auxiliary_loss(auxiliary, X, table_row, self.network.item_dim, n_epochs)

    def trained(self, *, done: bool = False) -> tuple[RowEncoder, DINNetwork]:
        """Return encoder and network as of now, ready to predict.

        Unless training is `done`, the network is a copy: whoever keeps it has the model of that
        epoch, not a training one.
        """
        network = self.network
        if not done:  # else `train` has filled
            network = deepcopy(network)
            fill_unseen(network, self.encoder.table_counts, self.encoder.feedback_count)
        validated = self.held_out is not None or self.keeps_fusion
        if network.n_linear and not validated:
            calibrate(network, self.data, self.prior, self.group)
        return self.encoder, to_cpu(network)

    def train(self, callbacks: EpochCallbacks) -> TrainingResult:
        """Train the network in place.

        An objective that pretrains takes part in a second training, after one without it.
        """
        result = self._train(None if self.pretrains else self.objective, callbacks)
        if self.pretrains and result.stopped_by in ("max_iter", "patience"):
            first, result = result, self._train(self.objective, callbacks)
            result.loss_curve[:0] = first.loss_curve
            result.validation_curve[:0] = first.validation_curve
            result.best_epoch += first.n_iter
        fill_unseen(self.network, self.encoder.table_counts, self.encoder.feedback_count)
        rows = self.data.X
        some = rows.batch(slice(0, rows_a_step(self.parameters["batch_size"], len(rows))))
        bias = self.network.head.output.bias
        with torch.no_grad():
            logit = self.network(to_tensors(some, bias.device, bias.dtype), rows.features)
        check_finite([logit], self.optimizer, epoch=result.n_iter - 1, name=self.name)  # type: ignore[arg-type]
        return result

    def _train(self, objective: AuxiliaryLoss | None, callbacks: EpochCallbacks) -> TrainingResult:
        network, rows, parameters = self.network, self.data.X, self.parameters
        device, dtype = network.head.output.bias.device, network.head.output.bias.dtype
        features, embedding_l2 = rows.features, parameters["embedding_l2"]
        # Shared where they can be written to, which those of a model that was loaded can't.
        counts = [
            torch.from_numpy(n if n.flags.writeable else n.copy()).to(device)
            for n in self.encoder.table_counts
        ]
        y, weight = self.data.y, self.data.weight
        # Mean one, so that neither the learning rate nor the batch decides what a weight means.
        mean = 1.0 if weight is None else weight.mean()
        n_batches = -(-len(rows) // rows_a_step(parameters["batch_size"], len(rows)))

        group = self.group
        work = np.zeros(0) if group is None else row_work(rows)

        def batches(epoch: int) -> Iterator[Step]:
            if objective is not None:
                objective.begin_epoch(epoch, network, features)
            parts = iter([np.arange(len(rows))])
            if n_batches > 1:
                parts = shuffled(len(rows), self.random_state, rows.disk)
            # Batches of equal size: a last one of a few rows would spoil the batch statistics.
            for part in equal_batches(self._released(parts), len(rows), n_batches):
                own, whole, used = part, None, None  # type: Any, Any, Any
                if group is not None:
                    whole = to_tensors(rows.batch(part), device, dtype)
                    used = [ids.unique() for ids in used_rows(network, whole, features)]
                    own = part[own_rows(work[part], group)]
                batch, drawn = rows.batch(own), None  # type: Any, Any
                w = None if weight is None else weight[own] / mean
                if objective is not None:
                    of_items = cast("TrainingBatch[NDArray[Any]]", batch)
                    drawn = to_tensors(objective.draw(of_items, self.random_state), device, dtype)
                yield Step(
                    to_tensors(batch, device, dtype),
                    torch.from_numpy(y[own]).to(device, dtype),
                    None if w is None else torch.from_numpy(w).to(device, dtype),
                    drawn,
                    whole,
                    used,
                )

        def loss(step: Step) -> Tensor:
            batch, target, w = step.batch, step.target, step.weight
            with self._sharing(step.whole):
                seen = network.represent(batch, features, w)
                logit = network.score(seen, w)
            if self.keeps_fusion:
                logit = network.fuse(logit, seen)
            if group is None or step.whole is None or step.used is None:
                value = F.binary_cross_entropy_with_logits(logit, target, weight=w)
                used = used_rows(network, batch, features) if embedding_l2 > 0 else []
            else:
                value = F.binary_cross_entropy_with_logits(logit, target, w, reduction="sum")
                value = value / len(step.whole.dense)
                used = [ids[group.rank :: group.size] for ids in step.used]
            if embedding_l2 > 0:
                value = value + embedding_l2 * penalty(network, used, counts)
            if objective is not None:
                of_items = cast("TrainingBatch[Tensor]", batch)
                with frozen_statistics(network):
                    value = value + objective.loss(
                        network, of_items, features, target, w, seen, step.drawn
                    )
            return value

        def exchange(step: Step, part: float) -> float:
            assert group is not None
            assert step.used is not None
            return sum_gradients(network, network.tables, step.used, part, group)

        with one_thread_each():
            return train(
                network,
                batches,
                loss,
                self.optimizer,  # type: ignore[arg-type]
                max_iter=self.max_iter,
                evaluate=None if self.held_out is None else self._validation_score,
                n_iter_no_change=None if self.held_out is None else parameters["n_iter_no_change"],
                tol=parameters["tol"],
                exchange=None if group is None else exchange,
                callbacks=callbacks,
                name=self.name,
                verbose=parameters["verbose"] if group is None or group.rank == 0 else 0,
            )

    def _released(self, parts: Iterator[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
        """Hand on parts of an epoch; of rows on disk, let go of each when the next one comes."""
        for part in parts:
            yield part
            self.data.X.release()
            release(self.data.y, self.data.weight)

    def _sharing(self, whole: Batch[Tensor] | None) -> AbstractContextManager[None]:
        if self.group is None or whole is None:
            return nullcontext()
        network = self.network
        modules: list[Any] = [network.head]
        if network.items is not None:
            pools = (network.interest, whole.history), (network.borrowed, whole.borrowed)
            # Where no process has a position, nothing is to be shared.
            modules += [m for m, part in pools if m is not None and part and len(part.item)]
        return shared_statistics(self.group, modules)

    def _validation_score(self) -> float:
        assert self.held_out is not None
        fill_unseen(self.network, self.encoder.table_counts, self.encoder.feedback_count)
        score = calibrate(self.network, self.held_out, self.prior, self.group)
        if not np.isfinite(score).all():
            return -np.inf  # the next loss says so
        auc = float(roc_auc_score(self.held_out.y, score, sample_weight=self.held_out.weight))
        # Processors of different kinds may differ in the last digit, which may decide.
        return auc if self.group is None else self.group.agreed(auc)


def calibrate(
    network: DINNetwork,
    data: LabelledRows[EncodedRows],
    prior: Tensor,
    group: WorkerGroup | None = None,
) -> NDArray[np.floating]:
    """Fit offset and scale of the logit, and what joins it, to rows; return their scores."""
    n, weights = network.n_linear, prior.cpu().numpy()
    network.fusion.copy_(logit_alone(n))
    score = logits(network, data.X, group)
    if not np.isfinite(score).all():
        return score
    columns = data.X.dense[:, data.X.dense.shape[1] - n :]
    fusion, fused = fuse_if_better(score, columns, data.y, data.weight, weights)
    network.fusion.copy_(torch.from_numpy(fusion))
    return fused


def _new_network(
    parameters: Mapping[str, Any], encoder: RowEncoder, random_state: np.random.RandomState
) -> DINNetwork:
    with DrawFrom(new_generator(random_state)):
        return DINNetwork(
            n_dense=0 if encoder.scaler is None else encoder.scaler.n_features_in_,
            n_linear=encoder.n_linear,
            n_categories=[len(count) - 1 for count in encoder.category_counts],
            n_items=None if encoder.items is None else len(encoder.items),
            item_features=encoder.item_features,
            item_attributes=[a.n_categories for a in encoder.item_attributes.values()],
            user_attributes=[a.n_categories for a in encoder.user_attributes.values()],
            feedback=encoder.has_feedback,
            borrowed=parameters["borrowed"] if encoder.has_borrowed else None,
            **{name: parameters[name] for name in _OF_NETWORK},
        )


def _start_at_base_rate(network: DINNetwork, data: LabelledRows[EncodedRows]) -> None:
    """Let the untrained network predict the share of positives, not one half.

    As if there were half a row more of each class: a first `partial_fit` may see one class only.
    """
    positive, negative = 0.0, 0.0
    for rows in blocks(len(data)):
        y = data.y[rows]
        weight = np.ones(len(y)) if data.weight is None else data.weight[rows]
        positive, negative = positive + float(weight @ y), negative + float(weight @ (1 - y))
        release(data.y, data.weight)
    with torch.no_grad():
        network.head.output.bias.fill_(float(np.log((positive + 0.5) / (negative + 0.5))))
