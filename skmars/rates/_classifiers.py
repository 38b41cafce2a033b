"""The simplest click models: the click rate of the item, and logistic regression on click rates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import Tags
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from skmars.data import Impressions
from skmars.data._checks import check_columns, check_range, check_target, require_impressions
from skmars.data._columns import CLICK_LOGIT
from skmars.rates._encoder import ClickRateEncoder
from skmars.retrieval._out_of_fold import fold_of_users
from skmars.utils._base import (
    ColumnsOutMixin,
    ImpressionsTransformerMixin,
    SkmarsMixin,
    all_or_nothing,
    with_callbacks,
)
from skmars.utils._parameters import Number

SMOOTH: list[Any] = [StrOptions({"auto"}), Number(Real, 0, None, closed="neither")]
# Values of a string column that fewer rows have are one category.
LEAST_ROWS = 10


class _RateModel(SkmarsMixin, ClassifierMixin, BaseEstimator, ABC):
    """A classifier of impressions by a `ClickRateEncoder`."""

    classes_: NDArray[Any]

    @all_or_nothing
    @with_callbacks
    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Count clicks, and learn what they tell.

        Parameters
        ----------
        X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table
        y : array-like of shape (n_rows,)
            Two classes.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If `X` is neither impressions nor a table of them.
        ValueError
            If `y` is missing or has not two classes, a context column holds NaN or infinite
            numbers, or a parameter is out of range.
        """
        self._validate_params()
        context = self._init_callback_context()
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        rows = require_impressions(X, estimator_name=type(self).__name__)
        check_target(y, len(rows), estimator_name=type(self).__name__)
        self._fit(rows, y)
        check_columns(self, rows, reset=True)
        self.classes_ = self.encoder_.classes_
        context.call_on_fit_task_end(
            estimator=self,
            X=X,
            y=y,
            reconstruction_attributes=self._fitted_attributes,
        )
        return self

    def _fitted_attributes(self) -> dict[str, Any]:
        private = ("_design", "_columns_out")
        return {k: v for k, v in vars(self).items() if k.endswith("_") or k in private}

    @abstractmethod
    def _fit(self, X: Impressions, y: ArrayLike) -> None:
        """Set `encoder_`, and what else is fitted."""

    @abstractmethod
    def _logit(self, X: Impressions) -> NDArray[np.float64]:
        """Return the log-odds of a click for rows with click rates."""

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return the logit of the second class.

        Parameters
        ----------
        X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table

        Returns
        -------
        ndarray of shape (n_rows,), float64

        Raises
        ------
        TypeError, ValueError
            As `ClickRateEncoder.transform`.
        """
        check_is_fitted(self)
        rows = require_impressions(X, estimator_name=type(self).__name__)
        check_columns(self, rows, reset=False)
        return self._logit(self.encoder_.transform(rows))

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class, in the order of ``classes_``.

        Parameters
        ----------
        X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table

        Returns
        -------
        ndarray of shape (n_rows, 2), float64
        """
        positive = expit(self.decision_function(X))
        return np.column_stack([1 - positive, positive])

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the more probable class.

        Parameters
        ----------
        X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        positive = self.decision_function(X) > 0
        return self.classes_[positive.astype(np.int64)]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.classifier_tags.multi_class = False
        return tags


