"""What the encoders around pretrained torch models share."""

from __future__ import annotations

import copy
import os
from collections.abc import Hashable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Self
from weakref import WeakValueDictionary

from sklearn.base import BaseEstimator, TransformerMixin

from skmars.encoding._content import file_digest
from skmars.encoding._torchvision import repair_torchvision
from skmars.utils._base import DocLinkMixin


@dataclass
class Loaded:
    """A model in evaluation mode on its device, and what turns raw content into its input."""

    model: Any
    prepare: Any
    device: Any


# Two encoders with the same model (text and image of one CLIP, say) hold it once.
_loaded: WeakValueDictionary[Hashable, Loaded] = WeakValueDictionary()


class PretrainedEncoder(DocLinkMixin, TransformerMixin, BaseEstimator):
    """A transformer whose model is loaded when the first content needs it.

    The model is no part of pickles and clones: they load it again, if they need it at all.
    Subclasses say what identifies the model, `_model_key`, and how it is loaded, `_load`.
    """

    device: str
    _held: tuple[Hashable, Loaded]

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Do nothing: the model is trained already."""
        return self

    def _model_key(self) -> Hashable:
        raise NotImplementedError

    def _load(self) -> Loaded:
        raise NotImplementedError

    def _get_model(self) -> Loaded:
        key = (type(self), self._model_key(), self.device)
        if self.__dict__.get("_held", (None,))[0] != key:
            loaded = _loaded.get(key)
            if loaded is None:
                loaded = _loaded[key] = self._load()
            self._held = (key, loaded)
        return self._held[1]

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_held", None)
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        return tags


def clone_sharing(estimator: Any, name: str) -> Any:
    """Clone an estimator, but hand the parameter `name` on by reference, not as a deep copy."""
    light = copy.copy(estimator)
    setattr(light, name, None)
    new = BaseEstimator.__sklearn_clone__(light)
    setattr(new, name, getattr(estimator, name))
    return new


def import_model_library(library: str, extra: str) -> Any:
    """Import a library of models, after making sure that torchvision does not break it.

    Raises
    ------
    ImportError
        If the library is not installed; the message says how to install it.
    """
    try:
        repair_torchvision()
        return import_module(library)
    except ImportError as error:
        raise ImportError(
            f"This encoder needs {library}, which can't be imported ({error}). "
            f"Install it: pip install 'skmars[{extra}]'"
        ) from error


def unavailable(model: str, error: Exception, offline: str) -> OSError:
    """Return the error for a model that is neither here nor can be downloaded."""
    lines = str(error).splitlines()
    reason = lines[0].rstrip(".") if lines else type(error).__name__
    return OSError(
        f"{model} was not found on this machine and could not be downloaded ({reason}). Without "
        f"a network, {offline}, or use the encoders that need no download: encoders=None."
    )


def weights_digest(path: str | os.PathLike[str]) -> str:
    """Digest a file of weights; FileNotFoundError says which one is not there."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"The weights file {os.fspath(path)!r} does not exist.")
    return file_digest(path)
