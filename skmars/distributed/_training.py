"""Train a `DINClassifier` on several workers of a cluster: Ray Train starts them."""

from __future__ import annotations

import warnings
from copy import copy
from dataclasses import dataclass
from numbers import Integral
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state

from skmars.ctr import DINClassifier
from skmars.ctr._parameters import check_together
from skmars.distributed._cluster import n_cpus, ray

M = TypeVar("M")


def fit(
    model: M,
    X: Any,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    X_val: Any = None,
    y_val: ArrayLike | None = None,
    *,
    n_workers: int = 2,
    cpus_per_worker: int = 1,
    max_failures: int = 0,
    storage_path: str | None = None,
) -> M:
    """Fit a classifier, or a pipeline that ends in one, with several workers on a cluster of Ray.

    Every batch is divided among the workers, by history positions, and what its rows share is
    shared: the result is that of ``model.fit(X, y)`` but for rounding, with the same parameters
    `batch_size` and `learning_rate`.

    Parameters
    ----------
    model : DINClassifier, or Pipeline that ends in one
        Steps before the classifier are fitted in this process.
    X, y, sample_weight, X_val, y_val
        As for `DINClassifier.fit`. Of a pipeline, `X_val` goes through the steps before.
    n_workers : int, default=2
        Processes that train. Each holds the network and reads all rows; on one machine rows are in
        memory once.
    cpus_per_worker : int, default=1
        Threads of each worker, which are as many CPUs of the cluster.
    max_failures : int, default=0
        So many times a training begins anew, with the same result, when a worker was lost.
    storage_path : str, default=None
        Folder or address that all machines see, where Ray Train notes that a training ran. A
        cluster of several machines needs one. None is a temporary folder.

    Returns
    -------
    DINClassifier or Pipeline
        The model, fitted in place. It knows nothing of workers.

    Raises
    ------
    ValueError
        If workers need more CPUs than the cluster has; if the classifier has an auxiliary
        objective, callbacks, or a GPU as `device`.
    TypeError
        If the model does not end in a `DINClassifier`.
    RuntimeError
        If a worker was lost, more often than `max_failures` allows. The classifier is then as it
        was before.
    ImportError
        If Ray is not installed.

    What `DINClassifier.fit` raises, it raises here, too.

    See Also
    --------
    partial_fit : Trains for one epoch on further rows.

    Notes
    -----
    The same seed gives the same bits for the same number of workers.

    Starting the workers takes seconds. It pays where an epoch takes longer, which see "Training on
    several workers" in the user guide.

    Examples
    --------
    >>> from skmars import DINClassifier
    >>> from skmars.distributed import fit
    >>> din = fit(DINClassifier(random_state=0), X, y, n_workers=8)  # doctest: +SKIP
    """
    classifier = _classifier_of(model)
    workers = _Workers(n_workers, cpus_per_worker, max_failures, storage_path)
    part: Any = model
    while isinstance(part, Pipeline):
        if len(part) > 1:
            before = part[:-1]
            X = before.fit_transform(X, y)
            X_val = None if X_val is None else before.transform(X_val)
        part = part[-1]
    more = {"sample_weight": sample_weight, "X_val": X_val, "y_val": y_val}
    workers.train(classifier, "fit", X, y, more)
    return model


def partial_fit(
    classifier: DINClassifier,
    X: Any,
    y: ArrayLike,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    *,
    n_workers: int = 2,
    cpus_per_worker: int = 1,
    max_failures: int = 0,
    storage_path: str | None = None,
) -> DINClassifier:
    """Train a classifier for one epoch on further rows, with several workers on a cluster of Ray.

    It is `DINClassifier.partial_fit`, but for rounding.

    Parameters
    ----------
    classifier : DINClassifier
    X, y, classes, sample_weight
        As for `DINClassifier.partial_fit`.
    n_workers, cpus_per_worker, max_failures, storage_path
        As for `fit`.

    Returns
    -------
    DINClassifier
        The classifier, trained in place.

    Raises
    ------
    ValueError, TypeError, RuntimeError, ImportError
        As `fit` does.

    See Also
    --------
    fit : Trains to the end; there are notes, too.

    Examples
    --------
    >>> from skmars.distributed import partial_fit
    >>> din = partial_fit(din, X_new, y_new, n_workers=8)  # doctest: +SKIP
    """
    if _classifier_of(classifier) is not classifier:
        raise TypeError(
            "classifier must be a DINClassifier, got a Pipeline. Pass its last step, and rows as "
            "the steps before make them."
        )
    workers = _Workers(n_workers, cpus_per_worker, max_failures, storage_path)
    more = {"classes": classes, "sample_weight": sample_weight}
    workers.train(classifier, "partial_fit", X, y, more)
    return classifier


