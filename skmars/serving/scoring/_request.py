"""What is asked: the items that a user is shown, and where and when; checked against a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.persistence import Model
from skmars.utils._ids import Ids, as_ids, check_same_kind, check_text, joined
from skmars.utils._values import as_objects, check_same_unit, is_missing, is_sequence

# Times that differ by a smaller factor than this are of one unit.
CLOSE = 100
# The strings that stand for booleans.
_TRUTH = ("True", "False")


@dataclass(frozen=True)
class Request:
    """A user and the items that may be shown to them.

    Parameters
    ----------
    user_id : int or str
        May be unknown.
    item_ids : array-like of int or of str
        The candidates; they may be unknown.
    time : float or None, default=None
        When, in seconds, as the log of the model has times. The history holds what the user did
        strictly before; None takes all that they have done.
    context : mapping of str to scalar or sequence, default={}
        The context columns of the model: one value, or one a candidate.

    Examples
    --------
    >>> Request("ann", [5, 6], time=1.7e9, context={"device": "phone", "price": [2.5, 3.0]})
    Request(user_id='ann', item_ids=[5, 6], time=1700000000.0, context={'device': 'phone', \
'price': [2.5, 3.0]})
    """

    user_id: Any
    item_ids: Sequence[Any] | NDArray[Any]
    time: float | None = None
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """Requests as columns: one entry a request, or one a candidate.

    Attributes
    ----------
    users : ndarray of shape (n_requests,)
    time : ndarray of shape (n_requests,), float64, or None
        NaN where a request has none; None if the model has no times.
    count : ndarray of shape (n_requests,), int64
        Number of candidates.
    items : ndarray of shape (sum(count),)
    context : dict of str to ndarray of shape (sum(count),)
    """

    users: Ids
    time: NDArray[np.float64] | None
    count: NDArray[np.int64]
    items: Ids
    context: dict[str, NDArray[Any]]


def read_requests(requests: Sequence[Request], model: Model) -> Asked:
    """Return requests, one at least, as columns.

    Raises
    ------
    TypeError
        If ids are strings and those of the model integers, or the other way round; if a time is no
        number, or a context value of another kind than in the log of the model.
    ValueError
        If an id is missing or empty; if a context column is missing, unknown, or has not one value
        or one a candidate; if a number is not finite, or times are of another unit than in the log
        of the model, or there are times, but the model has none.
    """
    users = as_ids([request.user_id for request in requests], "user_id", "request")
    check_same_kind(users, "user_id", model.histories.users, "the log of the model")
    rows = [as_ids(request.item_ids, "item_ids", "value") for request in requests]
    for row in rows:
        check_same_kind(row, "item_ids", model.histories.catalog.parts[0].ids, "the catalogue")
    count = np.array([len(row) for row in rows])
    items = rows[0] if len(rows) == 1 else joined(*rows)
    return Asked(
        users,
        _times([request.time for request in requests], model.histories.now),
        count,
        items,
        context_columns([request.context for request in requests], count, model.columns.context),
    )


def _times(times: list[Any], now: float | None) -> NDArray[np.float64] | None:
    """Return times in seconds, NaN where there is none; `now` is a time of the model."""
    for time in times:
        if not (is_missing(time) or (isinstance(time, Real) and not isinstance(time, bool))):
            raise TypeError(f"time must be a number of seconds or None, got {time!r}.")
    seconds = np.array([np.nan if is_missing(time) else time for time in times], dtype=np.float64)
    if np.isinf(seconds).any():
        raise ValueError("time must be finite, got an infinite one. None takes the whole history.")
    if now is None:
        if not np.isnan(seconds).all():
            given = seconds[~np.isnan(seconds)][0]
            raise ValueError(
                f"time is {given:g}, but the log of the model has no times, so that nobody can "
                "tell which events came before. Leave it out, or fit a model to a log with times."
            )
        return None
    if not all(now / CLOSE < time < now * CLOSE for time in seconds.tolist()):
        check_same_unit(seconds, "time", np.array([now]), "the log of the model")
    return seconds


def context_columns(
    given: Sequence[Mapping[str, Any]], count: NDArray[np.int64], kinds: Mapping[str, str | None]
) -> dict[str, NDArray[Any]]:
    """Return context columns, one value a candidate, of the context of each request.

    Parameters
    ----------
    given : sequence of n_requests mappings
    count : ndarray of shape (n_requests,), int64
        Number of candidates.
    kinds : mapping of str to str or None
        See `Columns.context`.

    Raises
    ------
    TypeError, ValueError
        As of `read_requests`.
    """
    for context in given:
        if not isinstance(context, Mapping):
            raise TypeError(f"context must be a mapping from columns to values, got {context!r}.")
        if context.keys() != kinds.keys():
            _raise_other_columns(context, kinds)
    return {
        name: _column(name, kind, [context[name] for context in given], count)
        for name, kind in kinds.items()
    }


def _raise_other_columns(context: Mapping[str, Any], kinds: Mapping[str, str | None]) -> None:
    has = ", ".join(map(repr, kinds)) or "none"
    missing = [name for name in kinds if name not in context]
    if missing:
        raise ValueError(
            f"context lacks the column {missing[0]!r}, which the model predicts from; its context "
            f"columns are {has}. Pass one value, or one a candidate."
        )
    other = next(name for name in context if name not in kinds)
    raise ValueError(
        f"context has the column {other!r}, which the model does not know; its context columns are "
        f"{has}. Leave it out."
    )


def _column(
    name: str, kind: str | None, given: list[Any], count: NDArray[np.int64]
) -> NDArray[Any]:
    """Return a context column, one value a candidate."""
    values, n_each = [], []
    for value, n in zip(given, count.tolist()):
        if is_sequence(value):
            if len(value) != n:
                raise ValueError(
                    f"context[{name!r}] has {len(value)} values for {n} candidates. Pass one value "
                    "for all of them, or one a candidate."
                )
            values += list(value)
            n_each += [1] * n
        else:
            values.append(value)
            n_each.append(n)
    made = _numbers(name, values) if kind == "numbers" else _texts(name, kind, values)
    return np.repeat(made, n_each)


def _numbers(name: str, values: list[Any]) -> NDArray[np.float64]:
    for value in values:
        if is_missing(value) or (isinstance(value, Real) and not np.isfinite(float(value))):
            raise ValueError(f"context[{name!r}] must be a finite number, got {value!r}.")
        if not isinstance(value, Real) or isinstance(value, bool | np.bool_):
            raise TypeError(
                f"context[{name!r}] must hold numbers, as in the log of the model, got {value!r}."
            )
    return np.array(values, dtype=np.float64)


def _texts(name: str, kind: str | None, values: list[Any]) -> NDArray[Any]:
    """Return strings, or booleans as the strings that stand for them; "" where one is missing."""
    for value in values:
        if isinstance(value, bool | np.bool_):
            fine = kind == "booleans"
        else:
            fine = isinstance(value, str) and (kind != "booleans" or value in _TRUTH)
        if not (fine or is_missing(value)):
            raise TypeError(
                f"context[{name!r}] must hold {kind or 'strings'}, as in the log of the model, got "
                f"{value!r}."
            )
    texts = as_objects("" if is_missing(value) else str(value) for value in values)
    check_text(texts, f"context[{name!r}]")
    return texts
