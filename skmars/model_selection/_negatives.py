"""Negatives for logs that hold clicks alone, and probabilities that make up for them."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from skmars.data import Impressions, Sequences
from skmars.data._checks import require_impressions
from skmars.metrics._ranking import check_scores
from skmars.model_selection._rows import check_raw, moment_codes
from skmars.utils import _ragged as ragged
from skmars.utils._ids import Lookup
from skmars.utils._parameters import Number, check_choice, check_number

# Draws that hit what a user knows are repeated so often. The few rows that are left are then drawn
# from all that their users do not know, which costs a pass over the catalogue for each.
ROUNDS = 100
BLOCK = 4_000_000  # pairs of a row and an item that are held at once


def sample_negatives(
    X: Any,
    *,
    n_negatives: int = 1,
    popularity: float = 0.0,
    exclude: str = "always",
    log: Impressions | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[Impressions, NDArray[np.int64]]:
    """Add items that users did not interact with, for logs that hold clicks alone.

    Each row of `X` is followed by `n_negatives` rows of the same user, moment, history and
    context, with other items: different ones, which the user has not interacted with.

    Parameters
    ----------
    X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table
        The clicks, as ``Impressions.from_log(log)`` without a label reads them, or ``X[y == 1]``.
        All rows count as clicks.
    n_negatives : int, default=1
        Negatives for each row.
    popularity : float, default=0.0
        Items are drawn with a chance proportional to ``count ** popularity``, where `count` is
        the number of rows of `log` that show the item. 0 draws all items of the catalogue
        alike, 1 popular ones more often, as they are seen; 0.75 lies between. Above 0, items
        without a row are never drawn.
    exclude : {"always", "before"}, default="always"
        What a user has interacted with. "always" is all items of the user in `log`, and in
        histories there. "before" is what the row's history holds and the items of its moment, so
        that an item may be drawn which the user clicks later.
    log : Impressions, default=None
        What is known of users and of the popularity of items. None is `X`.
    random_state : int, RandomState instance or None, default=None
        An int draws the same negatives in each call.

    Returns
    -------
    X : Impressions of n_rows * (1 + n_negatives) rows
        Row ``i * (1 + n_negatives)`` is row `i` of the argument; its negatives follow it.
    y : ndarray of the same length, int64
        1 for the rows of the argument, 0 for the others.

    Raises
    ------
    TypeError
        If `X` holds no impressions, or `log` is something else.
    ValueError
        If a user has interacted with all items but fewer than `n_negatives`, a parameter is out
        of range, `X` is a whole log with rows that were not clicked, or a step of a pipeline has
        added to the rows what belongs to their items.

    See Also
    --------
    correct_probability : Makes up for the negatives that were left out.
    time_split : Splits rows; do so first, then sample.

    Notes
    -----
    Split first, and sample for each part: ``sample_negatives(X[train])``, and
    ``sample_negatives(X[test], log=X)``. With ``exclude="always"``, items of the test part that
    a user clicks would otherwise be missing among the negatives to train on, which tells a model
    what the user clicks later. Within the training part that can't be avoided but by "before".

    Context columns are those of the click. What describes its item (a price, a position) is
    wrong for the others: leave such columns out.

    Metrics on sampled negatives rank models otherwise than metrics on all items may do [1]_.

    References
    ----------
    .. [1] W. Krichene and S. Rendle, "On Sampled Metrics for Item Recommendation", KDD 2020.

    Examples
    --------
    >>> import pandas as pd
    >>> from skmars import Impressions, sample_negatives
    >>> log = pd.DataFrame({"user_id": [7, 7, 8], "item_id": [1, 2, 3], "timestamp": [5, 6, 7]})
    >>> clicks, _ = Impressions.from_log(log)
    >>> X, y = sample_negatives(clicks, random_state=0)
    >>> X.user_ids, X.item_ids, y
    (array([7, 7, 7, 7, 8, 8]), array([1, 3, 2, 3, 3, 2]), array([1, 0, 1, 0, 1, 0]))
    """
    X = require_impressions(X, estimator_name="sample_negatives")
    name = "sample_negatives"
    check_number(n_negatives, Number(Integral, 1, None, closed="left"), "n_negatives", name)
    check_number(popularity, Number(Real, 0, None, closed="left"), "popularity", name)
    check_choice(exclude, ("always", "before"), "exclude", name)
    check_raw(X, name)
    if X._log is not None and X._log.label is not None and not X._log.label.all():
        raise ValueError(
            f"X holds {np.count_nonzero(X._log.label == 0)} rows that were not clicked, but each "
            "row of X counts as a click. Pass X[y == 1], or train on X and y as they are."
        )
    if log is None:
        log = X
    elif not isinstance(log, Impressions):
        raise TypeError(
            f"log must be Impressions, got {type(log).__name__}. Read it with Impressions.from_log."
        )
    elif X.catalog.continues(log.catalog):
        log = log.with_catalog(X.catalog)
    else:
        X = X.with_catalog(log.catalog)
    if len(log) == 0:
        raise ValueError("log has no rows, from which nothing is known of users and items.")

    known = _Always(X, log) if exclude == "always" else _Before(X, log)
    count = np.bincount(log.target, minlength=len(X.catalog))
    weight = (count / count.max()) ** popularity
    negatives = _draw(X, known, weight, int(n_negatives), check_random_state(random_state))

    width = 1 + int(n_negatives)
    rows = X[np.repeat(np.arange(len(X)), width)]
    target = np.column_stack([X.target, negatives]).astype(np.int32).ravel()
    y = np.zeros(len(rows), dtype=np.int64)
    y[::width] = 1
    return replace(rows, target=target), y


class _Pairs:
    """Pairs of a code and an item, to be looked up."""

    def __init__(self, code: NDArray[Any], item: NDArray[Any], n_items: int) -> None:
        self._n_items = n_items
        self._keys = np.unique(code.astype(np.int64) * n_items + item)

    def hold(self, code: NDArray[Any], item: NDArray[Any]) -> NDArray[np.bool_]:
        if len(self._keys) == 0:
            return np.zeros(len(code), dtype=bool)
        key = code.astype(np.int64) * self._n_items + item
        at = np.minimum(np.searchsorted(self._keys, key), len(self._keys) - 1)
        return self._keys[at] == key


class _Always:
    """What users interact with at any time: in rows of the log, and in their histories."""

    def __init__(self, X: Impressions, log: Impressions) -> None:
        user_of = Lookup(log.users, "log")(X.users, "user_id of X").astype(np.int64)
        # Users that the log lacks stand behind those that it has.
        user_of = np.where(user_of < 0, len(log.users) + np.arange(len(user_of)), user_of)
        self._user = user_of[X.user]
        codes, items = [], []
        for user, rows in ((self._user, X), (log.user, log))[: 1 if log is X else 2]:
            start, length, row = _covered(rows.history, user)
            codes += [user, np.repeat(user[row], length)]
            items += [rows.target, rows.history.items[ragged.ranges(start, length)]]
        self._pairs = _Pairs(np.concatenate(codes), np.concatenate(items), len(X.catalog))

    def hold(self, row: NDArray[Any], item: NDArray[Any]) -> NDArray[np.bool_]:
        """Return whether the user of each row interacts with each item."""
        return self._pairs.hold(self._user[row], item)


def _covered(
    history: Sequences, user: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return start, length and a row of slices that cover the histories of users, each place once.

    The histories of a user are mostly prefixes of one another, so that this is far less than all.
    """
    row = np.lexsort((history.start, user))
    row = row[history.length[row] > 0]
    start, end = history.start[row], history.start[row] + history.length[row]
    base = user[row].astype(np.int64) * (len(history.items) + 1)
    reached = np.append(0, np.maximum.accumulate(base + end))[: len(row)]
    start = np.minimum(np.maximum(start, reached - base), end)
    return start, end - start, row


