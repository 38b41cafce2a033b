"""A disk without room: what was there stays, and all goes on when there is room again."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skmars
from benchmarks.serving.killed_stores import check_kept
from skmars.retrieval import DonorPool
from skmars.serving import Runner, open_store
from skmars.serving.scoring._parameters import Parameters
from tests.serving.faults.deployed import USER, deployment, event, serving
from tests.serving.served import model

pytestmark = pytest.mark.filterwarnings("ignore:.* will borrow nothing")


def post_until_full(served: Any) -> int:
    """Post events until they are refused; return how many were acknowledged."""
    n = 0
    while True:
        events = [event(n + i) | {"id": f"{n + i}" * 20} for i in range(200)]
        answer = served.post("/events", events=events)
        if answer.status_code != 200:
            assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
            return n
        n += 200


def check_scores(served: Any) -> None:
    answer = served.score(USER)
    assert answer.status_code == 200
    assert answer.json()["users"][0]["history"] == "current"


@pytest.mark.parametrize("what", ["disk", "max_bytes"])
def test_events_get_507_and_scoring_goes_on(
    what: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == "disk":
        folder = request.getfixturevalue("small_disk")
        other = folder / "other"
        other.write_bytes(b"x" * 2**20)
        url = f"lmdb:{folder / 'store'}"
    else:
        from skmars.serving.store import _lmdb

        monkeypatch.setattr(_lmdb, "FIRST_MAP", 2**19)
        url = f"lmdb:{tmp_path / 'store'}?max_bytes={2**20}"
    store = open_store(url)
    with serving(store) as served:
        n = post_until_full(served)
        assert n > 0
        check_scores(served)
        assert served.post("/recommend", user_id=1, n=3).status_code == 200
        assert served.client.get("/ready").status_code == 200
        kept = store.position
        assert kept == n  # nothing of what was refused
        if what == "disk":
            other.unlink()  # somebody made room
            again = [event(kept + i) | {"id": f"{kept + i}" * 20} for i in range(200)]
            answer = served.post("/events", events=again)
            assert answer.json() == {"position": kept + 200, "new": 200}
            check_scores(served)
        assert served.metric('skmars_requests_total{route="/events",status="507"}') == 1
    store = open_store(url.partition("?")[0])
    check_kept(store, [[event(i)["user_id"], event(i)["time"]] for i in range(kept)])
    store.close()


@contextmanager
def small_files() -> Iterator[None]:
    """Let no file of this process grow beyond some kilobytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Let the disk of a folder be full."""
    other = folder / "other"
    with other.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    try:
        yield
    finally:
        other.unlink()


@pytest.fixture(params=["disk", "file size"])
def full(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[Path, Callable[[], AbstractContextManager[None]]]:
    """A folder, and a context in which nothing more can be written to it."""
    if request.param == "file size":
        return tmp_path, small_files
    folder: Path = request.getfixturevalue("small_disk")
    return folder, lambda: filled(folder)


def entries(folder: Path) -> set[str]:
    """Return all that there is in a folder, with hidden names."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def writers() -> dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]]:
    """Return what writes and reads each kind of folder."""
    fitted = model()
    augment, ctr = fitted.pipeline.named_steps["augment"], fitted.pipeline.named_steps["ctr"]
    learnt = Parameters(ctr, "digest", 7, np.arange(900, dtype=np.uint64), "fit")
    return {
        "pool": (augment.pool_.save, DonorPool.load),
        "params": (learnt.save, Parameters.load),
        "model": (lambda path: skmars.save(fitted, path), skmars.load),
    }


@pytest.mark.parametrize("kind", ["pool", "params", "model"])
def test_what_is_written_is_whole_or_not_there(full: Any, kind: str) -> None:
    """Pools, versions and checkpoints of parameters, and models of a refit."""
    folder, without_room = full
    write, read = writers()[kind]
    with without_room(), pytest.raises(OSError, match="Nothing has changed there; make room"):
        write(folder / "new")
    assert not entries(folder)
    write(folder / "new")
    before = entries(folder)
    with without_room(), pytest.raises(OSError, match="Nothing has changed there; make room"):
        write(folder / "new")  # in the place of an earlier one
    assert entries(folder) == before
    read(folder / "new")
    write(folder / "new")
    read(folder / "new")


def test_a_runner_keeps_the_current_pool(small_disk: Path, tmp_path: Path) -> None:
    saved = deployment(small_disk)
    store = open_store(f"lmdb:{tmp_path / 'store'}")
    with serving(store, saved) as served:
        served.post("/events", events=[event(i) for i in range(60)])
        (first,) = Runner(saved, store).passes()
        before = entries(saved)
        served.post("/events", events=[event(i) for i in range(60, 80)])
        with filled(small_disk), pytest.raises(OSError, match="can't be written"):
            list(Runner(saved, store).passes())
        assert store.pointer("pool") == first.pool == "pools/1"
        assert entries(saved) == before
        check_scores(served)
        (second,) = Runner(saved, store).passes()
        assert second.pool == store.pointer("pool")
        DonorPool.load(saved / second.pool)
