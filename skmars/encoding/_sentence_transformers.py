"""Text (and CLIP image) encoders with models of sentence-transformers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skmars.data._content import file_digest
from skmars.encoding._pretrained import (
    Identity,
    Loaded,
    PretrainedEncoder,
    clone_sharing,
    import_model_library,
    obtaining,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class SentenceTransformerEncoder(PretrainedEncoder):
    """A `SentenceTransformer` as a scikit-learn transformer of texts (or images, if it takes them).

    Parameters
    ----------
    model : str, Path or SentenceTransformer
        Name on the Hugging Face hub, folder, or the model itself. Named models are loaded when
        they are needed, and are not part of pickles.
    batch_size : int, default=64
    device : {"auto", "cpu", "cuda"}, default="auto"
        "auto" leaves a model that was passed itself on its device.

    Examples
    --------
    >>> encoder = SentenceTransformerEncoder("all-MiniLM-L6-v2")
    >>> vectors = encoder.transform(["a toy train", "a cook book"])  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | SentenceTransformer,
        *,
        batch_size: int = 64,
        device: str = "auto",
    ) -> None:
        self.model = model
        self.batch_size = batch_size
        self.device = device

    def _encoded(self, loaded: Loaded, batch: list[Any]) -> NDArray[Any]:
        options = {} if loaded.device is None else {"device": str(loaded.device)}
        return np.asarray(
            loaded.model.encode(batch, batch_size=len(batch), show_progress_bar=False, **options)
        )

    def _get_model(self) -> Loaded:
        return self._load() if self._name() is None else super()._get_model()

    def _name(self) -> str | None:
        return os.fspath(self.model) if isinstance(self.model, str | os.PathLike) else None

    def _identity(self) -> Identity:
        name = self._name()
        return (file_digest(name).hex() if name and os.path.isdir(name) else name,)

    def _fingerprint(self) -> Any:
        if self._name() is not None:
            return self._identity()
        self.transform(["a"])  # the first call makes some of the model's settings
        return self.model

    def _load(self) -> Loaded:
        name = self._name()
        if name is None and self.device == "auto":
            return Loaded(self.model, list, None)
        from skmars.utils._torch import resolve_device

        device = resolve_device(self.device)
        if name is None:
            return Loaded(self.model, list, device)
        library = import_model_library("sentence_transformers", "text")
        with obtaining(
            f"The sentence-transformers model {name!r}",
            "pass the folder of a saved model (SentenceTransformer(...).save(folder) where there "
            "is one) or a SentenceTransformer",
        ):
            return Loaded(library.SentenceTransformer(name, device=str(device)), list, device)

    def __sklearn_clone__(self) -> SentenceTransformerEncoder:
        return clone_sharing(self, "model")
