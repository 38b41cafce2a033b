"""What the commands have in common that work for a store, one process at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from skmars.serving import LeaseHeld, StaleLease, open_store

# As sysexits.h has it: another one works, try again later. And as shells have it: SIGTERM.
BUSY, TERMINATED = 75, 128 + 15


class Terminated(BaseException):
    """The process was asked to end; the lease is given back."""


def run_worker(name: str, url: str, work: Callable[[Any], Any]) -> int:
    """Let a command work with a store, and return its exit code.

    Parameters
    ----------
    name : str
        Of the command, for messages.
    url : str
        Of the store, which is closed at the end.
    work : callable
        Called with the store.

    Returns
    -------
    int
        0, 75 if another process works for the store, or 143 if this one was asked to end.
    """
    store = open_store(url)
    try:
        work(store)
        return 0
    except (LeaseHeld, StaleLease) as error:
        print(f"skmars {name}: {' '.join(str(error).split())}", file=sys.stderr)
        return BUSY
    except Terminated:
        return TERMINATED
    finally:
        store.close()
