"""The command `skmars runner`: what it prints, and how it ends."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from typing import Any

from skmars.cli._log_files import LogFiles
from skmars.cli._terminal import signal_raises
from skmars.cli._worker import Terminated, run_worker
from skmars.serving import Runner
from skmars.serving.runner._runner import Pass


def run(arguments: argparse.Namespace) -> int:
    """Run the runner, and return the exit code of the command."""

    def work(store: Any) -> None:
        with signal_raises(signal.SIGTERM, Terminated), _progress(arguments.quiet) as told:
            log = None if arguments.log is None else LogFiles(arguments.log)
            options = {"keep": arguments.keep, "lease": arguments.lease, "told": told}
            runner = Runner(arguments.model, store, log, **options)
            failed = ""
            with closing(runner.passes(arguments.every)) as passes:
                for done in passes:
                    if done.failed and done.failed != failed:  # told once, also with --quiet
                        _say(f"{done.failed} (It is tried again.)", arguments.every)
                    failed = done.failed
                    if not arguments.quiet:
                        _say(_in_words(done), arguments.every)

    return run_worker("runner", arguments.store, work)


def _in_words(done: Pass) -> str:
    loaded, parts = done.loaded, []
    if loaded.rows:
        line = f"loaded {loaded.rows:,} rows of {loaded.files} files"
        if known := loaded.rows - loaded.kept:
            line += f", of which {known:,} were known already and are left out"
        if loaded.repeated:
            line += f"; {loaded.repeated:,} repeat a row of their file, and count"
        parts.append(line)
    if done.pool is not None:
        parts.append(f"published {done.pool}: {done.n_donors:,} donors of {done.n_users:,} users")
    return "; ".join(parts)


def _say(line: str, every: float | None) -> None:
    if line or every is None:
        print(f"skmars runner: {line or 'nothing is new'}", file=sys.stderr, flush=True)


@contextmanager
def _progress(quiet: bool) -> Iterator[Any]:
    """Give a function that shows how many rows of a file are loaded: a bar, or else a line."""
    if quiet:
        yield None
    elif sys.stderr.isatty() and find_spec("rich"):
        from rich.console import Console
        from rich.progress import Progress

        tasks: dict[str, Any] = {}
        with Progress(console=Console(stderr=True), transient=True) as bar:

            def show(name: str, done: int, of: int) -> None:
                if name not in tasks:
                    tasks[name] = bar.add_task(name, total=of)
                bar.update(tasks[name], completed=done, total=of)
                if done >= of:
                    bar.remove_task(tasks.pop(name))

            yield show
    else:
        yield lambda name, done, of: print(
            f"skmars runner: {done:,} of {of:,} rows of {name}", file=sys.stderr, flush=True
        )
