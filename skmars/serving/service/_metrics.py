"""What the service counts, in the text format of Prometheus."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import InfoMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

# Where several processes keep their values; prometheus_client reads it when it is imported.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """Counters, gauges and histograms of one process.

    Where the environment variable ``PROMETHEUS_MULTIPROC_DIR`` names a folder, `text` sums over
    all living processes that share it.
    """

    def __init__(self) -> None:
        self._own = own = CollectorRegistry()
        folder = os.environ.get(FOLDER)
        if folder:
            _forget_dead(Path(folder))
        self.requests = Counter(
            "skmars_requests", "Requests, by route and status.", ["route", "status"], registry=own
        )
        self.seconds = Histogram(
            "skmars_request_seconds",
            "Seconds from a request's headers to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=own,
        )
        self.batch = Histogram(
            "skmars_batch_requests",
            "Requests that were scored at once.",
            buckets=(1, 2, 4, 8, 16),
            registry=own,
        )
        self.queue = Gauge(
            "skmars_queue_requests",
            "Requests that wait to be scored.",
            multiprocess_mode="livesum",
            registry=own,
        )
        self.refusals = Counter(
            "skmars_refusals", "Refused requests, by reason.", ["reason"], registry=own
        )
        self.store_misses = Counter(
            "skmars_store_misses",
            "Readings of histories that were late, or failed.",
            ["reason"],
            registry=own,
        )
        self.histories = Counter(
            "skmars_histories", "Scored users, by what was known of them.", ["state"], registry=own
        )
        self.events = Counter(
            "skmars_events", "Events that came, new ones and those known.", ["state"], registry=own
        )
        self.failed_loads = Counter(
            "skmars_failed_loads", "Versions that could not be loaded, each try.", registry=own
        )
        self.unlogged = Counter(
            "skmars_unlogged_scores",
            "Scored requests that the log of scores has no room for.",
            registry=own,
        )
        self.version = Gauge(
            "skmars_version_number",
            "Number of the version that each process uses: 3 for pools/3.",
            ["name"],
            multiprocess_mode="liveall",
            registry=own,
        )
        self._versions = _Versions()
        # A collector of many processes reads their files instead of the metrics of this one.
        self._shown = CollectorRegistry() if folder else own
        if folder:
            MultiProcessCollector(self._shown)
        self._shown.register(self._versions)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self.requests.labels(route, status).inc()
        self.seconds.labels(route).observe(seconds)

    def set_versions(self, versions: Mapping[str, str]) -> None:
        """Tell which versions this process uses."""
        self._versions.current = dict(versions)
        for name, version in versions.items():
            number = version.rpartition("/")[2]
            self.version.labels(name).set(int(number) if number.isdecimal() else 0)

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._shown)


class _Versions(Collector):
    """The versions of this process, as labels of a metric that is always 1."""

    def __init__(self) -> None:
        self.current: dict[str, str] = {}

    def collect(self) -> Iterator[InfoMetricFamily]:
        told = "Versions that the process uses that answers this."
        yield InfoMetricFamily("skmars_version", told, self.current)


def _forget_dead(folder: Path) -> None:
    """Remove the gauges of processes that ended without being asked to."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdecimal() and not _lives(int(pid)):
            mark_process_dead(int(pid), str(folder))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
