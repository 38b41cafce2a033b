"""Processes that write to a store, and a store's server: killed, and what must hold after it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skmars.serving import Events, StoreError, open_store
from tests.serving.processes import Forked, wait_for
from tests.serving.servers import RedisServer

Acknowledged = list[list[Any]]  # user and time of each event


@dataclass(frozen=True)
class Kill:
    """A kill, after which all was as it should be.

    Attributes
    ----------
    number : int
        From 0; moments and events are drawn with it.
    seconds : float or None
        Until what was begun anew worked; None if it was killed before it could.
    acknowledged : int
        Events so far.
    files : int
        That there are, but for the store.
    """

    number: int
    seconds: float | None
    acknowledged: int
    files: int = 0


def write(url: str, acknowledged: str, seed: int) -> None:
    """Append events until this process is killed; each is told by its user and time."""
    rng = np.random.default_rng(seed)
    store = open_store(url)
    log = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    moment, parent = 1000.0 * seed, os.getppid()
    while os.getppid() == parent:  # nobody outlives who was to kill it
        n = int(rng.integers(1, 20))
        # The first half repeats events of before, which may have been kept or not.
        times = np.concatenate([moment - rng.integers(0, 20, n), moment + np.arange(n)])
        users = [f"user-{int(t) % 7}" for t in times]
        items = [int(t) % 13 for t in times]
        events = Events(users, items, times, np.ones(2 * n, np.uint8))
        moment += n
        while os.getppid() == parent and not appended(store, events):
            time.sleep(0.01)
        told = (json.dumps([user, t]) + "\n" for user, t in zip(users, times.tolist()))
        os.write(log, "".join(told).encode())


def appended(store: Any, events: Events) -> bool:
    """Append events, and return whether that was acknowledged."""
    try:
        store.append(events)
    except StoreError:
        return False
    return True


def start_writer(url: str, acknowledged: Path, seed: int) -> Forked:
    """Start a process that writes."""
    return Forked(acknowledged.parent, "writer", write, url, str(acknowledged), seed)


def read(acknowledged: Path) -> Acknowledged:
    """Return what was written down, but for a last line that was not finished."""
    if not acknowledged.exists():
        return []
    return [json.loads(line) for line in acknowledged.read_text().split("\n")[:-1]]


def wait_for_more(acknowledged: Path, seed: int) -> None:
    """Wait until events were acknowledged, and a random moment more."""
    size = acknowledged.stat().st_size if acknowledged.exists() else 0
    wait_for(lambda: acknowledged.exists() and acknowledged.stat().st_size > size + 100)
    time.sleep(np.random.default_rng(seed).uniform(0, 0.05))


def check_kept(store: Any, acknowledged: Acknowledged) -> None:
    """Raise AssertionError if what was acknowledged lacks, or the parts of a store don't agree."""
    kept = {user: h for users, histories in store.users() for user, h in zip(users, histories)}
    check_there(kept, acknowledged)
    positions = np.sort(np.concatenate([history["position"] for history in kept.values()]))
    assert np.array_equal(positions, np.arange(1, store.position + 1))
    for history in kept.values():
        assert len(np.unique(history["id"])) == len(history)
        assert np.all(np.diff(history["position"].astype(np.int64)) > 0)
    streamed = store.stream(0, len(positions) + 1)
    assert [event.position for event in streamed] == positions.tolist()
    items = store.item_ids()
    assert len(set(items)) == len(items)
    for event in streamed:
        history = kept[event.user_id]
        (row,) = history[history["position"] == event.position]
        assert (int(row["id"]), items[row["item"]]) == (event.id, event.item_id)
    last = {user: history["position"][-1] for user, history in kept.items()}
    assert store.touched(0) == sorted(last, key=last.__getitem__)


def check_there(kept: dict[Any, Any], acknowledged: Acknowledged) -> None:
    """Raise AssertionError if an event that was acknowledged isn't in the history of its user."""
    moments = {user: set(history["time"].tolist()) for user, history in kept.items()}
    lost = [(user, moment) for user, moment in acknowledged if moment not in moments[user]]
    assert not lost, f"{len(lost)} events were lost, such as {lost[0]}"


def kill_writers(url: str, folder: Path, kills: int, first: int = 0) -> Iterator[Kill]:
    """Kill one writing process after the other."""
    acknowledged = folder / "acknowledged"
    for seed in range(first, kills):
        writer = start_writer(url, acknowledged, seed)
        began = time.monotonic()
        try:
            wait_for_more(acknowledged, seed)
        finally:
            writer.kill()
        seconds = time.monotonic() - began
        told = read(acknowledged)
        store = open_store(url)
        check_kept(store, told)
        store.close()
        yield Kill(seed, seconds, len(told))


def kill_servers(server: RedisServer, folder: Path, kills: int, first: int = 0) -> Iterator[Kill]:
    """Kill a server again and again under one writing process."""
    acknowledged = folder / "acknowledged"
    writer = start_writer(server.url, acknowledged, first)
    try:
        for seed in range(first, kills):
            wait_for_more(acknowledged, seed)
            server.kill()
            told = read(acknowledged)
            began = time.monotonic()
            server.start()
            store = open_store(server.url)
            seconds = time.monotonic() - began
            users = sorted({user for user, _ in told})
            check_there(dict(zip(users, store.histories(users)[0])), told)
            store.close()
            yield Kill(seed, seconds, len(told))
    finally:
        writer.kill()
    store = open_store(server.url)
    check_kept(store, read(acknowledged))
    store.close()
