"""The base class of encoders with pretrained torch models, and their common functions."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from skmars.data._content import file_digest
from skmars.data._images import load_image
from skmars.encoding._torchvision import repair_torchvision
from skmars.utils._base import DocLinkMixin

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

Identity = tuple[str | int | None, ...]
Estimator = TypeVar("Estimator", bound=BaseEstimator)

# Of longer images only the middle is looked at: models resize the shorter side.
_MAX_ASPECT = 16


@dataclass
class Loaded:
    """A model in evaluation mode on its device, and the function that prepares its input."""

    model: Any
    prepare: Any
    device: torch.device | None


# Encoders with the same model (text and image of one CLIP, say) share it.
_loaded: WeakValueDictionary[tuple[type, Identity, str], Loaded] = WeakValueDictionary()


class PretrainedEncoder(DocLinkMixin, TransformerMixin, BaseEstimator):
    """Base class of encoders whose pretrained model is loaded by the first `transform`.

    Pickles and clones do not hold the model; they load it again when they need it. Subclasses
    define `_identity` (what identifies the model), `_load`, and `_encoded` (vectors of a batch).
    """

    device: str
    batch_size: int
    _held: tuple[tuple[type, Identity, str], Loaded]

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Do nothing: the model is trained already."""
        return self

    def transform(self, X: Iterable[Any]) -> NDArray[np.float32]:
        """Return one vector a text or image.

        Parameters
        ----------
        X : iterable of str, or of PIL images, paths, bytes or uint8 arrays

        Returns
        -------
        ndarray of shape (n_items, width of the model), float32

        Raises
        ------
        ImportError
            If the library of the model is not installed.
        OSError
            If the model is neither on this machine nor can be downloaded.
        ValueError
            If the weights do not fit the model, or a parameter is out of range.
        """
        import torch

        loaded, items = self._get_model(), list(X)
        with torch.inference_mode():
            starts = range(0, len(items), self.batch_size)
            parts = [self._encoded(loaded, items[i : i + self.batch_size]) for i in starts]
        return np.concatenate([torch.as_tensor(part).float().cpu().numpy() for part in parts])

    def _identity(self) -> Identity:
        raise NotImplementedError

    def _load(self) -> Loaded:
        raise NotImplementedError

    def _encoded(self, loaded: Loaded, batch: list[Any]) -> torch.Tensor | NDArray[Any]:
        raise NotImplementedError

    def _fingerprint(self) -> Any:
        """Return all that the vectors depend on."""
        return self._identity()

    def _get_model(self) -> Loaded:
        key = (type(self), self._identity(), self.device)
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


def clone_sharing(estimator: Estimator, name: str) -> Estimator:
    """Clone an estimator, but share the parameter `name` with it instead of copying it."""
    light = copy.copy(estimator)
    setattr(light, name, None)
    new: Estimator = BaseEstimator.__sklearn_clone__(light)
    setattr(new, name, getattr(estimator, name))
    return new


def import_model_library(library: str, extra: str) -> ModuleType:
    """Import a library of models; repair a broken torchvision, on which it depends, before.

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


@contextmanager
def obtaining(model: str, offline: str) -> Iterator[None]:
    """Raise an OSError that says what to do offline, if a model can't be loaded in the block."""
    try:
        yield
    except Exception as error:  # the hub's errors have no common base
        lines = str(error).splitlines()
        reason = lines[0].rstrip(".") if lines else type(error).__name__
        raise OSError(
            f"{model} was not found on this machine and could not be downloaded ({reason}). "
            f"Without a network, {offline}, or use the encoders that need no download: "
            "encoders=None."
        ) from error


def prepared_images(loaded: Loaded, images: Iterable[Any], prepare: Any) -> torch.Tensor:
    """Return a batch of images as the input tensor of a model."""
    import torch

    return torch.stack([prepare(_middle(load_image(x))) for x in images]).to(loaded.device)


def _middle(image: Image) -> Image:
    width, height = (min(side, _MAX_ASPECT * min(image.size)) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def weights_digest(path: str | os.PathLike[str]) -> str:
    """Return a digest of a file of weights; FileNotFoundError names it if it does not exist."""
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"The weights file {os.fspath(path)!r} does not exist. Pass the path of a file."
        )
    return file_digest(path).hex()
