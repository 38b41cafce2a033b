"""What the runner costs: a full build of a log, and increments of new events.

    python -m benchmarks.serving.runner --events 300000 1000000 --folder /tmp/runner

draws a log, fits a pipeline to a few of its users, and runs the command `skmars runner` with an
embedded store: once for the whole log, then for further files of 1,000 and 10,000 events. Each is a
process of its own, whose CPU seconds and peak memory the operating system tells. A pass in which
nothing is new tells what the command costs before it begins: Python, torch, and the model.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

INCREMENTS = (1_000, 10_000, 1_000, 10_000)
# Users whose events the saved model knows.
N_KNOWN = 200


def prepare(n_events: int, dim: int, folder: Path) -> None:
    """Write a deployment, a log of about so many events, half of them clicks, and further files."""
    import numpy as np
    import pandas as pd

    import skmars
    from benchmarks.serving.world import DONOR, ORDINARY, world
    from skmars import Impressions
    from skmars.persistence import Model

    per_donor = 2 * (DONOR + ORDINARY * 7 / 3)
    drawn = world(max(10, round(n_events / per_donor)), dim=dim)
    X, _ = Impressions.from_log(
        drawn.log(slice(N_KNOWN)), drawn.catalog, label="clicked", duplicates="keep"
    )
    (folder / "log").mkdir(parents=True)
    skmars.save(Model.of(drawn.pipeline, X), folder / "model")
    drawn.log().to_parquet(folder / "log" / "0.parquet", index=False, row_group_size=100_000)
    rng, now = np.random.default_rng(0), drawn.histories.now
    assert now is not None
    for i, n in enumerate(INCREMENTS, 1):
        later = pd.DataFrame(
            {
                "user_id": rng.choice(drawn.histories.users, n),
                "item_id": rng.choice(drawn.catalog.parts[0].ids, n),
                "timestamp": now + i * 1000 + np.sort(rng.uniform(0, 999, n)),
                "clicked": rng.integers(0, 2, n),
            }
        )
        later.to_parquet(folder / f"{i}.parquet", index=False)


def run(folder: Path) -> tuple[float, float, str]:
    """Run the command once; return its CPU seconds, peak memory in MB, and what it said last."""
    arguments = ["--log", str(folder / "log"), "--model", str(folder / "model")]
    with (folder / "said").open("w+b") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "skmars", "runner", *arguments, "--store", f"lmdb:{folder}/s"],
            stderr=said,
        )
        _, status, used = os.wait4(process.pid, 0)
        said.seek(0)
        lines = said.read().decode().splitlines()
    if status:
        raise RuntimeError("\n".join(lines))
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, lines[-1]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--events", type=int, nargs="+", default=[300_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--folder", type=Path, required=True, help="is made, and removed")
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.prepare:
        return prepare(options.events[0], options.dim, options.folder)
    for n_events in options.events:
        folder = options.folder / str(n_events)
        shutil.rmtree(folder, ignore_errors=True)
        # In a process of its own: the memory of this one would count as that of its children.
        drawn = ["--prepare", "--events", str(n_events), "--dim", str(options.dim)]
        command = [sys.executable, "-m", "benchmarks.serving.runner", "--folder", str(folder)]
        subprocess.run([*command, *drawn], check=True)
        full, memory, said = run(folder)
        print(f"full build: {full:.1f} CPU s, {memory:.0f} MB; {said}", flush=True)
        idle, memory, _ = run(folder)
        print(f"  nothing new: {idle:.1f} CPU s, {memory:.0f} MB", flush=True)
        for i, n in enumerate(INCREMENTS, 1):
            (folder / f"{i}.parquet").rename(folder / "log" / f"{i}.parquet")
            cpu, memory, _ = run(folder)
            print(f"  {n:,} new: {cpu - idle:.2f} CPU s more, {memory:.0f} MB", flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
