"""The estimator `ClickRateEncoder`: parameters, validation and fitted attributes."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from skmars.data import Impressions
from skmars.data._checks import check_columns, check_target, require_impressions
from skmars.data._folds import mark_own
from skmars.rates._rates import Rates, category_of
from skmars.retrieval._out_of_fold import fold_of_users
from skmars.utils._base import (
    ColumnsOutMixin,
    ImpressionsTransformerMixin,
    SkmarsMixin,
    all_or_nothing,
    with_callbacks,
)
from skmars.utils._parameters import Number

if TYPE_CHECKING:
    from narwhals.typing import IntoDataFrame


class ClickRateEncoder(SkmarsMixin, ColumnsOutMixin, ImpressionsTransformerMixin, BaseEstimator):
    r"""Add the click rates of users and items as context columns, as of the moment of each row.

    The rows of `fit` are the events: each is an impression, clicked or not. A row gets four
    numbers, of its user and of its item: the click rate of :math:`n` impressions of which
    :math:`c` were clicked, and how many these were,

    .. math::
        \text{click\_logit} = \operatorname{logit} \frac{c + m p}{n + m} - \operatorname{logit} p,
        \quad \text{log\_impressions} = \log (1 + n),

    where :math:`p` is the click rate of all rows and :math:`m` the smoothing. 0 is a user (or
    item) who clicks (is clicked) as all do, or of whom nothing is known.

    No row knows its own click. Where rows have times, only events strictly before the row count;
    of the row's user, only those before it in any case. Without times, events of an item count
    out of fold: those of users of other folds than the row's, as in scikit-learn's
    :class:`~sklearn.preprocessing.TargetEncoder`.

    Parameters
    ----------
    smooth : float or "auto", default="auto"
        So many impressions, clicked at the rate of all rows, are added to those of each user and
        item. "auto" estimates the number by how far the rates of users, and of items, differ
        (empirical Bayes, see Notes).
    category : str or None, default="auto"
        Attribute of the items (see :class:`~skmars.data.ItemCatalog`) that holds one category each,
        whose click rate is added, too: of an item that nobody was shown yet, it tells something.
        "auto" is the attribute "category", if there is one. None for no category.
    cv : int, default=5
        Number of folds of users. Not used where rows have times; where they come from an aligner,
        its `cv` holds.

    Attributes
    ----------
    smooth_ : dict of str to float
        The impressions that are added, for "user", "item" and "category".
    click_rate_ : float
        The click rate of all rows of `fit`.
    classes_ : ndarray of shape (2,)
        The classes of `y`; the second is a click.
    n_features_in_, feature_names_in_ : int, ndarray of str
        Number and names of the columns of the rows of `fit`.

    See Also
    --------
    ClickRateClassifier : Logistic regression on these columns.
    sklearn.preprocessing.TargetEncoder : The same idea for the columns of a table.

    Notes
    -----
    *The columns* are named `user_click_logit`, `user_log_impressions`, `item_click_logit` and
    `item_log_impressions`; of categories, `category_click_logit` and `category_log_impressions`.

    *The order of a user's events* is that of time and, among equal times or without times, that of
    the length of their histories: who has more history is later. Rows of one moment don't know each
    other. Rows that have neither time nor length to tell them apart count as of one moment.

    *Times*: an event of unknown time counts for nobody. A row of unknown time (-inf) knows no
    event; rows without any times, after a `fit` with times, know all.

    *"auto"*: clicks are taken to be beta-binomial, and the correlation :math:`\rho` of two
    impressions of a user (or item) comes from the sum of squares between users. Then
    :math:`m = (1 - \rho) / \rho`, at least 1 and at most the number of rows.

    *Training rows*: without times, ``fit(X, y).transform(X)`` gives rows of `fit` the clicks of
    their own user on the item, and marks them; ``fit_transform`` does not. With times both are
    the same.

    Examples
    --------
    >>> import pandas as pd
    >>> from skmars import Impressions
    >>> from skmars.rates import ClickRateEncoder
    >>> log = pd.DataFrame({
    ...     "user_id": ["ann", "bob", "ann", "bob"], "item_id": ["tea", "tea", "jam", "jam"],
    ...     "timestamp": [1, 2, 3, 4], "clicked": [1, 1, 0, 1]})
    >>> X, y = Impressions.from_log(log, label="clicked")
    >>> rated = ClickRateEncoder(smooth=2).fit_transform(X, y)
    >>> rated.to_frame()[["item_click_logit", "item_log_impressions"]].round(2)
       item_click_logit  item_log_impressions
    0              0.00                  0.00
    1              0.51                  0.69
    2              0.00                  0.00
    3             -1.10                  0.69
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "smooth": [StrOptions({"auto"}), Number(Real, 0, None, closed="neither")],
        "category": [str, None],
        "cv": [Number(Integral, 2, 100, closed="both")],
    }

    def __init__(
        self, *, smooth: float | str = "auto", category: str | None = "auto", cv: int = 5
    ) -> None:
        self.smooth = smooth
        self.category = category
        self.cv = cv

    @all_or_nothing
    @with_callbacks
    def fit(self, X: Impressions | IntoDataFrame, y: ArrayLike) -> ClickRateEncoder:
        """Count the impressions and clicks of users and items.

        Parameters
        ----------
        X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table
        y : array-like of shape (n_rows,)
            Two classes, of which the second is a click.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If `X` is neither impressions nor a table of them.
        ValueError
            If `y` is missing or has not two classes, a parameter is out of range, or `category`
            names no attribute with one category an item.
        """
        context = self._init_callback_context()
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        self._fit(X, y)
        context.call_on_fit_task_end(
            estimator=self, X=X, y=y, reconstruction_attributes=self._fitted_attributes
        )
        return self

    @all_or_nothing
    @with_callbacks
    def fit_transform(self, X: Impressions | IntoDataFrame, y: ArrayLike) -> Impressions:
        """Fit, then add the columns to the same rows, none of which learns its own click.

        Parameters
        ----------
        X, y
            As in `fit`.

        Returns
        -------
        Impressions
            As of `transform`. Without times, ``fold`` holds the fold of each row's user.
        """
        context = self._init_callback_context()
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        rows, clicked = self._fit(X, y)
        if self._rates.timed:
            result = self._with_columns(rows, self._rates.of(rows))
        else:
            fold = fold_of_users(rows, self.cv)[rows.user]
            result = self._with_columns(rows, self._rates.out_of_fold(rows, clicked, fold))
            result = result.with_fold(fold if rows.fold is None else rows.fold)
        context.call_on_fit_task_end(
            estimator=self, X=X, y=y, reconstruction_attributes=self._fitted_attributes
        )
        return result

    def _fit(
        self, X: Impressions | IntoDataFrame, y: ArrayLike
    ) -> tuple[Impressions, NDArray[np.float64]]:
        """Set the fitted attributes; return the rows, and whether each was clicked."""
        self._validate_params()
        name = type(self).__name__
        rows = require_impressions(X, estimator_name=name)
        if len(rows) == 0:
            raise ValueError(f"{name} needs at least one row to fit, X has none.")
        codes, self.classes_ = check_target(y, len(rows), estimator_name=name)
        clicked = codes.astype(np.float64)
        check_columns(self, rows, reset=True)
        self._rates = Rates(rows, clicked, self.smooth, category_of(rows.catalog, self.category))
        self.smooth_ = {of: s.strength for of, s in self._rates.smoothing.items()}
        self.click_rate_ = float(clicked.mean())
        columns = dict.fromkeys(self._rates.names, np.zeros(0))
        self._columns_out = replace(rows[:0], context={**rows[:0].context, **columns}).columns
        return rows, clicked

    def transform(self, X: Impressions | IntoDataFrame) -> Impressions:
        """Add the columns, made of the events of `fit` before each row.

        Parameters
        ----------
        X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table

        Returns
        -------
        Impressions
            The same rows with further context columns. Users and items that `fit` did not see
            have zeros.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `fit` was not called before.
        TypeError
            If ids of users or items are strings and those of `fit` integers, or the other way
            round.
        ValueError
            If `X` lacks a context column of `fit`.
        """
        check_is_fitted(self)
        rows = require_impressions(X, estimator_name=type(self).__name__)
        check_columns(self, rows, reset=False)
        result = self._with_columns(rows, self._rates.of(rows))
        if self._rates.timed and rows.time is not None:
            return result
        return mark_own(result, self._rates.has_later_events(rows))

    def updated(self, X: Impressions | IntoDataFrame, y: ArrayLike) -> ClickRateEncoder:
        """Return an encoder that has counted all rows up to now. See `skmars.update`.

        Parameters
        ----------
        X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table
            All rows, those of the fit and later ones.
        y : array-like of shape (n_rows,)

        Returns
        -------
        ClickRateEncoder
            A copy, fitted to these rows; this encoder stays as it is.

        Raises
        ------
        ValueError
            If `X` lacks rows of a user whom the fit knew, or as in `fit`.
        """
        check_is_fitted(self)
        rows = require_impressions(X, estimator_name=type(self).__name__)
        check_columns(self, rows, reset=False)
        self._rates.activity.check_goes_on(rows, type(self).__name__)
        return copy(self).fit(rows, y)

    def _with_columns(self, X: Impressions, columns: dict[str, NDArray[np.float64]]) -> Impressions:
        return replace(X, context={**X.context, **columns})

    def _fitted_attributes(self) -> dict[str, Any]:
        private = ("_rates", "_columns_out")
        return {k: v for k, v in vars(self).items() if k.endswith("_") or k in private}

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        return tags
