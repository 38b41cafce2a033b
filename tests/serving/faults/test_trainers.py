"""A trainer whose disk is full, whose files are damaged, or that stood still: it learns on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.serving.killed_commands import let_lease_run_out
from skmars.serving import Runner, Trainer
from skmars.serving.scoring._snapshot import Snapshot
from skmars.serving.store._current import Current
from skmars.serving.store._lmdb import LMDBStore
from tests.serving.faults.test_bad_versions import DAMAGES, flip, largest
from tests.serving.faults.test_full_disk import entries, filled
from tests.serving.processes import Command
from tests.serving.trainer.shop import (
    NOW,
    OPTIONS,
    assert_same,
    checkpoint,
    events_of,
    fresh,
    log_of,
    opened,
    run,
    saved,
)

pytestmark = pytest.mark.filterwarnings("ignore:DINClassifier is trained on")

ARRIVALS = [*np.linspace(0, 90, 20), *np.linspace(110, 190, 15), *np.linspace(210, 280, 15)]


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Any]:
    """A store with the stream of the arrivals."""
    store = LMDBStore(tmp_path / "store")
    arriving = opened(store, list(ARRIVALS))
    arriving.append(events_of(log_of(len(ARRIVALS), 1, NOW)))
    yield arriving
    store.close()


@pytest.fixture
def undisturbed(tmp_path: Path) -> Any:
    """What a trainer has learnt whom nothing happened to."""
    store = LMDBStore(tmp_path / "other")
    arriving = opened(store, ARRIVALS)
    arriving.append(events_of(log_of(len(ARRIVALS), 1, NOW)))
    folder = fresh()
    run(folder, arriving)
    store.close()
    return checkpoint(folder)


def test_a_full_disk(stream: Any, undisturbed: Any, small_disk: Path) -> None:
    """It says so and tries again; the current version stays, and nothing half written does."""
    folder = Path(shutil.copytree(saved(), small_disk / "model"))
    first = Trainer(folder, stream, **OPTIONS, checkpoint_every=0).steps()
    while Current.of(stream).params != "params/1":
        assert not next(first).failed
    before = entries(folder)
    with filled(small_disk):
        step = next(first)
        while not step.failed:
            step = next(first)
        assert "make room" in step.failed
        assert Current.of(stream).params == "params/1"
        assert entries(folder) == before
        Snapshot.load(folder, stream)
    for _ in range(3):
        assert not next(first).failed
    first.close()
    run(folder, stream)
    assert_same(checkpoint(folder), undisturbed)


@pytest.mark.parametrize("what", ["checkpoint", "version", "both"])
@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "of another model"])
def test_damaged_files(stream: Any, undisturbed: Any, what: str, damage: str) -> None:
    """It goes on from what works: the version, the checkpoint, or the fit."""
    folder, told = fresh(), []
    steps = Trainer(folder, stream, **OPTIONS, checkpoint_every=0).steps()
    while Current.of(stream).params != "params/1":
        next(steps)
    steps.close()
    if what != "version":
        DAMAGES[damage](folder / "params/checkpoint")
    if what != "checkpoint":
        DAMAGES[damage](folder / "params/1")
    run(folder, stream, told=told.append)
    assert damage == "missing folder" or told
    assert_same(checkpoint(folder), undisturbed)
    assert Current.of(stream).params != "params/1"
    Snapshot.load(folder, stream)


@pytest.mark.parametrize("pointer", ["params/99", "nonsense", "../elsewhere", "/etc"])
def test_a_pointer_to_nowhere(stream: Any, undisturbed: Any, pointer: str) -> None:
    folder = fresh()
    run(folder, stream, validate_on=30)
    stream.publish("params", pointer)
    run(folder, stream)
    assert_same(checkpoint(folder), undisturbed)
    Snapshot.load(folder, stream)


@pytest.mark.parametrize("again", [False, True])
def test_a_damaged_pool(stream: Any, again: bool) -> None:
    """The pool that rows would borrow from next: that of the fit or a newer one takes its place."""
    folder, told = fresh(), []
    list(Runner(folder, stream).passes())
    steps = Trainer(folder, stream, **OPTIONS, checkpoint_every=0).steps()
    while Current.of(stream).params != "params/1":
        next(steps)
    steps.close()
    flip(largest(folder / "pools/1"))
    if again:
        stream.append(events_of(log_of(1, 2, NOW), 10**7), streamed=False)
        list(Runner(folder, stream).passes())
        assert stream.pointer("pool") == "pools/2"
    run(folder, stream, told=told.append)
    assert again or any("pools/1" in line for line in told)
    found = checkpoint(folder)
    assert found.n_events == len(ARRIVALS) - OPTIONS["validate_on"]


def test_the_current_pool_is_damaged(stream: Any, tmp_path: Path) -> None:
    """The pool that rows borrow from already, of which there is no newer one."""
    folder = fresh()
    list(Runner(folder, stream).passes())
    run(folder, stream)
    stream.arrivals.extend([310.0] * 20)
    stream.append(events_of(log_of(20, 3, NOW), 2000))
    run(folder, stream)
    assert checkpoint(folder).pool == "pools/1"
    flip(largest(folder / "pools/1"))
    stream.arrivals.extend([410.0] * 20)
    stream.append(events_of(log_of(20, 4, NOW), 3000))
    run(folder, stream)
    found = checkpoint(folder)  # some events are older than what the pool knows of their users
    assert found.n_events + found.n_skipped == len(ARRIVALS) + 40 - OPTIONS["validate_on"]
    assert found.n_skipped < 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_arrivals_that_jump(tmp_path: Path, seed: int) -> None:
    """Every event is learnt once, and the same, wherever the trainer was interrupted."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.choice([0.0, 5.0, 60.0, 500.0, -60.0, -500.0, -9e4], 60)).tolist()
    ends = []
    for name, interrupted in (("a", False), ("b", True)):
        store = LMDBStore(tmp_path / name)
        stream, folder = opened(store, arrivals), fresh()
        stream.append(events_of(log_of(60, 1, NOW)))
        if interrupted:
            steps = Trainer(folder, stream, **OPTIONS, checkpoint_every=0).steps(every=0.001)
            for _ in range(5):
                next(steps)
            steps.close()
        run(folder, stream)
        ends.append(checkpoint(folder))
        store.close()
    assert ends[0].n_events == 60 - OPTIONS["validate_on"]
    assert ends[0].n_skipped == 0
    assert_same(*ends)


