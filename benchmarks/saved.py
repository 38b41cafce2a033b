"""Size of a saved model, time to save and to load it, and memory of two processes that did.

    OMP_NUM_THREADS=1 python -m benchmarks.saved

Beside the folder stands what joblib does with the same pipeline. Two fresh processes load each
model at the same time, read all of its arrays, and tell their memory (Linux): `own` pages are those
that no other process can share, `pss` counts shared ones by halves.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

import skmars
from skmars import DINClassifier, Impressions, ItemCatalog, make_mars, make_multimodal_ctr
from skmars.persistence import Model

READER = """
import sys, time, warnings
import numpy as np, torch, joblib, skmars.persistence, skmars.pipeline, skmars.data._user_histories
import pyarrow, safetensors.torch, skmars.utils._folder
def memory():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    told = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines[1:]}
    return np.array([told["Anonymous"], told["Pss"], told["Rss"]])
way, path = sys.argv[1:]
before, wall, cpu = memory(), time.perf_counter(), time.process_time()
model = skmars.load(path) if way == "folder" else joblib.load(path)
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
features = model.histories.catalog.features.values()
sum(float(matrix.sum()) for matrix in features)
print("ready", flush=True)
sys.stdin.readline()  # both have loaded
print(*(f"{x:.3f}" for x in (wall, cpu, *(memory() - before))), flush=True)
sys.stdin.readline()  # both have told
"""


def demo() -> Model:
    """Return the default pipeline, fitted to generated data."""
    X, y = make_multimodal_ctr(random_state=0)
    return Model.of(make_mars(random_state=0, align__max_iter=2, ctr__max_iter=2).fit(X, y), X)


def large() -> Model:
    """Return a classifier over a catalogue of 100,000 items with 256 numbers each."""
    n, rng = 100_000, np.random.default_rng(0)
    catalog = ItemCatalog(range(n), features={"text": rng.random((n, 256), dtype=np.float32)})
    log = pd.DataFrame({"user_id": np.arange(n) % 5000, "item_id": rng.integers(0, n, n)})
    X, _ = Impressions.from_log(log.assign(timestamp=np.arange(n)), catalog)
    y = np.arange(n) % 2
    din = DINClassifier(max_iter=1, early_stopping=False, random_state=0)
    return Model.of(Pipeline([("ctr", din.fit(X[:500], y[:500]))]), X)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print the time that something takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    print(f"  {what}: wall {time.perf_counter() - wall:.3f} s, ", end="")
    print(f"CPU {time.process_time() - cpu:.3f} s")


def main() -> None:
    for make in (demo, large):
        model = make()
        print(f"{make.__name__}: {len(pickle.dumps(model)) / 1e6:.2f} MB as a pickle")
        with tempfile.TemporaryDirectory() as folder:
            paths = {"folder": Path(folder) / "m", "joblib": Path(folder) / "m.joblib"}
            with timed("save"):
                skmars.save(model, paths["folder"])
            for file in sorted(paths["folder"].iterdir()):
                print(f"    {file.name}: {file.stat().st_size / 1e6:.3f} MB")
            with timed("joblib.dump"):
                joblib.dump(model, paths["joblib"])
            for way, path in paths.items():
                readers = [
                    subprocess.Popen(
                        [sys.executable, "-W", "ignore", "-c", READER, way, path],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        text=True,
                    )
                    for _ in range(2)
                ]
                for _ in ("loaded", "told"):
                    told = [str(reader.stdout and reader.stdout.readline()) for reader in readers]
                    for reader in readers:
                        assert reader.stdin is not None
                        reader.stdin.write("\n")
                        reader.stdin.flush()
                for line, reader in zip(told, readers):
                    reader.wait()
                    wall, cpu, own, pss, rss = line.split()
                    print(f"  load ({way}): wall {wall} s, CPU {cpu} s; memory grew by ", end="")
                    print(f"{own} MB own, {pss} MB pss, {rss} MB rss")


if __name__ == "__main__":
    main()
