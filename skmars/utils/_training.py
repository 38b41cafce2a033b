"""The training loop that the aligner and DIN share. Imports torch: import this file lazily."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from sklearn.exceptions import ConvergenceWarning

from skmars.utils._base import STEPS_AN_EPOCH
from skmars.utils._progress import report

Batch = TypeVar("Batch")


@dataclass
class TrainingResult:
    """Result of a training run besides the weights: losses, scores and the reason for its end."""

    loss_curve: list[float] = field(default_factory=list)  # means of completed epochs
    validation_curve: list[float] = field(default_factory=list)  # higher is better
    best_epoch: int = -1  # whose weights were kept, from 0 on; -1 if none was completed
    stopped_by: str = "max_iter"  # or "patience", "callback", "interrupt"

    @property
    def n_iter(self) -> int:
        """Number of completed epochs."""
        return len(self.loss_curve)


class EpochCallbacks:
    """Reports epochs of an estimator's fit to scikit-learn's callbacks, one task an epoch.

    The context is that of ``estimator._init_callback_context(max_subtasks=max_iter)``; `X` and `y`
    are for callbacks that score. `reconstruct` returns the fitted attributes as of now, from which
    scikit-learn makes an estimator that is ready to predict; called only if a callback asks.
    """

    def __init__(
        self,
        estimator: Any,
        context: Any,
        X: Any = None,
        y: Any = None,
        reconstruct: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        self._estimator, self._root = estimator, context
        self._data = {"X": X, "y": y, "reconstruction_attributes": reconstruct}
        self._root.call_on_fit_task_begin(estimator=estimator, X=X, y=y)

    def begin(self, epoch: int) -> None:
        """Tell the callbacks that an epoch begins."""
        self._task = self._root.subcontext(task_name=f"epoch {epoch}")
        self._task.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def end(self, epoch: int) -> bool:
        """Tell the callbacks that an epoch ended; True if one of them asks to stop."""
        return bool(self._task.call_on_fit_task_end(estimator=self._estimator, **self._data))

    def finish(self) -> None:
        """Tell the callbacks that the fit ended (call once, after training)."""
        self._root.call_on_fit_task_end(estimator=self._estimator, **self._data)


def train(
    module: torch.nn.Module,
    batches: Callable[[int], Iterable[Batch]],
    loss: Callable[[Batch], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    max_iter: int,
    evaluate: Callable[[], float] | None = None,
    n_iter_no_change: int | None = None,
    tol: float = 1e-4,
    exchange: Callable[[Batch, float], float] | None = None,
    callbacks: EpochCallbacks | None = None,
    name: str = "estimator",
    verbose: int = 0,
) -> TrainingResult:
    """Train a module in place; keep its best weights.

    Parameters
    ----------
    module : torch.nn.Module
    batches : callable
        ``batches(epoch)`` gives the mini-batches of an epoch.
    loss : callable
        ``loss(batch)`` gives a scalar tensor: a mean, so that the learning rate does not
        depend on the batch size.
    optimizer : torch.optim.Optimizer
    max_iter : int
        Largest number of epochs.
    evaluate : callable or None
        Validation score after an epoch, higher is better. The weights of the best epoch
        are restored at the end; without it the last ones stay.
    n_iter_no_change : int or None
        Stop after this many epochs without an improvement by `tol` of the validation score, or of
        the training loss without one, but not before ``n_iter_no_change * STEPS_AN_EPOCH`` steps:
        epochs of a few steps show little.
    tol : float
    exchange : callable or None
        Where several processes train together, ``exchange(batch, loss)`` is called when the
        gradients of a batch are there. It replaces them by those of all processes, and returns
        their loss.
    callbacks : EpochCallbacks or None
        One of them may stop the run.
    name : str
        Name for messages.
    verbose : int
        Prints a line an epoch if positive.

    Returns
    -------
    TrainingResult

    Raises
    ------
    FloatingPointError
        If the loss, or a weight in the end, is not finite; with the epoch and the likely cause.

    Warns
    -----
    ConvergenceWarning
        If the run was interrupted from the keyboard: the best weights so far are kept.
    """
    result = TrainingResult()
    best_score, best_weights = -math.inf, None
    reference, stale, stale_steps = -math.inf, 0, 0
    try:
        for epoch in range(max_iter):
            if callbacks is not None:
                callbacks.begin(epoch)
            mean_loss, n_steps = _run_epoch(
                module, batches(epoch), loss, optimizer, exchange, name=name, epoch=epoch
            )
            result.loss_curve.append(mean_loss)
            score = -mean_loss
            if evaluate is not None:
                module.eval()
                score = evaluate()
                result.validation_curve.append(score)
                if score > best_score or best_weights is None:
                    best_score, result.best_epoch = score, epoch
                    if best_weights is None:
                        best_weights = deepcopy(module.state_dict())
                    else:
                        _copy_weights(module, best_weights)
            else:
                result.best_epoch = epoch
            _report(name, epoch, max_iter, result, verbose)

            stop = callbacks.end(epoch) if callbacks is not None else False
            if stop:
                result.stopped_by = "callback"
                break
            improved = score > reference + tol
            stale, stale_steps = (0, 0) if improved else (stale + 1, stale_steps + n_steps)
            reference = max(reference, score)
            if (
                n_iter_no_change is not None
                and stale >= n_iter_no_change
                and stale_steps >= n_iter_no_change * STEPS_AN_EPOCH
            ):
                result.stopped_by = "patience"
                break
    except KeyboardInterrupt:
        result.stopped_by = "interrupt"
        if best_weights is not None and result.best_epoch == epoch:  # perhaps copied by half
            _copy_weights(module, best_weights)
        warnings.warn(
            f"{name}: training was interrupted in epoch {result.n_iter}. The "
            f"{'best' if best_weights else 'latest'} weights so far are kept and the "
            "estimator can be used; fit with warm_start=True to go on.",
            ConvergenceWarning,
            stacklevel=3,
        )
    if best_weights is not None:
        module.load_state_dict(best_weights)
    module.eval()
    check_finite(module.parameters(), optimizer, epoch=result.n_iter - 1, name=name)
    return result


def _copy_weights(module: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Copy the weights of a module to where those of an earlier epoch are.

    Embedding tables may be large, so that there should be no third copy of them.
    """
    for name, value in module.state_dict().items():
        weights[name].copy_(value)


