"""What does the service cost, how fast is it, and does its memory grow?

    python -m benchmarks.serving.load --donors 10000 --cache /tmp/worlds
    python -m benchmarks.serving.load --donors 10000 --cache /tmp/worlds --mix 600

A request is a user with 22 events and 100 candidates. One server process, a store in LMDB, and a
client in another process that costs little. Printed are

in process   CPU milliseconds a request of `Scorer.score`, by the number of requests at once
saturated    requests a second, and CPU milliseconds of the server a request, with as many clients
             as are named, each of which asks again when it is answered; the mean size of batches;
             and the ratio to the same scoring in process at that size
open loop    percentiles of the latency at half of the saturated rate. Requests are due at fixed
             times, and latency counts from when one was due, also if it could not be sent then
mix          scores, recommendations, events and refusals: the server's memory over time
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import psutil

import skmars
from benchmarks.serving.world import ORDINARY, World, world
from skmars.persistence import Columns, Model
from skmars.serving import Events, open_store
from skmars.serving.scoring._request import Request
from skmars.serving.scoring._scorer import Scorer
from skmars.serving.scoring._snapshot import Snapshot

N_USERS, N_CANDIDATES = 500, 100
SIZES = (1, 2, 4, 8, 16)


# --- the world, in a folder and a store -------------------------------------------------------


def prepare(made: World, folder: Path) -> tuple[list[Request], Model]:
    """Save the model, put the events of the users who will be asked for into a store."""
    model = Model(made.pipeline, Columns(), made.histories, "none")
    skmars.save(model, folder / "model")
    who = np.flatnonzero(~made.is_donor & (made.histories.events.length == ORDINARY))[:N_USERS]
    events = made.histories.events[who]
    store = open_store(f"lmdb:{folder / 'store'}")
    ids = made.catalog.parts[0].ids
    at = events.positions()
    store.append(
        Events(
            np.repeat(made.histories.users[who], events.length).tolist(),
            ids[events.items[at]].tolist(),
            time=events.time[at],  # type: ignore[index]
            clicked=np.ones(len(at), dtype=np.uint8),
        ),
        streamed=False,
    )
    store.close()
    rng = np.random.default_rng(0)
    requests = [
        Request(user, rng.choice(ids, N_CANDIDATES, replace=False).tolist())
        for user in made.histories.users[who].tolist()
    ]
    return requests, model


def in_process(requests: list[Request], folder: Path, size: int, n: int) -> float:
    """Return CPU milliseconds a request, with `size` requests at once."""
    store = open_store(f"lmdb:{folder / 'store'}")
    snapshot, scorer = Snapshot.load(folder / "model", store), Scorer(store)
    scorer.prepare(snapshot)
    batches = [[requests[(i + j) % len(requests)] for j in range(size)] for i in range(0, n, size)]
    for batch in batches[:3]:
        scorer.score(snapshot, batch)
    costs = []
    for batch in batches:
        began = time.process_time()
        scorer.score(snapshot, batch)
        costs.append((time.process_time() - began) / size)
    store.close()
    return 1000 * float(np.median(costs))


# --- the server -------------------------------------------------------------------------------


@contextmanager
def server(folder: Path, *options: str) -> Iterator[tuple[int, psutil.Process]]:
    """Run the service; yield its port and process."""
    command = "import sys; from skmars.cli import main; sys.exit(main())"
    arguments = ["serve", "--model", str(folder / "model"), "--port", "0", *options]
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments, "--store", f"lmdb:{folder / 'store'}"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    told = process.stderr.readline()
    found = re.search(r"http://\S+:(\d+)", told)
    if found is None:
        raise RuntimeError(f"the service did not start: {told}{process.stderr.read()}")
    port = int(found[1])
    os.set_blocking(process.stderr.fileno(), False)
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/ready"):
                break
        except OSError:
            time.sleep(0.2)
    try:
        yield port, psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def metric(port: int, name: str) -> float:
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
    return 0.0


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


# --- clients ----------------------------------------------------------------------------------


def message(route: str, body: Any) -> bytes:
    content = json.dumps(body, separators=(",", ":")).encode()
    head = f"POST {route} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


def score_message(request: Request) -> bytes:
    user = {"user_id": request.user_id, "item_ids": list(request.item_ids)}
    return message("/score", {"users": [user]})


class Connection(asyncio.Protocol):
    """A connection that sends one message at a time and waits for its answer."""

    def __init__(self) -> None:
        self.received, self.answered = b"", None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def ask(self, sent: bytes) -> asyncio.Future[int]:
        self.answered = asyncio.get_running_loop().create_future()
        self.transport.write(sent)
        return self.answered

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
        if len(body) >= length:
            self.received = b""
            assert self.answered is not None
            self.answered.set_result(int(head[9:12]))


async def connections(port: int, n: int) -> list[Connection]:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(Connection, "127.0.0.1", port) for _ in range(n)]
    return [connection for _, connection in made]


async def closed_loop(port: int, messages: list[bytes], clients: int, n: int) -> None:
    """Send `n` messages, each client one after the other."""
    numbers = iter(range(n))

    async def client(connection: Connection) -> None:
        for number in numbers:
            status = await connection.ask(messages[number % len(messages)])
            assert status == 200, status

    await asyncio.gather(*[client(c) for c in await connections(port, clients)])


async def open_loop(port: int, messages: list[bytes], rate: float, n: int) -> list[float]:
    """Send a message every 1 / `rate` seconds on average; return the seconds from when it was due.

    Intervals are drawn as of many independent clients (a Poisson process).
    """
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for connection in await connections(port, 200):
        free.put_nowait(connection)
    due = np.cumsum(np.random.default_rng(1).exponential(1 / rate, n)) + time.perf_counter() + 0.1
    latencies: list[float] = []

    async def one(number: int) -> None:
        connection = await free.get()
        status = await connection.ask(messages[number % len(messages)])
        assert status == 200, status
        latencies.append(time.perf_counter() - due[number])
        free.put_nowait(connection)

    tasks = []
    for number in range(n):
        while (wait := due[number] - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(number)))
    await asyncio.gather(*tasks)
    return latencies


async def mixed(
    port: int, requests: list[Request], seconds: float, process: psutil.Process
) -> list[tuple[float, float]]:
    """Ask for all that there is; return the server's memory (MB) over time."""
    numbers, memory = count(), []
    until = time.perf_counter() + seconds

    def drawn(number: int) -> bytes:
        request = requests[number % len(requests)]
        match number % 10:
            case 0:
                event = {
                    "user_id": request.user_id,
                    "item_id": request.item_ids[number // 10 % N_CANDIDATES],
                    "time": 1.71e9 + number,
                    "clicked": number % 3 == 0,
                }
                return message("/events", {"events": [event]})
            case 1:
                return message("/recommend", {"user_id": request.user_id, "n": 10})
            case 2:  # refused
                return message("/score", {"users": [{"user_id": "x" * (number % 600)}]})
            case 3:  # who and what nobody knows
                user = {"user_id": 10**9 + number, "item_ids": [10**9 + number, 1]}
                return message("/score", {"users": [user]})
        return score_message(request)

    async def client(connection: Connection) -> None:
        while time.perf_counter() < until:
            status = await connection.ask(drawn(next(numbers)))
            assert status in (200, 422), status

    async def watch() -> None:
        began = time.perf_counter()
        while time.perf_counter() < until:
            memory.append((next_at := time.perf_counter() - began, process.memory_info().rss / 1e6))
            await asyncio.sleep(max(1.0, seconds / 20))
            del next_at

    await asyncio.gather(watch(), *[client(c) for c in await connections(port, 8)])
    print(f"mix: {next(numbers)} requests")
    return memory


# --- what is measured -------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--donors", type=int, default=10_000)
    parser.add_argument("--cache", help="folder to keep worlds in")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 32])
    parser.add_argument("-n", type=int, default=2000, help="requests of each measurement")
    parser.add_argument("--mix", type=float, default=0, help="seconds of the mix")
    options = parser.parse_args(arguments)
    made = world(options.donors, neighbors="hnsw", cache=options.cache)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        requests, _ = prepare(made, folder)
        messages = [score_message(request) for request in requests]
        alone = {size: in_process(requests, folder, size, options.n // 2) for size in SIZES}
        told = ", ".join(f"{size}: {ms:.2f}" for size, ms in alone.items())
        print(f"in process, CPU ms a request by size of batch: {told}", flush=True)
        with server(folder) as (port, process):
            asyncio.run(closed_loop(port, messages, 16, 200))
            rate = 0.0
            for clients in options.clients:
                rate = saturated(port, process, messages, clients, options.n, alone)
            latencies = np.array(asyncio.run(open_loop(port, messages, rate / 2, options.n)))
            told = ", ".join(f"p{p}: {1e3 * np.percentile(latencies, p):.1f}" for p in (50, 90, 99))
            print(f"open loop at {rate / 2:.0f} requests a second, wall ms: {told}", flush=True)
            if options.mix:
                memory = asyncio.run(mixed(port, requests, options.mix, process))
                print("memory, MB: " + ", ".join(f"{at:.0f} s: {mb:.0f}" for at, mb in memory))


def saturated(
    port: int,
    process: psutil.Process,
    messages: list[bytes],
    clients: int,
    n: int,
    alone: dict[int, float],
) -> float:
    """Measure with clients that never pause, print it, and return requests a second."""
    names = ("skmars_batch_requests_count", "skmars_batch_requests_sum")
    before = [metric(port, name) for name in names]
    used, began = cpu(process), time.perf_counter()
    asyncio.run(closed_loop(port, messages, clients, n))
    seconds, used = time.perf_counter() - began, cpu(process) - used
    batches, scored = (metric(port, name) - b for name, b in zip(names, before, strict=True))
    size = scored / batches
    same = float(np.interp(size, list(alone), list(alone.values())))
    each = 1000 * used / n
    print(
        f"saturated, {clients} clients: {n / seconds:.0f} requests a second of wall, "
        f"{n / used:.0f} a second of CPU; {each:.2f} CPU ms a request in batches of {size:.1f}, "
        f"in process {same:.2f}: {each / same:.2f} times",
        flush=True,
    )
    return n / seconds


if __name__ == "__main__":
    main()
