"""The base class of transformers that rewrite histories, and functions that replace rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from skmars.baselines._parameters import N_ITEMS, SHARE
from skmars.data import Impressions, Sequences
from skmars.data._activity import UserActivity, is_low, thresholds
from skmars.data._checks import check_columns, require_impressions
from skmars.data._sequences import FLAT
from skmars.utils import _ragged as ragged
from skmars.utils._base import (
    ImpressionsTransformerMixin,
    SkmarsMixin,
    all_or_nothing,
    with_callbacks,
)
from skmars.utils._ids import as_ids, check_same_kind


@dataclass(eq=False, repr=False, kw_only=True)
class HistoryAugmenter(
    SkmarsMixin, OneToOneFeatureMixin, ImpressionsTransformerMixin, BaseEstimator, ABC
):
    """Base class of transformers that rewrite the histories of training rows.

    `fit_transform` rewrites, `transform` returns the rows unchanged. The parameters are the fields
    of a dataclass, so that subclasses inherit the common ones.
    """

    users: str = "all"
    low_quantile: float = 0.3
    max_length: int = 200
    random_state: int | RandomState | None = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "users": [StrOptions({"all", "low_active"})],
        "low_quantile": SHARE,
        "max_length": N_ITEMS,
        "random_state": ["random_state"],
    }
    # Name of the parameter, if there is one, that holds the id of a mask or delimiter token.
    _token: ClassVar[str] = ""

    @all_or_nothing
    @with_callbacks
    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the parameters and remember the columns; nothing is learnt.

        Parameters
        ----------
        X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If `X` is neither impressions nor a table of them, or a parameter is out of range.
        """
        self._validate_params()
        context = self._init_callback_context()
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        X = require_impressions(X, estimator_name=type(self).__name__)
        check_columns(self, X, reset=True)
        self._ids = {"user_id": X.users[:1].copy(), "item_id": X.catalog.ids[:1].copy()}
        context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self

    @all_or_nothing
    def fit_transform(self, X: Any, y: Any = None) -> Impressions:
        """Rewrite the histories of training rows, one draw a row.

        Parameters
        ----------
        X, y
            As in `fit`.

        Returns
        -------
        Impressions of n_rows rows
            The same rows with other histories.

        Raises
        ------
        TypeError, ValueError
            As `fit`, or if the id of a token is of another kind than those of items, or is that of
            an item that a user touched.
        """
        self._validate_params()
        X = require_impressions(X, estimator_name=type(self).__name__)
        self.fit(X, y)
        if len(X) == 0:
            return X
        rows = np.arange(len(X))
        if self.users == "low_active":
            rows = low_active(X, self.low_quantile)
        extended, token = with_token(X, getattr(self, self._token, None), self._token)
        random_state = check_random_state(self.random_state)
        new = self._rewritten(X, X.history[rows], token, random_state)
        return with_rows(extended, rows, new.last(self.max_length))

    def transform(self, X: Any) -> Impressions:
        """Return the rows as they are.

        Parameters
        ----------
        X : as in `fit`

        Returns
        -------
        Impressions of n_rows rows

        Raises
        ------
        NotFittedError, TypeError, ValueError
            If `fit` was not called before, if `X` is neither impressions nor a table of them, has
            ids of another kind than the rows of `fit`, or lacks a context column of theirs.
        """
        check_is_fitted(self)
        X = require_impressions(X, estimator_name=type(self).__name__)
        check_columns(self, X, reset=False)
        for name, ids in {"user_id": X.users, "item_id": X.catalog.ids}.items():
            check_same_kind(ids, f"{name} of X", self._ids[name], f"{name} of the rows of fit")
        return X

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags

    @abstractmethod
    def _rewritten(
        self, X: Impressions, history: Sequences, token: int | None, random_state: RandomState
    ) -> Sequences:
        """Return the new histories of some rows of `X`.

        `token` is the item code of the parameter named by `_token`. The last `max_length` items
        of what is returned are kept.
        """


def low_active(X: Impressions, quantile: float) -> NDArray[np.int64]:
    """Return the rows of users whose activity is at most this quantile of all users'."""
    activity, _ = UserActivity.of(X)
    low, _ = thresholds(activity.longest, quantile, quantile)
    return np.flatnonzero(is_low(activity.longest[activity.codes(X)], low))


def gathered(
    old: Sequences,
    length: NDArray[Any],
    source: NDArray[np.int64],
    items: NDArray[Any] | None = None,
) -> Sequences:
    """Return new rows, of these lengths, over flat arrays of their own.

    `source` is the old position (in the flat arrays) of each new one; `items`, if given, replaces
    the items at the new positions.

    >>> s = Sequences(np.array([5, 6], dtype=np.int32), np.array([0]), np.array([2]))
    >>> gathered(s, np.array([1, 2]), np.array([1, 0, 0])).row(1)
    array([5, 5], dtype=int32)
    """
    flat = {name: getattr(old, name) for name in FLAT}
    taken: dict[str, Any] = {k: None if v is None else v[source] for k, v in flat.items()}
    if items is not None:
        taken["items"] = items.astype(np.int32)
    start = ragged.offsets(length)[:-1]
    return replace(old, start=start, length=length.astype(np.int32), **taken)


def with_rows(X: Impressions, rows: NDArray[np.int64], new: Sequences) -> Impressions:
    """Return `X` with the histories of `rows` replaced by those of `new`."""
    if len(rows) == len(X):
        return replace(X, history=new)
    old = X.history
    # Rows that stay are views into the old arrays, those that are new into what is appended.
    flat: dict[str, Any] = {}
    for name in FLAT:
        before, after = getattr(old, name), getattr(new, name)
        flat[name] = None if before is None else np.concatenate([before, after])
    start, length = old.start.copy(), old.length.copy()
    start[rows], length[rows] = new.start + len(old.items), new.length
    return replace(X, history=replace(old, start=start, length=length, **flat))


def with_token(X: Impressions, token: Any, name: str) -> tuple[Impressions, int | None]:
    """Return `X` with a token (mask or delimiter) as an item of its catalogue, and its code.

    `token` is its id, None for no such item; `name` the parameter that holds it. TypeError if ids
    of the catalogue are of another kind, ValueError if a user touched an item of this id.
    """
    if token is None:
        return X, None
    ids = as_ids([token], name)
    check_same_kind(ids, name, X.catalog.ids, "the catalogue")
    catalog = X.catalog.extend(ids)
    code = int(catalog.codes(ids)[0])
    if code in X.target or code in X.history.items:
        raise ValueError(
            f"{name}={token!r} must be the id of no item, but users of X touched an item of this "
            "id. Pass an id that no item has."
        )
    return X.with_catalog(catalog), code
