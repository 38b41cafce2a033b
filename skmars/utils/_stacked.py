"""Read rows of vertically stacked arrays without concatenating them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.utils._ragged import offsets


def take_rows(parts: Sequence[NDArray[Any]], rows: NDArray[np.integer]) -> NDArray[Any]:
    """Return some rows of vertically stacked arrays, without concatenating these.

    Parameters
    ----------
    parts : sequence of ndarray of shape (n_rows of the part, ...)
        The arrays, at least one, of one type and width.
    rows : ndarray of shape (n,), int
        Row numbers in the stack, from 0.

    Returns
    -------
    ndarray of shape (n, ...)

    Examples
    --------
    >>> import numpy as np
    >>> take_rows([np.array([10, 11, 12]), np.array([13])], np.array([3, 0]))
    array([13, 10])
    """
    if len(parts) == 1:
        return parts[0][rows]
    begin = offsets(np.array([len(part) for part in parts]))
    part = np.searchsorted(begin, rows, side="right") - 1
    result = np.empty((len(rows), *parts[0].shape[1:]), dtype=parts[0].dtype)
    for k in np.unique(part):
        here = part == k
        result[here] = parts[k][rows[here] - begin[k]]
    return result
