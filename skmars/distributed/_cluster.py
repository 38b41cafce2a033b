"""The cluster that a process is connected to."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def ray(module: str = "ray") -> Any:
    """Return Ray, or a module of it; ImportError says how to get it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f'skmars.distributed needs the package {error.name}: pip install "skmars[ray]".'
        ) from error


def n_cpus() -> int:
    """Return the number of CPUs of the cluster, which is started here if there is none."""
    if not ray().is_initialized():
        ray().init()  # of RAY_ADDRESS, if that is set
    return int(ray().cluster_resources().get("CPU", 0))
