"""The training loop: best weights, stopping, callbacks, interrupts, non-finite losses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.callback import with_callbacks
from sklearn.exceptions import ConvergenceWarning

from skmars.utils._base import SkmarsMixin
from skmars.utils._training import EpochCallbacks, TrainingResult, train


class Scalar(torch.nn.Module):
    """One weight, moved by plain gradient descent on (w - 1)^2."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(()))

    def loss(self, batch: Any) -> torch.Tensor:
        return (self.w - 1) ** 2


def run(
    module: Scalar, lr: float = 0.1, n_steps: int = 1, loss: Any = None, **arguments: Any
) -> TrainingResult:
    optimizer = torch.optim.SGD(module.parameters(), lr=lr)
    return train(module, lambda epoch: range(n_steps), loss or module.loss, optimizer, **arguments)


def test_descends() -> None:
    module = Scalar()
    result = run(module, max_iter=100)
    assert module.w.item() == pytest.approx(1, abs=1e-3)
    assert result.n_iter == 100
    assert result.loss_curve == sorted(result.loss_curve, reverse=True)
    assert not module.training


def test_best_weights_are_restored() -> None:
    module = Scalar()
    # The validation score is best where w passes 0.5, long before training ends.
    result = run(module, max_iter=50, evaluate=lambda: -abs(module.w.item() - 0.5))
    assert abs(module.w.item() - 0.5) < 0.1
    assert result.best_epoch < 10
    assert len(result.validation_curve) == 50


@pytest.mark.parametrize(("n_steps", "n_iter"), [(1, 151), (49, 5), (50, 4), (200, 4)])
def test_patience_counts_epochs_and_steps_without_improvement(n_steps: int, n_iter: int) -> None:
    result = run(Scalar(), n_steps=n_steps, max_iter=200, evaluate=lambda: 1.0, n_iter_no_change=3)
    assert result.n_iter == n_iter
    assert result.stopped_by == "patience"


def test_steps_with_an_improvement_do_not_count_for_patience() -> None:
    scores = iter([0.0] * 60 + [1.0] * 200)
    result = run(Scalar(), max_iter=200, evaluate=lambda: next(scores), n_iter_no_change=2)
    assert result.n_iter == 60 + 1 + 100


def test_patience_on_the_training_loss() -> None:
    assert 100 < run(Scalar(), max_iter=500, n_iter_no_change=2, tol=1e-3).n_iter < 150


def test_a_loss_that_is_not_finite_names_epoch_and_cause() -> None:
    module = Scalar()

    def loss(batch: Any) -> torch.Tensor:
        return module.loss(batch) * (float("nan") if module.w.item() > 0.3 else 1.0)

    with pytest.raises(FloatingPointError, match=r"epoch 2.*learning rate.*learning_rate=0.1"):
        run(module, max_iter=50, loss=loss)


def test_weights_that_the_last_step_made_infinite_are_not_handed_out() -> None:
    with pytest.raises(FloatingPointError, match=r"NaN in epoch 0.*learning_rate=3e\+38"):
        run(Scalar(), lr=3e38, max_iter=1)


@pytest.mark.parametrize("validated", [True, False])
def test_ctrl_c_keeps_what_was_learned(validated: bool) -> None:
    module = Scalar()

    def loss(batch: Any) -> torch.Tensor:
        if module.w.item() > 0.6:
            raise KeyboardInterrupt
        return module.loss(batch)

    evaluate = (lambda: -abs(module.w.item() - 0.3)) if validated else None
    with pytest.warns(ConvergenceWarning, match=r"interrupted in epoch \d.*can be used"):
        result = run(module, max_iter=50, loss=loss, evaluate=evaluate)
    assert result.stopped_by == "interrupt"
    assert module.w.item() == pytest.approx(0.3 if validated else 0.6, abs=0.12)
    assert not module.training


class Recorder:
    """A callback that notes what it is told and stops after `stop_after` epochs."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.events: list[str] = []
        self.stop_after = stop_after

    def setup(self, estimator, context) -> None:
        self.events.append("setup")

    def teardown(self, estimator, context) -> None:
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context) -> None:
        self.events.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None) -> bool:
        weight = None if fitted_estimator is None else fitted_estimator.module_.w.item()
        self.events.append(f"end {context.task_name} {weight is not None}")
        return context.task_id + 1 == self.stop_after and context.parent is not None


class Toy(SkmarsMixin, BaseEstimator):
    @with_callbacks
    def fit(self, X=None, y=None):
        module = Scalar()
        context = self._init_callback_context(max_subtasks=5)
        callbacks = EpochCallbacks(self, context, X, y, reconstruct=lambda: {"module_": module})
        self.result_ = run(module, max_iter=5, callbacks=callbacks)
        callbacks.finish()
        return self


def test_epochs_are_tasks_of_scikit_learn_callbacks() -> None:
    recorder = Recorder()
    toy = Toy().set_callbacks(recorder).fit()
    assert toy.result_.n_iter == 5
    epochs = [e for i in range(5) for e in (f"begin epoch {i}", f"end epoch {i} True")]
    assert recorder.events == ["setup", "begin fit", *epochs, "end fit True", "teardown"]


def test_a_callback_may_stop_the_fit() -> None:
    toy = Toy().set_callbacks(Recorder(stop_after=2)).fit()
    assert toy.result_.n_iter == 2
    assert toy.result_.stopped_by == "callback"
