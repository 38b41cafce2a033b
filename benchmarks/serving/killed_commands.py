"""Commands of skmars, killed at random moments, and what must hold after it."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import skmars
from benchmarks.serving.killed_stores import Kill, check_kept, read
from skmars.retrieval import DonorPool
from skmars.serving import Events, Trainer, open_store
from skmars.serving.scoring._parameters import Parameters
from tests.serving.processes import Command, Forked, Service, free_port
from tests.serving.runner.test_runner import assert_same_pool, expected_pool
from tests.serving.served import N_ITEMS, N_USERS, NOW, model
from tests.serving.trainer.shop import NOW as SHOP_NOW
from tests.serving.trainer.shop import assert_same, checkpoint, events_of, log_of, opened
from tests.serving.trainer.shop import saved as saved_shop

SLOWEST_START = 2.0  # seconds; who is killed while it begins is killed within them


def deployment(folder: Path) -> Path:
    """Return the folder of a saved model, saved there unless it is."""
    if not (folder / "model" / "manifest.json").exists():
        skmars.save(model(), folder / "model")
    return folder / "model"


def files(folder: Path, *but: str) -> int:
    """Return how many files there are, but for those in some folders, and what commands said."""
    inside = (path.relative_to(folder) for path in folder.rglob("*"))
    return sum(p.parts[0] not in but and p.suffix != ".log" for p in inside)


def let_lease_run_out(store: Any, name: str) -> None:
    """Let the lease of a killed process end, which would take a minute, by another clock."""
    store._clock = lambda: time.time() + 3600
    store.release(store.acquire(name, "the kills", 1))
    store._clock = time.time


# --- service ----------------------------------------------------------------------------------


class Clients:
    """Threads that post events and ask for scores until the service is gone.

    Attributes
    ----------
    wrong : list of str
        Answers that should have been others.
    answered : threading.Event
        Set when events were acknowledged.
    """

    def __init__(self, service: Service, acknowledged: Path, number: int) -> None:
        self._service, self._file, self._number = service, acknowledged.open("a"), number
        self._end, self._lock = threading.Event(), threading.Lock()
        self._position = 0
        self.wrong: list[str] = []
        self.answered = threading.Event()
        self._threads = [threading.Thread(target=self._post, args=(at,)) for at in range(2)]
        self._threads.append(threading.Thread(target=self._score))

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
        self._file.close()

    def _ask(self, route: str, body: Any) -> Any:
        """Return an answer, None if there is none since the service was killed."""
        try:
            status, answer = self._service.ask("POST", route, body)
        except (OSError, HTTPException, ValueError):  # killed within the answer
            self._end.set()
            return None
        if status != 200:
            self.wrong.append(f"{route}: {status} {answer}")
        return answer if status == 200 else None

    def _post(self, at: int) -> None:
        rng = np.random.default_rng([self._number, at])
        moment = NOW + 1000.0 * (2 * self._number + at)
        while not self._end.is_set():
            n = int(rng.integers(1, 6))
            # The first half repeats events of before, which may have been kept or not.
            times = np.concatenate([moment - rng.integers(0, 10, n), moment + np.arange(n)])
            moment += n
            events = [
                {
                    "user_id": int(t) % (N_USERS + 20),
                    "item_id": int(t) % (N_ITEMS + 5),
                    "time": t,
                    "clicked": int(t) % 3 > 0,
                    "id": f"{t}",
                }
                for t in times.tolist()
            ]
            answer = self._ask("/events", {"events": events})
            if answer is not None:
                told = [json.dumps([event["user_id"], event["time"]]) + "\n" for event in events]
                with self._lock:
                    self._file.write("".join(told))
                    self._file.flush()
                    self._position = max(self._position, answer["position"])
                self.answered.set()

    def _score(self) -> None:
        rng = np.random.default_rng([self._number, 9])
        while not self._end.is_set():
            with self._lock:
                position = self._position
            user = {"user_id": int(rng.integers(N_USERS + 20)), "item_ids": [1, 2, 99]}
            answer = self._ask("/score", {"users": [user]})
            if answer is None:
                continue
            (found,) = answer["users"]
            late = found["history"] != "current"
            if not late and found["position"] < position:
                self.wrong.append(f"position {found['position']} < {position}")
            if not all(0 <= p <= 1 for p in found["probabilities"]):
                self.wrong.append(str(found))


def kill_services(folder: Path, kills: int, first: int = 0) -> Iterator[Kill]:
    """Kill one service after the other while events are posted and scores asked for."""
    url, acknowledged = f"lmdb:{folder / 'store'}", folder / "acknowledged"
    options = ["--model", str(deployment(folder)), "--store", url, "--store-deadline", "5"]
    port = free_port()
    for number in range(first, kills + 1):  # the last one is not killed
        rng = np.random.default_rng(number)
        workers = "2" if number % 40 == 39 else "1"
        began, seconds = time.monotonic(), None
        with Service(folder, *options, "--workers", workers, port=port) as service:
            if number % 5 == 4 and workers == "1" and number < kills:
                time.sleep(rng.uniform(0, SLOWEST_START))
            else:
                service.ready()
                seconds = time.monotonic() - began
                with Clients(service, acknowledged, number) as clients:
                    clients.answered.wait(60)
                    time.sleep(rng.uniform(0, 0.5))
                    if number < kills:
                        service.kill()
                assert not clients.wrong, clients.wrong[:3]
            if number == kills:
                assert service.end() == 0, service.told
        told = read(acknowledged)
        store = open_store(url)
        check_kept(store, told)
        store.close()
        if number < kills:
            yield Kill(number, seconds, len(told), files(folder, "store"))


# --- runner -----------------------------------------------------------------------------------


class GrowingLog:
    """Files of a log, and events of the stream, of which there are more and more.

    What there is follows from the number of steps alone.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self._url = folder, url
        folder.mkdir(exist_ok=True)
        self.n = len(list(folder.glob("*.parquet")))

    def rows(self, step: int) -> pd.DataFrame:
        """Return the events of a step: the first ones for a file, the last ones for the stream."""
        rng, n = np.random.default_rng([7, step]), 12
        return pd.DataFrame(
            {
                "user_id": rng.integers(0, N_USERS + 20, n),
                "item_id": rng.integers(0, N_ITEMS + 5, n),
                "timestamp": NOW + 100.0 * step + np.arange(n),
                "clicked": rng.integers(0, 2, n),
            }
        )

    def grow(self, store: Any) -> None:
        """Do a step. One that was interrupted is done again, which changes nothing."""
        rows = self.rows(self.n)
        streamed = rows[8:]
        store.append(
            Events(
                streamed["user_id"].tolist(),
                streamed["item_id"].tolist(),
                streamed["timestamp"].to_numpy(),
                streamed["clicked"].to_numpy(np.uint8),
            )
        )
        part = self.folder / ".part"
        rows[:8].to_parquet(part, index=False)
        part.rename(self.folder / f"{self.n:06}.parquet")
        self.n += 1

    def all(self) -> pd.DataFrame:
        return pd.concat([self.rows(step) for step in range(self.n)], ignore_index=True)


