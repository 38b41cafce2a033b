"""How do time and memory grow: with rows, history length, donors, and the size of the catalogue?

    python -m benchmarks.growth --output growth.json --images docs/images
    python -m benchmarks.growth --axes donors --largest donors=100000 --limit 60
    python -m benchmarks.growth --draw growth.json          # the picture alone

Each point is measured in a process of its own with a time limit; a curve ends where the limit is
reached. Seconds are those of the step alone, memory is what its process needed at most beyond what
it held before the step. The table has the exponent of each curve between its last two points:
1 is linear, and above 1.3 something grows faster than its input.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import in_process, machine, peak_mb, reset_peak, threads

Step = Callable[[], Any]


@dataclass(frozen=True)
class Axis:
    """What grows, how far, and the steps that are watched (a curve each)."""

    label: str
    sizes: list[int]
    curves: dict[str, Callable[[int], Step]]


def build_container(n_rows: int) -> Step:
    """Make impressions from a log of `n_rows` events."""
    import pandas as pd

    from benchmarks.interactions import synthetic
    from skmars import Impressions

    X, y = synthetic(n_rows, mean_length=20.0)
    columns = {"user_id": X.user, "item_id": X.target, "label": y}
    order = np.random.default_rng(0).permutation(n_rows)
    log = pd.DataFrame({**columns, "timestamp": np.arange(n_rows)}).iloc[order]
    return lambda: Impressions.from_log(log, label="label", duplicates="keep")


def fit_din(n_rows: int, *, mean_length: float = 20.0, n_items: int = 3000) -> Step:
    """Train DIN for an epoch."""
    from benchmarks.interactions import synthetic
    from skmars import DINClassifier

    X, y = synthetic(n_rows, mean_length=mean_length, n_items=n_items)
    model = DINClassifier(
        batch_size=512, max_iter=1, early_stopping=False, random_state=0, device="cpu"
    )
    return lambda: model.fit(X, y)


def predict_din(n_rows: int) -> Step:
    """Predict with DIN."""
    from benchmarks.interactions import synthetic
    from skmars import DINClassifier

    X, y = synthetic(n_rows, mean_length=20.0)
    model = DINClassifier(max_iter=1, early_stopping=False, random_state=0, device="cpu")
    model.fit(X[:5000], y[:5000])
    return lambda: model.predict_proba(X)


def fit_aligner(n_rows: int, *, mean_length: float = 20.0, n_items: int = 3000) -> Step:
    """Train the aligner for an epoch, on two modalities of 64 features."""
    from benchmarks.interactions import synthetic, with_features
    from skmars import SteinAligner

    X, y = synthetic(n_rows, mean_length=mean_length, n_items=n_items)
    X = with_features(X, {"text": 64, "image": 64})
    model = SteinAligner(64, id_dim=32, max_iter=1, random_state=0, device="cpu")
    return lambda: model.fit(X, y)


def constant_length(step: str, length: int, max_length: int) -> Step:
    """Train on one row each of 256 users who all have a history of `length` items."""
    from benchmarks.interactions import with_features
    from skmars import DINClassifier, Impressions, ItemCatalog, SteinAligner
    from skmars.data import Sequences

    n_users, n_items, rng = 256, 3000, np.random.default_rng(0)
    user = np.arange(n_users, dtype=np.int32)
    items = rng.integers(n_items, size=n_users * length).astype(np.int32)
    history = Sequences(items, user.astype(np.int64) * length, np.full(n_users, length, np.int32))
    target = rng.integers(n_items, size=n_users).astype(np.int32)
    X = Impressions(ItemCatalog(np.arange(n_items)), user, user, target, history)
    y = rng.integers(0, 2, n_users)
    options: dict[str, Any] = {"max_iter": 4, "max_length": max_length, "random_state": 0}
    if step == "din":
        din = DINClassifier(early_stopping=False, device="cpu", **options)
        return lambda: din.fit(X, y)
    X = with_features(X, {"text": 64, "image": 64})
    model = SteinAligner(64, id_dim=32, device="cpu", **options)
    return lambda: model.fit(X, y)


def augment(n_donors: int, *, neighbors: str, n_items: int = 3000, n_low: int = 2000) -> Step:
    """Fit the augmenter on `n_donors` donors (which builds its index), and let rows borrow."""
    from benchmarks.parts.retrieval import shop
    from skmars import SequenceRetrievalAugmenter

    fitted, X = shop(n_low, n_donors, n_items, 64)
    model = SequenceRetrievalAugmenter(low_quantile=0.0, high_quantile=1.0, neighbors=neighbors)
    return lambda: model.fit(fitted).transform(X)


def encode_texts(n_items: int) -> Step:
    """Encode the texts of a catalogue with the default encoder."""
    from skmars import ItemCatalog, MultimodalEncoder

    rng = np.random.default_rng(n_items)  # texts of other catalogues may be in the encoder's cache
    words = np.array([f"w{i}" for i in range(5000)])
    drawn = words[rng.integers(5000, size=(n_items, 10))]
    catalog = ItemCatalog(np.arange(n_items), content={"text": [" ".join(w) for w in drawn]})
    return lambda: MultimodalEncoder().fit(catalog)


AXES = {
    "rows": Axis(
        "rows",
        [10_000, 100_000, 1_000_000, 10_000_000],
        {
            "Impressions.from_log": build_container,
            "DINClassifier, an epoch": fit_din,
            "DINClassifier.predict_proba": predict_din,
            "SteinAligner, an epoch": fit_aligner,
        },
    ),
    "length": Axis(
        "history length (256 rows, 4 epochs)",
        [10, 30, 100, 200, 500, 1000, 2000],
        {
            "DINClassifier": lambda n: constant_length("din", n, n),
            "SteinAligner, all seen": lambda n: constant_length("aligner", n, n),
            "SteinAligner, window 200": lambda n: constant_length("aligner", n, 200),
        },
    ),
    "donors": Axis(
        "donors (20,000 rows of 2,000 users)",
        [1000, 10_000, 100_000, 1_000_000],
        {
            "exact": lambda n: augment(n, neighbors="exact"),
            "hnsw": lambda n: augment(n, neighbors="hnsw"),
        },
    ),
    "items": Axis(
        "catalogue size (20,000 rows; 10,000 donors)",
        [1000, 10_000, 100_000, 1_000_000],
        {
            "MultimodalEncoder, text": encode_texts,
            "SteinAligner, an epoch": lambda n: fit_aligner(20_000, n_items=n),
            "SequenceRetrievalAugmenter": lambda n: augment(10_000, neighbors="exact", n_items=n),
            "DINClassifier, an epoch": lambda n: fit_din(20_000, n_items=n),
        },
    ),
}


def point(axis: str, curve: str, size: int) -> dict[str, float]:
    """Measure one point, in this process."""
    step = AXES[axis].curves[curve](size)
    # Whatever is imported or compiled on first use is no part of what grows.
    AXES[axis].curves[curve](AXES[axis].sizes[0] // 2)()
    reset_peak()
    before = peak_mb()
    begin = time.perf_counter()
    step()
    return {"seconds": time.perf_counter() - begin, "peak_mb": peak_mb() - before}


def measure(
    axes: list[str], largest: dict[str, int], limit: float, n_threads: int
) -> list[dict[str, Any]]:
    """Measure all points, each in a process of its own; a curve ends where the limit is reached."""
    points = []
    for axis in axes:
        for curve in AXES[axis].curves:
            for size in AXES[axis].sizes:
                if size > largest.get(axis, size):
                    break
                where = {"axis": axis, "curve": curve, "size": size}
                command = ["--point", axis, curve, str(size), "--threads", str(n_threads)]
                try:
                    found = in_process("benchmarks.growth", *command, limit=limit)
                except RuntimeError as error:
                    print(f"{where}: {str(error).strip().splitlines()[-1]}", flush=True)
                    break
                if found is None:
                    print(f"{where}: more than {limit:g} s", flush=True)
                    points.append({**where, "seconds": None, "peak_mb": None})
                    break
                points.append({**where, **found})
                print(json.dumps(points[-1]), flush=True)
    return points


def _lines(points: list[dict[str, Any]], axis: str, value: str) -> dict[str, np.ndarray]:
    """Return (sizes, values) of each curve of an axis."""
    return {
        curve: np.array(
            [
                (p["size"], p[value])
                for p in points
                if (p["axis"], p["curve"]) == (axis, curve) and p[value] is not None
            ]
        ).reshape(-1, 2)
        for curve in AXES[axis].curves
    }


def exponents(points: list[dict[str, Any]]) -> str:
    """Return a Markdown table: last point of each curve, and its slope on doubled logarithms."""
    lines = ["| grows | step | up to | seconds | MB | exponent of time |", "|" + "---|" * 6]
    for axis, of_axis in AXES.items():
        memory = _lines(points, axis, "peak_mb")
        for curve, xy in _lines(points, axis, "seconds").items():
            if len(xy) < 2:
                continue
            slope = np.diff(np.log(xy[-2:, 1]))[0] / np.diff(np.log(xy[-2:, 0]))[0]
            last = f"{xy[-1, 0]:,.0f} | {xy[-1, 1]:.2f} | {memory[curve][-1, 1]:,.0f}"
            lines.append(f"| {of_axis.label} | {curve} | {last} | {slope:.2f} |")
    return "\n".join(lines)


def draw(points: list[dict[str, Any]], file: Path) -> None:
    """Draw time (left) and memory (right) of each axis; legible on a phone, light or dark."""
    import matplotlib.pyplot as plt

    from skmars.plotting._figure import COLORS

    grey = "#808080"  # a contrast of 4 to white and 5 to black
    style: dict[Any, Any] = {
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), grey),
        **dict.fromkeys(("xtick.color", "ytick.color"), grey),
        "svg.fonttype": "none",
    }
    axes = [axis for axis in AXES if any(p["axis"] == axis for p in points)]
    with plt.rc_context(style):
        # As wide as a page of a phone is, nearly, and long.
        figure = plt.figure(figsize=(5.2, 3.1 * len(axes)), layout="constrained")
        parts = np.ravel(figure.subfigures(len(axes), hspace=0.02))
        for part, axis in zip(parts, axes):
            pair = part.subplots(1, 2)
            for ax, value in zip(pair, ("seconds", "peak_mb")):
                for color, marker, (curve, xy) in zip(
                    COLORS, "os^D", _lines(points, axis, value).items()
                ):
                    shown = xy[xy[:, 1] > 0]
                    ax.plot(shown[:, 0], shown[:, 1], color=color, marker=marker, label=curve)
                ax.set(xscale="log", yscale="log")
                ax.grid(color=grey, alpha=0.25)
                _linear_reference(ax, grey)
            pair[0].set_title("seconds", fontsize="medium")
            pair[1].set_title("memory of the step, MB", fontsize="medium")
            part.supxlabel(AXES[axis].label, fontsize="medium")
            part.legend(
                *pair[0].get_legend_handles_labels(),
                loc="outside upper left",
                ncols=2,
                frameon=False,
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, transparent=True)
        plt.close(figure)


def _linear_reference(ax: Any, color: str) -> None:
    """Draw what grows in proportion, as a dotted line from the lower left corner."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    right = min(right, left * top / bottom)
    ax.plot([left, right], [bottom, bottom * right / left], ":", color=color, zorder=0)
    ax.set_ylim(bottom, top)


def main(command: list[str] | None = None) -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--largest", nargs="*", default=[], help="axis=size: go no further")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds a point may take")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("growth.json"))
    parser.add_argument("--images", type=Path, default=Path("docs/images"), help="folder")
    parser.add_argument("--draw", type=Path, help="draw what was measured before")
    parser.add_argument("--point", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args(command)
    if arguments.point:
        axis, curve, size = arguments.point
        with threads(arguments.threads):
            print(json.dumps(point(axis, curve, int(size))))
        return
    if arguments.draw:
        points = json.loads(arguments.draw.read_text(encoding="utf-8"))["points"]
    else:
        with threads(arguments.threads):
            where = machine()
            pairs = (item.split("=") for item in arguments.largest)
            largest = {axis: int(size) for axis, size in pairs}
            points = measure(arguments.axes, largest, arguments.limit, arguments.threads)
        report = {"machine": where, "points": points}
        arguments.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    draw(points, arguments.images / "growth.svg")
    print(exponents(points))


if __name__ == "__main__":
    main()
