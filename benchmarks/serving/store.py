"""What a store costs: events appended one by one and in bulk, histories, bytes an event.

    python -m benchmarks.serving.store --folder /path/on/the/disk/to/be/measured

Wall-clock times of both back ends, all synced: LMDB in a folder, and Redis (a server of this
script's own, `appendfsync always`) on the same disk.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from skmars.serving import Events, open_store
from tests.serving.servers import RedisServer, without_redis

N_USERS, N_ITEMS, LONG = 5_000, 2_000, 10_000


def draw(n: int, rng: np.random.Generator, n_users: int = N_USERS, start: float = 0.0) -> Events:
    """Return events of users who come equally often, each at a time of its own."""
    users = [f"user-{user}" for user in rng.integers(0, n_users, n)]
    items = rng.integers(0, N_ITEMS, n).tolist()
    return Events(users, items, start + np.arange(n), rng.integers(0, 2, n).astype(np.uint8))


def percentiles(seconds: list[float]) -> str:
    """Return the median and the 99th percentile in milliseconds."""
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"


def timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def one_by_one(store: Any, n_threads: int, n_calls: int) -> str:
    """Append single events from threads, each after the last was acknowledged."""
    found: list[list[float]] = [[] for _ in range(n_threads)]

    def work(thread: int) -> None:
        rng = np.random.default_rng(thread)
        for call in range(n_calls):
            event = draw(1, rng, start=1e9 + 1e6 * n_threads + 1e5 * thread + call)
            found[thread].append(timed(lambda event=event: store.append(event)))

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(n_threads)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = n_threads * n_calls / (time.perf_counter() - began)
    return f"{percentiles([s for one in found for s in one])}; {rate:,.0f} events/s"


def bulk(store: Any, n: int, streamed: bool) -> str:
    """Append `n` events in batches of 10,000."""
    rng = np.random.default_rng(int(streamed))
    batches = [draw(10_000, rng, start=1e6 * (1 + streamed) + at) for at in range(0, n, 10_000)]
    seconds = sum(timed(lambda b=b: store.append(b, streamed=streamed)) for b in batches)
    return f"{n / seconds:,.0f} events/s"


def microseconds_a_user(store: Any, at_once: int) -> str:
    """Read the histories of users drawn at random."""
    rng = np.random.default_rng(0)
    asked = [[f"user-{u}" for u in rng.integers(0, N_USERS, at_once)] for _ in range(500)]
    seconds = [timed(lambda users=users: store.histories(users)) for users in asked]
    return f"{np.median(seconds) / at_once * 1e6:.1f} µs a user"


def long_history(store: Any) -> str:
    """Append single events to a user who has many."""
    rng = np.random.default_rng(0)
    store.append(draw(LONG, rng, 1, start=4e9), streamed=False)
    events = [draw(1, rng, 1, start=5e9 + at) for at in range(200)]
    return percentiles([timed(lambda e=e: store.append(e)) for e in events])


def size(store: Any) -> int:
    """Return the bytes that a store takes: of its file, or of the server's memory."""
    if hasattr(store, "_redis"):
        return int(store._redis.info("memory")["used_memory"])
    info = store._env.info()
    return (info["last_pgno"] + 1) * store._env.stat()["psize"]


def measure(name: str, url: str, n: int) -> None:
    """Print what one store costs."""
    store = open_store(url)
    empty = size(store)
    print(f"\n{name}")
    print(f"  bulk, loaded              {bulk(store, n, streamed=False)}")
    loaded = size(store)
    print(f"  bulk, streamed            {bulk(store, n, streamed=True)}")
    both = size(store)
    print(f"  bytes an event, loaded    {(loaded - empty) / n:.0f} ({n / N_USERS:.0f} a user)")
    print(f"  bytes an event, streamed  {(both - loaded) / n:.0f}")
    print(f"  append of 1, 1 thread     {one_by_one(store, 1, 300)}")
    print(f"  append of 1, 32 threads   {one_by_one(store, 32, 50)}")
    print(f"  histories of 1 user       {microseconds_a_user(store, 1)}")
    print(f"  histories of 50 users     {microseconds_a_user(store, 50)}")
    print(f"  append of 1 to {LONG:,}     {long_history(store)}")
    print(f"  touched, 10 users         {timed(lambda: store.touched(store.position - 10)):.5f} s")
    print(f"  all users                 {timed(lambda: list(store.users())):.2f} s")
    store.close()


def main() -> None:
    """Measure both back ends."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", help="on the disk to be measured (default: of temporary files)")
    parser.add_argument("--events", type=int, default=100_000, help="in bulk (default 100,000)")
    arguments = parser.parse_args()
    print(f"{arguments.events:,} events of {N_USERS:,} users and {N_ITEMS:,} items")
    with TemporaryDirectory(dir=arguments.folder) as folder:
        measure("LMDB", f"lmdb:{folder}/store", arguments.events)
        if without_redis() is None:
            with RedisServer(Path(folder)) as server:
                measure("Redis", server.url, arguments.events)
    print()


if __name__ == "__main__":
    main()
