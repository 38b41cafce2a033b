"""The k-core of an interaction log: its users and items that have enough events."""

from __future__ import annotations

from numbers import Integral
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from skmars.data._frames import Table
from skmars.utils._ids import factorize
from skmars.utils._parameters import Number, check_number

LogT = TypeVar("LogT")

COUNT = Number(Integral, 1, None, closed="left")


def k_core(
    log: LogT,
    k: int,
    *,
    items_k: int | None = None,
    user: str = "user_id",
    item: str = "item_id",
) -> LogT:
    """Keep the users and items that have at least `k` events among themselves.

    A user or item with fewer events is left out with all its events. That takes events from
    others, which may then have too few themselves, so it is repeated until nobody has. What remains
    is the largest part of the log in which everybody has `k` events; in which order users and
    items are left out makes no difference.

    Parameters
    ----------
    log : pandas.DataFrame, polars.DataFrame or pyarrow.Table
        One row an event. Rows that repeat a user and an item count each.
    k : int
        How many events every user must have, and every item unless `items_k` is given.
    items_k : int, default=None
        How many events every item must have. None takes `k`; 1 leaves out no items but those
        whose users are left out.
    user, item : str, default="user_id", "item_id"
        Columns of ids.

    Returns
    -------
    log : table of the same kind
        The rows that remain, in their order, with all columns.

    Raises
    ------
    TypeError
        If `log` is no table, or ids are neither integers nor strings.
    ValueError
        If nothing remains, `k` or `items_k` is no positive integer, a column is missing, or an
        id is.

    See Also
    --------
    skmars.load_amazon_reviews : Has it as a parameter, `k_core`.

    Notes
    -----
    Filter the log *before* it becomes impressions, and know what it does to the data: users of
    hardly any history, and items that hardly anybody touched, are gone from training and test
    alike.

    References
    ----------
    V. Batagelj and M. Zaversnik, "An O(m) Algorithm for Cores Decomposition of Networks", 2003,
    arXiv:cs/0310049.

    Examples
    --------
    Item "c" has one event only. Without it, so has user 3, and without user 3 item "b" has two:

    >>> import pandas as pd
    >>> from skmars.data import k_core
    >>> log = pd.DataFrame({
    ...     "user_id": [1, 1, 2, 2, 3, 3],
    ...     "item_id": ["a", "b", "a", "b", "b", "c"],
    ... })
    >>> k_core(log, 2)
       user_id item_id
    0        1       a
    1        1       b
    2        2       a
    3        2       b
    """
    check_number(k, COUNT, "k", "k_core")
    if items_k is not None:
        check_number(items_k, COUNT, "items_k", "k_core")
    table = Table(log, "log")  # type: ignore[arg-type]
    users, items = factorize(table.ids(user))[1], factorize(table.ids(item))[1]
    rows = core_rows(users, items, k, items_k)
    return log if len(rows) == len(users) else table.take(rows)


def core_rows(
    user: NDArray[np.integer], item: NDArray[np.integer], k: int, items_k: int | None = None
) -> NDArray[np.int64]:
    """Return the rows of the events of a k-core, in their order; ValueError if there is none.

    `user` and `item` are codes from 0 on, one an event.
    """
    items_k = k if items_k is None else items_k
    rows = np.arange(len(user))
    while True:
        keep = (np.bincount(user)[user] >= k) & (np.bincount(item)[item] >= items_k)
        if keep.all():
            break
        rows, user, item = rows[keep], user[keep], item[keep]
    if len(rows) == 0:
        raise ValueError(
            f"nothing remains of log: it has no users of {k} events with items of {items_k} events "
            "each. Lower k or items_k."
        )
    return rows