def kill_runners(folder: Path, kills: int, first: int = 0) -> Iterator[Kill]:
    """Kill one runner after the other while its log grows."""
    url, saved = f"lmdb:{folder / 'store'}", deployment(folder)
    log = GrowingLog(folder / "log", url)
    options = ["--model", str(saved), "--store", url, "--log", str(log.folder), "--keep", "2"]
    store = open_store(url)
    try:
        for number in range(first, kills):
            rng = np.random.default_rng(number)
            let_lease_run_out(store, "runner")
            began, seconds = time.monotonic(), None
            log.grow(store)
            with Command(folder, "runner", *options, "--every", "0.01s") as runner:
                if number % 3 == 2:
                    end = time.monotonic() + rng.uniform(0, SLOWEST_START)
                else:
                    runner.wait_until(lambda: "published" in runner.told)
                    seconds = time.monotonic() - began
                    end = time.monotonic() + rng.uniform(0, 1)
                while time.monotonic() < end:
                    log.grow(store)
                    time.sleep(rng.uniform(0, 0.1))
                assert runner.exit_code is None, runner.told
            pool = store.pointer("pool")
            if pool is not None:
                DonorPool.load(saved / pool)
            if number % 40 == 39 or number == kills - 1:
                check_pool(folder, options, store, log)
            yield Kill(number, seconds, store.position, files(folder, "store", "log"))
    finally:
        store.close()


