"""What does a pool of donors cost: to build, to save, to load, and in memory?

    python -m benchmarks.serving.pool --donors 100000 --cache /tmp/worlds

A world of users (`benchmarks.serving.world`) is drawn, or read from the cache. Printed are

build      CPU seconds of `DonorPool.build`, one thread, and of its largest parts
save       CPU and wall seconds of `DonorPool.save`, and the size on disk
processes  what each of several processes takes that begin at once, as those of a service do: to
           read pipeline and pool, which are memory-mapped, to answer the first request and
           later ones; and how much memory they have. RSS counts what they share in each of them,
           PSS divides it among them.
"""

from __future__ import annotations

import argparse
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.serving.world import World, everybody, world

N_REQUESTS = 30
PARTS = ("vectors of users", "interactions", "index")


def build(made: World) -> Any:
    """Build the pool of all users of a world, and print how long its parts took."""
    from skmars.retrieval import DonorPool

    augmenter, rows = made.pipeline.named_steps["augment"], everybody(made.histories)
    for _, step in made.pipeline.steps[:2]:
        rows = step.transform(rows)
    known = augmenter.low_threshold_, augmenter.high_threshold_
    seconds = dict.fromkeys(PARTS, 0.0)
    with timed_parts(seconds):
        began = time.process_time()
        pool = DonorPool.build(augmenter, rows, thresholds=known)
        whole = time.process_time() - began
    told = [f"{name} {cpu:.1f}" for name, cpu in seconds.items()]
    told.append(f"rest {whole - sum(seconds.values()):.1f}")
    print(f"build      {whole:.1f} CPU s for {pool}: {', '.join(told)}", flush=True)
    return pool


@contextmanager
def timed_parts(seconds: dict[str, float]) -> Iterator[None]:
    """Add the CPU seconds of the functions that build the parts of a pool."""
    from skmars.retrieval import _donors, _users

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            began = time.process_time()
            result = function(*args)
            seconds[name] += time.process_time() - began
            return result

        return call

    of = _users.Interactions.of
    with (
        patch.object(_donors, "user_vectors", timed("vectors of users", _donors.user_vectors)),
        patch.object(_users.Interactions, "of", timed("interactions", of)),
        patch.object(_donors, "fit_index", timed("index", _donors.fit_index)),
    ):
        yield


def few_histories(made: World) -> Any:
    """Return the histories of the users of some requests, and the requests."""
    requests = [made.request(seed=seed) for seed in range(N_REQUESTS)]
    who = np.searchsorted(made.histories.users, [users[0] for users, _ in requests])
    who = np.unique(who)
    events = made.histories.events[who].compact()
    return replace(made.histories, users=made.histories.users[who], events=events), requests


def process(folder: Path) -> None:
    """Be one of the processes: print what was measured, and wait to be ended."""
    import skmars
    from skmars.retrieval import DonorPool

    def since() -> str:
        nonlocal cpu, wall
        told = f"{time.process_time() - cpu:.2f} CPU s, {time.perf_counter() - wall:.2f} wall s"
        cpu, wall = time.process_time(), time.perf_counter()
        return told

    histories, requests = pickle.loads((folder / "requests").read_bytes())
    cpu, wall = time.process_time(), time.perf_counter()
    pipeline = skmars.load(folder / "model")
    print(f"  model    {since()}")
    pool = DonorPool.load(folder / "pool")
    print(f"  pool     {since()}")
    last = pipeline.named_steps["augment"].with_pool(pool)
    steps = [(name, last if name == "augment" else step) for name, step in pipeline.steps]
    pipeline.steps = steps
    print(f"  lent     {since()}")
    pipeline.predict_proba(histories.impressions(*requests[0]))
    print(f"  first    {since()}")
    spent = []
    for request in requests[1:]:
        began = time.process_time()
        pipeline.predict_proba(histories.impressions(*request))
        spent.append(time.process_time() - began)
    print(f"  request  {1e3 * float(np.median(spent)):.1f} CPU ms (median of {len(spent)})")
    print("ready", flush=True)
    sys.stdin.readline()
    print(f"  memory   {', '.join(f'{k} {v:.2f} GB' for k, v in memory().items())}", flush=True)


def memory() -> dict[str, float]:
    """Return the memory of this process in GB, by the kernel."""
    found = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        if name in ("Rss:", "Pss:", "Private_Dirty:"):
            found[name.rstrip(":").upper()] = int(value) * 1024 / 1e9
    return found


def processes(folder: Path, n: int) -> None:
    """Run processes at once, and print what each of them tells."""
    command = [sys.executable, "-m", __spec__.name, "--process", str(folder)]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(n)
    ]
    told: list[list[str]] = [[] for _ in running]
    for one, lines in zip(running, told):
        for line in iter(one.stdout.readline, "ready\n"):  # type: ignore[union-attr]
            if not line:
                raise RuntimeError("a process ended early")
            lines.append(line.rstrip())
    # All are there when each of them looks.
    for one, lines in zip(running, told):
        one.stdin.write("\n")  # type: ignore[union-attr]
        one.stdin.flush()  # type: ignore[union-attr]
        lines.append(one.stdout.readline().rstrip())  # type: ignore[union-attr]
    for number, (one, lines) in enumerate(zip(running, told)):
        one.wait()
        print(f"process {number}", *lines, sep="\n", flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--donors", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--cache", help="folder to keep worlds in")
    parser.add_argument("--process", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.process:
        process(Path(options.process))
        return
    import skmars

    made = world(options.donors, options.items, options.dim, cache=options.cache)
    pool = build(made)
    folder = Path(tempfile.mkdtemp())
    try:
        cpu, wall = time.process_time(), time.perf_counter()
        pool.save(folder / "pool")
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        size = sum(path.stat().st_size for path in (folder / "pool").iterdir())
        print(f"save       {cpu:.1f} CPU s, {wall:.1f} wall s, {size / 1e6:.0f} MB", flush=True)
        skmars.save(made.pipeline, folder / "model")
        (folder / "requests").write_bytes(pickle.dumps(few_histories(made)))
        del made, pool
        processes(folder, options.processes)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