def check_finite(
    values: Iterable[torch.Tensor], optimizer: torch.optim.Optimizer, *, epoch: int, name: str
) -> None:
    """Raise FloatingPointError if trained weights or predictions are not finite.

    No loss is computed after the last step, which could show it.
    """
    if not all(map(_is_finite, values)):
        raise FloatingPointError(
            f"{name}: weights or predictions became infinite or NaN in epoch {epoch}. Most likely "
            f"the learning rate is too large (learning_rate={optimizer.param_groups[0]['lr']:g}): "
            "lower learning_rate."
        )


def _is_finite(value: torch.Tensor) -> bool:
    # A finite sum shows it without a copy of a large table; the sum of large numbers may overflow.
    return bool(torch.isfinite(value.detach().sum())) or bool(torch.isfinite(value).all())


def _run_epoch(
    module: torch.nn.Module,
    batches: Iterable[Batch],
    loss: Callable[[Batch], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    exchange: Callable[[Batch, float], float] | None,
    *,
    name: str,
    epoch: int,
) -> tuple[float, int]:
    """Take one optimisation step a batch; return the mean loss and the number of batches."""
    module.train()
    total, n_batches = 0.0, 0
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        value = loss(batch)
        value.backward()
        number = float(value.detach())
        if exchange is not None:
            number = exchange(batch, number)
        if not math.isfinite(number):
            rate = optimizer.param_groups[0]["lr"]
            raise FloatingPointError(
                f"{name}: the training loss became {number} in epoch {epoch}, batch {n_batches}. "
                f"Most likely the learning rate is too large (learning_rate={rate:g}) or a "
                "numeric input has extreme values: lower learning_rate, or scale the input."
            )
        optimizer.step()
        total += number
        n_batches += 1
    return total / max(n_batches, 1), n_batches


def _report(name: str, epoch: int, max_iter: int, result: TrainingResult, verbose: int) -> None:
    line = f"[{name}] epoch {epoch + 1}/{max_iter}  loss {result.loss_curve[-1]:.4f}"
    if result.validation_curve:
        line += f"  validation {result.validation_curve[-1]:.4f}"
    report(line, verbose)
