"""Two of a kind for one store: one works, and one that stood still publishes nothing."""

from __future__ import annotations

from pathlib import Path

from benchmarks.serving.killed_commands import let_lease_run_out
from skmars.serving import open_store
from tests.serving.faults.deployed import deployment, event, serving
from tests.serving.processes import Command


def test_of_two_runners_one_works_and_a_paused_one_publishes_nothing(tmp_path: Path) -> None:
    folder, url = deployment(tmp_path), f"lmdb:{tmp_path / 'store'}"
    store = open_store(url)
    options = ["--model", str(folder), "--store", url, "--every", "0.1s"]
    with serving(store, folder) as served:
        served.post("/events", events=[event(n) for n in range(60)])
        with Command(tmp_path, "runner", *options) as first:
            first.wait_until(lambda: "published pools/1" in first.told)
            with Command(tmp_path, "runner", *options) as second:
                assert second.wait() == 75
                assert "is held by" in second.told
                assert f"process {first.pid}" in second.told
            first.pause()
            served.post("/events", events=[event(n) for n in range(60, 80)])
            let_lease_run_out(store, "runner")
            assert store.pointer("pool") == "pools/1"
            with Command(tmp_path, "runner", *options) as third:
                third.wait_until(lambda: "published pools/2" in third.told)
                first.resume()
                assert first.wait() == 75
                assert "StaleLease" not in first.told
                assert store.pointer("pool") == "pools/2"
                served.post("/events", events=[event(n) for n in range(80, 99)])
                third.wait_until(lambda: "published pools/3" in third.told)
                assert third.end() == 143
