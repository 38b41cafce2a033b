"""What does one request cost: a user and their candidates, through a fitted pipeline?

    python -m benchmarks.serving.request --donors 10000 100000 --cache /tmp/worlds
    python -m benchmarks.serving.request --donors 100000 --cache /tmp/worlds --profile

A request is a user with 22 events and 100 candidates. Printed are CPU milliseconds of
`predict_proba` a request, one thread, warm: the median over `--repeats` other requests, and the
quartiles. Kinds of requests:

known        impressions of the pipeline's own catalogue, as `UserHistories` makes them
equal        the same of an equal catalogue that was read anew
other        of a catalogue that knows nothing but ids, in another order
unknown      one candidate is an item that nobody knows
frame        a pandas table with one row a candidate
make         not `predict_proba`, but what comes before it: `UserHistories.impressions`

--first measures once what comes before a warm request: reading the pickle of the pipeline and the
first request after it, and the same for the histories.
"""

from __future__ import annotations

import argparse
import cProfile
import pickle
import pstats
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline

from benchmarks.serving.world import World, searched_exactly, world
from skmars import ItemCatalog

KINDS = ("make", "known", "equal", "other", "unknown", "frame")
N_WARM = 3


def inputs(made: World, kind: str, n_users: int, n: int) -> list[Any]:
    """Return `n` requests of a kind, each of other users and candidates."""
    histories = made.histories
    if kind == "equal":
        histories = replace(histories, catalog=pickle.loads(pickle.dumps(made.catalog)))
    if kind == "other":
        histories = histories.with_catalog(ItemCatalog(made.catalog.ids[::-1]))
    found = []
    for seed in range(n):
        ids = made.request(n_users, unknown=kind == "unknown", seed=seed)
        X = ids if kind == "make" else histories.impressions(*ids)
        found.append(X.to_frame("pandas") if kind == "frame" else X)
    return found


def milliseconds(call: Callable[[Any], Any], of: list[Any]) -> list[float]:
    """Return the CPU milliseconds of a call for each input, after warming up on the first ones."""
    for X in of[:N_WARM]:
        call(X)
    took = []
    for X in of:
        began = time.process_time()
        call(X)
        took.append(1e3 * (time.process_time() - began))
    return took


def first(made: World, mars: Pipeline) -> dict[str, float]:
    """Return the CPU milliseconds of reading pickles, and of the first use after that."""
    took = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = call()
        took[name] = 1e3 * (time.process_time() - began)
        return result

    ids = made.request()
    for name, obj in (("histories", made.histories), ("pipeline", mars)):
        pickled = pickle.dumps(obj)
        read = timed(f"read {name}", partial(pickle.loads, pickled))
        if name == "histories":
            X = timed("first make", partial(read.impressions, *ids))
        else:
            timed("first request", partial(read.predict_proba, X))
    return took


def steps(pipeline: Pipeline, of: list[Any]) -> dict[str, float]:
    """Return the median CPU milliseconds of each step."""
    found = {}
    for name, step in pipeline.steps:
        last = not hasattr(step, "transform")
        call = step.predict_proba if last else step.transform
        found[name] = float(np.median(milliseconds(call, of)))
        of = of if last else [step.transform(X) for X in of]
    return found


def profile(call: Callable[[Any], Any], of: list[Any], n_lines: int = 30) -> None:
    """Print the functions that take most time."""
    call(of[0])
    profiler = cProfile.Profile()
    profiler.enable()
    for X in of:
        call(X)
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(n_lines)


def main(arguments: list[str] | None = None) -> dict[tuple[int, str, int, str], float]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--donors", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--search", nargs="+", default=["exact", "hnsw"])
    parser.add_argument("--users", type=int, nargs="+", default=[1, 16], help="requests a batch")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--cache", help="folder to keep worlds in")
    parser.add_argument("--first", action="store_true", help="reading and the first request, too")
    parser.add_argument("--profile", action="store_true", help="print steps and functions, too")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found: dict[tuple[int, str, int, str], float] = {}
    for n_donors in options.donors:
        neighbors = "hnsw" if "hnsw" in options.search else "exact"
        made = world(n_donors, options.items, options.dim, neighbors=neighbors, cache=options.cache)
        for search in options.search:
            mars = made.pipeline if search == "hnsw" else searched_exactly(made.pipeline)
            if options.first:
                line = [f"{name} {ms:.0f}" for name, ms in first(made, mars).items()]
                print(f"{n_donors} donors, {search}: {', '.join(line)}", flush=True)
            for n_users in options.users:
                line = []
                for kind in options.kinds:
                    of = inputs(made, kind, n_users, options.repeats)
                    call: Callable[[Any], Any] = mars.predict_proba
                    if kind == "make":
                        call = lambda ids, made=made: made.histories.impressions(*ids)  # noqa: E731
                    took = np.array(milliseconds(call, of)) / n_users
                    low, middle, high = np.quantile(took, [0.25, 0.5, 0.75])
                    found[n_donors, search, n_users, kind] = float(middle)
                    line.append(f"{kind} {middle:.2f} ({low:.2f}-{high:.2f})")
                    if options.profile and kind != "make":
                        each = steps(mars, of).items()
                        print(f"{kind}:", ", ".join(f"{k} {ms / n_users:.2f}" for k, ms in each))
                        profile(call, of)
                print(f"{n_donors} donors, {search}, {n_users}: {', '.join(line)}", flush=True)
    return found


if __name__ == "__main__":
    main()
