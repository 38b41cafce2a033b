"""Training with Ray Train: the model of one process, errors of workers, workers that are lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skmars import DINClassifier
from skmars.baselines import CL4SRec
from skmars.distributed import fit, partial_fit
from tests.ctr.impressions import din, lend, make_data

pytest.importorskip("ray.train", reason="the package ray[train] is not installed")

X, y = make_data()
LENT = lend(X)


def check_same(found: DINClassifier, expected: DINClassifier, rows: Any) -> None:
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-4)
    np.testing.assert_allclose(
        found.decision_function(rows), expected.decision_function(rows), atol=1e-3
    )
    assert vars(found).keys() == vars(expected).keys()


def test_same_as_alone(cluster: Any) -> None:
    """Two workers make the model of one process, and seeds are drawn alike."""

    def make() -> Pipeline:
        classifier = din(random_state=np.random.RandomState(0), batch_size=60)
        return make_pipeline(FunctionTransformer(lend), make_pipeline("passthrough", classifier))

    alone, together = make().fit(X, y), make()
    assert fit(together, X, y, n_workers=2) is together
    alone, together = alone[-1][-1], together[-1][-1]
    check_same(together, alone, LENT)
    check_same(partial_fit(together, LENT, y), alone.partial_fit(LENT, y), LENT)
    assert together.random_state.randint(1 << 30) == alone.random_state.randint(1 << 30)


@pytest.mark.slow
def test_errors_of_workers(cluster: Any) -> None:
    """They come as they are in one process, and leave the classifier as it was."""
    model = din(learning_rate=1e30, max_iter=20, early_stopping=False)
    with pytest.raises(FloatingPointError, match="learning_rate=1e[+]30"):
        fit(model, X, y, n_workers=2)
    assert not hasattr(model, "classes_")


class Dies:
    """Kills the process that unpickles it, if it is the first one."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return _die_once, (self.file,)


def _die_once(file: Path) -> None:
    try:
        file.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), 9)


@pytest.mark.slow
def test_worker_is_lost(cluster: Any, tmp_path: Path) -> None:
    """The training may begin anew. What it warns of in a worker is warned of here."""
    model = din()
    model.note = Dies(tmp_path / "first")
    with pytest.raises(RuntimeError, match="a worker was lost.*max_failures"):
        fit(model, X, y, n_workers=2)
    assert not hasattr(model, "classes_")
    model.note = Dies(tmp_path / "second")
    few = X[:40], y[:40]
    with pytest.warns(UserWarning, match="held-out rows") as warned:
        fit(model, *few, n_workers=2, max_failures=1)
    assert warned[0].filename == __file__
    with pytest.warns(UserWarning, match="held-out rows"):
        check = din().fit(*few)
    np.testing.assert_allclose(model.loss_curve_, check.loss_curve_, rtol=1e-4)


def test_refused(cluster: Any) -> None:
    for model, error, message in (
        (din(auxiliary=CL4SRec()), ValueError, "auxiliary=CL4SRec"),
        (din(device="cuda"), ValueError, "device='cuda'"),
        (din().set_callbacks(_Callback()), ValueError, "callbacks"),
        (StandardScaler(), TypeError, "ends in StandardScaler"),
    ):
        with pytest.raises(error, match=message):
            fit(model, X, y)
    with pytest.raises(TypeError, match="got a Pipeline"):
        partial_fit(make_pipeline(din()), X, y)  # type: ignore[arg-type]
    for name, value in {"n_workers": 0, "cpus_per_worker": 1.5, "max_failures": -1}.items():
        with pytest.raises(ValueError, match=f"{name} must be an int .* got {value}"):
            fit(din(), X, y, **{name: value})
    with pytest.raises(ValueError, match="need 4 CPUs, but the cluster has 3"):
        fit(din(), X, y, n_workers=4)


class _Callback:
    def setup(self, context: Any) -> None: ...
    def teardown(self, context: Any) -> None: ...
    def on_fit_task_begin(self, context: Any, **_: Any) -> None: ...
    def on_fit_task_end(self, context: Any, **_: Any) -> None: ...
