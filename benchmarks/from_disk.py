"""What does training cost where the rows are on disk, against the same rows in memory?

    python -m benchmarks.from_disk --rows 1000000 --repeats 3
    python -m benchmarks.from_disk --rows 100000000 --where disk --share 0.02 --folder /data/x
    python -m benchmarks.from_disk --rows 1000000 --model aligner

Writes a log of random clicks as Parquet, some rows at a time, and reads it and trains for an epoch
(or a share of its steps), each time in a process of its own. Seconds and processor seconds are of
that step alone; memory is the largest resident set of the process during it, private and shared
(VmHWM), with what Python and its libraries take.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measure import in_process, peak_mb, reset_peak, threads

CHUNK = 1 << 20
COLUMNS = {"label": "clicked", "duplicates": "keep"}


class EnoughStepsError(Exception):
    """Ends an epoch early."""


def write_log(path: Path, n_rows: int, n_users: int, n_items: int) -> None:
    """Write a log in the order of its times, whose users like items of their own kind better."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, writer = np.random.default_rng(0), None
    for begin in range(0, n_rows, CHUNK):
        n = min(CHUNK, n_rows - begin)
        user = rng.integers(n_users, size=n)
        item = (n_items * rng.random(n) ** 3).astype(np.int64)  # some are far more popular
        likes = np.where(user % 10 == item % 10, 0.8, 0.3)
        table = pa.table(
            {
                "user_id": user,
                "item_id": item,
                "timestamp": np.arange(begin, begin + n, dtype=np.float64),
                "clicked": (rng.random(n) < likes).astype(np.int8),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def run(where: str, path: Path, folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Read the log and train; return seconds, processor seconds and memory of both."""
    import pandas as pd
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from skmars import DINClassifier, Impressions, ItemCatalog, SteinAligner

    measured: dict[str, Any] = {"start": {"peak_mb": peak_mb()}}
    catalog = None
    if options["model"] == "aligner":
        vectors = np.random.default_rng(1).normal(size=(options["items"], 32))
        catalog = ItemCatalog(
            np.arange(options["items"]), features={"text": vectors, "image": vectors[:, ::-1]}
        )

    def step(name: str, call: Any) -> Any:
        reset_peak()
        begin, cpu = time.perf_counter(), time.process_time()
        result = call()
        measured[name] = {
            "seconds": time.perf_counter() - begin,
            "cpu_seconds": time.process_time() - cpu,
            "peak_mb": peak_mb(),
        }
        return result

    if where == "disk":
        X, y = step(
            "read", lambda: Impressions.from_parquet(path, catalog, folder=folder, **COLUMNS)
        )
    else:
        X, y = step("read", lambda: Impressions.from_log(pd.read_parquet(path), catalog, **COLUMNS))
    n_steps, most = 0, options["share"] * len(X) / options["batch_size"]

    def count(*_: Any) -> None:
        nonlocal n_steps
        n_steps += 1
        if options["share"] < 1 and n_steps >= most:
            raise EnoughStepsError

    hook = register_optimizer_step_post_hook(count)
    model: Any = DINClassifier(
        batch_size=options["batch_size"],
        max_length=options["max_length"],
        max_iter=1,
        random_state=0,
    )
    if options["model"] == "aligner":
        model = SteinAligner(
            32,
            id_dim=16,
            n_factors=0,
            batch_size=options["batch_size"],
            max_length=options["max_length"],
            max_iter=1,
            random_state=0,
        )

    def fit() -> None:
        try:
            model.fit(X, y)
        except EnoughStepsError:
            measured["steps"] = n_steps

    step("fit", fit)
    hook.remove()
    if options["share"] >= 1:
        measured["loss"] = model.loss_curve_[0]
    return measured


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, help="default: a fiftieth of the rows")
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--model", choices=["din", "aligner"], default="din")
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--max-length", type=int, default=10)
    parser.add_argument("--share", type=float, default=1.0, help="of the steps of an epoch")
    parser.add_argument("--where", nargs="+", default=["memory", "disk"])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("from_disk"))
    parser.add_argument("--keep", action="store_true", help="keep the log, or take the one there")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args(arguments)
    path, arrays = options.folder / f"log-{options.rows}.parquet", options.folder / "arrays"
    if options.only:
        with threads(options.threads):
            found = run(options.only, path, arrays, vars(options))
        print(json.dumps(found))
        return [found]
    options.folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        part = path.with_suffix(".part")
        write_log(part, options.rows, options.users or max(options.rows // 50, 2), options.items)
        part.rename(path)
    names = ("rows", "items", "model", "batch_size", "max_length", "share", "threads", "folder")
    given = [f"--{name.replace('_', '-')}={getattr(options, name)}" for name in names]
    results = []
    for _ in range(options.repeats):
        for where in options.where:
            shutil.rmtree(arrays, ignore_errors=True)
            found = in_process("benchmarks.from_disk", *given, f"--only={where}")
            assert found is not None
            results.append({"where": where, **found})
            print(json.dumps(results[-1]), flush=True)
    print("\n| | step | seconds | CPU seconds | peak MB |\n|---|---|---|---|---|")
    for where in options.where:
        for name in ("read", "fit"):
            of_step = [r[name] for r in results if r["where"] == where]
            figures = [median(r[k] for r in of_step) for k in ("seconds", "cpu_seconds", "peak_mb")]
            cells = " | ".join(f"{value:,.1f}" for value in figures)
            print(f"| {where} | {name} | {cells} |")
    shutil.rmtree(arrays, ignore_errors=True)
    if not options.keep:
        path.unlink()
        if not os.listdir(options.folder):
            options.folder.rmdir()
    return results


if __name__ == "__main__":
    main()
