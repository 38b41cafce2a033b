"""A store that hangs, cuts connections or is gone: answers come in time, and all recovers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving.killed_stores import check_kept
from skmars.serving import open_store
from skmars.serving.service import _service as service_module
from tests.serving.faults.deployed import USER, event, serving
from tests.serving.served import wait_until
from tests.serving.servers import start_redis


class Proxy:
    """Passes connections on to a server, unless it is told to hold them or to cut them."""

    def __init__(self, port: int) -> None:
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port, self._to = self._door.getsockname()[1], port
        self.open = threading.Event()  # while it is not set, nothing passes
        self.open.set()
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client = self._door.accept()[0]
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                client.close()
                continue
            self._ends += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(2**16):
                self.open.wait()
                sink.sendall(data)
        except OSError:
            return

    def cut(self) -> None:
        """Break all connections, in the middle of what passes."""
        for end in self._ends:
            end.close()
        self._ends = []

    def close(self) -> None:
        self.open.set()
        self._door.close()
        self.cut()


def check_faulty(served: Any, known: dict[str, Any]) -> None:
    """Check what the service answers while its store does not: in time, flagged and counted."""
    began = time.monotonic()
    answer = served.score(USER, {"user_id": 5, "item_ids": [1]})
    assert answer.status_code == 200
    stale, missing = answer.json()["users"]
    assert stale == {**known, "history": "stale"}
    assert (missing["history"], missing["position"]) == ("missing", None)
    answer = served.post("/events", events=[event(50)])
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] in ("store_late", "store_failed")
    assert int(answer.headers["retry-after"]) > 0
    assert served.post("/recommend", user_id=1, n=2).json()["history"] == "stale"
    assert served.client.get("/ready").status_code == 503
    assert served.client.get("/health").status_code == 200
    assert time.monotonic() - began < 20
    assert served.metric('skmars_histories_total{state="stale"}') >= 2
    assert served.metric('skmars_histories_total{state="missing"}') >= 1
    misses = [served.metric(f'skmars_store_misses_total{{reason="{r}"}}') for r in MISSES]
    assert sum(misses) >= 3


MISSES = ("late", "error", "busy")


def check_recovered(served: Any, n: int) -> None:
    """Check that events are kept and known again; what was late may have come, once."""
    wait_until(lambda: served.client.get("/ready").status_code == 200, 60)
    answer = served.post("/events", events=[event(50), event(n)])
    assert answer.status_code == 200
    wait_until(lambda: served.score(USER).json()["users"][0]["history"] == "current")
    assert served.score(USER).json()["users"][0]["position"] == answer.json()["position"] == 22


@pytest.mark.parametrize("fault", ["stopped", "killed", "held", "cut"])
def test_redis(fault: str, tmp_path: Path) -> None:
    with start_redis(tmp_path) as server:
        proxy = Proxy(server.port)
        store = open_store(f"redis://127.0.0.1:{proxy.port}/0?socket_timeout=0.4")
        with serving(store, deadline=0.2) as served:
            served.post("/events", events=[event(n) for n in range(20)])
            wait_until(lambda: served.score(USER).json()["users"][0]["history"] == "current")
            known = served.score(USER).json()["users"][0]
            if fault == "stopped":
                os.kill(server.pid, signal.SIGSTOP)
            elif fault == "killed":
                server.kill()
            elif fault == "held":
                proxy.open.clear()
            if fault == "cut":
                for _ in range(3):  # each call connects again
                    proxy.cut()
                    assert served.score(USER).status_code == 200
            else:
                check_faulty(served, known)
            if fault == "stopped":
                os.kill(server.pid, signal.SIGCONT)
            elif fault == "killed":
                server.start()
            proxy.open.set()
            check_recovered(served, 51)
        store = open_store(server.url)
        check_kept(store, [[event(n)["user_id"], event(n)["time"]] for n in [*range(20), 50, 51]])
        store.close()
        proxy.close()


HOLD = """
import sys, time, lmdb
env = lmdb.open(sys.argv[1], max_dbs=6, map_size=2**30)
txn = env.begin(write=True)
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def writer_lock(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Let a process hold the right to write, and stand still."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    process.send_signal(signal.SIGSTOP)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_lmdb_whose_writer_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads does not wait for it; events are refused, and kept when it is gone."""
    monkeypatch.setattr(service_module, "WRITE_SECONDS", 0.2)
    store = open_store(f"lmdb:{tmp_path}")
    with serving(store) as served:
        served.post("/events", events=[event(n) for n in range(20)])
        with writer_lock(tmp_path):
            for _ in range(3):
                answer = served.post("/events", events=[event(50)])
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert answer.json()["error"]["code"] == "store_late"
            found = served.score(USER).json()["users"][0]
            assert (found["history"], found["position"]) == ("current", 20)
            assert served.client.get("/ready").status_code == 200
        monkeypatch.setattr(service_module, "WRITE_SECONDS", 30)
        check_recovered(served, 51)
    store = open_store(f"lmdb:{tmp_path}")
    check_kept(store, [[event(n)["user_id"], event(n)["time"]] for n in [*range(20), 50, 51]])
    store.close()