class PopularityClassifier(_RateModel):
    """Predict the smoothed click rate of the item, whoever the user is.

    The least that a click model has to beat: it knows nothing of the user.

    Parameters
    ----------
    smooth : float or "auto", default="auto"
        So many impressions, clicked at the rate of all rows, are added to those of each item. See
        `ClickRateEncoder`.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    encoder_ : ClickRateEncoder
        Fitted.
    n_features_in_, feature_names_in_ : int, ndarray of str
        Number and names of the columns of the rows of `fit`.

    See Also
    --------
    ClickRateClassifier : Also knows the user.

    Examples
    --------
    >>> from skmars import make_small_shop
    >>> from skmars.rates import PopularityClassifier
    >>> X, y = make_small_shop(n_users=60, random_state=0)
    >>> PopularityClassifier().fit(X, y).predict_proba(X[:3]).shape
    (3, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"smooth": SMOOTH}

    def __init__(self, *, smooth: float | str = "auto") -> None:
        self.smooth = smooth

    def _fit(self, X: Impressions, y: ArrayLike) -> None:
        self.encoder_ = ClickRateEncoder(smooth=self.smooth, category=None).fit(X, y)

    def _logit(self, X: Impressions) -> NDArray[np.float64]:
        return np.asarray(X.context["item_click_logit"] + logit(self.encoder_.click_rate_))


class ClickRateClassifier(ColumnsOutMixin, ImpressionsTransformerMixin, _RateModel):
    """Logistic regression on the click rates of user and item, and on the context columns.

    A strong baseline for a small fraction of the work of a network: who clicks a lot, and what is
    clicked a lot. As a step of a pipeline it adds its logit as the context column ``click_logit``,
    which `DINClassifier` weighs against its own (late fusion, as in stacking [1]_).

    Parameters
    ----------
    C : float, default=1.0
        Inverse of the regularisation, see :class:`~sklearn.linear_model.LogisticRegression`.
    smooth : float or "auto", default="auto"
        See `ClickRateEncoder`.
    category : str or None, default="auto"
        See `ClickRateEncoder`.
    cv : int, default=5
        Number of folds of users. In `fit_transform` a row's logit comes from a regression that was
        fitted without the users of its fold. See also `ClickRateEncoder`.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    encoder_ : ClickRateEncoder
        Fitted.
    model_ : LogisticRegression
        Fitted to the columns in `columns_`.
    columns_ : list of str
        Names of what the regression weighs: numeric columns, click rates among them, at unit
        variance; and each value of a string column that ten rows have.
    n_features_in_, feature_names_in_ : int, ndarray of str
        Number and names of the columns of the rows of `fit`.

    See Also
    --------
    skmars.compare : Whether a network does better on your data.

    References
    ----------
    .. [1] Wolpert, "Stacked Generalization", Neural Networks 5, 1992.

    Examples
    --------
    >>> from skmars import make_small_shop
    >>> from skmars.rates import ClickRateClassifier
    >>> X, y = make_small_shop(n_users=60, random_state=0)
    >>> model = ClickRateClassifier().fit(X, y)
    >>> model.columns_
    ['user_rate', 'item_rate', 'user_click_logit', 'user_log_impressions', 'item_click_logit',
     'item_log_impressions']
    >>> model.predict_proba(X[:3]).shape
    (3, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "C": [Number(Real, 0, None, closed="neither")],
        "smooth": SMOOTH,
        "category": [str, None],
        "cv": [Number(Integral, 2, 100, closed="both")],
    }

    def __init__(
        self,
        *,
        C: float = 1.0,
        smooth: float | str = "auto",
        category: str | None = "auto",
        cv: int = 5,
    ) -> None:
        self.C = C
        self.smooth = smooth
        self.category = category
        self.cv = cv

    @all_or_nothing
    def fit_transform(self, X: Any, y: ArrayLike) -> Impressions:
        """Fit, then add the logit to the same rows, out of fold.

        Parameters
        ----------
        X, y
            As in `fit`.

        Returns
        -------
        Impressions
            The same rows with the context column ``click_logit``. Without times, ``fold`` holds
            the fold of each row's user.
        """
        rows = require_impressions(X, estimator_name=type(self).__name__)
        self.fit(rows, y)
        rated = self.encoder_.fit_transform(rows, y)
        matrix, y = self._design(rated), np.asarray(y)
        fold = fold_of_users(rows, self.cv)[rows.user]
        column = self.model_.decision_function(matrix)
        mean = column.mean()
        for k in np.unique(fold):
            own = fold == k
            if len(np.unique(y[~own])) < 2:
                column[own] = mean  # the other folds tell nothing of clicks
                continue
            score = self._regression().fit(matrix[~own], y[~own]).decision_function(matrix)
            # The click rate of the other folds is low where that of this fold is high: without
            # one mean for all folds, the means would tell.
            column[own] = score[own] - score.mean() + mean
        return self._with_column(rows, column).with_fold(rated.fold)

    def transform(self, X: Any) -> Impressions:
        """Add the logit of the second class to the rows.

        Parameters
        ----------
        X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table

        Returns
        -------
        Impressions
            The same rows with the context column ``click_logit``.
        """
        check_is_fitted(self)
        rows = require_impressions(X, estimator_name=type(self).__name__)
        check_columns(self, rows, reset=False)
        rated = self.encoder_.transform(rows)
        return self._with_column(rows, self._logit(rated)).with_fold(rated.fold)

    def updated(self, X: Any, y: ArrayLike) -> ClickRateClassifier:
        """Return a classifier whose click rates are those of all rows up to now.

        The regression stays, so that a network that has learnt to read its logit can go on. See
        `skmars.update`.

        Parameters
        ----------
        X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table
            All rows, those of the fit and later ones.
        y : array-like of shape (n_rows,)

        Returns
        -------
        ClickRateClassifier
            A fitted copy; this classifier stays as it is.

        Raises
        ------
        ValueError
            If `X` lacks rows of a user whom the fit knew, or as in `fit`.
        """
        check_is_fitted(self)
        rows = require_impressions(X, estimator_name=type(self).__name__)
        check_columns(self, rows, reset=False)
        new = copy(self)
        new.encoder_ = self.encoder_.updated(rows, y)
        return new

    def _fit(self, X: Impressions, y: ArrayLike) -> None:
        self.encoder_ = ClickRateEncoder(smooth=self.smooth, category=self.category, cv=self.cv)
        rated = self.encoder_.fit_transform(X, y)
        self._design = _Design(rated)
        self.columns_ = self._design.names
        self.model_ = self._regression().fit(self._design(rated), y)
        self._columns_out = self._with_column(X[:0], np.zeros(0)).columns

    def _regression(self) -> LogisticRegression:
        return LogisticRegression(C=self.C, max_iter=1000)

    def _logit(self, X: Impressions) -> NDArray[np.float64]:
        if len(X) == 0:  # which scikit-learn refuses
            return np.zeros(0)
        return np.asarray(self.model_.decision_function(self._design(X)))

    @staticmethod
    def _with_column(X: Impressions, column: NDArray[np.float64]) -> Impressions:
        return replace(X, context={**X.context, CLICK_LOGIT: column})


