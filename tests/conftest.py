"""Shared by all tests: sensible thread counts, and how many tests were skipped for want of what."""

from __future__ import annotations

import os

# Before torch is imported: several workers with all cores each crawl.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from joblib import cpu_count

settings.register_profile(
    "skmars",
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("skmars")

ML_1M = Path(os.environ.get("SKMARS_ML1M") or Path(__file__).parents[2] / "shared/data/ml-1m")


@pytest.fixture(scope="session")
def ml_1m() -> Path:
    """Folder of MovieLens-1M; the test is skipped where there is none."""
    if not ML_1M.is_dir():
        pytest.skip("MovieLens-1M is not here; set SKMARS_ML1M to its folder")
    return ML_1M


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """A worker for each core that this process may use; more than eight gain little."""
    return min(cpu_count(), 8)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.markexpr:
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow; run with -m slow"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if not skipped:
        return
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    terminalreporter.write_sep("-", f"{len(skipped)} tests skipped")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:4d}  {reason}")
