"""Image encoders with models of timm."""

from __future__ import annotations

import os
from collections.abc import Mapping
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


class TimmImageEncoder(PretrainedEncoder):
    """Encode images by the pooled features of a timm model, as a scikit-learn transformer.

    Parameters
    ----------
    model : str
        Name of the architecture, for example ``"tf_efficientnet_lite0"``.
    weights : str or Path, default=None
        File of weights (``.pth``, ``.pt``, ``.bin``, ``.safetensors``). Parameters are matched
        by name or, where another implementation named them differently, by order and shape.
        None takes the weights that timm publishes for the model (a download).
    batch_size : int, default=64
    device : {"auto", "cpu", "cuda"}, default="auto"

    Examples
    --------
    >>> encoder = TimmImageEncoder("tf_efficientnet_lite0", weights="efficientnet-lite0.pth")
    >>> vectors = encoder.transform(["cover.jpg"])  # doctest: +SKIP
    """

    _content = "image"

    def __init__(
        self,
        model: str,
        *,
        weights: str | os.PathLike[str] | None = None,
        batch_size: int = 64,
        device: str = "auto",
    ) -> None:
        self.model = model
        self.weights = weights
        self.batch_size = batch_size
        self.device = device

    def _encoded(self, loaded: Loaded, batch: list[Any]) -> torch.Tensor:
        return loaded.model(prepared_images(loaded, batch, loaded.prepare))

    def _identity(self) -> Identity:
        return self.model, None if self.weights is None else weights_digest(self.weights)

    def _load(self) -> Loaded:
        import torch

        from skmars.utils._torch import DrawFrom, resolve_device

        timm = import_model_library("timm", "image")
        device = resolve_device(self.device)
        # Weights drawn at random are overwritten; torch's global generator must not change.
        with (
            obtaining(
                f"The timm model {self.model!r}",
                "pass a file of weights: TimmImageEncoder(model, weights='FILE') or "
                "'timm:MODEL/FILE'",
            ),
            DrawFrom(torch.Generator()),
        ):
            model = timm.create_model(self.model, pretrained=self.weights is None, num_classes=0)
        if self.weights is not None:
            load_weights(model, read_weights(self.weights), os.fspath(self.weights))
        config = timm.data.resolve_model_data_config(model)
        prepare = timm.data.create_transform(**config, is_training=False)
        return Loaded(model.eval().to(device), prepare, device)


def read_weights(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file of weights into tensors by name, without running any code in it."""
    import torch

    if os.fspath(path).endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(state.get(key), Mapping):
            state = state[key]
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def load_weights(model: Any, state: Mapping[str, Any], source: str) -> None:
    """Load weights into a model without classifier, matched by name, else by order and shape.

    Raises
    ------
    ValueError
        If they fit neither way; the message names the first parameter that does not.
    """
    own = model.state_dict()
    if own.keys() <= state.keys():
        chosen = {name: state[name] for name in own}
    else:
        # Scalars count batches: they don't matter in evaluation, and old files lack them.
        names = [name for name, tensor in own.items() if tensor.ndim]
        tensors = [tensor for tensor in state.values() if tensor.ndim]
        for name, tensor in zip(names, tensors):
            if own[name].shape != tensor.shape:
                raise ValueError(
                    f"{source} does not fit the model, neither by name nor by order: {name} has "
                    f"shape {tuple(own[name].shape)}, the file {tuple(tensor.shape)} in its place."
                )
        if len(tensors) < len(names):
            raise ValueError(
                f"{source} does not fit the model: it holds {len(tensors)} parameters, the model "
                f"has {len(names)} (first missing: {names[len(tensors)]})."
            )
        chosen = {**own, **dict(zip(names, tensors))}
    try:
        model.load_state_dict(chosen)
    except RuntimeError as error:
        raise ValueError(f"{source} does not fit the model: {error}") from error
