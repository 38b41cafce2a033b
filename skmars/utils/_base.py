"""What all estimators of skmars share: callbacks, documentation links, frame output."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from numpy.typing import NDArray
from sklearn import callback
from sklearn.base import TransformerMixin
from sklearn.utils._set_output import ADAPTERS_MANAGER, _get_output_config

# Where the documentation is. Assign another place (a build on this machine, say) and the links
# in the diagrams of estimators lead there.
DOCUMENTATION = "https://skmars.readthedocs.io/stable"

# Steps of an epoch that a batch size of "auto" aims at; patience counts in epochs of so many.
STEPS_AN_EPOCH = 50

Method = TypeVar("Method", bound=Callable[..., Any])


def all_or_nothing(fit: Method) -> Method:
    """Let a fit that fails leave the estimator as it was, columns included.

    Stands outside `with_callbacks`, which needs what it set until its callbacks are torn down.
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


def with_callbacks(fit: Method) -> Method:
    """Apply scikit-learn's decorator of this name, which has no types, and keep those of `fit`."""
    return cast(Method, callback.with_callbacks(fit))


class DocLinkMixin:
    """The link to the documentation in the diagram of an estimator. Stands left of the others."""

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
        """Return what was made of the plain array or table `X` in the container asked for."""
        container = _get_output_config("transform", self)["dense"]
        if container == "default":
            return array
        adapter = ADAPTERS_MANAGER.adapters[container]
        return adapter.create_container(array, X, columns=self.get_feature_names_out)  # type: ignore
