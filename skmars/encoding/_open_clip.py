"""Text and image encoders of OpenCLIP models, which share one space."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from skmars.encoding._pretrained import (
    Identity,
    Loaded,
    PretrainedEncoder,
    import_model_library,
    obtaining,
    prepared_images,
    weights_digest,
)

if TYPE_CHECKING:
    import torch


class OpenClipEncoder(PretrainedEncoder):
    """The text or the image tower of an OpenCLIP model, as a scikit-learn transformer.

    Vectors have unit length.

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

    def _encoded(self, loaded: Loaded, batch: list[Any]) -> torch.Tensor:
        preprocess, tokenize = loaded.prepare
        if self.modality == "text":
            return loaded.model.encode_text(tokenize(batch).to(loaded.device), normalize=True)
        if self.modality == "image":
            pixels = prepared_images(loaded, batch, preprocess)
            return loaded.model.encode_image(pixels, normalize=True)
        raise ValueError(f"modality must be 'text' or 'image', got {self.modality!r}.")

    def _weights(self) -> str | None:
        return None if self.pretrained is None else os.fspath(self.pretrained) or None

    def _identity(self) -> Identity:
        weights = self._weights()
        if weights is None:
            return self.model, None, self.random_state
        # Names of published weights have neither a folder nor an extension.
        if os.path.isfile(weights) or os.path.dirname(weights) or "." in weights:
            weights = weights_digest(weights)
        return self.model, weights

    def _fingerprint(self) -> Any:
        return self.modality, *self._identity()

    def _load(self) -> Loaded:
        import torch

        from skmars.utils._torch import DrawFrom, resolve_device

        open_clip = import_model_library("open_clip", "image")
        device, weights = resolve_device(self.device), self._weights()
        with obtaining(
            f"The OpenCLIP model {self.model!r} with weights {weights!r}",
            "pass a file of weights: 'open_clip:MODEL/FILE'",
        ):
            with DrawFrom(torch.Generator().manual_seed(self.random_state)):
                model, _, preprocess = open_clip.create_model_and_transforms(
                    self.model, pretrained=weights, device=device
                )
            tokenize = open_clip.get_tokenizer(self.model)
        return Loaded(model.eval(), (preprocess, tokenize), device)
