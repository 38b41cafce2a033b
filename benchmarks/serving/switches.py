"""Do clients notice that versions are switched, and does the memory of the service grow?

    python -m benchmarks.serving.switches --donors 1000 --switches 50

A process of `skmars serve` answers clients that never pause, while new parameters, new pools,
both, and models that were fitted anew (with pools of their own) are written and published in turn.
Printed are

answers     how many there were, how many failed, how many named versions that were not current
            while they were made, and the largest difference from what the versions that they name
            give offline (`Snapshot.load_versions`, `Scorer`)
switch      seconds from a publication until the service uses what was published
memory      of the service over the switches: all (RSS), and what it has for itself (USS)
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from collections import defaultdict
from copy import deepcopy
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import numpy as np
import torch

import skmars
from benchmarks.serving.load import prepare, server
from benchmarks.serving.world import World, everybody, world
from skmars.persistence import Model
from skmars.pipeline._steps import with_classifier
from skmars.retrieval import DonorPool
from skmars.serving import Request, Scorer, Snapshot, Store, open_store
from skmars.serving.scoring._parameters import Parameters
from skmars.serving.store._current import Current
from skmars.serving.store._numbered_folder import NumberedFolder
from skmars.utils._folder import checksum_of

KINDS = ("params", "pool", "both", "model")
Versions = tuple[str, str]


class Told(NamedTuple):
    """An answer, and when it was asked for and came; `versions` is None where it failed."""

    request: int
    asked: float
    came: float
    versions: Versions | None
    probabilities: list[float]


class Publisher:
    """Writes new versions of a deployment, each unlike all others, and publishes them."""

    def __init__(self, made: World, model: Model, folder: Path, store: Store) -> None:
        self._made, self._model, self._folder, self._store = made, model, folder, store
        self._rng = np.random.default_rng(0)
        rows = everybody(made.histories)
        for _, step in made.pipeline.steps[:2]:
            rows = step.transform(rows)
        self._rows, self._donors = rows, np.flatnonzero(made.is_donor)

    def publish(self, kind: str) -> Versions:
        """Publish new parameters, a new pool, both, or a new model; return what is current then."""
        name = Current.of(self._store).model
        if kind in ("params", "both"):
            self._publish_params(name)
        if kind in ("pool", "both"):
            self._publish_pool(name)
        if kind == "model":
            fits = NumberedFolder.of_fits(self._folder, self._store)
            pipeline = with_classifier(self._model.pipeline, self._changed())
            model = replace(self._model, pipeline=pipeline)
            number = fits.save(lambda path: skmars.save(model, path), self._store.publish)
            self._publish_pool(fits.name(number))
            fits.publish(number, self._store.publish)
        current = Current.of(self._store)
        return current.params, current.pool

    def _publish_params(self, model: str) -> None:
        checksum = checksum_of(self._folder / model)
        assert checksum is not None
        learnt = np.zeros(0, dtype=np.uint64)
        made = Parameters(self._changed(), checksum.hex(), 0, learnt, "fit")
        params = NumberedFolder.of_params(self._folder, self._store, model)
        params.publish(params.save(made.save, self._store.publish), self._store.publish)

    def _publish_pool(self, model: str) -> None:
        some = self._rng.choice(self._donors, len(self._donors) // 2, replace=False)
        pool = DonorPool.build(self._made.pipeline.named_steps["augment"], self._rows[some])
        pools = NumberedFolder.of_pools(self._folder, self._store, model)
        pools.publish(pools.save(pool.save, self._store.publish), self._store.publish)

    def _changed(self) -> Any:
        """Return the classifier with other weights."""
        other = deepcopy(self._model.pipeline[-1])
        with torch.no_grad():
            for weights in other._network.parameters():
                weights.mul_(float(self._rng.uniform(0.7, 1.5)))
        return other


class Clients:
    """Threads that ask, each again when it is answered."""

    def __init__(self, port: int, requests: list[Request], n: int) -> None:
        self.told: list[Told] = []
        self._port, self._requests, self._end = port, requests, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(n)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, seed: int) -> None:
        rng = random.Random(seed)
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._end.is_set():
            number = rng.randrange(len(self._requests))
            request = self._requests[number]
            user = {"user_id": request.user_id, "item_ids": list(request.item_ids)}
            body, asked = json.dumps({"users": [user]}), time.monotonic()
            try:
                connection.request("POST", "/score", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                told = json.loads(answer.read())
                versions = told["versions"]["params"], told["versions"]["pool"]
                found = told["users"][0]["probabilities"]
            except Exception:
                connection.close()
                self.told.append(Told(number, asked, time.monotonic(), None, []))
            else:
                self.told.append(Told(number, asked, time.monotonic(), versions, found))


def ready(port: int) -> Versions:
    with urlopen(f"http://127.0.0.1:{port}/ready") as answer:
        told = json.loads(answer.read())["versions"]
    return told["params"], told["pool"]


def not_current(told: list[Told], switches: list[tuple[float, float, set[Versions]]]) -> int:
    """Return how many answers name versions that were not current while they were made.

    Parameters
    ----------
    told : list of Told
    switches : list of (float, float, set)
        Of each switch: when it began, when the service used its versions, and these, with those
        on the way to them.
    """
    ends = [*[used for _, used, _ in switches[1:]], np.inf]
    return sum(
        not any(
            answer.versions in named and answer.came >= began and answer.asked <= end
            for (began, _, named), end in zip(switches, ends)
        )
        for answer in told
        if answer.versions is not None
    )


def largest_difference(
    told: list[Told], requests: list[Request], folder: Path, store: Store
) -> float:
    """Return how far answers are from what the versions that they name give offline."""
    scorer, differences = Scorer(store), [0.0]
    by_versions: dict[Versions, list[Told]] = defaultdict(list)
    for answer in told:
        if answer.versions is not None:
            by_versions[answer.versions].append(answer)
    snapshot = None
    for versions, answers in by_versions.items():
        snapshot = Snapshot.load_versions(folder, *versions, loaded=snapshot)
        asked = sorted({answer.request for answer in answers})
        found = scorer.score(snapshot, [requests[number] for number in asked])
        offline = {number: f.probability for number, f in zip(asked, found)}
        differences += [
            float(np.abs(np.subtract(a.probabilities, offline[a.request])).max()) for a in answers
        ]
    return max(differences)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--donors", type=int, default=1_000)
    parser.add_argument("--items", type=int, default=1_000)
    parser.add_argument("--switches", type=int, default=50)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--cache", help="folder to keep worlds in")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    made = world(options.donors, options.items, 96, cache=options.cache)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        requests, model = prepare(made, folder)
        requests, deployment = requests[:20], folder / "model"
        store = open_store(f"lmdb:{folder / 'store'}")
        publisher = Publisher(made, model, deployment, store)
        with server(folder) as (port, process):
            switches = [(0.0, 0.0, {ready(port)})]
            clients, memory, seconds = Clients(port, requests, options.clients), [], []
            for number in range(options.switches):
                kind = KINDS[number % len(KINDS)]
                before, began = ready(port), time.monotonic()
                wanted = publisher.publish(kind)
                published = time.monotonic()
                while ready(port) != wanted:
                    time.sleep(0.02)
                used = time.monotonic()
                # Parameters are published before the pool of the same switch.
                named = {wanted, (wanted[0], before[1])} if kind == "both" else {wanted}
                switches.append((began, used, named))
                seconds.append(used - published)
                info = process.memory_full_info()
                memory.append((info.rss / 1e6, info.uss / 1e6))
            time.sleep(1.0)
            clients.close()
        told = clients.told
        failed = sum(answer.versions is None for answer in told)
        wrong = not_current(told, switches)
        difference = largest_difference(told, requests, deployment, store)
        n_versions = len({answer.versions for answer in told})
        store.close()
    print(
        f"answers: {len(told)} by {n_versions} pairs of versions; {failed} failed, {wrong} named "
        f"versions that were not current, largest difference from offline {difference:.2g}"
    )
    p50, p99 = np.percentile(seconds, [50, 99])
    print(f"switch: p50 {p50:.2f} s, p99 {p99:.2f} s, {options.switches} switches")
    at = sorted({0, *range(9, options.switches, 10), options.switches - 1})
    shown = ", ".join(f"{i + 1}: {memory[i][0]:.0f} / {memory[i][1]:.0f}" for i in at)
    print(f"memory, MB RSS / USS after switch {shown}")


if __name__ == "__main__":
    main()
