"""A service that is asked to end, or killed, in the middle of something."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving.killed_stores import check_kept
from skmars.serving import open_store
from tests.serving.faults.deployed import USER, deployment, event
from tests.serving.faults.test_bad_versions import write_version
from tests.serving.faults.test_slow_and_dead_stores import writer_lock
from tests.serving.processes import Service, wait_for


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Path, list[str], Any]]:
    """A deployment, the arguments of its service, and the store."""
    folder, url = deployment(tmp_path), f"lmdb:{tmp_path / 'store'}"
    store = open_store(url)
    yield folder, ["--model", str(folder), "--store", url, "--store-deadline", "5"], store
    store.close()


def test_asked_to_end_under_load_it_answers_what_it_accepted(place: Any, tmp_path: Path) -> None:
    _, options, store = place
    answers: list[tuple[int, Any]] = []
    refused: list[Exception] = []
    told: list[list[Any]] = []
    end = threading.Event()

    def ask(at: int) -> None:
        n = 1000 * at
        while not end.is_set():
            try:
                if at % 2:
                    answers.append(service.ask("POST", "/score", {"users": [USER] * 5}))
                else:
                    answers.append(service.ask("POST", "/events", {"events": [event(n)]}))
                    told.append([event(n)["user_id"], event(n)["time"]])
                    n += 1
            except ConnectionRefusedError:  # nothing was accepted
                return
            except (OSError, HTTPException) as error:
                refused.append(error)
                return

    with Service(tmp_path, *options).ready() as service:
        clients = [threading.Thread(target=ask, args=(at,)) for at in range(6)]
        for client in clients:
            client.start()
        wait_for(lambda: len(answers) > 30)
        assert service.end() == 0
        end.set()
        for client in clients:
            client.join()
    assert {status for status, _ in answers} == {200}
    # A connection that was in the queue of the system, but never accepted, is reset.
    assert all(isinstance(error, ConnectionResetError) for error in refused), refused
    check_kept(store, told)


def test_killed_in_the_middle_of_a_switch(place: Any, tmp_path: Path) -> None:
    folder, options, store = place
    with Service(tmp_path, *options).ready() as service:
        port = service.port
        service.ask("POST", "/events", {"events": [event(1)]})
        write_version(folder, "model", 1)
        store.publish("model", "fits/1")
    with Service(tmp_path, *options, port=port).ready() as service:
        status, answer = service.ask("POST", "/score", {"users": [USER]})
        assert (status, answer["versions"]["params"]) == (200, "fits/1")
        assert answer["users"][0]["position"] == 1
        assert service.end() == 0


def test_asked_to_end_it_does_not_wait_for_a_store_that_hangs(place: Any, tmp_path: Path) -> None:
    _, options, store = place
    options[-1] = "0.5"
    with Service(tmp_path, *options).ready() as service, writer_lock(tmp_path / "store"):
        status, _ = service.ask("POST", "/events", {"events": [event(1)]})
        assert status == 503
        service.ask_to_end()
        assert service.wait(60) == 0
    assert store.position in (0, 1)
