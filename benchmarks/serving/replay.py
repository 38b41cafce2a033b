"""Are logged scores what they are when they are computed again?

    python -m benchmarks.serving.replay --cache /tmp/worlds

Users ask in singles and in batches, with and without a time, for known and unknown items, while
events come in and another pool of donors is published. All answers are logged and then replayed:
from the store, with the versions and the events of then. Printed is what `skmars.serving.replay`
says, and what it took.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import skmars
from benchmarks.serving.world import World, everybody, world
from skmars.persistence import Columns, Model
from skmars.retrieval import DonorPool
from skmars.serving import Events, Replay, Request, Scorer, Snapshot, logged, open_store, replay

USERS, CANDIDATES, NEW_EVENTS = 25, 100, 100  # of each step


def save(made: World, folder: Path) -> None:
    """Save the model of a world, and below it a pool of half of the users."""
    skmars.save(Model(made.pipeline, Columns(), made.histories, "none"), folder)
    rows = everybody(made.histories)
    rows = rows[np.arange(0, len(rows), 2)]
    for _, step in made.pipeline.steps[:2]:
        rows = step.transform(rows)
    (folder / "pools").mkdir()
    DonorPool.build(made.pipeline["augment"], rows).save(folder / "pools" / "1")


def in_order(made: World) -> Events:
    """Return all events of a world, the oldest first."""
    done = made.histories.events
    assert done.time is not None
    at = done.positions()
    owner = np.repeat(np.arange(len(done)), done.length)
    order = np.argsort(done.time[at], kind="stable")
    at, owner = at[order], owner[order]
    return Events(
        made.histories.users[owner].tolist(),
        made.catalog.ids[done.items[at]].tolist(),
        done.time[at],
        np.ones(len(at), dtype=np.uint8),
    )


def part(events: Events, begin: int, end: int) -> Events:
    """Return some of the events."""
    return Events(
        events.user_ids[begin:end],
        events.item_ids[begin:end],
        events.time[begin:end],
        events.clicked[begin:end],
    )


def requests(made: World, step: int, rng: np.random.Generator) -> list[Request]:
    """Draw requests, of which every fourth step has an item that nobody knows."""
    users, items = made.request(USERS, CANDIDATES, seed=step, unknown=step % 4 == 0, n_events=None)
    moments = 1.7e9 + 86400 * rng.uniform(30, 89, USERS)
    asked = zip(users.reshape(USERS, -1)[:, 0], items.reshape(USERS, -1), moments)
    return [Request(int(u), i.tolist(), None if step % 2 else float(t)) for u, i, t in asked]


def main(arguments: list[str] | None = None) -> Replay:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--donors", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=40, help="of 2,500 scores each")
    parser.add_argument("--cache", help="folder to keep worlds in")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    made, rng = world(options.donors, cache=options.cache), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name, "model"), Path(name, "scores.jsonl")
        save(made, folder)
        events, n_new = in_order(made), NEW_EVENTS * options.steps
        store = open_store(f"lmdb:{Path(name, 'store')}")
        store.append(part(events, 0, len(events) - n_new), streamed=False)
        scorer, snapshot = Scorer(store), Snapshot.load(folder, store)
        with log.open("w") as file:
            for step in range(options.steps):
                if step == options.steps // 2:
                    store.publish("pool", "pools/1")
                    snapshot = Snapshot.load(folder, store)
                begin = len(events) - n_new + step * NEW_EVENTS
                store.append(part(events, begin, begin + NEW_EVENTS))
                asked = requests(made, step, rng)
                size = 1 if step % 3 == 0 else 16
                for at in range(0, len(asked), size):
                    some = asked[at : at + size]
                    for request, answer in zip(some, scorer.score(snapshot, some)):
                        file.write(json.dumps(logged(request, answer)) + "\n")
        began = time.process_time()
        found = replay(folder, store, log)
        print(found)
        print(f"{time.process_time() - began:.1f} CPU seconds")
        store.close()
    return found


if __name__ == "__main__":
    main()
