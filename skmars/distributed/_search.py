"""Searches of scikit-learn on a cluster, whose tasks share the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import joblib

from skmars.data import Impressions
from skmars.distributed._cluster import n_cpus, ray


@contextmanager
def parallel_backend(n_jobs: int | None = None) -> Iterator[None]:
    """Let ``GridSearchCV``, ``cross_val_score`` and the like work on a cluster of Ray.

    It is Ray's own backend of joblib, except that impressions (with their catalogue) are sent once
    for all tasks, rather than once for each.

    Parameters
    ----------
    n_jobs : int, default=None
        How many worker processes there are, each with a CPU and one thread. None takes all CPUs:
        a search has no tasks but these.

    Raises
    ------
    ImportError
        If Ray is not installed.
    ValueError
        If `n_jobs` is not positive, or more than the cluster has CPUs, for which it would wait for
        ever.

    Examples
    --------
    >>> from skmars.distributed import parallel_backend
    >>> with parallel_backend():  # doctest: +SKIP
    ...     search.fit(X, y)
    """
    backend = _backend_class()()
    n = n_cpus()
    if n_jobs is not None and not 1 <= n_jobs <= n:
        raise ValueError(f"n_jobs must be from 1 to {n}, the CPUs of the cluster, got {n_jobs}.")
    with joblib.parallel_config(backend, n_jobs=n_jobs or n):
        yield


def _backend_class() -> type[Any]:
    base: Any = ray("ray.util.joblib.ray_backend").RayBackend

    class Backend(base):
        """Replaces impressions among the arguments of tasks by references to one copy."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self._known: list[tuple[Impressions, Any]] = []

        def submit(self, func: Any, callback: Callable[..., Any] | None = None) -> Any:
            func.items = [
                (_with_objects, (function, *map(self._shared, args)), _each(self._shared, options))
                for function, args, options in func.items
            ]
            return super().submit(func, callback)

        def _shared(self, value: Any) -> Any:
            if not isinstance(value, Impressions):
                return value
            for known, reference in self._known:
                if known is value:
                    return reference
            self._known.append((value, ray().put(value)))
            return self._known[-1][1]

        def terminate(self) -> None:
            self._known = []
            super().terminate()

    return Backend


def _with_objects(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a function with what references refer to."""
    return function(*map(_object, args), **_each(_object, options))


def _object(value: Any) -> Any:
    return ray().get(value) if isinstance(value, ray().ObjectRef) else value


def _each(change: Callable[[Any], Any], values: dict[str, Any]) -> dict[str, Any]:
    return {name: change(value) for name, value in values.items()}