def test_a_paused_trainer_publishes_nothing(tmp_path: Path) -> None:
    """Another one takes its place, and learns what an undisturbed one does."""
    store: Any = LMDBStore(tmp_path / "store")
    opened(store, [])
    folder = fresh()

    def grow(step: int) -> None:
        for at in range(0, 60, 6):
            store._clock = lambda: NOW + 180.0 * step + 3 * at  # noqa: B023
            store.append(events_of(log_of(60, 1 + step, NOW)[at : at + 6], 60 * step + at))
        store._clock = lambda: NOW + 1e6

    def begin() -> Command:
        options = ["--sync-every", "100s", "--batch", "8", "--validate-on", "6", "--worse-by", "10"]
        where = ["--model", str(folder), "--store", f"lmdb:{tmp_path / 'store'}"]
        return Command(tmp_path, "trainer", *where, *options)

    grow(0)
    with begin() as first:
        first.wait_until(lambda: "published params/1" in first.told)
        with begin() as second:
            assert second.wait() == 75
            assert f"process {first.pid}" in second.told
        first.pause()
        grow(1)
        let_lease_run_out(store, "trainer")
        with begin() as third:
            third.wait_until(lambda: "published" in third.told)
            first.resume()
            assert first.wait() == 75
            assert first.told.count("published params") == 1
            current = store.pointer("params")
            third.wait_until(lambda: f"published {current}," in third.told)
            assert third.end() == 143
    store.close()
