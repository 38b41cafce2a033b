"""Let a whole deployment work for a while: does anything grow, fail or get lost?

    python -m benchmarks.serving.soak --minutes 60 --folder /tmp/soak

A service with two processes, a runner and a trainer (short periods) on one store, and clients that
post events, ask for scores and for recommendations: users as Zipf has them, with new users and new
items all along. Once a minute a line is printed:

MB         resident memory of each process (service, workers, runner, trainer)
fds        open files and connections of all of them
store      MB of the file of the store, and events in it
versions   pool and parameters that are current
lag        events that the trainer has not learnt yet
wrong      answers that were none of 200, since the beginning
p50, p99   milliseconds of a score, since the last line

In the end all are asked to end. Every acknowledged event must be there, once; the scores that were
logged must be found again by `skmars replay` to 1e-6; and memory and descriptors of the second half
must not exceed those of the first half by more than a tenth.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from contextlib import ExitStack, nullcontext
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil

from benchmarks.serving.killed_commands import deployment
from benchmarks.serving.killed_stores import check_kept, read
from skmars.cli import main as skmars
from skmars.serving import Trainer, open_store
from tests.serving.processes import Command, Forked, Service
from tests.serving.served import N_ITEMS, NOW

TRAINER: dict[str, Any] = {"batch": 64, "sync_every": 30.0, "validate_on": 50, "keep": 1000}
PAUSE = 0.15  # seconds between two requests of a client
GROWTH = 1.1


def train(folder: str, url: str) -> int:
    """Learn until this process is asked to end."""
    trainer = Trainer(folder, open_store(url), **TRAINER, worse_by=10.0, checkpoint_every=10.0)
    signal.signal(signal.SIGTERM, lambda *_: trainer.stop())
    for step in trainer.steps():
        if step.failed:
            print(step.failed, file=sys.stderr, flush=True)
    return 0


class Traffic:
    """Clients, what they were acknowledged, and what went wrong."""

    def __init__(self, service: Service, folder: Path, seed: int) -> None:
        self._service, self._seed, self._began = service, seed, time.monotonic()
        self._acknowledged = (folder / "acknowledged").open("a")
        self._lock, self._end = threading.Lock(), threading.Event()
        self.wrong, self.asked, self.seconds = 0, 0, [0.0]
        self.examples: set[str] = set()
        self._threads = [
            threading.Thread(target=self._run, args=(at, work))
            for at, work in enumerate([self._events, self._events, self._scores, self._best])
        ]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
        self._acknowledged.close()

    def _run(self, at: int, work: Any) -> None:
        rng, n = np.random.default_rng([self._seed, at]), 0
        while not self._end.wait(PAUSE):
            work(rng, f"{self._seed} {at} {n}")
            n += 1

    def _ask(self, route: str, body: Any) -> Any:
        began = time.monotonic()
        try:
            status, answer = self._service.ask("POST", route, body)
        except (OSError, HTTPException) as error:
            status, answer = 0, repr(error)
        with self._lock:
            self.asked += 1
            if route == "/score":
                self.seconds.append(time.monotonic() - began)
            if status != 200:
                self.wrong += 1
                self.examples.add(f"{route} {status} {answer}"[:200])
        return answer if status == 200 else None

    def _user(self, rng: np.random.Generator) -> int:
        """Return a user as Zipf has them; beyond the first there are always further ones."""
        return int(min(rng.zipf(1.5), 10**6)) - 1

    def _item(self, rng: np.random.Generator) -> int:
        """Return an item; once in a while one that nobody has seen before."""
        newest = int(time.monotonic() - self._began) // 10
        return int(rng.integers(N_ITEMS + newest))

    def _events(self, rng: np.random.Generator, name: str) -> None:
        moment = NOW + 1e5 * self._seed + time.monotonic() - self._began
        events = [
            {
                "user_id": self._user(rng),
                "item_id": self._item(rng),
                "time": moment + i * 1e-3,
                "clicked": bool(rng.random() < 0.4),
                "id": f"{name} {i}",
            }
            for i in range(int(rng.integers(1, 4)))
        ]
        if self._ask("/events", {"events": events}) is not None:
            told = [json.dumps([e["user_id"], e["time"]]) + "\n" for e in events]
            with self._lock:
                self._acknowledged.write("".join(told))
                self._acknowledged.flush()

    def _scores(self, rng: np.random.Generator, name: str) -> None:
        users = [
            {"user_id": self._user(rng), "item_ids": [self._item(rng) for _ in range(20)]}
            for _ in range(int(rng.integers(1, 4)))
        ]
        self._ask("/score", {"users": users})

    def _best(self, rng: np.random.Generator, name: str) -> None:
        self._ask("/recommend", {"user_id": self._user(rng), "n": 5})

    def latencies(self) -> tuple[float, float]:
        """Return p50 and p99 of the scores since the last call, in milliseconds."""
        with self._lock:
            seconds, self.seconds = self.seconds, [0.0]
        p50, p99 = np.percentile(seconds, [50, 99])
        return 1000 * float(p50), 1000 * float(p99)


def sample(processes: dict[str, int], store: Any, traffic: Traffic, url: str) -> dict[str, Any]:
    """Return what a line tells."""
    alive = {name: psutil.Process(pid) for name, pid in processes.items()}
    workers = sorted(alive["serve"].children(), key=lambda p: -p.memory_info().rss)[:2]
    alive |= {f"worker {i}": worker for i, worker in enumerate(workers, 1)}
    status = json.loads(store.pointer("trainer/status") or "{}")
    p50, p99 = traffic.latencies()
    data = Path(url.removeprefix("lmdb:"), "data.mdb")
    return {
        "mb": {name: process.memory_info().rss / 2**20 for name, process in alive.items()},
        "fds": sum(process.num_fds() for process in alive.values()),
        "store": data.stat().st_size / 2**20,
        "events": store.position,
        "pool": store.pointer("pool"),
        "params": store.pointer("params"),
        "lag": store.position - status.get("position", 0),
        "asked": traffic.asked,
        "wrong": traffic.wrong,
        "p50": p50,
        "p99": p99,
    }


def line(minutes: float, found: dict[str, Any]) -> str:
    mb = " ".join(f"{name} {value:.0f}" for name, value in found["mb"].items())
    return (
        f"{minutes:5.1f} min  MB: {mb}  fds {found['fds']}  store {found['store']:.1f} MB, "
        f"{found['events']:,} events  {found['pool']} {found['params']}  lag {found['lag']}  "
        f"wrong {found['wrong']} of {found['asked']:,}  "
        f"p50 {found['p50']:.0f} p99 {found['p99']:.0f}"
    )


def growth(samples: list[dict[str, Any]]) -> dict[str, float]:
    """Return the largest value of the second half, by that of the first half, of each process."""
    half = len(samples) // 2
    found = {}
    for name in samples[-1]["mb"]:
        first, second = (
            max(s["mb"].get(name, 0.0) for s in part) for part in (samples[:half], samples[half:])
        )
        found[name] = second / first
    first, second = (max(s["fds"] for s in part) for part in (samples[:half], samples[half:]))
    return found | {"fds": second / first}


def soak(folder: Path, minutes: float, every: float, seed: int) -> None:
    """Let it work, print, and raise AssertionError if something is not as it should be."""
    saved, url = deployment(folder), f"lmdb:{folder / 'store'}"
    where = ["--model", str(saved), "--store", url]
    scores, samples = folder / "scores.jsonl", []
    store = open_store(url)
    with ExitStack() as stack:
        options = ["--workers", "2", "--log-scores", str(scores), "--log-share", "0.2"]
        service = stack.enter_context(Service(folder, *where, *options)).ready()
        runner = stack.enter_context(
            Command(folder, "runner", *where, "--every", "10s", "--keep", "1000")
        )
        trainer = stack.enter_context(Forked(folder, "trainer", train, str(saved), url))
        processes = {"serve": service.pid, "runner": runner.pid, "trainer": trainer.pid}
        traffic = stack.enter_context(Traffic(service, folder, seed))
        began = time.monotonic()
        while time.monotonic() < began + 60 * minutes:
            time.sleep(every)
            samples.append(sample(processes, store, traffic, url))
            with (folder / "samples.jsonl").open("a") as log:
                log.write(json.dumps(samples[-1]) + "\n")
            print(line((time.monotonic() - began) / 60, samples[-1]), flush=True)
        traffic.__exit__()  # closes its file; a second time does nothing
        for what in traffic.examples:
            print(f"not 200: {what}")
        codes = {process: process.end() for process in (trainer, runner, service)}
        assert list(codes.values()) == [0, 143, 0], [p.told for p in codes]
    told = read(folder / "acknowledged")
    check_kept(store, told)
    store.close()
    print(f"{len(told):,} events were acknowledged: all are there, once")
    assert skmars(["replay", str(scores), *where]) == 0
    for name, ratio in growth(samples[1:]).items():
        print(f"second half / first half: {name} {ratio:.3f}")
        assert ratio < GROWTH, name
    assert samples[-1]["wrong"] == 0


def main() -> None:
    """Soak, and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--every", type=float, default=60, help="seconds between two lines")
    parser.add_argument("--seed", type=int, default=0, help="another one for the same folder")
    parser.add_argument("--folder", type=Path, help="stays (default: a temporary one)")
    arguments = parser.parse_args()
    with nullcontext(arguments.folder) if arguments.folder else TemporaryDirectory() as folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        soak(Path(folder), arguments.minutes, arguments.every, arguments.seed)


if __name__ == "__main__":
    main()
