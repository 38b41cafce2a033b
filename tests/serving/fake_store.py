"""A store in memory, as plain as can be: what an engine has to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from skmars.serving import EVENT, Events, Lease, LeaseHeld, StaleLease, Streamed


class FakeStore:
    def __init__(self) -> None:
        self.rows: dict[Any, list[tuple]] = {}
        self.seen: set[tuple] = set()
        self.items: dict[Any, int] = {}
        self.pointers: dict[str, str] = {}
        self.leases: dict[str, Lease] = {}
        self.tokens = 0
        self.last = 0
        self.lock = threading.RLock()

    def append(self, events: Events, *, streamed: bool = True) -> int:
        with self.lock:
            ids = events.ids or [None] * len(events)
            columns = (events.user_ids, events.item_ids, events.time, events.clicked, ids)
            for user, item, when, click, given in zip(*columns):
                made = (str(item), repr(float(when)), int(click)) if given is None else given
                if (user, made) in self.seen:
                    continue
                self.seen.add((user, made))
                self.last += 1
                number = self.items.setdefault(item, len(self.items))
                row = (len(self.seen), self.last, when, number, click, streamed, 0)
                self.rows.setdefault(user, []).append(row)
            return self.last

    def append_counted(self, events: Events, *, streamed: bool = True) -> tuple[int, int]:
        with self.lock:
            before = self.last
            return self.append(events, streamed=streamed), self.last - before

    def histories(self, user_ids: Any) -> tuple[list[Any], int]:
        with self.lock:
            found = [np.array(self.rows.get(user, []), dtype=EVENT) for user in user_ids]
            return found, self.last

    def users(self) -> Iterator[tuple[list[Any], list[Any]]]:
        ids = sorted(self.rows)
        for i in range(0, len(ids), 3):
            yield ids[i : i + 3], self.histories(ids[i : i + 3])[0]

    def touched(self, since: int) -> list[Any]:
        with self.lock:
            last = {user: rows[-1][1] for user, rows in self.rows.items()}
            return sorted((u for u in last if last[u] > since), key=last.__getitem__)

    def stream(self, since: int, limit: int) -> list[Streamed]:
        return []

    def item_ids(self, since: int = 0) -> list[Any]:
        return list(self.items)[since:]

    @property
    def position(self) -> int:
        return self.last

    def pointer(self, name: str) -> str | None:
        return self.pointers.get(name)

    def publish(self, name: str, value: str, lease: Lease | None = None) -> None:
        with self.lock:
            if lease is not None and self.leases.get(lease.name) != lease:
                raise StaleLease("lost")
            self.pointers[name] = value

    def acquire(self, name: str, holder: str, seconds: float) -> Lease:
        with self.lock:
            held = self.leases.get(name)
            if held is not None and held.holder != holder and held.until > time.time():
                raise LeaseHeld(f"{held.holder} holds it until {held.until}")
            self.tokens += 1
            self.leases[name] = Lease(name, holder, self.tokens, time.time() + seconds)
            return self.leases[name]

    def release(self, lease: Lease) -> None:
        with self.lock:
            if self.leases.get(lease.name) == lease:
                del self.leases[lease.name]

    def close(self) -> None: ...
