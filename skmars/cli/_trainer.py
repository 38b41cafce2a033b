"""The command `skmars trainer`: its arguments, what it prints, and how it ends."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from skmars.cli._arguments import (
    add_deployment,
    add_keep_and_lease,
    duration,
    integer,
    not_negative,
)
from skmars.cli._terminal import Interrupted, measure, signal_calls


def add_trainer(sub: argparse.ArgumentParser) -> None:
    """Add the arguments of `skmars trainer`."""
    add_deployment(sub)
    sub.add_argument(
        "--sync-every",
        metavar="TIME",
        type=duration,
        default=1200.0,
        help="how often a version is published: 20m, 1h, or a number of seconds (default: 20m)",
    )
    sub.add_argument(
        "--batch",
        metavar="N",
        type=integer(1, 100_000),
        default=512,
        help="events that are learnt together, at most (default: 512)",
    )
    group = sub.add_argument_group("the trial of a version, on the events that come next")
    group.add_argument(
        "--validate-on",
        metavar="N",
        type=integer(1, 100_000),
        default=500,
        help="how many events (default: 500)",
    )
    group.add_argument(
        "--worse-by",
        metavar="X",
        type=not_negative,
        default=0.02,
        help="publish no version whose log loss is larger than that of the current one by more "
        "than this (default: 0.02)",
    )
    add_keep_and_lease(sub, "versions", "trainer", keep=3)
    sub.add_argument(
        "--once",
        action="store_true",
        help="learn what is there, publish it and end (the last events, as many as --validate-on "
        "says, are what it is tried on, and are learnt the next time)",
    )
    sub.add_argument("--quiet", action="store_true", help="say only what is amiss")


def run(arguments: argparse.Namespace, results: TextIO) -> int:
    """Train, and return the exit code of the command."""
    from skmars.cli._worker import Terminated, run_worker
    from skmars.serving import StreamTrimmed, Trainer

    def work(store: Any) -> None:
        trainer = Trainer(
            arguments.model,
            store,
            batch=arguments.batch,
            sync_every=arguments.sync_every,
            validate_on=arguments.validate_on,
            worse_by=arguments.worse_by,
            keep=arguments.keep,
            lease=arguments.lease,
            told=_say,
        )
        ends = {signal.SIGTERM: Terminated, signal.SIGINT: Interrupted}
        try:
            with _stopping(trainer, ends) as asked:
                _watch(trainer.steps(until_idle=arguments.once), arguments)
        except StreamTrimmed as error:
            raise ValueError(str(error)) from error
        if asked:
            raise ends[asked[0]]

    return run_worker("trainer", arguments.store, work)


@contextmanager
def _stopping(trainer: Any, ends: dict[signal.Signals, type[BaseException]]) -> Iterator[list[Any]]:
    """Let signals stop the trainer when it has done its step; a second one ends it at once."""
    asked: list[signal.Signals] = []

    def stop(number: int) -> None:
        if asked:
            raise ends[signal.Signals(number)]
        asked.append(signal.Signals(number))
        trainer.stop()

    with signal_calls(signal.SIGTERM, stop), signal_calls(signal.SIGINT, stop):
        yield asked


def _watch(steps: Iterable[Any], arguments: argparse.Namespace) -> None:
    """Say what comes of the steps."""
    learnt = skipped = 0
    for step in steps:
        learnt, skipped = learnt + step.learnt, skipped + step.skipped
        if step.judgement is not None and not arguments.quiet:
            _say(_in_words(step))
    if arguments.once and not arguments.quiet:
        left_out = f", and left out {skipped:,}" if skipped else ""
        _say(
            f"learnt {learnt:,} events{left_out}; the last {arguments.validate_on:,} are for the "
            "next version to be tried on"
        )


def _in_words(step: Any) -> str:
    found = step.judgement
    what = "kept the current version" if step.version is None else f"published {step.version}"
    if not found.rows:
        return f"{what}: no row can be made of the events that came next"
    loss, current = measure(found.log_loss), measure(found.current_log_loss)
    auc, current_auc = measure(found.auc), measure(found.current_auc)
    return (
        f"{what}, learnt up to position {found.position}: log loss {loss} (before: {current}), AUC "
        f"{auc} ({current_auc}) on the next {found.rows:,} rows"
    )


def _say(line: str) -> None:
    print(f"skmars trainer: {line}", file=sys.stderr, flush=True)
