"""The command `skmars replay`: score logged requests again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TextIO

from skmars.cli._arguments import add_deployment, number

TOLERANCE = 1e-6


def add_replay(sub: argparse.ArgumentParser) -> None:
    """Add the arguments of `skmars replay`."""
    add_deployment(sub)
    sub.add_argument(
        "log",
        metavar="LOG",
        type=Path,
        help="scored requests that `skmars serve --log-scores` wrote: JSON lines, or .parquet",
    )
    sub.add_argument(
        "--tolerance",
        metavar="X",
        type=tolerance,
        default=TOLERANCE,
        help=f"how far a probability may be from the logged one (default: {TOLERANCE:g})",
    )


def tolerance(text: str) -> float:
    if (value := number(text)) >= 0:
        return value
    raise argparse.ArgumentTypeError(f"write a number from 0 on, got {text!r}")


def run(arguments: argparse.Namespace, results: TextIO) -> None:
    """Print how far scores are from the logged ones; ValueError if one is too far."""
    from skmars.serving import open_store, replay

    store = open_store(arguments.store)
    try:
        found = replay(arguments.model, store, arguments.log)
    finally:
        store.close()
    print(found, file=results, flush=True)
    if found.n_scores == 0:
        raise ValueError(f"{arguments.log} has no request that could be scored again.")
    if not found.max_difference <= arguments.tolerance:
        raise ValueError(
            f"a score differs by {found.max_difference:.3g}, more than --tolerance "
            f"{arguments.tolerance:g}: the model, the pool or the events are not those that it was "
            "made with."
        )
