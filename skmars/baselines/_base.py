"""What the transformers that rewrite histories share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skmars.data import Impressions, ItemCatalog, Sequences
from skmars.data._activity import UserActivity, is_low, thresholds
from skmars.data._checks import check_columns, require_impressions
from skmars.data._sequences import FLAT
from skmars.utils import _ragged as ragged
from skmars.utils._base import ImpressionsTransformerMixin, SkmarsMixin, with_callbacks
from skmars.utils._ids import as_ids, check_same_kind

SHARE = Interval(Real, 0, 1, closed="both")
# A mask of everything would leave no history.
MASK_SHARE = Interval(Real, 0, 1, closed="left")


class HistoryAugmenter(SkmarsMixin, ImpressionsTransformerMixin, BaseEstimator, ABC):
    """Rewrites the histories of training rows: `fit_transform` acts, `transform` does not."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "users": [StrOptions({"all", "low_active"})],
        "low_quantile": [Interval(Real, 0, 1, closed="both")],
        "max_length": [Interval(Integral, 1, None, closed="left")],
        "catalog": [ItemCatalog, None],
        "random_state": ["random_state"],
    }

    users: str
    low_quantile: float
    max_length: int
    catalog: ItemCatalog | None
    random_state: Any

    @with_callbacks
    def fit(self, X: Any, y: Any = None) -> Any:
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
        TypeError
            If `X` is neither impressions nor a table of them.
        ValueError
            If a parameter is out of range.
        """
        context = self._init_callback_context()
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        self._checked(X, reset=True)
        context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Rewrite the histories of training rows, one draw a row.

        Parameters
        ----------
        X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table
        y : ignored

        Returns
        -------
        Impressions
            The same rows with other histories.

        Raises
        ------
        TypeError
            If `X` is neither impressions nor a table of them.
        ValueError
            If a parameter is out of range.
        """
        self._validate_params()
        X = require_impressions(X, estimator_name=type(self).__name__, catalog=self.catalog)
        self.fit(X, y)
        rows = np.arange(len(X))
        if self.users == "low_active" and len(X):
            activity, _ = UserActivity.of(X)
            low, _ = thresholds(activity.longest, self.low_quantile, self.low_quantile)
            rows = np.flatnonzero(is_low(activity.longest[activity.codes(X)], low))
        if len(rows):
            random_state = check_random_state(self.random_state)
            X = self._augmented(X, rows, random_state)
        return X

    def transform(self, X: Any) -> Any:
        """Return the rows as they are.

        Parameters
        ----------
        X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table

        Returns
        -------
        Impressions

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `fit` was not called before.
        """
        check_is_fitted(self)
        return self._checked(X, reset=False)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the columns of the output as a frame: those of the input.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        names: NDArray[np.object_] = self.feature_names_in_
        return names

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags

    def _checked(self, X: Any, *, reset: bool) -> Impressions:
        self._validate_params()
        X = require_impressions(X, estimator_name=type(self).__name__, catalog=self.catalog)
        check_columns(self, X, reset=reset)
        return X

    @abstractmethod
    def _augmented(
        self, X: Impressions, rows: NDArray[np.int64], random_state: np.random.RandomState
    ) -> Impressions:
        """Return `X` with the histories of `rows` rewritten."""


def gathered(
    sequences: Sequences, length: NDArray[Any], source: NDArray[np.int64], items: NDArray[Any]
) -> Sequences:
    """Return new rows over flat arrays of their own.

    Parameters
    ----------
    sequences : Sequences
        The old rows.
    length : ndarray of shape (n_rows,)
        Lengths of the new rows.
    source : ndarray of shape (n_new,)
        The old position (in the flat arrays) whose feedback and time each new one takes.
    items : ndarray of shape (n_new,)
        Items of the new positions.
    """
    flat = {name: getattr(sequences, name) for name in FLAT if name != "items"}
    taken: dict[str, Any] = {k: None if v is None else v[source] for k, v in flat.items()}
    return replace(
        sequences,
        items=items.astype(np.int32),
        start=ragged.offsets(length)[:-1],
        length=length.astype(np.int32),
        **taken,
    )


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
    """Return `X` with an item that stands for none in its catalogue, and its code."""
    if token is None:
        return X, None
    ids = as_ids([token], name)
    check_same_kind(ids, name, X.catalog.ids, "the catalogue")
    catalog = X.catalog.extend(ids)
    return X.with_catalog(catalog), int(catalog.codes(ids)[0])
