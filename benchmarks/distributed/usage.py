"""Wall-clock and CPU seconds of a process and of all that it starts, such as those of Ray."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVERY = 0.25
ROOT = Path(__file__).parents[2]


@dataclass
class Usage:
    wall: float = 0.0
    cpu: float = 0.0

    def __str__(self) -> str:
        return f"{self.wall:.1f} s, {self.cpu:.1f} s of CPU"


@contextmanager
def usage() -> Iterator[Usage]:
    """Give what the block takes, when it is left.

    Of processes that end meanwhile, the last quarter of a second may lack.
    """
    import psutil

    me, used, found = psutil.Process(), Usage(), dict[tuple[int, float], float]()
    ended = threading.Event()

    def look() -> None:
        for process in [me, *me.children(recursive=True)]:
            try:
                times = process.cpu_times()
                found[process.pid, process.create_time()] = times.user + times.system
            except psutil.Error:
                pass

    def watch() -> None:
        while not ended.wait(EVERY):
            look()

    look()
    before, began = sum(found.values()), time.perf_counter()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield used
    finally:
        used.wall = time.perf_counter() - began
        ended.set()
        watcher.join()
        look()
        used.cpu = sum(found.values()) - before


def start(n_cpus: int) -> Any:
    """Start a cluster on this machine, whose workers have one thread each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_worker_niceness", "0")  # as that of the process compared with
    import ray

    ray.init(
        address="local",
        num_cpus=n_cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=200 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}},
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray
