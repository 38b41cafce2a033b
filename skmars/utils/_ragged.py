"""Arithmetic on ragged rows (Arrow's list-view layout), without a Python loop."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def offsets(length: NDArray[Any]) -> NDArray[np.int64]:
    """Return the start of each row when rows of these lengths are concatenated.

    Parameters
    ----------
    length : ndarray of shape (n_rows,)
        Row lengths.

    Returns
    -------
    ndarray of shape (n_rows + 1,)
        Cumulative lengths, beginning with 0.

    Examples
    --------
    >>> offsets(np.array([2, 0, 3]))
    array([0, 2, 2, 5])
    """
    result = np.zeros(len(length) + 1, dtype=np.int64)
    np.cumsum(length, out=result[1:])
    return result


def ranges(start: NDArray[Any], length: NDArray[Any]) -> NDArray[np.int64]:
    """Concatenate the integer ranges ``start[i] .. start[i] + length[i] - 1``.

    Parameters
    ----------
    start, length : ndarray of shape (n_rows,)
        First value and number of values of each range.

    Returns
    -------
    ndarray of shape (sum(length),)
        The ranges, row after row: the index with which a flat array is gathered.

    Examples
    --------
    >>> ranges(np.array([5, 0, 7]), np.array([2, 0, 3]))
    array([5, 6, 7, 8, 9])
    """
    ends = offsets(length)
    result = np.arange(ends[-1], dtype=np.int64)
    result += np.repeat(np.asarray(start, dtype=np.int64) - ends[:-1], length)
    return result


def longest(group: NDArray[Any], length: NDArray[Any]) -> NDArray[np.int64]:
    """Return the longest row of each group (the first of equal ones), in the order of the groups.

    Parameters
    ----------
    group : ndarray of shape (n_rows,), int
        The group of each row, such as its user.
    length : ndarray of shape (n_rows,)
        Row lengths.

    Returns
    -------
    ndarray of shape (n_groups,)
        Row numbers.

    Examples
    --------
    >>> longest(np.array([7, 3, 7, 7]), np.array([1, 0, 2, 2]))
    array([1, 2])
    """
    descending = np.argsort(-length.astype(np.int64), kind="stable")
    _, first = np.unique(group[descending], return_index=True)
    return descending[first]


def count_below(
    values: NDArray[Any], start: NDArray[Any], length: NDArray[Any], limit: NDArray[Any]
) -> NDArray[np.int64]:
    """Return how many values of each row are less than its limit, by binary search.

    Parameters
    ----------
    values : ndarray of shape (n_values,)
        Ascending within each row.
    start, length : ndarray of shape (n_rows,)
        Where each row begins, and its length.
    limit : ndarray of shape (n_rows,)

    Returns
    -------
    ndarray of shape (n_rows,)

    Examples
    --------
    >>> count_below(np.array([1, 3, 5, 2]), np.array([0, 3, 0]), np.array([3, 1, 0]),
    ...     np.array([4, 2, 9]))
    array([2, 0, 0])
    """
    low = start = np.asarray(start, dtype=np.int64)
    end = high = start + length
    for _ in range(int(np.max(length, initial=0)).bit_length()):
        middle = (low + high) >> 1
        below = (values.take(middle, mode="clip") < limit) & (middle < end)
        low, high = np.where(below, middle + 1, low), np.where(below, high, middle)
    return low - start
