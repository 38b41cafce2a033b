"""The command `skmars trainer`: what it says, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
pytest.importorskip("lmdb")
pytest.importorskip("safetensors")
from skmars.cli import main
from skmars.serving import open_store
from tests.serving.trainer.shop import (
    NOW,
    assert_same,
    base_log,
    checkpoint,
    events_of,
    fresh,
    log_of,
    new_folder,
)

BUSY, TERMINATED = 75, 143
N, SMALL = 120, ["--batch", "8", "--validate-on", "16", "--worse-by", "9", "--sync-every", "1h"]


def deployment(n: int = N) -> tuple[Path, Path]:
    """Return a model, and a store with events that all arrived in one period."""
    folder = new_folder() / "store"
    store = open_store(f"lmdb:{folder}")
    store.append(events_of(base_log(), 10**6), streamed=False)
    store._clock = lambda: NOW
    store.append(events_of(log_of(n, 1, NOW)))
    store.close()
    return fresh(), folder


def run(model: Path, store: Path, *options: str) -> int:
    return main(["trainer", "--model", str(model), "--store", f"lmdb:{store}", *SMALL, *options])


def test_once(capsys: Any) -> None:
    model, store = deployment(60)
    assert run(model, store, "--once") == 0
    told = capsys.readouterr().err
    assert "published params/1, learnt up to position 344: log loss 0." in told
    assert "on the next 16 rows" in told
    assert "learnt 44 events; the last 16 are for the next version to be tried on" in told
    assert run(model, store, "--once", "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_a_store_that_was_trimmed_and_a_model_that_does_not_learn(capsys: Any) -> None:
    model, store = deployment(60)
    assert run(model, store, "--once") == 0
    opened = open_store(f"lmdb:{store}")
    opened.append(events_of(log_of(20, 2, NOW), 100))
    opened.trim(opened.position)
    opened.close()
    capsys.readouterr()
    assert run(model, store, "--once") == 1
    assert "error: the stream was trimmed before it was learnt" in capsys.readouterr().err
    assert run(model / "none", store, "--once") == 1
    assert "none" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--worse-by", "-1"], ["--batch", "0"], ["--sync-every", "x"]])
def test_wrong_arguments(option: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["trainer", "--model", "m", "--store", "lmdb:s", *option])
    assert option[0] in capsys.readouterr().err


@pytest.mark.slow
def test_killed_and_begun_again_or_asked_to_end(capsys: Any) -> None:
    """A real process: SIGKILL at any time, another one beside it, SIGTERM."""
    (model, store), (expected, other) = deployment(), deployment()
    assert run(expected, other, "--once") == 0
    folders = ["--model", str(model), "--store", f"lmdb:{store}", "--lease", "2s"]
    command = [sys.executable, "-m", "skmars", "trainer", *folders, *SMALL]

    def began() -> float:
        opened = open_store(f"lmdb:{store}")
        told = opened.pointer("trainer/status")
        opened.close()
        return json.loads(told or '{"time": 0}')["time"]

    def begun() -> subprocess.Popen[bytes]:
        before = time.time()
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        while began() < before:
            assert process.poll() is None
            time.sleep(0.05)
        return process

    for wait in (0.0, 0.5):
        process = begun()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        time.sleep(2)  # until the lease has run out

    with begun() as process:
        assert run(model, store, "--once") == BUSY
        assert f"process {process.pid}" in capsys.readouterr().err
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait() == TERMINATED
    assert run(model, store, "--once") == 0  # the lease was given back
    assert_same(checkpoint(model), checkpoint(expected))
