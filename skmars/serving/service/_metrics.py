"""What the service counts, in the text format of Prometheus."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from skmars.serving.service._trainer_status import TrainerStatus
from skmars.serving.store._current import model_of

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
            "Number of the version that each process uses: 3 for pools/3, 0 for that of the fit.",
            ["name"],
            multiprocess_mode="liveall",
            registry=own,
        )
        self._versions = _Versions()
        self.trainer = _Trainer()
        # A collector of many processes reads their files instead of the metrics of this one.
        self._shown = CollectorRegistry() if folder else own
        if folder:
            MultiProcessCollector(self._shown)
        self._shown.register(self._versions)
        self._shown.register(self.trainer)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self.requests.labels(route, status).inc()
        self.seconds.labels(route).observe(seconds)

    def set_versions(self, versions: Mapping[str, str], written: Mapping[str, float]) -> None:
        """Tell which versions this process uses, and when they were written."""
        self._versions.current, self._versions.written = dict(versions), dict(written)
        model = model_of(versions["params"])
        for name, version in {"model": model, **versions}.items():
            number = "0" if name == "params" and version == model else version.rpartition("/")[2]
            self.version.labels(name).set(int(number) if number.isdecimal() else 0)

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._shown)


class _Versions(Collector):
    """The versions of this process, as labels of a metric that is always 1, and their ages."""

    def __init__(self) -> None:
        self.current: dict[str, str] = {}
        self.written: dict[str, float] = {}

    def collect(self) -> Iterator[Metric]:
        told = "Versions that the process uses that answers this."
        yield InfoMetricFamily("skmars_version", told, self.current)
        age = GaugeMetricFamily(
            "skmars_version_age_seconds",
            "Seconds since the version was written that the process uses that answers this.",
            labels=["name"],
        )
        for name, written in self.written.items():
            age.add_metric([name], max(0.0, time.time() - written))
        yield age


class _Trainer(Collector):
    """What the trainer told last; nothing where none ever ran.

    It stands in the store, so that each process tells the same.
    """

    def __init__(self) -> None:
        # Status and positions behind, in one assignment: both are of one look.
        self.seen: tuple[TrainerStatus, int] | None = None

    def collect(self) -> Iterator[Metric]:
        if self.seen is None:
            return
        told, behind = self.seen
        yield CounterMetricFamily(
            "skmars_trainer_events", "Events that the trainer has learnt.", told.n_events
        )
        if told.n_skipped is not None:
            yield CounterMetricFamily(
                "skmars_trainer_skipped_events",
                "Events of which the trainer can make no row.",
                told.n_skipped,
            )
        yield GaugeMetricFamily(
            "skmars_trainer_position",
            "Position of the stream up to which the trainer had learnt when it told this.",
            told.position,
        )
        yield GaugeMetricFamily(
            "skmars_trainer_positions_behind",
            "Positions of the store beyond that one: at most so many events wait to be learnt.",
            behind,
        )
        yield GaugeMetricFamily(
            "skmars_trainer_status_age_seconds",
            "Seconds since the trainer told this.",
            max(0.0, time.time() - told.time),
        )
        yield _labelled(
            GaugeMetricFamily,
            "skmars_trainer_log_loss",
            "Log loss on the newest rows, before they were learnt.",
            "of",
            {
                "candidate": told.log_loss,
                "current": told.current_log_loss,
                "fit": told.fit_log_loss,
            },
        )
        yield _labelled(
            GaugeMetricFamily,
            "skmars_trainer_auc",
            "AUC on the newest rows, before they were learnt.",
            "of",
            {"candidate": told.auc, "current": told.current_auc, "fit": told.fit_auc},
        )
        if told.rows is not None:
            yield GaugeMetricFamily(
                "skmars_trainer_validation_rows", "Number of these rows.", told.rows
            )
        yield _labelled(
            CounterMetricFamily,
            "skmars_trainer_candidates",
            "Candidates that became the current version, and those that did not.",
            "state",
            {"accepted": told.n_accepted, "rejected": told.n_rejected},
        )


def _labelled(
    kind: type[GaugeMetricFamily | CounterMetricFamily],
    name: str,
    told: str,
    label: str,
    values: Mapping[str, float | None],
) -> Metric:
    """Return a metric with a value for each label that has one."""
    metric = kind(name, told, labels=[label])
    for key, value in values.items():
        if value is not None:
            metric.add_metric([key], value)
    return metric


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
