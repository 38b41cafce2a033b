"""Baselines that put items in front of a history: random ones, its own, copies of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.utils._param_validation import StrOptions

from skmars.baselines._augmenter import HistoryAugmenter, gathered
from skmars.baselines._operators import chosen
from skmars.baselines._parameters import ITEM_ID, MOST_ITEMS, N_ITEMS
from skmars.data import Impressions, Sequences
from skmars.utils import _ragged as ragged
from skmars.utils._parameters import Number


@dataclass(eq=False, repr=False, kw_only=True)
class RandomItems(HistoryAugmenter):
    """Put random items in front of the histories of training rows (Ran).

    `n_items` items are drawn, uniformly and independently, from the catalogue, for each row
    anew. `fit_transform` acts; `transform` is the identity, so that a pipeline trains on longer
    histories and predicts from real ones.

    Parameters
    ----------
    n_items : int, default=10
        Items that a row gets.
    position : {"prepend", "random"}, default="prepend"
        Where they go: to the left of the history, or to places among its items, every
        arrangement alike.
    users : {"all", "low_active"}, default="all"
        Whose rows are rewritten. "low_active": those of the users whose longest history is at
        most as long as the quantile `low_quantile` of all users' longest histories.
    low_quantile : float, default=0.3
        For ``users="low_active"``, from 0 to 1.
    max_length : int, default=200
        A rewritten history keeps its last `max_length` items.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same draws in every `fit_transform`.

    Attributes
    ----------
    n_features_in_, feature_names_in_ : int, ndarray of str
        Number of columns of the rows of `fit`, and their names.

    See Also
    --------
    RandomSequence : Draws from the history itself.
    SequenceRetrievalAugmenter : Borrows from similar users.

    Notes
    -----
    The items become part of the history and are not ``borrowed``: `DINClassifier` would pool
    borrowed ones apart in training and find none in prediction, and the method would have no
    effect. Likewise, its `activity_feature` counts the longer history in training, but not in
    prediction; without that feature, both agree.

    There is one draw a row: all epochs of a later training see the same histories, and rows that
    the classifier holds out for early stopping are rewritten like the others. A random item is
    liked as often as the items of the rewritten histories are; when it was touched is unknown.

    References
    ----------
    "MARS: Modality-Aligned Retrieval for Sequence Augmented CTR Prediction",
    arXiv:2509.01184, Table 2 (Ran).

    Examples
    --------
    >>> import pandas as pd
    >>> from skmars.baselines import RandomItems
    >>> X = pd.DataFrame({"user_id": [1], "item_id": ["c"], "history": [["a", "b"]]})
    >>> augmenter = RandomItems(n_items=3, random_state=0)
    >>> augmenter.fit_transform(X).to_frame()["history"][0]
    ['a', 'b', 'a', 'a', 'b']
    >>> augmenter.transform(X).to_frame()["history"][0]
    ['a', 'b']
    """

    n_items: int = field(default=10, kw_only=False)
    position: str = "prepend"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **HistoryAugmenter._parameter_constraints,
        "n_items": N_ITEMS,
        "position": [StrOptions({"prepend", "random"})],
    }

    def _rewritten(
        self, X: Impressions, history: Sequences, token: int | None, random_state: RandomState
    ) -> Sequences:
        scattered = self.position == "random"
        return with_random_items(history, self.n_items, len(X.catalog), scattered, random_state)


@dataclass(eq=False, repr=False, kw_only=True)
class RandomSequence(HistoryAugmenter):
    """Put random items of its own in front of each history of training rows (Ran-S).

    `n_items` items are drawn with replacement from the history itself, with their feedback and
    time. An empty history stays empty. `fit_transform` acts; `transform` is the identity.

    Parameters
    ----------
    n_items : int, default=10
        Items that a row gets.
    users, low_quantile, max_length, random_state : default="all", 0.3, 200, None
        See `RandomItems`.

    Attributes
    ----------
    n_features_in_, feature_names_in_ : int, ndarray of str
        Number of columns of the rows of `fit`, and their names.

    See Also
    --------
    RandomItems : Draws from all items. Its notes hold here, but for those on feedback and time.

    References
    ----------
    "MARS: Modality-Aligned Retrieval for Sequence Augmented CTR Prediction",
    arXiv:2509.01184, Table 2 (Ran-S).

    Examples
    --------
    >>> import pandas as pd
    >>> from skmars.baselines import RandomSequence
    >>> X = pd.DataFrame({"user_id": [1], "item_id": ["c"], "history": [["a", "b"]]})
    >>> augmenter = RandomSequence(n_items=3, random_state=0)
    >>> augmenter.fit_transform(X).to_frame()["history"][0]
    ['a', 'b', 'b', 'a', 'b']
    """

    n_items: int = field(default=10, kw_only=False)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **HistoryAugmenter._parameter_constraints,
        "n_items": N_ITEMS,
    }

    def _rewritten(
        self, X: Impressions, history: Sequences, token: int | None, random_state: RandomState
    ) -> Sequences:
        return with_own_items(history, self.n_items, random_state)


@dataclass(eq=False, repr=False, kw_only=True)
class RepeatPad(HistoryAugmenter):
    r"""Fill the room to the left of a history with copies of it, in training rows (RepPad).

    A history S of n < `max_length` = N items becomes ``[S, ..., S, S]``, with m further copies,
    of which the last N items stay; by default :math:`m \sim U\{1, \lfloor N / n \rfloor\}`.
    `fit_transform` acts; `transform` is the identity.

    Parameters
    ----------
    copies : int or {"random", "random_from_zero", "max"}, default="random"
        Number m of further copies: fixed, :math:`U\{1, \lfloor N / n \rfloor\}`,
        :math:`U\{0, \lfloor N / n \rfloor\}`, or :math:`\lfloor N / n \rfloor`.
    delimiter : int or str, default=None
        Id, which no item has, that is put between two copies, for example -1 or "[pad]". It is
        added to the catalogue, and a model learns its embedding. None puts nothing between copies,
        which is also the effect of padding in a model that skips it.
    max_length : int, default=200
        Room N, in items, delimiters included.
    users, low_quantile, random_state : default="all", 0.3, None
        See `RandomItems`.

    Attributes
    ----------
    n_features_in_, feature_names_in_ : int, ndarray of str
        Number of columns of the rows of `fit`, and their names.

    See Also
    --------
    RandomItems : Its notes on ``borrowed`` and `activity_feature` hold here, too.

    Notes
    -----
    What it does to `DINClassifier` follows from how that pools a history, as long as all copies
    are whole and there is no delimiter: *nothing* under ``attention_normalization="softmax"``;
    the interest vector times m + 1 under None, and times :math:`\sqrt{m + 1}` under "sqrt".
    (Where a copy is cut, or with ``activity_feature=True``, there is a difference that has
    nothing to do with the method's idea.)

    References
    ----------
    Dang et al., "Repeated Padding for Sequential Recommendation", RecSys 2024,
    arXiv:2403.06372 (RepPad).

    Examples
    --------
    >>> import pandas as pd
    >>> from skmars.baselines import RepeatPad
    >>> X = pd.DataFrame({"user_id": [1], "item_id": ["c"], "history": [["a", "b"]]})
    >>> augmenter = RepeatPad("max", max_length=5)
    >>> augmenter.fit_transform(X).to_frame()["history"][0]
    ['b', 'a', 'b', 'a', 'b']
    >>> augmenter.set_params(delimiter="-").fit_transform(X).to_frame()["history"][0]
    ['a', 'b', '-', 'a', 'b']
    """

    copies: int | str = field(default="random", kw_only=False)
    delimiter: int | str | None = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **HistoryAugmenter._parameter_constraints,
        "copies": [
            Number(Integral, 0, MOST_ITEMS, closed="both"),
            StrOptions({"random", "random_from_zero", "max"}),
        ],
        "delimiter": [*ITEM_ID, None],
    }
    _token = "delimiter"

    def _rewritten(
        self, X: Impressions, history: Sequences, token: int | None, random_state: RandomState
    ) -> Sequences:
        copies = n_copies(history.length, self.copies, self.max_length, random_state)
        return repeated(history, copies, self.max_length, token)


def with_random_items(
    history: Sequences, n_items: int, n_codes: int, scattered: bool, random_state: RandomState
) -> Sequences:
    """Return the rows with `n_items` items drawn from ``range(n_codes)`` before or among them.

    An item drawn has the feedback of a random position, 1 where there is none, and no time.

    >>> s = Sequences(np.array([5], dtype=np.int32), np.array([0]), np.array([1]))
    >>> with_random_items(s, 2, 1, False, np.random.RandomState(0)).items
    array([0, 0, 5], dtype=int32)
    """
    length = history.length.astype(np.int64) + n_items
    if scattered:
        new = chosen(length, n_items, random_state)
    else:
        new = _leading(length, np.full(len(length), n_items))
    own, n_new = history.positions(), len(history) * n_items
    drawn = random_state.randint(n_codes, size=n_new)
    feedback = time = None
    if history.feedback is not None:
        liked = history.feedback[own]
        some = liked[random_state.randint(len(own), size=n_new)] if len(own) else np.ones(n_new)
        feedback = _merged(new, some, liked)
    if history.time is not None:
        time = _merged(new, np.full(n_new, np.inf), history.time[own])
    items, start = _merged(new, drawn, history.items[own]), ragged.offsets(length)[:-1]
    return Sequences(items, start, length.astype(np.int32), feedback=feedback, time=time)


def with_own_items(history: Sequences, n_items: int, random_state: RandomState) -> Sequences:
    """Return the rows with `n_items` of their own items, drawn with replacement, before them.

    >>> s = Sequences(np.array([5], dtype=np.int32), np.array([0]), np.array([1]))
    >>> with_own_items(s, 2, np.random.RandomState(0)).items
    array([5, 5, 5], dtype=int32)
    """
    n_drawn = np.where(history.length > 0, n_items, 0)
    drawn = random_state.randint(0, np.repeat(history.length, n_drawn).astype(np.int64))
    drawn = drawn + np.repeat(history.start, n_drawn)
    length = history.length + n_drawn
    return gathered(history, length, _merged(_leading(length, n_drawn), drawn, history.positions()))


def n_copies(
    length: NDArray[Any], copies: int | str, max_length: int, random_state: RandomState
) -> NDArray[np.int64]:
    """Return how many further copies each row gets; see `RepeatPad`.

    >>> n_copies(np.array([0, 3, 8, 9]), "max", 8, None)
    array([0, 2, 0, 0])
    """
    most = max_length // np.maximum(length, 1)
    if copies == "max":
        m = most
    elif copies == "random":
        m = 1 + random_state.randint(0, np.maximum(most, 1))
    elif copies == "random_from_zero":
        m = random_state.randint(0, most + 1)
    else:
        m = np.full(len(length), copies)
    return np.where((length > 0) & (length < max_length), m, 0).astype(np.int64)


def repeated(
    history: Sequences, copies: NDArray[np.int64], max_length: int, delimiter: int | None = None
) -> Sequences:
    """Return the rows with further copies before them, cut to their last `max_length` items.

    A delimiter takes feedback and time of the item to its right.

    >>> s = Sequences(np.array([5, 6], dtype=np.int32), np.array([0]), np.array([2]))
    >>> repeated(s, np.array([1]), 9, delimiter=0).items
    array([5, 6, 0, 5, 6], dtype=int32)
    """
    n = history.length.astype(np.int64)
    period = n + (delimiter is not None)
    length = np.minimum(copies * period + n, max_length)
    # Seen from the end, a row is periodic: S backwards, and a delimiter after S's first item.
    row = np.repeat(np.arange(len(n)), length)
    from_end = ragged.offsets(length)[1:][row] - 1 - np.arange(len(row))
    from_end %= np.maximum(period, 1)[row]
    between = from_end == n[row]
    source = history.start[row] + np.maximum(n[row] - 1 - from_end, 0)
    items = history.items[source]
    if delimiter is not None:
        items = np.where(between, delimiter, items)
    return gathered(history, length, source, items)


def _leading(length: NDArray[Any], n: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark the first `n` positions of each row."""
    leads = np.zeros(int(length.sum()), dtype=bool)
    leads[ragged.ranges(ragged.offsets(length)[:-1], n)] = True
    return leads


def _merged(new: NDArray[np.bool_], drawn: NDArray[Any], own: NDArray[Any]) -> NDArray[Any]:
    """Return an array of the type of `own`: `drawn` where `new`, `own` elsewhere, in order."""
    merged = np.empty(len(new), dtype=own.dtype)
    merged[new], merged[~new] = drawn, own
    return merged
