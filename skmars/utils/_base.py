"""Mixins and decorators of all estimators: callbacks, documentation links, output containers."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import callback
from sklearn.base import TransformerMixin
from sklearn.utils._set_output import ADAPTERS_MANAGER, _get_output_config
from sklearn.utils.validation import check_is_fitted

# Address of the documentation, to which the diagrams of estimators link. Assign another one for a
# local build.
DOCUMENTATION = "https://skmars.readthedocs.io/stable"

# Steps of an epoch that a batch size of "auto" aims at; patience counts in epochs of so many.
STEPS_AN_EPOCH = 50

Method = TypeVar("Method", bound=Callable[..., Any])


def all_or_nothing(fit: Method) -> Method:
    """Decorate `fit` so that a failure leaves the attributes of the estimator unchanged.

    Apply it outside `with_callbacks`, which needs its attributes until callbacks are torn down.
    """

    @wraps(fit)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = dict(vars(self))
        try:
            return fit(self, *args, **kwargs)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    return guarded  # type: ignore[return-value]


def require_fitted(estimator: Any, attribute: str) -> None:
    """Raise NotFittedError unless `fit` has set an attribute.

    As `check_is_fitted`, which takes longer than short steps of a request do.
    """
    if attribute not in vars(estimator):
        check_is_fitted(estimator, attribute)


def with_callbacks(fit: Method) -> Method:
    """Apply scikit-learn's decorator of this name, which has no types, and keep those of `fit`."""
    return cast(Method, callback.with_callbacks(fit))


class DocLinkMixin:
    """Link the diagram of an estimator to the documentation. Must be the leftmost base class."""

    _doc_link_module = "skmars"
    _doc_link_template = "{documentation}/api/skmars.{folder}.{name}.html"

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        cls = type(self)
        folder = cls.__module__.split(".")[1]
        return {"documentation": DOCUMENTATION, "folder": folder, "name": cls.__name__}


class SkmarsMixin(DocLinkMixin, callback.CallbackSupportMixin):
    """Documentation link and callbacks."""


class ImpressionsTransformerMixin(TransformerMixin):
    """A transformer of impressions, which pass from step to step as they are.

    `set_output` and ``set_config(transform_output=...)`` concern plain arrays alone: a frame has no
    room for a catalogue, nor for what the folds of users see of it.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(auto_wrap_output_keys=None, **kwargs)

    def set_output(self, *, transform: str | None = None) -> Any:
        """Set the container in which `transform` returns plain arrays.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            None leaves it as it is.

        Returns
        -------
        self
        """
        if transform is not None:
            self._sklearn_output_config = {"transform": transform}
        return self

    def _as_output(self, array: NDArray[Any], X: Any) -> Any:
        """Return an array, computed from `X`, in the container that `set_output` chose."""
        container = _get_output_config("transform", self)["dense"]
        if container == "default":
            return array
        adapter = ADAPTERS_MANAGER.adapters[container]
        return adapter.create_container(array, X, columns=self.get_feature_names_out)  # type: ignore


class ColumnsOutMixin:
    """Names of the output's columns: `_columns_out`, which `fit` sets; None for plain arrays."""

    _columns_out: list[str] | None

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Return the names of the output's columns.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Of plain arrays, checked against the names of fit.

        Returns
        -------
        ndarray of str
            The columns of the table of impressions; for plain arrays the name of the estimator
            with a number.
        """
        check_is_fitted(self)
        if self._columns_out is not None:
            return np.array(self._columns_out, dtype=object)
        names: NDArray[np.object_] = super().get_feature_names_out(input_features)  # type: ignore
        return names
