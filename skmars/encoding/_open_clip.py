"""Text and image models of OpenCLIP, which share one space."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data._images import load_image
from skmars.encoding._pretrained import (
    Loaded,
    PretrainedEncoder,
    import_model_library,
    unavailable,
    weights_digest,
)


class OpenClipEncoder(PretrainedEncoder):
    """The text or the image tower of an OpenCLIP model, as a scikit-learn transformer.

    Parameters
    ----------
    model : str
        Architecture, for example ``"ViT-B-32"``.
    pretrained : str, Path or None
        Name of published weights (a download), a file of weights, or None for random weights.
    modality : {"text", "image"}, default="image"
        Which tower.
    batch_size : int, default=64
    device : {"auto", "cpu", "cuda"}, default="auto"
    random_state : int, default=0
        Seed of random weights.

    Examples
    --------
    >>> encoder = OpenClipEncoder("ViT-B-32", "laion2b_s34b_b79k", modality="text")
    >>> vectors = encoder.transform(["a toy train"])  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str,
        pretrained: str | os.PathLike[str] | None,
        *,
        modality: str = "image",
        batch_size: int = 64,
        device: str = "auto",
        random_state: int = 0,
    ) -> None:
        self.model = model
        self.pretrained = pretrained
        self.modality = modality
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state

    @property
    def _content(self) -> str:
        return self.modality

    def transform(self, X: Iterable[Any]) -> NDArray[np.float32]:
        """Return one unit vector a text or image.

        Parameters
        ----------
        X : iterable of str, or of PIL images, paths, bytes or uint8 arrays

        Returns
        -------
        ndarray of shape (n_items, width of the model), float32

        Raises
        ------
        ImportError
            If open_clip is not installed.
        OSError
            If the weights are neither on this machine nor can be downloaded.
        ValueError
            If `modality` is neither "text" nor "image".
        """
        import torch

        if self.modality not in ("text", "image"):
            raise ValueError(f"modality must be 'text' or 'image', got {self.modality!r}.")
        loaded, items, parts = self._get_model(), list(X), []
        preprocess, tokenize = loaded.prepare
        with torch.inference_mode():
            for start in range(0, len(items), self.batch_size):
                batch = items[start : start + self.batch_size]
                if self.modality == "text":
                    tokens = tokenize(batch).to(loaded.device)
                    vectors = loaded.model.encode_text(tokens, normalize=True)
                else:
                    pixels = torch.stack([preprocess(load_image(x)) for x in batch])
                    vectors = loaded.model.encode_image(pixels.to(loaded.device), normalize=True)
                parts.append(vectors.float().cpu().numpy())
        return np.concatenate(parts)

    def _weights(self) -> str | None:
        return None if self.pretrained is None else os.fspath(self.pretrained) or None

    def _fingerprint(self) -> Any:
        weights = self._weights()
        if weights is None:
            return self.model, self.modality, self.random_state
        # A tag holds neither a folder nor an extension.
        if os.path.isfile(weights) or os.path.dirname(weights) or "." in weights:
            weights = weights_digest(weights)
        return self.model, self.modality, weights

    def _model_key(self) -> Hashable:
        return self.model, self._weights(), self.random_state

    def _load(self) -> Loaded:
        import torch

        from skmars.utils._torch import DrawFrom, resolve_device

        open_clip = import_model_library("open_clip", "image")
        device, weights = resolve_device(self.device), self._weights()
        try:
            with DrawFrom(torch.Generator().manual_seed(self.random_state)):
                model, _, preprocess = open_clip.create_model_and_transforms(
                    self.model, pretrained=weights, device=device
                )
            tokenize = open_clip.get_tokenizer(self.model)
        except Exception as error:  # the hub's errors have no common base
            raise unavailable(
                f"The OpenCLIP model {self.model!r} with weights {weights!r}",
                error,
                "pass a file of weights: 'open_clip:MODEL/FILE'",
            ) from error
        return Loaded(model.eval(), (preprocess, tokenize), device)
