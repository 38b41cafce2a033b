"""Training a DIN network, and predicting with it, in batches. Imports torch: import it lazily."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from skmars.baselines import AuxiliaryLoss
from skmars.ctr._batches import Rows
from skmars.ctr._fusion import weigh
from skmars.ctr._inputs import Inputs
from skmars.ctr._network import DINNetwork, logit_alone, to_tensors
from skmars.ctr._perceptron import frozen_statistics
from skmars.ctr._samples import Sample
from skmars.utils._training import EpochCallbacks, TrainingResult, check_finite, train

Features = Mapping[str, NDArray[np.float32]]
OptimizerState = list[dict[str, Any]]


@dataclass(frozen=True)
class Examples:
    """Rows with their labels.

    Attributes
    ----------
    rows : Rows
    features : mapping of str to ndarray
        Item features of the catalogue.
    y : ndarray of shape (n_rows,)
        0 and 1.
    weight : ndarray of shape (n_rows,) or None
        Row weights, positive; None for all alike.
    """

    rows: Rows
    features: Features
    y: NDArray[np.float32]
    weight: NDArray[np.float64] | None = None

    @classmethod
    def read(cls, inputs: Inputs, sample: Sample) -> Examples:
        """Read rows as a fit has learnt to."""
        if not inputs.has_items:
            return cls(inputs.rows_of_array(sample.X), {}, sample.y, sample.weight)
        features = inputs.catalog_features(sample.X.catalog)
        return cls(inputs.rows_of_impressions(sample.X), features, sample.y, sample.weight)


class Optimizer:
    """AdamW for the layers, its lazy variant for the embedding tables.

    A step leaves the embeddings that the batch lacks alone: neither cost nor momentum.
    """

    def __init__(self, network: DINNetwork, learning_rate: float) -> None:
        tables = [network.items, *network.categories]
        sparse = [table.weight for table in tables if table is not None]
        listed = {id(p) for p in sparse}
        dense = [p for p in network.parameters() if id(p) not in listed]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(dense, lr=learning_rate, fused=True)
        ]
        if sparse:
            self.parts.append(torch.optim.SparseAdam(sparse, lr=learning_rate))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.parts[0].param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self) -> None:
        """Take one step."""
        for part in self.parts:
            part.step()

    def state(self) -> OptimizerState:
        """Return the moments, on the CPU, for `restore`, which leaves them as they are."""
        return [
            {k: {n: _cpu(v) for n, v in s.items()} for k, s in part.state_dict()["state"].items()}
            for part in self.parts
        ]

    def restore(self, states: OptimizerState) -> None:
        """Continue with earlier moments; tables may have grown rows since."""
        for part, state in zip(self.parts, states):
            current = part.state_dict()
            parameters = part.param_groups[0]["params"]
            grown = {
                k: {n: _padded(v, parameters[k]) for n, v in s.items()} for k, s in state.items()
            }
            # A copy: steps change moments in place, and a fit that fails must not have.
            part.load_state_dict({**current, "state": deepcopy(grown)})


def _cpu(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _padded(value: Any, parameter: Tensor) -> Any:
    if not isinstance(value, Tensor) or value.ndim == 0 or value.shape == parameter.shape:
        return value
    return F.pad(value, (0, 0, 0, len(parameter) - len(value)))


def learn(
    network: DINNetwork,
    inputs: Inputs,
    examples: Examples,
    validation: Examples | None,
    *,
    optimizer: Optimizer,
    random_state: np.random.RandomState,
    batch_size: int,
    max_iter: int,
    embedding_l2: float,
    n_iter_no_change: int | None,
    tol: float,
    callbacks: EpochCallbacks | None,
    name: str,
    verbose: int,
    objective: AuxiliaryLoss | None = None,
    pretrain: bool = False,
) -> TrainingResult:
    """Train `network` in place; see `DINClassifier` for the parameters.

    `objective` adds the loss of an auxiliary one. With `pretrain`, all of the
    training takes place without it first, and then once more with it.
    """
    parameter = network.head.output.bias
    device, dtype = parameter.device, parameter.dtype
    features = _on(device, examples.features)
    item_count = _count(inputs.item_count, device, dtype)
    category_counts = [_count(c, device, dtype) for c in inputs.category_counts]
    y: NDArray[Any] = examples.y.astype(_numpy_dtype(dtype))
    weight = examples.weight
    if weight is not None:
        # Mean one, so that neither the learning rate nor the batch decides what a weight means.
        weight = (weight / weight.mean()).astype(y.dtype)

    auxiliary = None if pretrain else objective

    def batches(epoch: int) -> Iterator[Any]:
        if auxiliary is not None:
            auxiliary.begin_epoch(epoch, network, features)
        n = len(y)
        n_batches = -(-n // batch_size)
        order = np.arange(n) if n_batches == 1 else random_state.permutation(n)
        # Batches of equal size: a last one of a few rows would spoil the batch statistics.
        for rows in np.array_split(order, n_batches):
            batch = examples.rows.batch(rows)
            drawn = None
            if auxiliary is not None:
                drawn = to_tensors(auxiliary.draw(batch, random_state), device, dtype)
            yield (
                to_tensors(batch, device, dtype),
                torch.from_numpy(y[rows]).to(device),
                None if weight is None else torch.from_numpy(weight[rows]).to(device),
                drawn,
            )

    def loss(batch: Any) -> Tensor:
        rows, target, w, drawn = batch
        seen = network.represent(rows, features, w)
        logit = network.score(seen, w)
        value = F.binary_cross_entropy_with_logits(logit, target, weight=w)
        if embedding_l2 > 0:
            value = value + embedding_l2 * network.penalty(rows, item_count, category_counts)
        if auxiliary is not None:
            with frozen_statistics(network):
                value = value + auxiliary.loss(network, rows, features, target, w, seen, drawn)
        return value

    prior = network.fusion.clone()

    def evaluate() -> float:
        assert validation is not None
        network.fill_unseen_embeddings(inputs.feedback_count)
        score = fused_decision(network, validation, prior)
        if not np.isfinite(score).all():
            return -np.inf  # the next loss says so
        return float(roc_auc_score(validation.y, score, sample_weight=validation.weight))

    def run() -> TrainingResult:
        return train(
            network,
            batches,
            loss,
            optimizer,  # type: ignore[arg-type]
            max_iter=max_iter,
            evaluate=None if validation is None else evaluate,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            callbacks=callbacks,
            name=name,
            verbose=verbose,
        )

    result = run()
    if pretrain and result.stopped_by in ("max_iter", "patience"):
        auxiliary, first = objective, result
        result = run()
        result.loss_curve[:0] = first.loss_curve
        result.validation_curve[:0] = first.validation_curve
        result.best_epoch += first.n_iter
    network.fill_unseen_embeddings(inputs.feedback_count)
    with torch.no_grad():
        some = examples.rows.batch(slice(0, batch_size))
        logit = network(to_tensors(some, device, dtype), features)
    check_finite([logit], optimizer, epoch=result.n_iter - 1, name=name)  # type: ignore[arg-type]
    return result


@torch.no_grad()
def decision(network: DINNetwork, rows: Rows, features: Features) -> NDArray[np.float64]:
    """Return the logit of each row, block by block."""
    network.eval()
    parameter = network.head.output.bias
    device, dtype = parameter.device, parameter.dtype
    tensors = _on(device, features)
    result = np.empty(len(rows))
    for block in rows.blocks():
        batch = to_tensors(rows.batch(block), device, dtype)
        result[block] = network(batch, tensors).cpu().numpy()
    return result


def fused_decision(network: DINNetwork, examples: Examples, prior: Tensor) -> NDArray[np.float64]:
    """Fit the fusion to these rows; return their logits by weights that were fitted to others."""
    n = network.n_linear
    network.fusion.copy_(logit_alone(n))
    score = decision(network, examples.rows, examples.features)
    if not np.isfinite(score).all():
        return score
    columns = examples.rows.dense[:, examples.rows.dense.shape[1] - n :]
    fusion, fused = weigh(score, columns, examples.y, examples.weight, prior.cpu().numpy())
    network.fusion.copy_(torch.from_numpy(fusion))
    return fused if fusion[2:].any() else score  # alone, only the order counts


def start_at_base_rate(network: DINNetwork, examples: Examples) -> None:
    """Let the untrained network predict the share of positives, not one half.

    As if there were half a row more of each class: a first `partial_fit` may see one class only.
    """
    weight = np.ones(len(examples.y)) if examples.weight is None else examples.weight
    positive, negative = weight @ examples.y, weight @ (1 - examples.y)
    with torch.no_grad():
        network.head.output.bias.fill_(float(np.log((positive + 0.5) / (negative + 0.5))))


def _on(device: torch.device, features: Features) -> dict[str, Tensor]:
    return {name: to_tensors(matrix, device, torch.float32) for name, matrix in features.items()}


def _count(count: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.as_tensor(np.zeros(0) if count is None else count).to(device, dtype)


def _numpy_dtype(dtype: torch.dtype) -> type:
    return np.float64 if dtype == torch.float64 else np.float32
