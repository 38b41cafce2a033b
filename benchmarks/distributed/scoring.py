"""What does scoring a Parquet file cost on a cluster of Ray, against one process?

    OMP_NUM_THREADS=1 python -m benchmarks.distributed.scoring --rows 100000 --folder /tmp/scoring

draws a world and rows of users with some candidates each, saves model and rows, and prints seconds
and CPU of (1) one process: load the model, read files, predict in batches, write files; (2) Ray on
this machine: start; `predict(...).write_parquet`; and the largest difference of probabilities.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

import skmars
from benchmarks.distributed.usage import start, usage
from benchmarks.serving.world import world
from skmars import Impressions
from skmars.persistence import Model

BATCH = 4096
N_FILES = 8


def prepare(n_rows: int, n_candidates: int, n_donors: int, folder: Path) -> None:
    made = world(n_donors, n_items=2000, dim=256)
    X, _ = Impressions.from_log(made.log(), made.catalog, label="clicked", duplicates="keep")
    skmars.save(Model.of(made.pipeline, X), folder / "model")
    users, items = made.request(n_rows // n_candidates, n_candidates, n_events=None)
    table = pa.table({"user_id": users, "item_id": items, "number": np.arange(len(users))})
    (folder / "rows").mkdir()
    size = -(-len(users) // N_FILES)
    for part in range(N_FILES):
        parquet.write_table(table.slice(part * size, size), folder / "rows" / f"{part}.parquet")


def one_process(folder: Path) -> None:
    from skmars.persistence._tables._rows import PROBABILITY, probabilities

    model = skmars.load(folder / "model")
    (folder / "one").mkdir()
    for path in sorted((folder / "rows").iterdir()):
        table = parquet.read_table(path)
        parts = [table.slice(i, BATCH) for i in range(0, len(table), BATCH)]
        found = np.concatenate([probabilities(model, part, path) for part in parts])
        parquet.write_table(table.append_column(PROBABILITY, [found]), folder / "one" / path.name)


def column(folder: Path) -> np.ndarray:
    return np.asarray(parquet.read_table(folder).sort_by("number")["probability"])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--candidates", type=int, default=10, help="a user (default: 10)")
    parser.add_argument("--donors", type=int, default=5000)
    parser.add_argument("--cpus", type=int, default=3)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--folder", type=Path, required=True, help="is made, and removed")
    options = parser.parse_args(arguments)
    folder = options.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    prepare(options.rows, options.candidates, options.donors, folder)
    with usage() as used:
        one_process(folder)
    print(f"one process: {used}; {used.cpu / options.rows * 1e6:.0f} µs of CPU a row", flush=True)
    with usage() as used:
        ray = start(options.cpus)
    print(f"start of Ray: {used}", flush=True)
    from skmars.distributed import predict

    with usage() as used:
        scored = predict(folder / "model", folder / "rows", n_actors=options.actors)
        scored.write_parquet(str(folder / "many"))
    print(f"Ray, {options.actors} actors: {used}", flush=True)
    ray.shutdown()
    difference = np.abs(column(folder / "one") - column(folder / "many")).max()
    print(f"largest difference of {options.rows} rows: {difference:.2g}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
