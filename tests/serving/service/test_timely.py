"""Histories within a deadline, or what was last known."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from skmars.serving.service._timely import READERS, TimelyHistories
from skmars.serving.store._store import EVENT


class Store:
    """A store that can be made slow or dead."""

    def __init__(self):
        self.events, self.position = {}, 0
        self.may_go = threading.Event()
        self.may_go.set()
        self.error = None
        self.calls = 0

    def add(self, user, n):
        self.position += n
        self.events[user] = np.zeros(len(self.events.get(user, ())) + n, dtype=EVENT)

    def histories(self, user_ids):
        self.calls += 1
        self.may_go.wait(10)
        if self.error is not None:
            raise self.error
        none = np.zeros(0, dtype=EVENT)
        return [self.events.get(user, none) for user in user_ids], self.position


@pytest.fixture
def store():
    store = Store()
    yield store
    store.may_go.set()


def told(known):
    return [(len(k.events), k.position, k.state) for k in known]


def test_a_prompt_store_is_taken_at_its_word(store):
    histories = TimelyHistories(store.histories, 5.0)
    store.add("ann", 2)
    assert told(histories(["ann", "bob"])) == [(2, 2, "current"), (0, 2, "current")]
    store.add("ann", 1)
    assert told(histories(["ann"])) == [(3, 3, "current")]
    histories.close()


@pytest.mark.parametrize("fault", ["late", "error"])
def test_a_store_that_fails_leaves_what_was_known(store, fault):
    missed = []
    histories = TimelyHistories(store.histories, 0.02, missed=missed.append)
    store.add("ann", 2)
    histories.deadline = 5.0
    histories(["ann"])
    histories.deadline = 0.02
    store.add("ann", 1)
    if fault == "late":
        store.may_go.clear()
    else:
        store.error = OSError("gone")
    assert told(histories(["ann", "bob"])) == [(2, 2, "stale"), (0, None, "missing")]
    assert missed == [fault]
    assert not histories.answers()
    store.may_go.set()
    store.error, histories.deadline = None, 5.0
    assert histories.answers()
    assert told(histories(["ann"])) == [(3, 3, "current")]
    histories.close()


def test_a_store_that_hangs_is_not_asked_without_end(store):
    missed = []
    histories = TimelyHistories(store.histories, 0.01, missed=missed.append)
    store.may_go.clear()
    for _ in range(READERS):
        histories(["ann"])
    for _ in range(1000):  # nobody waits any longer
        assert told(histories(["ann"])) == [(0, None, "missing")]
    assert store.calls == READERS
    assert missed == ["late"] * READERS + ["busy"] * 1000
    histories.close()


def test_what_comes_too_late_is_known_the_next_time(store):
    histories = TimelyHistories(store.histories, 0.01)
    store.add("ann", 2)
    store.may_go.clear()
    assert told(histories(["ann"])) == [(0, None, "missing")]
    store.error = None
    store.may_go.set()
    for _ in range(500):
        if "ann" in histories._last:
            break
        time.sleep(0.01)
    store.error = OSError("gone")
    assert told(histories(["ann"])) == [(2, 2, "stale")]
    histories.close()


def test_what_is_remembered_is_bounded(store):
    histories = TimelyHistories(store.histories, 5.0, remembered=100_000)
    for user in range(1000):
        store.add(user, 10)
        histories([user])
    assert sum(events.nbytes for events, _ in histories._last.values()) <= 100_000
    store.error = OSError("gone")
    assert told(histories([999]))[0][2] == "stale"
    assert told(histories([0]))[0][2] == "missing"
    histories.close()
