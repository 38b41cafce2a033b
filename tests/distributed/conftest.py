"""A cluster of Ray on this machine, for all tests of this folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from tests.distributed.shop import make_log, save_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Ray with CPUs for two workers and a reader, whatever the machine has."""
    ray = pytest.importorskip("ray", reason="the package ray is not installed")
    data = pytest.importorskip("ray.data", reason="the package ray[data] is not installed")
    variables = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_worker_niceness", "0")  # or on a busy machine they wait for minutes
    os.environ.setdefault("RAY_AUTH_TOKEN", token_hex())  # or Ray would write one into the home
    ray.init(
        address="local",
        num_cpus=3,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=100 * 2**20,
        runtime_env={"env_vars": variables},
    )
    data.DataContext.get_current().enable_progress_bars = False
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def log() -> Any:
    pytest.importorskip("pandas")
    return make_log()


@pytest.fixture(scope="session")
def folder(log: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows the first events of the log."""
    for name in ("pyarrow", "safetensors"):
        pytest.importorskip(name)
    path = tmp_path_factory.mktemp("deployment") / "model"
    save_model(log, path)
    return path
