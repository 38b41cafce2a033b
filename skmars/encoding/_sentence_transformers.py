"""Text (and CLIP image) models of sentence-transformers."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.encoding._content import file_digest
from skmars.encoding._pretrained import (
    Loaded,
    PretrainedEncoder,
    clone_sharing,
    import_model_library,
    unavailable,
)


class SentenceTransformerEncoder(PretrainedEncoder):
    """A `SentenceTransformer` as a scikit-learn transformer.

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

    def __init__(self, model: Any, *, batch_size: int = 64, device: str = "auto") -> None:
        self.model = model
        self.batch_size = batch_size
        self.device = device

    def transform(self, X: Iterable[Any]) -> NDArray[np.float32]:
        """Return one vector a text (or PIL image, where the model takes images).

        Parameters
        ----------
        X : iterable of str

        Returns
        -------
        ndarray of shape (n_texts, dimension of the model), float32

        Raises
        ------
        ImportError
            If sentence-transformers is not installed.
        OSError
            If the model is not on this machine and can't be downloaded.
        """
        loaded = self._get_model()
        options = {} if loaded.device is None else {"device": str(loaded.device)}
        vectors = loaded.model.encode(
            list(X), batch_size=self.batch_size, show_progress_bar=False, **options
        )
        return np.asarray(vectors, dtype=np.float32)

    def _named(self) -> str | None:
        named = isinstance(self.model, str | os.PathLike)
        return os.fspath(self.model) if named else None

    def _fingerprint(self) -> Any:
        name = self._named()
        if name is None:
            return self.model
        return file_digest(name) if os.path.isdir(name) else name

    def _model_key(self) -> Hashable:
        return self._named() or id(self.model)

    def _load(self) -> Loaded:
        name = self._named()
        if name is None and self.device == "auto":
            return Loaded(self.model, list, None)
        from skmars.utils._torch import resolve_device

        device = resolve_device(self.device)
        if name is None:
            return Loaded(self.model, list, device)
        library = import_model_library("sentence_transformers", "text")
        try:
            model = library.SentenceTransformer(name, device=str(device))
        except Exception as error:  # the hub's errors have no common base
            raise unavailable(
                f"The sentence-transformers model {name!r}",
                error,
                "pass the folder of a saved model (SentenceTransformer(...).save(folder) where "
                "there is one) or a SentenceTransformer",
            ) from error
        return Loaded(model, list, device)

    def __sklearn_clone__(self) -> SentenceTransformerEncoder:
        return clone_sharing(self, "model")
