"""How much time and memory does the default pipeline take, by the number of users and events?

    OMP_NUM_THREADS=1 python -m benchmarks.how_long

Generated data (`make_multimodal_ctr`), every parameter at its default, one thread, each size in a
process of its own. Seconds are those of the processor, which other programs hardly change. Memory
is the largest resident memory of the process; "at start" is what it has before the first step.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from benchmarks.measure import in_process, machine, peak_mb, threads

USERS = (100, 400, 1000, 2500)
STEPS = ("encode", "align", "augment", "ctr")


def measure(n_users: int) -> dict[str, Any]:
    """Fit the default pipeline step by step; return CPU seconds, events and memory."""
    import torch  # noqa: F401
    from sklearn.base import clone

    from skmars import make_mars, make_multimodal_ctr

    X, y = make_multimodal_ctr(n_users, n_users // 2, random_state=0)
    mars = make_mars(random_state=0)
    found: dict[str, Any] = {"users": n_users, "events": len(X), "start": peak_mb()}
    rows = [X]
    for name in STEPS:
        begin = time.process_time()
        if name == "ctr":
            mars[name].fit(rows[-1], y)
        else:
            rows.append(mars[name].fit_transform(rows[-1], y))
        found[name] = time.process_time() - begin
    begin = time.process_time()
    mars.predict_proba(X[:1000])
    found |= {"predict": time.process_time() - begin, "peak": peak_mb()}
    begin = time.process_time()
    clone(mars["align"]).set_params(max_iter=1).fit_transform(rows[1], y)
    return {**found, "one epoch": time.process_time() - begin}


def line(found: dict[str, Any]) -> str:
    """Return one row of the table."""
    fit = sum(found[name] for name in STEPS)
    cells = [f"{found['users']:,}", f"{found['events']:,}"]
    seconds = (fit, found["align"], fit - found["align"] + found["one epoch"], found["predict"])
    cells += [f"{value:.1f}" for value in seconds[:3]] + [f"{seconds[3]:.2f}"]
    cells += [f"{found[name]:,.0f}" for name in ("peak", "start")]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--users", type=int, nargs="+", default=USERS)
    parser.add_argument("--here", type=int, help="measure this size in this process, as JSON")
    arguments = parser.parse_args()
    with threads(1):
        if arguments.here is not None:
            print(json.dumps(measure(arguments.here)))
            return
        names = ["users", "events", "fit", "of it, align", "fit with align__max_iter=1"]
        names += ["predict 1,000 rows", "peak, MB", "at start, MB"]
        print("| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|")
        for n_users in arguments.users:
            found = in_process("benchmarks.how_long", "--here", str(n_users))
            print(line(found or {}), flush=True)
        print(json.dumps(machine(), indent=2))


if __name__ == "__main__":
    main()
