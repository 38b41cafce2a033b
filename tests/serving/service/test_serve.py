"""`skmars serve` as processes: addresses, tokens, several workers, slow clients and the end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("httptools")
pytest.importorskip("msgspec")
pytest.importorskip("prometheus_client")
pytest.importorskip("lmdb")
pytest.importorskip("safetensors")

import skmars
from skmars.cli import main
from skmars.serving import open_store
from skmars.serving.service._server import _listen
from tests.serving.served import NOW, model, wait_until

ROOT = Path(__file__).parents[3]
ONE = {"users": [{"user_id": 1, "item_ids": [1, 2, 3]}]}


class Server:
    """A running `skmars serve`, and a client of it."""

    def __init__(self, folder, *options, env=None):
        self.store_url = f"lmdb:{folder / 'store'}"
        command = "import sys; from skmars.cli import main; sys.exit(main())"
        self.log = (folder / f"log-{time.monotonic_ns()}").open("w+")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", command, "serve", "--port", "0"),
                *("--model", str(folder / "model"), "--store", self.store_url, *options),
            ],
            stderr=self.log,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **(env or {})},
        )
        self.headers = {"content-type": "application/json"}

    @property
    def told(self):
        return Path(self.log.name).read_text()

    def start(self):
        wait_until(lambda: re.search(r"http://\S+:(\d+)", self.told), 120)
        self.port = int(re.search(r"http://\S+:(\d+)", self.told)[1])
        wait_until(self.is_ready, 120)
        return self

    def is_ready(self):
        try:
            return self.ask("GET", "/ready")[0] == 200
        except OSError:  # worker processes begin slowly on a busy machine
            return False

    def ask(self, method, route, body=None, **headers):
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, route, content, {**self.headers, **headers})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def metric(self, name):
        found = re.findall(
            rf"^{re.escape(name)} (.*)$", self.ask("GET", "/metrics")[1].decode(), re.M
        )
        return float(found[0]) if found else 0.0

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.kill()
            raise

    def __exit__(self, *_):
        self.kill()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self):
        if self.process.poll() is None:
            self.end()
        self.log.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    skmars.save(model(), folder / "model")
    return folder


@pytest.fixture(scope="module")
def two_workers(folder):
    log = ["--log-scores", str(folder / "scores"), "--log-share", "1"]
    server = Server(folder, "--workers", "2", *log, env={"SKMARS_TOKEN": "secret"})
    server.headers["authorization"] = "Bearer secret"
    with server:
        yield server


def test_two_workers_answer_switch_and_are_counted_together(two_workers, folder):
    ask = two_workers.ask
    assert ask("POST", "/score", ONE, authorization="Bearer other")[0] == 401
    assert ask("GET", "/health", authorization="")[0] == 200
    event = {"user_id": 1, "item_id": 2, "time": NOW + 5, "clicked": True}
    assert json.loads(ask("POST", "/events", {"events": [event]})[1]) == {"position": 1, "new": 1}

    failed, pools, end = [], [], threading.Event()

    def client():
        while not end.is_set():
            status, body = ask("POST", "/score", ONE)
            answer = json.loads(body)
            if status != 200 or answer["users"][0]["position"] != 1:
                failed.append(body)
            else:
                pools.append(answer["versions"]["pool"])

    def pools_of_workers():
        text = ask("GET", "/metrics")[1].decode()
        return re.findall(r'skmars_version_number{name="pool",pid="\d+"} (\S+)', text)

    store = open_store(two_workers.store_url)
    augmenter = model().pipeline.named_steps["augment"]
    (folder / "model" / "pools").mkdir()
    threads = [threading.Thread(target=client) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in (1, 2):
            augmenter.pool_.save(folder / "model" / "pools" / str(number))
            store.publish("pool", f"pools/{number}")
            wait_until(lambda number=number: pools_of_workers() == [f"{number}.0"] * 2)
        store.publish("pool", "pools/3")  # there is none
        wait_until(lambda: two_workers.metric("skmars_failed_loads_total") >= 2)
    finally:
        end.set()
        for thread in threads:
            thread.join()
    status = {"position": 0, "n_events": 8, "time": NOW}
    store.publish("trainer/status", json.dumps(status))
    wait_until(lambda: two_workers.metric("skmars_trainer_events_total") == 8)
    assert two_workers.metric("skmars_trainer_positions_behind") == 1
    assert two_workers.metric('skmars_version_age_seconds{name="pool"}') > 0
    store.close()
    assert not failed
    assert set(pools) == {"fit", "pools/1", "pools/2"}
    told = two_workers.metric('skmars_requests_total{route="/score",status="200"}')
    assert told == len(pools)
    assert two_workers.metric("skmars_queue_requests") == 0
    assert two_workers.told.count("can't be loaded") == 2  # each worker says it once


def test_what_was_logged_is_scored_again(two_workers, folder, capsys):
    for user in range(20):
        body = {"users": [{"user_id": user, "item_ids": [1, 2, 99], "time": NOW + user}]}
        assert two_workers.ask("POST", "/score", body)[0] == 200
    wait_until(lambda: (folder / "scores").read_text().count("\n") >= 20)
    two_workers.end()
    command = ["replay", str(folder / "scores"), "--model", str(folder / "model")]
    assert main([*command, "--store", two_workers.store_url]) == 0
    assert "scores of" in capsys.readouterr().out


def test_no_answer_waits_for_its_headers_to_be_confirmed():
    door = _listen("127.0.0.1", 0)
    with door, socket.create_connection(door.getsockname()), door.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_sigterm_lets_nobody_down(folder):
    with Server(folder) as server:
        users = [{"user_id": user, "item_ids": list(range(1000))} for user in range(5)]
        body = json.dumps({"users": users}).encode()
        head = f"POST /score HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n"
        sent = head.encode() + b"content-type: application/json\r\n\r\n" + body
        held = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(30)]
        for connection in held:
            connection.sendall(sent)
        time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        for connection in held:
            received = b""
            while part := connection.recv(2**20):
                received += part
            assert received.startswith(b"HTTP/1.1 200")
            content = received.partition(b"\r\n\r\n")[2]
            assert len(json.loads(content)["users"][4]["probabilities"]) == 1000
            connection.close()
        assert server.process.wait(60) == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 lets other machines ask"),
        (["--host", "example.org"], "--host example.org lets other machines ask"),
        (["--token-file", "x", "--no-token"], "not allowed with"),
        (["--workers", "0"], "from 1 to 256"),
        (["--store-deadline", "0"], "from 0.001 to 60"),
        (["--log-share", "1.5"], "share"),
    ],
)
def test_wrong_arguments_are_told(tmp_path, monkeypatch, capsys, options, told):
    monkeypatch.delenv("SKMARS_TOKEN", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--model", str(tmp_path), "--store", "lmdb:x", *options])
    assert ended.value.code == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_what_cannot_be_served_is_told(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("SKMARS_TOKEN", raising=False)

    def told(*options):
        assert main(["serve", *map(str, options)]) == 1
        return capsys.readouterr().err

    store = f"lmdb:{tmp_path / 'store'}"
    assert "no saved model" in told("--model", tmp_path, "--store", store)
    assert "must name a store" in told("--model", folder / "model", "--store", "mysql:x")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = ["--model", folder / "model", "--store", store]
        assert "can't listen" in told(*options, "--port", taken.getsockname()[1])
        empty, two = tmp_path / "empty", tmp_path / "two"
        empty.write_text(" \n")
        two.write_text("one two")
        assert "one token" in told(*options, "--token-file", empty)
        assert "one token" in told(*options, "--token-file", two)
        assert "No such file" in told(*options, "--token-file", tmp_path / "none")
        monkeypatch.setenv("SKMARS_TOKEN", "")
        assert "SKMARS_TOKEN" in told(*options)
