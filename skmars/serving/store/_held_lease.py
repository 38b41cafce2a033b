"""Hold a lease for as long as some work takes."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from uuid import uuid4

from skmars.serving.store._store import Lease, LeaseHeld, StaleLease, Store


class HeldLease:
    """A lease that a thread renews until the end of a `with` statement.

    It may be entered again after it was lost, and is the same holder's for the store then: what is
    left of it there is no other's.

    Parameters
    ----------
    store : Store
    name : str
    seconds : float
        How long it lasts if the process is killed. It is renewed three times in that time.

    Raises
    ------
    LeaseHeld
        On entry, if somebody else holds it.
    """

    def __init__(self, store: Store, name: str, seconds: float) -> None:
        self._store, self._name, self._seconds = store, name, seconds
        self._holder = f"{socket.gethostname()}, process {os.getpid()}, {uuid4().hex[:8]}"
        # Every renewal has a new token, so that nothing may be published meanwhile.
        self._lock = threading.Lock()

    def __enter__(self) -> HeldLease:
        self._lost, self._done = "", threading.Event()
        self._acquire()
        self._thread = threading.Thread(target=self._renew_in_time, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
        if not self._lost:
            with suppress(*(() if error is None else (Exception,))):  # the first error counts
                self._store.release(self._lease)

    def check(self) -> None:
        """Raise StaleLease if the lease was lost."""
        with self._lock:
            self._check()

    def publish(self, name: str, value: str) -> None:
        """Let a pointer of the store point to something; StaleLease if the lease was lost."""
        with self._lock:
            self._check()
            self._store.publish(name, value, self._lease)

    def _acquire(self) -> None:
        end = time.monotonic() + self._seconds
        self._lease: Lease = self._store.acquire(self._name, self._holder, self._seconds)
        self._end = end

    def _check(self) -> None:
        if not self._lost and time.monotonic() >= self._end:
            self._lost = "it ran out while this process stood still"
        if self._lost:
            raise StaleLease(
                f"the lease {self._name!r} was lost: {self._lost}. Nothing was published since. "
                "Start the command again."
            )

    def _renew_in_time(self) -> None:
        while not self._done.wait(self._seconds / 3):
            with self._lock:
                try:
                    # Whoever held it since may have done this work.
                    self._check()
                    self._acquire()
                except (LeaseHeld, StaleLease) as error:
                    self._lost = self._lost or str(error)
                    return
                except Exception:  # a store that does not answer: again, until it has run out
                    continue
