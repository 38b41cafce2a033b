"""Progress, warnings and signals on the terminal."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


@contextmanager
def progress(pipeline: Pipeline, *, quiet: bool) -> Iterator[None]:
    """Show the progress of a fit: bars on a terminal, else a line an epoch."""
    if quiet:
        yield
    elif sys.stderr.isatty() and find_spec("rich"):
        from sklearn.callback import ProgressBar

        pipeline.set_callbacks(ProgressBar())
        yield
        pipeline.set_callbacks()  # the saved model must not hold the bar
    else:
        logger, handler = logging.getLogger("skmars"), logging.StreamHandler(sys.stderr)
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)


@contextmanager
def one_line_warnings(program: str) -> Iterator[None]:
    """Show warnings as one line each, without the place in the program."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"{program}: warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


class Interrupted(BaseException):
    """Ctrl-C was pressed. (Training would catch a KeyboardInterrupt and keep its weights.)"""


def signal_raises(number: int, error: type[BaseException]) -> AbstractContextManager[None]:
    """Let a signal raise an exception."""

    def handle(_: int) -> NoReturn:
        raise error

    return signal_calls(number, handle)


@contextmanager
def signal_calls(number: int, handle: Callable[[int], Any]) -> Iterator[None]:
    """Let a signal call a function with its number."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread
        return
    previous = signal.signal(number, lambda given, _: handle(given))
    try:
        yield
    finally:
        signal.signal(number, previous)


def measure(value: float | None) -> str:
    """Return a log loss or an AUC as it is told, "none" where it can't be."""
    return "none" if value is None else f"{value:.4f}"