def check_pool(folder: Path, options: list[str], store: Any, log: GrowingLog) -> None:
    """Let a runner do one pass undisturbed; AssertionError unless its pool is the library's."""
    let_lease_run_out(store, "runner")
    with Command(folder, "runner", *options) as runner:
        assert runner.wait() == 0, runner.told
    assert store.position == 12 * log.n
    saved = folder / "model"
    found = DonorPool.load(saved / store.pointer("pool"))
    assert_same_pool(found, expected_pool(saved, log.all()))
    left = {path.name for path in (saved / "pools").iterdir()}
    assert len(left) <= 4, left


# --- trainer ----------------------------------------------------------------------------------

# Short periods, small batches and many checkpoints, so that kills hit all that there is.
TRAINER: dict[str, Any] = {"batch": 8, "sync_every": 100.0, "validate_on": 6, "worse_by": 10.0}
EVENTS, SECONDS = 60, 3.0  # that come in a step, and between two arrivals


def train(deployment: str, url: str, lease: float = 60.0) -> None:
    """Learn until this process is killed."""
    options = {"checkpoint_every": 0.02, "keep": 2, "lease": lease}
    trainer = Trainer(deployment, open_store(url), **TRAINER | options)
    for step in trainer.steps(every=0.05):
        if step.version is not None:
            print(f"published {step.version}", file=sys.stderr, flush=True)


def learn_rest(deployment: str, url: str) -> None:
    """Learn all that is there."""
    list(Trainer(deployment, open_store(url), **TRAINER).steps(until_idle=True))


def kill_trainers(folder: Path, kills: int, first: int = 0) -> Iterator[Kill]:
    """Kill one trainer after the other while events come; in the end, compare with another."""
    url, deployment = f"lmdb:{folder / 'store'}", folder / "model"
    if not deployment.exists():
        shutil.copytree(saved_shop(), deployment)
    store: Any = open_store(url)
    try:
        if store.position == 0:
            opened(store, [])
        for number in range(first, kills):
            rng = np.random.default_rng(number)
            let_lease_run_out(store, "trainer")
            append_shop_events(store, number)
            began, seconds = time.monotonic(), None
            with Forked(folder, "trainer", train, str(deployment), url) as trainer:
                if number % 4 == 0:
                    trainer.wait_until(lambda: "published" in trainer.told)
                    seconds = time.monotonic() - began
                time.sleep(rng.uniform(0, 0.5 if number % 4 == 0 else 2 * SLOWEST_START))
                assert trainer.exit_code is None, trainer.told
            version = store.pointer("params")
            if version is not None:
                Parameters.load(deployment / version)
            if number % 50 == 49 or number == kills - 1:
                check_parameters(folder, store)
            yield Kill(number, seconds, store.position, files(folder, "store"))
    finally:
        store.close()


def append_shop_events(store: Any, number: int) -> None:
    """Append the events of a step, at arrivals that follow from its number alone."""
    log = log_of(EVENTS, 1 + number, SHOP_NOW + number * 2e5)
    for at in range(0, EVENTS, 4):
        store._clock = lambda: SHOP_NOW + (number * EVENTS + at) * SECONDS  # noqa: B023
        store.append(events_of(log[at : at + 4], number * EVENTS + at))
    store._clock = time.time


def check_parameters(folder: Path, store: Any) -> None:
    """Let a copy be learnt to its end, and the same by a trainer that was never disturbed."""
    ends = []
    for name in ("disturbed", "undisturbed"):
        own = folder / "compared" / name
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir(parents=True)
        if name == "disturbed":
            shutil.copytree(folder / "model", own / "model")
        else:
            shutil.copytree(saved_shop(), own / "model")
        store._env.copy(str(make(own / "store")), compact=True)
        other: Any = open_store(f"lmdb:{own / 'store'}")
        if name == "undisturbed":
            other.publish("params", ".")
        let_lease_run_out(other, "trainer")
        other.close()
        with Forked(own, "trainer", learn_rest, str(own / "model"), f"lmdb:{own / 'store'}") as one:
            assert one.wait() == 0, one.told
        ends.append(checkpoint(own / "model"))
        left = {path.name for path in (own / "model" / "params").iterdir()}
        assert len(left) <= 4, left
    assert ends[0].n_events > 0
    assert_same(*ends)
    shutil.rmtree(folder / "compared")


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


COMMANDS: dict[str, Callable[[Path, int, int], Iterator[Kill]]] = {
    "service": kill_services,
    "runner": kill_runners,
    "trainer": kill_trainers,
}
