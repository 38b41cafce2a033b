"""Switching to new versions, and staying with the last good one."""

from __future__ import annotations

import logging
import threading

import pytest

from skmars.serving.service import _versions
from skmars.serving.service._versions import VersionWatcher


class Pointers:
    def __init__(self):
        self.names = {}
        self.dead = False

    def pointer(self, name):
        if self.dead:
            raise OSError("gone")
        return self.names.get(name)


@pytest.fixture
def pointers():
    return Pointers()


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(_versions.time, "monotonic", lambda: now[0])
    return now


class Loader:
    """Loads the name of the pool; some versions are broken."""

    def __init__(self):
        self.unreadable, self.unfit, self.loaded = set(), set(), []

    def __call__(self, wanted, current):
        pool = wanted.pool
        self.loaded.append(pool)
        if pool in self.unreadable:
            raise OSError(f"{pool} is gone")
        return pool

    def check(self, snapshot):
        if snapshot in self.unfit:
            raise ValueError(f"{snapshot} is unfit")


def watcher(pointers, load, **callbacks):
    return VersionWatcher(pointers, load, check=load.check, **callbacks)


def test_it_follows_the_pointers(pointers):
    load, switched = Loader(), []
    versions = watcher(pointers, load, switched=switched.append)
    assert versions.current is None
    versions.look()
    assert versions.current == "fit"
    pointers.names["pool"] = "pools/1"
    versions.look()
    versions.look()
    assert versions.current == "pools/1"
    assert load.loaded == ["fit", "pools/1"]
    assert switched == ["fit", "pools/1"]


@pytest.mark.parametrize("fault", ["unreadable", "unfit"])
def test_a_bad_version_leaves_the_last_good_one(pointers, clock, caplog, fault):
    load, failed = Loader(), []
    getattr(load, fault).add("pools/2")
    versions = watcher(pointers, load, failed=lambda: failed.append(1))
    pointers.names["pool"] = "pools/1"
    versions.look()
    pointers.names["pool"] = "pools/2"
    with caplog.at_level(logging.ERROR):
        for _ in range(200):
            clock[0] += 1
            versions.look()
    assert versions.current == "pools/1"
    assert sum("pools/2" in record.message for record in caplog.records) == 1
    # Tried again, ever more rarely, since a folder may be late.
    assert 2 < len(failed) < 12
    getattr(load, fault).clear()
    clock[0] += 100
    versions.look()
    assert versions.current == "pools/2"


def test_a_version_after_a_bad_one_is_loaded_at_once(pointers, clock):
    load = Loader()
    load.unfit.add("pools/2")
    versions = watcher(pointers, load)
    for pool in ("pools/1", "pools/2", "pools/3"):
        pointers.names["pool"] = pool
        versions.look()
    assert versions.current == "pools/3"


def test_going_back_to_what_is_current_loads_nothing(pointers, clock):
    load = Loader()
    load.unfit.add("pools/2")
    versions = watcher(pointers, load)
    for pool in ("pools/1", "pools/2", "pools/1"):
        pointers.names["pool"] = pool
        versions.look()
    assert versions.current == "pools/1"
    assert load.loaded == ["pools/1", "pools/2"]


def test_a_process_that_begins_with_a_bad_version_takes_the_model_as_saved(pointers, clock):
    load = Loader()
    load.unfit.add("pools/2")
    pointers.names["pool"] = "pools/2"
    versions = watcher(pointers, load)
    versions.look()
    assert versions.current == "fit"
    assert versions.looked.is_set()
    load.unfit.clear()
    clock[0] += 100
    versions.look()
    assert versions.current == "pools/2"


def test_what_was_there_before_a_broken_version_is_taken_in_turn(pointers, clock):
    """The model of that version as it was fitted, and then the one that was saved first."""
    broken, tried = set(), []

    def load(wanted, current):
        tried.append(str(wanted))
        if wanted.params in broken:
            raise OSError("gone")
        return wanted

    pointers.names = {"model": "fits/2", "fits/2/params": "params/7", "fits/2/pool": "pools/1"}
    broken.add("fits/2/params/7")
    versions = VersionWatcher(pointers, load, check=lambda _: None)
    versions.look()
    assert str(versions.current) == "params fits/2, pool fit"
    broken.add("fits/2")
    tried.clear()
    versions = VersionWatcher(pointers, load, check=lambda _: None)
    versions.look()
    assert str(versions.current) == "params ., pool fit"
    assert len(tried) == 3
    broken.clear()
    clock[0] += 100
    versions.look()
    assert str(versions.current) == "params fits/2/params/7, pool fits/2/pools/1"


def test_the_log_says_what_is_served(pointers, caplog):
    pointers.names = {"model": "fits/2", "fits/2/pool": "pools/3"}
    with caplog.at_level(logging.INFO):
        watcher(pointers, Loader()).look()
    assert "Serving version params fits/2, pool fits/2/pools/3." in caplog.messages


def test_a_dead_store_changes_nothing(pointers, caplog):
    load = Loader()
    versions = watcher(pointers, load)
    pointers.dead = True
    versions.look()
    assert versions.current is None
    pointers.dead = False
    versions.look()
    pointers.dead = True
    versions.look()
    assert versions.current == "fit"


def test_it_watches_until_it_is_closed(pointers):
    load, seen = Loader(), threading.Event()
    versions = watcher(pointers, load, interval=0.01, switched=lambda s: s == "x" and seen.set())
    versions.start()
    pointers.names["pool"] = "x"
    assert seen.wait(10)
    versions.close()
    versions._thread.join(10)
    assert not versions._thread.is_alive()