def _classifier_of(model: Any) -> DINClassifier:
    """Return the classifier in which a model ends, if several workers can train it."""
    last = model
    while isinstance(last, Pipeline):
        last = last[-1]
    if not isinstance(last, DINClassifier):
        raise TypeError(
            f"several workers train a DINClassifier, or a Pipeline that ends in one; this ends in "
            f"{type(last).__name__}."
        )
    device = "cpu" if last.device == "auto" else last.device
    check_together(last.auxiliary, device)
    if getattr(last, "_skl_callbacks", []):
        raise ValueError(
            "callbacks of the classifier would stay in this process, and workers train in others. "
            "Remove them with set_callbacks(), or fit in one process; verbose=1 prints in a worker."
        )
    return last


@dataclass(frozen=True)
class _Workers:
    """Workers that Ray Train is to start; the parameters are those of `fit`."""

    n_workers: int
    cpus_per_worker: int
    max_failures: int
    storage_path: str | None

    def __post_init__(self) -> None:
        least = {"n_workers": 1, "cpus_per_worker": 1, "max_failures": 0}
        for name, smallest in least.items():
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < smallest:
                raise ValueError(f"{name} must be an int of at least {smallest}, got {value!r}.")
        needed, there = self.n_workers * self.cpus_per_worker, n_cpus()
        if needed > there:
            raise ValueError(
                f"n_workers={self.n_workers} with cpus_per_worker={self.cpus_per_worker} need "
                f"{needed} CPUs, but the cluster has {there}. Ask for fewer, or they wait for ever."
            )

    def train(
        self, classifier: DINClassifier, method: str, X: Any, y: Any, more: dict[str, Any]
    ) -> None:
        """Call a method of the classifier in all workers together; it becomes what it is there."""
        ray_train, torch_train = ray("ray.train"), ray("ray.train.torch")
        sent = copy(classifier)
        sent.device = "cpu"
        if not isinstance(classifier.random_state, Integral):
            # All draw the same numbers, and what they have drawn is not drawn again.
            sent.random_state = check_random_state(classifier.random_state)
        with TemporaryDirectory() as folder:
            trainer = torch_train.TorchTrainer(
                _train,
                train_loop_config={
                    "task": ray().put((sent, method, X, y, more)),
                    "n_threads": self.cpus_per_worker,
                },
                torch_config=torch_train.TorchConfig(backend="gloo"),
                scaling_config=ray_train.ScalingConfig(
                    num_workers=self.n_workers, resources_per_worker={"CPU": self.cpus_per_worker}
                ),
                run_config=ray_train.RunConfig(
                    storage_path=self.storage_path or folder,
                    failure_config=ray_train.FailureConfig(max_failures=self.max_failures),
                ),
            )
            try:
                trained, warned = trainer.fit().return_value
            except ray_train.TrainingFailedError as error:
                raise _cause(error) from error
        parameters = classifier.get_params(deep=False)
        classifier.__dict__.clear()
        classifier.__dict__.update({**vars(trained), **parameters})
        if not isinstance(classifier.random_state, Integral):
            check_random_state(classifier.random_state).set_state(trained.random_state.get_state())
        for warning in warned:
            warnings.warn(warning, stacklevel=3)


def _train(config: dict[str, Any]) -> tuple[DINClassifier, list[Warning]] | None:
    """Train in a worker; the first one returns the classifier, and what was warned of."""
    import torch

    from skmars.utils._worker_group import training_together

    torch.set_num_threads(config["n_threads"])
    classifier, method, X, y, more = ray().get(config["task"])
    with training_together() as group, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        getattr(classifier, method)(X, y, **more)
    warned = [each.message for each in caught if isinstance(each.message, Warning)]
    return (classifier, warned) if group.rank == 0 else None


def _cause(error: Exception) -> BaseException:
    """Return the exception of the worker that failed first, as it was there."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    raised = [failure for _, failure in sorted(failures.items())]
    # Ray tells of workers that are lost; the others then lose their connection.
    own = [
        each
        for each in raised
        if not isinstance(each, ConnectionError) and not type(each).__module__.startswith("ray.")
    ]
    if own:
        return own[0]
    return RuntimeError(
        "a worker was lost in training; the error before this one has what Ray knows of it. The "
        "classifier is as it was before. Call again, or let max_failures say how often a training "
        "may begin anew."
    )
