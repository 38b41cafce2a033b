"""A cache of results that were computed for catalogues, by the content of these."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any, Generic, TypeVar

from skmars.data._catalog import MAX_PARTS, ItemCatalog

T = TypeVar("T")


class Memo(Generic[T]):
    """A least-recently-used cache of results for parts of catalogues.

    A part is recognised by its fingerprint, so that nothing is computed again for an equal or an
    unpickled catalogue, and only the new part of an extended one. Copies and pickles start empty.

    Parameters
    ----------
    size : int, default=16
        Number of parts whose results are kept: twice as many as one catalogue has.
    """

    def __init__(self, size: int = 2 * MAX_PARTS) -> None:
        self.size = size
        self._results: OrderedDict[str, T] = OrderedDict()
        self._lock = Lock()

    def get(self, part: ItemCatalog, make: Callable[[ItemCatalog], T]) -> T:
        """Return ``make(part)``, computed once for equal parts."""
        key = part.fingerprint
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]
        result = make(part)
        with self._lock:
            self._results[key] = result
            if len(self._results) > self.size:
                self._results.popitem(last=False)
        return result

    def __getstate__(self) -> dict[str, Any]:
        return {"size": self.size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["size"])  # type: ignore[misc]
