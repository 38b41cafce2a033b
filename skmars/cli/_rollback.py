"""The command `skmars rollback`: its arguments, and what it prints."""

from __future__ import annotations

import argparse
import sys
from typing import Any, TextIO

from skmars.cli._arguments import add_deployment


def add_rollback(sub: argparse.ArgumentParser) -> None:
    """Add the arguments of `skmars rollback`."""
    sub.add_argument(
        "version",
        metavar="VERSION",
        help="as answers tell it: params/2, pools/3, fits/1, fits/1/params/2; . is the model that "
        "was saved first, params/0 the parameters of the fit, pools/0 its pool",
    )
    add_deployment(sub)
    sub.add_argument("--quiet", action="store_true", help="say nothing")


def run(arguments: argparse.Namespace, results: TextIO) -> int:
    """Go back, and return the exit code of the command."""
    from skmars.cli._worker import run_worker
    from skmars.serving import rollback

    def work(store: Any) -> None:
        now = rollback(arguments.model, store, arguments.version)
        if not arguments.quiet:
            print(f"skmars rollback: current now: {now}", file=sys.stderr, flush=True)

    return run_worker("rollback", arguments.store, work)
