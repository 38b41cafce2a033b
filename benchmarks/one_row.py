"""What does one row cost, whichever object its catalogue is, and how many items it has?

    python -m benchmarks.one_row --items 1000 100000

A pipeline is fitted, and then predicts one row again and again. The row comes with

fit          the catalogue of fit
equal        an equal catalogue that was built anew
unpickled    the catalogue of fit, pickled and read again
unknown      the catalogue of fit, extended by an item that nobody knows, which the row shows
frame        no catalogue: a pandas frame of one row
new frame    the same, showing an item that nobody knows

Printed are medians of milliseconds over `--repeats` rounds, in each of which every kind of row is
predicted once, and their ratio to `fit` with the smallest catalogue.
"""

from __future__ import annotations

import argparse
import pickle
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from skmars import (
    Impressions,
    ItemCatalog,
    make_mars,
)

UNKNOWN = 10**9
WORDS = ["red", "blue", "wooden", "tin", "small", "big", "train", "car", "doll", "bear", "puzzle"]


def shop(n_items: int, n_users: int = 400, seed: int = 0) -> tuple[Impressions, np.ndarray]:
    """Draw a log of few rows over a catalogue of many items with texts."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(words) for words in rng.choice(WORDS, size=(n_items, 5))]
    catalog = ItemCatalog(np.arange(n_items), content={"text": texts})
    user = np.repeat(np.arange(n_users), 12)
    log = pd.DataFrame(
        {
            "user_id": user,
            # Most events are of few items, so that there is something to learn of them.
            "item_id": np.minimum(rng.zipf(1.5, len(user)), n_items) - 1,
            "timestamp": rng.permutation(len(user)),
            "clicked": rng.integers(0, 2, len(user)),
        }
    )
    X, y = Impressions.from_log(log, catalog, label="clicked", duplicates="keep")
    return X, y


def rows(X: Impressions) -> dict[str, Any]:
    """Return one row in each form."""
    row = X[[int(np.argmax(X.history.length))]]
    frame = row.to_frame("pandas")
    again = ItemCatalog(X.catalog.ids.copy(), content={"text": list(X.catalog.content["text"])})
    new = frame.assign(item_id=[UNKNOWN])
    return {
        "fit": row,
        "equal": Impressions.from_frame(frame, again),
        "unpickled": pickle.loads(pickle.dumps(row)),
        "unknown": Impressions.from_frame(new, X.catalog),
        "frame": frame,
        "new frame": new,
    }


def measure(call: Callable[[Any], Any], of: dict[str, Any], repeats: int) -> dict[str, float]:
    """Return the median milliseconds of a call for each row, after warming up."""
    took: dict[str, list[float]] = {name: [] for name in of}
    for round_ in range(repeats + 3):
        for name, row in of.items():
            begin = time.perf_counter()
            call(row)
            if round_ >= 3:
                took[name].append(1e3 * (time.perf_counter() - begin))
    return {name: median(times) for name, times in took.items()}


def main(arguments: list[str] | None = None) -> dict[int, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--items", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--steps", action="store_true", help="measure each step, too")
    options = parser.parse_args(arguments)
    found: dict[int, dict[str, float]] = {}
    for n_items in options.items:
        X, y = shop(n_items)
        small = {"align__n_components": 32, "align__id_dim": 16, "align__max_iter": 1}
        model = make_mars(random_state=0, **small, ctr__max_iter=1).fit(X, y)
        found[n_items] = measure(model.predict_proba, rows(X), options.repeats)
        base = found[options.items[0]]["fit"]
        line = [f"{k} {ms:.1f} ms ({ms / base:.2f})" for k, ms in found[n_items].items()]
        print(f"{n_items} items: " + ", ".join(line), flush=True)
        if options.steps:
            of = rows(X)
            for name, step in model.steps:
                call = step.predict_proba if name == "ctr" else step.transform
                line = [f"{k} {ms:.1f}" for k, ms in measure(call, of, options.repeats).items()]
                print(f"  {name}: " + ", ".join(line), flush=True)
                of = of if name == "ctr" else {k: step.transform(row) for k, row in of.items()}
    return found


if __name__ == "__main__":
    main()
