"""What was made of catalogues, by their content."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any, Generic, TypeVar

from skmars.data._catalog import ItemCatalog

T = TypeVar("T")


class Memo(Generic[T]):
    """Remembers what was made of the parts of catalogues that came last.

    A part is recognised by its fingerprint, so that an equal catalogue, an unpickled one, or an
    extended one costs what is new. Copies and pickles begin with an empty memory.

    Parameters
    ----------
    size : int, default=4
        Number of parts that are remembered.
    """

    def __init__(self, size: int = 4) -> None:
        self.size = size
        self._made: OrderedDict[str, T] = OrderedDict()
        self._lock = Lock()

    def get(self, part: ItemCatalog, make: Callable[[ItemCatalog], T]) -> T:
        """Return what `make` makes of a part, which is made once."""
        key = part.fingerprint
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        made = make(part)
        with self._lock:
            self._made[key] = made
            if len(self._made) > self.size:
                self._made.popitem(last=False)
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {"size": self.size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["size"])  # type: ignore[misc]
