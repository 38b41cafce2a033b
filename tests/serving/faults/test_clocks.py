"""Clocks that jump: no lease is held twice at once, nothing is lost, nobody spins."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skmars.serving import Events, LeaseHeld, Runner, StaleLease
from skmars.serving.store._held_lease import HeldLease
from skmars.serving.store._lmdb import LMDBStore
from tests.serving.faults.deployed import deployment, event, serving
from tests.serving.served import NOW

pytestmark = pytest.mark.filterwarnings("ignore:.* will borrow nothing")
DAY = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


deeds = st.lists(
    st.one_of(
        st.tuples(st.just("jump"), st.sampled_from([-DAY, -61.0, -1.0, 0.5, 30.0, 61.0, DAY])),
        st.tuples(st.just("acquire"), st.sampled_from(["ann", "bob"])),
        st.tuples(st.just("release"), st.sampled_from(["ann", "bob"])),
    ),
    max_size=30,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deeds)
def test_one_at_most_may_publish(new_store: Callable[..., Any], deeds: list) -> None:
    """However the clock jumps; and whoever waits is let in after the seconds of a lease."""
    clock = Clock()
    store, leases = new_store(clock=clock), {}
    for what, which in deeds:
        if what == "jump":
            clock.now += which
        elif what == "release" and which in leases:
            store.release(leases.pop(which))
        elif what == "acquire":
            try:
                leases[which] = store.acquire("work", which, 60)
            except LeaseHeld:
                assert any(holder != which for holder in leases)
        may = [holder for holder, lease in leases.items() if publishes(store, lease)]
        assert len(may) <= 1
    tokens = [lease.token for lease in leases.values()]
    try:
        store.acquire("work", "zoe", 60)
    except LeaseHeld:  # this sees a clock that was set back
        clock.now += 61
        assert store.acquire("work", "zoe", 60).token > max(tokens)
    assert not any(publishes(store, lease) for lease in leases.values())
    store.close()


def publishes(store: Any, lease: Any) -> bool:
    try:
        store.publish("name", lease.holder, lease)
    except StaleLease:
        return False
    return True


def test_a_lease_outlives_a_clock_that_is_set_back_and_not_one_that_runs_ahead(
    tmp_path: Path,
) -> None:
    clock = Clock()
    store = LMDBStore(tmp_path, clock=clock)
    with HeldLease(store, "work", 1.0) as lease:
        clock.now -= DAY
        time.sleep(0.5)  # it is renewed
        lease.publish("name", "1")
        with pytest.raises(LeaseHeld):
            store.acquire("work", "another", 60)
    with HeldLease(store, "work", 60.0) as lease:
        clock.now += DAY
        store.acquire("work", "another", 60)
        with pytest.raises(StaleLease):
            lease.publish("name", "2")
    assert store.pointer("name") == "1"
    store.close()


def test_a_wait_for_a_lease_is_no_loop(tmp_path: Path) -> None:
    """Whoever holds a lease renews it three times in its seconds, whatever the clock says."""
    clock, calls = Clock(), []
    store = LMDBStore(tmp_path, clock=clock)
    acquire = store.acquire

    def counted(*args: Any) -> Any:
        calls.append(clock.now)
        clock.now += -DAY if len(calls) % 2 else 3 * DAY
        return acquire(*args)

    store.acquire = counted  # type: ignore[method-assign]
    with HeldLease(store, "work", 0.6):
        time.sleep(1.0)
    assert len(calls) <= 8
    store.close()


def test_events_keep_their_order_when_the_clock_is_set_back(new_store: Callable[..., Any]) -> None:
    clock = Clock()
    store, arrivals = new_store(clock=clock), []
    for n, jump in enumerate([0, DAY, -2 * DAY, 3600]):
        clock.now += jump
        arrivals.append(clock.now)
        one = Events([n % 2], [n], np.array([NOW + n]), np.array([1], np.uint8))
        assert store.append(one) == n + 1
    streamed = store.stream(0, 10)
    assert [e.item_id for e in streamed] == [0, 1, 2, 3]
    assert [e.position for e in streamed] == [1, 2, 3, 4]
    assert [e.arrival for e in streamed] == arrivals
    store.close()


def test_service_and_runner_go_by_a_clock_that_never_jumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time of day is for leases and arrivals alone."""
    folder, clock = deployment(tmp_path), Clock()
    store = LMDBStore(tmp_path / "store", clock=clock)
    end = threading.Event()

    def jump() -> None:
        while not end.wait(0.01):
            clock.now += np.random.default_rng(int(clock.now)).choice([-DAY, DAY])

    monkeypatch.setattr(time, "time", clock)
    jumping = threading.Thread(target=jump)
    jumping.start()
    try:
        with serving(store, folder) as served:
            passes = Runner(folder, store, lease=30.0).passes(every=0.05)
            for n in range(0, 60, 20):
                answer = served.post("/events", events=[event(i) for i in range(n, n + 20)])
                assert answer.json() == {"position": n + 20, "new": 20}
                assert next(passes).pool == f"pools/{n // 20 + 1}"
            passes.close()
            assert served.score({"user_id": 1, "item_ids": [1]}).status_code == 200
    finally:
        end.set()
        jumping.join()