class _Before:
    """What users interact with before the moment of a row, and at that moment."""

    def __init__(self, X: Impressions, log: Impressions) -> None:
        self._history, self._n_places = X.history, len(X.history.items)
        keys = X.history.items.astype(np.int64) * self._n_places + np.arange(self._n_places)
        self._keys = np.append(np.sort(keys), np.iinfo(np.int64).max)
        self._moment, item = np.arange(len(X)), X.target
        code = self._moment
        if X.time is not None and log.time is not None:
            user = Lookup(X.users, "X")(log.users, "user_id of log")[log.user]
            there = user >= 0
            user = np.append(X.user, user[there])
            code = moment_codes(user, np.append(X.time, log.time[there]))
            self._moment, item = code[: len(X)], np.append(item, log.target[there])
        self._pairs = _Pairs(code, item, len(X.catalog))

    def hold(self, row: NDArray[Any], item: NDArray[Any]) -> NDArray[np.bool_]:
        """Return whether the user of each row interacts with each item by the moment of the row."""
        start = item.astype(np.int64) * self._n_places + self._history.start[row]
        found = self._keys[np.searchsorted(self._keys, start)] < start + self._history.length[row]
        return found | self._pairs.hold(self._moment[row], item)


def _draw(
    X: Impressions,
    known: _Always | _Before,
    weight: NDArray[np.float64],
    n: int,
    rng: np.random.RandomState,
) -> NDArray[np.int32]:
    """Draw `n` different items that are not known for each row, one after the other."""
    items = np.flatnonzero(weight)
    total = np.cumsum(weight[items])
    drawn = np.full((len(X), n), -1, dtype=np.int32)
    rows = np.arange(len(X))
    for _ in range(ROUNDS):
        block = drawn[rows]
        row, column = np.nonzero(block < 0)
        place = np.searchsorted(total, rng.random_sample(len(row)) * total[-1], side="right")
        item = items[np.minimum(place, len(items) - 1)]
        good = ~known.hold(rows[row], item)
        block[row[good], column[good]] = item[good]
        _drop_repeated(block)
        drawn[rows] = block
        rows = rows[(block < 0).any(axis=1)]
        if len(rows) == 0:
            return drawn
    size = max(1, BLOCK // len(items))
    for begin in range(0, len(rows), size):
        part = rows[begin : begin + size]
        drawn[part] = _draw_exactly(X, part, drawn[part], known, items, weight[items], rng)
    return drawn


def _drop_repeated(block: NDArray[np.int32]) -> None:
    """Put -1 in place of an item that stands in its row already."""
    order = np.argsort(block, axis=1, kind="stable")
    ranked = np.take_along_axis(block, order, axis=1)
    row, place = np.nonzero(ranked[:, 1:] == ranked[:, :-1])
    block[row, order[row, place + 1]] = -1


def _draw_exactly(
    X: Impressions,
    rows: NDArray[np.int64],
    drawn: NDArray[np.int32],
    known: _Always | _Before,
    items: NDArray[np.int64],
    weight: NDArray[np.float64],
    rng: np.random.RandomState,
) -> NDArray[np.int32]:
    """Fill up what was drawn for some rows from all items that are left for each.

    The largest of ``log(weight) + Gumbel noise`` are a draw without replacement.
    """
    shape = len(rows), len(items)
    left = ~known.hold(np.repeat(rows, len(items)), np.tile(items, len(rows))).reshape(shape)
    row, column = np.nonzero(drawn >= 0)
    left[row, np.searchsorted(items, drawn[row, column])] = False
    n_lacking = (drawn < 0).sum(axis=1)
    short = left.sum(axis=1) < n_lacking
    if short.any():
        first = int(np.argmax(short))
        n_left = int(left[first].sum() + drawn.shape[1] - n_lacking[first])
        whole = "" if len(items) == len(X.catalog) else ", set popularity=0 to draw from all items"
        raise ValueError(
            f"n_negatives={drawn.shape[1]} can't be drawn for user "
            f"{X.user_ids[rows[first : first + 1]].tolist()[0]!r}: of the {len(items)} items that "
            f"can be drawn, {n_left} are left that the user has not interacted with. Lower "
            f"n_negatives, drop the rows of such users{whole}, or set exclude='before'."
        )
    keys = np.where(left, np.log(weight) + rng.gumbel(size=shape), -np.inf)
    best = np.argsort(-keys, axis=1)
    row, column = np.nonzero(drawn < 0)
    nth = np.arange(len(row)) - ragged.offsets(n_lacking)[row]
    drawn[row, column] = items[best[row, nth]]
    return drawn


def correct_probability(p: ArrayLike, sampling_rate: float) -> NDArray[np.float64]:
    """Turn probabilities of a model that saw a part of the negatives into those of all rows.

    A model that is trained on all clicks and a share `w` of the other rows predicts too many
    clicks. With its prediction p, the click probability is ``p / (p + (1 - p) / w)``.

    Parameters
    ----------
    p : array-like of shape (n_rows,)
        Click probabilities of the model: ``predict_proba(X)[:, 1]``.
    sampling_rate : float
        Share of the unclicked rows that were kept, above 0 and up to 1. For negatives from
        `sample_negatives`: their number over that of the items shown and not clicked, which a log
        of clicks can't tell. Where `rate` of all impressions are clicked, that is
        ``n_negatives * rate / (1 - rate)``.

    Returns
    -------
    ndarray of shape (n_rows,), float64
        In the order of `p`, so that AUC and ranking stay the same.

    Raises
    ------
    TypeError
        If `p` holds no numbers.
    ValueError
        If a value of `p` lies outside 0 to 1, or `sampling_rate` is not above 0 and up to 1.

    See Also
    --------
    sample_negatives : Adds negatives to clicks.
    sklearn.calibration.CalibratedClassifierCV : Learns the correction from rows that nothing was
        left out of.

    Notes
    -----
    It is exact for a model that predicts the probabilities of its training rows. Negatives that
    are drawn by popularity are no equal share of all, so that it does not hold for them. Passing
    ``sample_weight`` of ``1 / sampling_rate`` for negatives to `fit` instead makes a model
    predict the corrected probabilities itself; then do not correct them again.

    References
    ----------
    .. [1] G. King and L. Zeng, "Logistic Regression in Rare Events Data", Political Analysis
       9(2), 2001.
    .. [2] X. He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD 2014,
       section 6.3.

    Examples
    --------
    >>> from skmars.model_selection import correct_probability
    >>> correct_probability([0.0, 0.5, 1.0], sampling_rate=0.25)
    array([0. , 0.2, 1. ])
    """
    check_number(
        sampling_rate, Number(Real, 0, 1, closed="right"), "sampling_rate", "correct_probability"
    )
    values = check_scores(p, "p")
    outside = (values < 0) | (values > 1)
    if outside.any():
        raise ValueError(
            f"p must hold probabilities between 0 and 1, got {values[outside][0]:g}. Pass "
            "predict_proba(X)[:, 1]."
        )
    kept = float(sampling_rate)
    return values * kept / (values * kept + (1.0 - values))
