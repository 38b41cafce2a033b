"""An array that grows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class GrowingArray:
    """An array to which values are appended at a cost of these alone, on average.

    Parameters
    ----------
    dtype : dtype

    Examples
    --------
    >>> import numpy as np
    >>> codes = GrowingArray(np.int32)
    >>> codes.append(np.array([4, 5]))
    >>> before = codes.values
    >>> codes.append(np.array([6]))
    >>> before, codes.values
    (array([4, 5], dtype=int32), array([4, 5, 6], dtype=int32))
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self._buffer: NDArray[Any] = np.empty(0, dtype)
        self._n = 0

    def __len__(self) -> int:
        return self._n

    @property
    def values(self) -> NDArray[Any]:
        """The values so far; those of an earlier call stay as they were."""
        return self._buffer[: self._n]

    def append(self, values: NDArray[Any]) -> None:
        """Add values behind the others."""
        n = self._n + len(values)
        if n > len(self._buffer):
            larger = np.empty(max(n, 2 * len(self._buffer)), self._buffer.dtype)
            larger[: self._n] = self.values
            self._buffer = larger
        self._buffer[self._n : n] = values
        self._n = n
