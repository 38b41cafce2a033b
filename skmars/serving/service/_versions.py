"""Watching which versions are current, and switching to them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from skmars.serving.store._current import Current
from skmars.serving.store._store import Store

log = logging.getLogger(__name__)

LONGEST_PAUSE = 60.0  # seconds until a version that could not be loaded is tried again


S = TypeVar("S")


class VersionWatcher(Generic[S]):
    """Holds the current version of what is served, and switches when the store names another.

    Parameters
    ----------
    store : Store
        Its pointers say which versions are wanted.
    load : callable
        Called with the versions that are wanted (a `Current`) and what is served (or None);
        returns what shall be served, or raises.
    check : callable
        Called with what was loaded; raises if it can't be used.
    interval : float
        Seconds between two looks at the pointers.
    switched : callable, default=None
        Called with what became current, before it does.
    failed : callable, default=None
        Called each time that a version could not be loaded.
    besides : callable, default=None
        Called after each look.

    Attributes
    ----------
    current : object or None
        None until the first version is loaded. To use one version throughout, read it once.
    looked : threading.Event
        Set when the first version was loaded, or can't be.
    """

    def __init__(
        self,
        store: Store,
        load: Callable[[Current, S | None], S],
        *,
        check: Callable[[S], Any],
        interval: float = 1.0,
        switched: Callable[[S], Any] | None = None,
        failed: Callable[[], Any] | None = None,
        besides: Callable[[], Any] | None = None,
    ) -> None:
        self.current: S | None = None
        self.looked = threading.Event()
        self._store, self._load, self._check, self.interval = store, load, check, interval
        self._switched = switched or (lambda _snapshot: None)
        self._failed = failed or (lambda: None)
        self._besides = besides or (lambda: None)
        self._wanted: Current | None = None  # last seen, and which are current
        self._loaded: Current | None = None
        self._told: set[str] = set()  # what has been logged of the versions that are wanted
        self._tries, self._next_try = 0, 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="skmars-versions", daemon=True)

    def start(self) -> None:
        """Begin to watch, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Watch no longer."""
        self._end.set()

    def look(self) -> None:
        """Look at the pointers once, and load what they name if it is not current."""
        try:
            wanted = Current.of(self._store)
        except Exception as error:
            self._tell(f"The store does not say which versions are current: {error}")
            return
        if wanted != self._wanted:
            self._wanted, self._tries, self._next_try = wanted, 0, 0.0
            self._told.clear()
        if wanted == self._loaded or time.monotonic() < self._next_try:
            return
        if not self._switch(wanted):
            self._tries += 1
            self._next_try = time.monotonic() + min(LONGEST_PAUSE, 2.0**self._tries)
            if self.current is None:  # a process that has just begun has no last good version
                any(self._switch(other) for other in wanted.without_later())
        self.looked.set()

    def _switch(self, wanted: Current) -> bool:
        """Make a version current, or tell why it can't be."""
        try:
            snapshot = self._load(wanted, self.current)
            self._check(snapshot)
            self._switched(snapshot)
        except Exception as error:
            self._failed()
            what = f"{type(error).__name__}: {error}"
            stays = "none is loaded yet" if self.current is None else "the last one stays"
            self._tell(f"Version {wanted} can't be loaded, and {stays}: {what}")
            return False
        self.current, self._loaded = snapshot, wanted
        log.info("Serving version %s.", wanted)
        return True

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            log.error("%s", text)

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                self.look()
                self._besides()
            except Exception:  # of a callback: the watch goes on
                log.exception("Looking for versions failed.")
            self._end.wait(self.interval)
