"""What does a catalogue of 10^7 items cost: once a fit, and in every call after it?

    python -m benchmarks.large_catalog --sizes 10000 1000000 10000000
    python -m benchmarks.large_catalog --parts din request --sizes 1000000

The items have ids and, where a step reads them, 16 features that lie in a memory-mapped file. The
20,000 rows are of 1000 users, who touch some 20,000 of the items. Each part is measured in a
process of its own. A step is taken twice: "first" is what a new catalogue costs, "again" what every
further call does. Seconds are those of the processor (on one thread, those of a quiet machine).
Memory is what the process needed at most beyond what it held before the step;
"traced" is what NumPy and Python allocated in a third call, at most at a time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import in_process, peak_mb, reset_peak, threads

N_ROWS, N_FEATURES = 20_000, 16
Call = Callable[[], Any]


def features(n_items: int, folder: Path) -> np.ndarray:
    """Return a memory-mapped matrix of random features."""
    path, rng = folder / "features.npy", np.random.default_rng(0)
    matrix = np.lib.format.open_memmap(path, "w+", np.float32, (n_items, N_FEATURES))
    for at in range(0, n_items, 1 << 16):
        matrix[at : at + (1 << 16)] = rng.random(matrix[at : at + (1 << 16)].shape, np.float32)
    matrix.flush()
    return np.load(path, mmap_mode="r")


def rows(n_items: int, seed: int = 0) -> Any:
    """Return impressions and clicks, of items that are drawn uniformly."""
    from benchmarks.interactions import from_events

    rng = np.random.default_rng(seed)
    length = np.full(N_ROWS // 20, 20)
    return from_events(rng.integers(n_items, size=N_ROWS), length, n_items, rng)


def catalog(n_items: int, folder: Path) -> Iterator[tuple[str, Call]]:
    """Make a catalogue; fit an encoder that takes its vectors as they are, save and load it."""
    import skmars
    from skmars import ItemCatalog, MultimodalEncoder

    ids, matrix, made = np.arange(n_items) * 7 + 1, features(n_items, folder), {}

    def make() -> None:
        made["catalog"] = ItemCatalog(ids, features={"text": matrix})

    yield "ItemCatalog", make
    yield "fingerprint", lambda: made["catalog"].fingerprint
    encoder = MultimodalEncoder(encoders={"text": "precomputed"})
    yield "MultimodalEncoder.fit", lambda: encoder.fit(made["catalog"])
    yield "MultimodalEncoder.transform", lambda: encoder.transform(made["catalog"])
    yield "codes of 1000 ids", lambda: made["catalog"].codes(ids[:1000])
    yield "save", lambda: skmars.save(encoder, folder / "saved")
    yield "load", lambda: skmars.load(folder / "saved")


def din(n_items: int, folder: Path) -> Iterator[tuple[str, Call]]:
    """Train DIN for an epoch, predict, and train on further rows."""
    from skmars import DINClassifier

    X, y = rows(n_items)
    model = DINClassifier(
        batch_size=512, max_iter=1, early_stopping=False, random_state=0, device="cpu"
    )
    yield "DINClassifier, an epoch", lambda: model.fit(X, y)
    yield "predict_proba, 4096 rows", lambda: model.predict_proba(X[:4096])
    yield "predict_proba, a row", lambda: model.predict_proba(X[:1])
    yield "partial_fit, 512 rows", lambda: model.partial_fit(X[:512], y[:512])
    yield "predict_proba after it", lambda: model.predict_proba(X[:1])


def seen(n_items: int, folder: Path) -> Iterator[tuple[str, Call]]:
    """Do as `din`, with a classifier that has an embedding of every item of the catalogue."""
    from skmars import DINClassifier
    from skmars.ctr._embeddings import add_items

    X, y = rows(n_items)
    model = DINClassifier(batch_size=512, random_state=0, device="cpu")
    model.partial_fit(X[:512], y[:512])
    # As if it had been trained on all items, which would take as many rows.
    every, known = X.catalog.ids, model._encoder
    new = every[known.items(every, "all items") < 0]
    count = np.append(known.item_count, np.ones(len(new), dtype=np.int64))
    add_items(model._network, len(new))
    model._encoder = known.with_items(known.items.extended(new), count, known.feedback_count)
    yield "partial_fit, 512 rows", lambda: model.partial_fit(X[:512], y[:512])
    yield "predict_proba, 4096 rows", lambda: model.predict_proba(X[:4096])
    yield "predict_proba, a row", lambda: model.predict_proba(X[:1])


def aligner(n_items: int, folder: Path) -> Iterator[tuple[str, Call]]:
    """Train the aligner for an epoch, and transform."""
    from skmars import SteinAligner

    X, y = rows(n_items)
    X = X.with_catalog(X.catalog.with_features({"text": features(n_items, folder)}))
    model = SteinAligner(16, id_dim=8, max_iter=1, n_factors=8, random_state=0, device="cpu")
    yield "SteinAligner, an epoch", lambda: model.fit(X, y)
    yield "transform", lambda: model.transform(X)
    yield "transform, a row", lambda: model.transform(X[:1]).user_embedding
    yield "partial_fit, 512 rows", lambda: model.partial_fit(X[:512], y[:512])


def augmenter(n_items: int, folder: Path) -> Iterator[tuple[str, Call]]:
    """Fit the augmenter, and let rows borrow."""
    from skmars import SequenceRetrievalAugmenter

    X, _ = rows(n_items)
    X = X.with_catalog(X.catalog.with_features({"text": features(n_items, folder)}))
    model = SequenceRetrievalAugmenter()
    yield "SequenceRetrievalAugmenter.fit", lambda: model.fit(X)
    yield "transform, 4096 rows", lambda: model.transform(X[:4096])
    yield "transform, a row", lambda: model.transform(X[:1])


def request(n_items: int, folder: Path) -> Iterator[tuple[str, Call]]:
    """Send rows through a fitted pipeline: encoder, augmenter, and DIN."""
    from skmars import make_mars
    from skmars.pipeline import recommend

    X, y = rows(n_items)
    X = X.with_catalog(X.catalog.with_features({"text": features(n_items, folder)}))
    model = make_mars(
        encode__encoders={"text": "precomputed"},
        align="passthrough",
        ctr__max_iter=1,
        ctr__random_state=0,
        ctr__device="cpu",
    )
    yield "pipeline, an epoch", lambda: model.fit(X, y)
    yield "predict_proba, a row", lambda: model.predict_proba(X[:1])
    new = X.with_catalog(X.catalog.extend([-1]))[:1]
    yield "a row, one new item", lambda: model.predict_proba(new)
    yield "recommend, 100 items", lambda: recommend(model, X[:1], candidates=np.arange(100))


PARTS = {f.__name__: f for f in (catalog, din, seen, aligner, augmenter, request)}


def measure(part: str, n_items: int) -> dict[str, Any]:
    """Measure the steps of a part, in this process."""
    for _ in PARTS[part](1000, Path(tempfile.mkdtemp())):
        pass
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, call in PARTS[part](n_items, Path(folder)):
            numbers = []
            for _ in range(2):
                reset_peak()
                before, begin = peak_mb(), time.process_time()
                call()
                numbers += [time.process_time() - begin, peak_mb() - before]
            tracemalloc.start()
            call()
            traced = tracemalloc.get_traced_memory()[1] / 2**20
            tracemalloc.stop()
            found[name] = [*numbers, traced]
            print(part, n_items, name, *(f"{x:.4f}" for x in found[name]), flush=True)
    return found


def main(command: list[str] | None = None) -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args(command)
    with threads(arguments.threads):
        if arguments.point:
            print(json.dumps(measure(arguments.point[0], int(arguments.point[1]))))
            return
        print("| part | step | items | first, s | MB | again, s | MB | traced, MB |")
        print("|" + "---|" * 8)
        for part in arguments.parts:
            for n in arguments.sizes:
                command = ["--point", part, str(n), "--threads", str(arguments.threads)]
                found = in_process("benchmarks.large_catalog", *command)
                for name, (first, mb, again, mb_again, traced) in (found or {}).items():
                    cells = f"{first:.3f} | {mb:,.0f} | {again:.4f} | {mb_again:,.0f}"
                    print(f"| {part} | {name} | {n:,} | {cells} | {traced:,.1f} |", flush=True)


if __name__ == "__main__":
    main()
