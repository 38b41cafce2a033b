"""Draws inputs with hypothesis, gives each its time, and counts what becomes of them."""

from __future__ import annotations

import argparse
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis.strategies import SearchStrategy


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Raise AssertionError if this takes longer."""

    def late(*_: Any) -> None:
        raise AssertionError(f"no answer within {seconds} seconds")

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def fuzz(
    check: Callable[[Any], str],
    inputs: SearchStrategy[Any],
    description: str | None,
    seconds: int = 20,
) -> None:
    """Run a check as a program: `--n` inputs, counts by outcome, the smallest input that fails.

    Parameters
    ----------
    check : callable
        Takes an input, and returns what became of it in a few words; AssertionError if that is
        wrong.
    inputs : SearchStrategy
    description : str
        For ``--help``.
    seconds : int, default=20
        For one input.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=10_000, help="inputs (default: 10000)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    outcomes: Counter[str] = Counter()

    @seed(arguments.seed)
    @settings(
        max_examples=arguments.n,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def run(drawn: Any) -> None:
        with within(seconds):
            outcomes[check(drawn)] += 1

    try:
        run()
    finally:
        for outcome, count in outcomes.most_common():
            print(f"{count:7d}  {outcome}")
