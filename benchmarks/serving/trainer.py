"""How many events a second does a trainer learn, and where does the time go?

    python -m benchmarks.serving.trainer --donors 10000 100000 --cache /tmp/worlds
    python -m benchmarks.serving.trainer --donors 10000 --length 100 --cache /tmp/worlds
    python -m benchmarks.serving.trainer --donors 10000 --batch 512 --profile cprofile

Users of `world.py` have `--length` events in an LMDB store (0: as they come, 22 on average); then
events of theirs arrive, and are learnt in batches of `--batch` events, one thread. Printed are CPU
milliseconds an event: medians over `--repeats` batches, with the quartiles of the whole.

stream    read from the store
rows      events of the users fetched, and rows made of them
steps     all steps of the pipeline before the classifier, which borrow from the pool
learn     `partial_fit`
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from copy import deepcopy
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from torch.profiler import profile

from benchmarks.serving.world import BEGIN, DAY, N_DAYS, World, world
from skmars.persistence import Columns, Model
from skmars.pipeline._steps import before_classifier
from skmars.serving import Events, open_store
from skmars.serving.scoring._histories import ItemNumbers
from skmars.serving.store._store import Store
from skmars.serving.trainer._training_rows import training_rows

PARTS = ("stream", "rows", "steps", "learn")
N_WARM = 1


def fill(store: Store, made: World, n_users: int, length: int, n_streamed: int, seed: int) -> int:
    """Bring users and their histories into a store, then a stream; return where this begins."""
    rng = np.random.default_rng(seed)
    events = made.histories.events
    who = rng.choice(np.flatnonzero(~made.is_donor), n_users, replace=False)
    n_each = np.full(n_users, length) if length else events.length[who].astype(np.int64)
    # With a length, a user goes on with what the next ones did.
    place = np.concatenate([np.arange(n) + s for n, s in zip(n_each, events.start[who])])
    place %= len(events.items)
    owner = np.repeat(who, n_each)
    end = BEGIN + N_DAYS * DAY
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(n_each) - n_each, n_each)
    _append(store, made, owner, events.items[place], BEGIN + 3600.0 * rank, streamed=False)
    begin = store.position
    owner = rng.choice(who, n_streamed)
    items = rng.choice(events.items, n_streamed)
    _append(store, made, owner, items, end + np.arange(n_streamed), rng=rng, streamed=True)
    return begin


def _append(
    store: Store, made: World, owner: Any, items: Any, moment: Any, streamed: bool, rng: Any = None
) -> None:
    clicked = np.ones(len(owner)) if rng is None else rng.random(len(owner)) < 0.5
    for begin in range(0, len(owner), 10_000):
        part = slice(begin, begin + 10_000)
        store.append(
            Events(
                made.histories.users[owner[part]].tolist(),
                made.catalog.ids[items[part]].tolist(),
                moment[part],
                clicked[part].astype(np.uint8),
                [str(begin + i) for i in range(len(owner[part]))],
            ),
            streamed=streamed,
        )


class Work:
    """A trainer's work, part by part."""

    def __init__(self, pipeline: Pipeline, model: Model, store: Store, position: int) -> None:
        self.pipeline, self.model, self.store, self.position = pipeline, model, store, position
        self.numbers = ItemNumbers(store)
        self.classifier = deepcopy(pipeline[-1])

    def batch(self, size: int) -> list[float]:
        """Learn a batch; return the CPU milliseconds an event of each part."""
        moments = [time.process_time()]
        events = self.store.stream(self.position, size)
        self.position = events[-1].position
        moments.append(time.process_time())
        X, y = training_rows(self.model, self.numbers, events, self.store)
        moments.append(time.process_time())
        _, Z = before_classifier(self.pipeline, X)
        moments.append(time.process_time())
        self.classifier.partial_fit(Z, y)
        moments.append(time.process_time())
        return (1e3 * np.diff(moments) / len(events)).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--donors", type=int, nargs="+", default=[10_000])
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--length", type=int, default=0)
    parser.add_argument("--users", type=int, default=4000)
    parser.add_argument("--batch", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--neighbors", default="auto")
    parser.add_argument("--profile", choices=["cprofile", "torch"])
    parser.add_argument("--cache", help="folder to keep worlds in")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    titles = "".join(f"{part:>9}" for part in (*PARTS, "all"))
    print(f"{'donors':>8}{'batch':>7}{titles}   quartiles of all   events/s")
    for n_donors in asked.donors:
        made = world(n_donors, asked.items, neighbors=asked.neighbors, cache=asked.cache)
        model = Model(made.pipeline, Columns(), made.histories, "none")
        for size in asked.batch:
            n = (asked.repeats + N_WARM) * size
            with TemporaryDirectory() as folder:
                store = open_store(f"lmdb:{folder}")
                begin = fill(store, made, asked.users, asked.length, n, seed=0)
                work = Work(made.pipeline, model, store, begin)
                for _ in range(N_WARM):
                    work.batch(size)
                if asked.profile:
                    profiled(work, size, asked.repeats, asked.profile)
                else:
                    found = np.array([work.batch(size) for _ in range(asked.repeats)])
                    whole = found.sum(axis=1)
                    low, middle, high = np.quantile(whole, [0.25, 0.5, 0.75])
                    parts = "".join(f"{value:9.3f}" for value in (*np.median(found, 0), middle))
                    spread = f"{low:.3f} - {high:.3f}"
                    print(
                        f"{n_donors:8}{size:7}{parts}{spread:>19}{1e3 / middle:11.0f}", flush=True
                    )
                store.close()


def profiled(work: Work, size: int, repeats: int, how: str) -> None:
    """Print where the time of some batches goes."""
    if how == "torch":
        with profile() as told:
            for _ in range(repeats):
                work.batch(size)
        print(told.key_averages().table(sort_by="self_cpu_time_total", row_limit=30))
        return
    run = cProfile.Profile(time.process_time)
    run.enable()
    for _ in range(repeats):
        work.batch(size)
    run.disable()
    pstats.Stats(run).sort_stats("cumtime").print_stats(90)
    pstats.Stats(run).sort_stats("tottime").print_stats(40)


if __name__ == "__main__":
    main()