class _Design:
    """The matrix of a regression: numeric columns at unit variance, strings as indicators."""

    def __init__(self, X: Impressions) -> None:
        self.numeric = [k for k, v in X.context.items() if v.dtype.kind in "iuf"]
        self.words = [k for k in X.context if k not in self.numeric]
        # What a user configures as output of all transformers must not reach the matrix.
        self.scaler = StandardScaler().set_output(transform="default").fit(self._numbers(X))
        self.names = list(self.numeric)
        if self.words:
            self.one_hot = OneHotEncoder(
                handle_unknown="infrequent_if_exist", min_frequency=LEAST_ROWS
            )
            self.one_hot.set_output(transform="default").fit(self._strings(X))
            self.names += self.one_hot.get_feature_names_out(self.words).tolist()

    def __call__(self, X: Impressions) -> Any:
        scaled = np.asarray(self.scaler.transform(self._numbers(X)))
        if not self.words:
            return scaled
        return sparse.hstack([scaled, self.one_hot.transform(self._strings(X))], format="csr")

    def _numbers(self, X: Impressions) -> NDArray[np.float64]:
        columns = []
        for name in self.numeric:
            column = X.context[name]
            if column.dtype.kind not in "iuf":
                raise ValueError(f"column {name!r} of X held numbers in fit, and now strings.")
            wrong = ~np.isfinite(column)
            if wrong.any():
                raise ValueError(
                    f"column {name!r} of X holds {np.count_nonzero(wrong)} numbers that are NaN or "
                    f"infinite (first: row {int(np.argmax(wrong))}). Fill them, or drop the column."
                )
            columns.append(column.astype(np.float64))
        matrix = np.column_stack(columns)
        check_range(matrix, self.numeric)
        return matrix

    def _strings(self, X: Impressions) -> NDArray[Any]:
        columns = [X.context[name].astype(str).astype(object) for name in self.words]
        return np.column_stack(columns)
