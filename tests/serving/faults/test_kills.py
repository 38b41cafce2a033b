"""A few of the kills of `benchmarks.serving.kills`, which does hundreds of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.serving.killed_commands import Clients, kill_runners, kill_services, kill_trainers
from benchmarks.serving.killed_stores import check_kept, read
from skmars.serving import open_store
from tests.serving.faults.deployed import deployment
from tests.serving.processes import Service, wait_for

pytestmark = pytest.mark.filterwarnings("ignore:.* not in the catalogue")


@pytest.mark.parametrize("kills", [kill_services, kill_runners, kill_trainers])
def test_nothing_is_lost_counted_twice_or_left(kills: Iterator[object], tmp_path: Path) -> None:
    done = list(kills(tmp_path, 3))
    assert len(done) == 3
    assert all(kill.acknowledged for kill in done)
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.slow
def test_workers_end_with_the_process_that_watches_them(tmp_path: Path) -> None:
    """Or they would keep the address from the service that is begun anew."""
    options = ["--model", str(deployment(tmp_path)), "--store", f"lmdb:{tmp_path / 'store'}"]
    options += ["--workers", "2", "--store-deadline", "5"]
    with Service(tmp_path, *options).ready() as first:
        with Clients(first, tmp_path / "acknowledged", 1) as clients:
            assert clients.answered.wait(60)
            first.kill()
        assert not clients.wrong
    with Service(tmp_path, *options, port=first.port).ready() as second:
        assert (
            second.metric('skmars_requests_total{route="/events",status="200"}') == 0
        )  # a new one
        (left,) = (tmp_path / "tmp").iterdir()  # the first one's counts are gone
        assert second.end() == 0
    wait_for(lambda: not left.exists())
    store = open_store(f"lmdb:{tmp_path / 'store'}")
    check_kept(store, read(tmp_path / "acknowledged"))
    store.close()
