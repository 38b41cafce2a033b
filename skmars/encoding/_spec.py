"""Turn each value that `encoders` may hold into a scikit-learn transformer."""

from __future__ import annotations

import os
from typing import Any

from sklearn.pipeline import Pipeline

from skmars.encoding._content import Kind
from skmars.encoding._image import ImageStatisticsEncoder
from skmars.encoding._open_clip import OpenClipEncoder
from skmars.encoding._sentence_transformers import SentenceTransformerEncoder
from skmars.encoding._text import TfidfEncoder
from skmars.encoding._timm import TimmImageEncoder

PRECOMPUTED = "precomputed"


def default_encoder(name: str, seed: int) -> Any:
    """Return the default encoder, which needs no download, for "text" or "image"."""
    return TfidfEncoder(random_state=seed) if name == "text" else ImageStatisticsEncoder()


def as_transformer(name: str, spec: Any, *, batch_size: int, device: str, seed: int) -> Any:
    """Return the transformer that `spec` stands for, or "precomputed".

    Raises
    ------
    TypeError, ValueError
        If it stands for none; the message lists the valid values.
    """
    if hasattr(spec, "transform") and not isinstance(spec, type):
        return spec
    options: dict[str, Any] = {"batch_size": batch_size, "device": device}
    if isinstance(spec, str):
        if spec == PRECOMPUTED:
            return spec
        library, _, rest = spec.partition(":")
        model, slash, weights = rest.partition("/")
        if library in ("timm", "open_clip") and not model:
            raise ValueError(
                f"encoders[{name!r}]={spec!r} names no model. Write '{library}:MODEL/WEIGHTS'."
            )
        if library == "timm":
            return TimmImageEncoder(model, weights=weights or None, **options)
        if library == "open_clip":
            if not slash:
                raise ValueError(
                    f"encoders[{name!r}]={spec!r} names no weights. Write "
                    f"'open_clip:{model}/TAG', 'open_clip:{model}/FILE', or 'open_clip:{model}/' "
                    "for random ones."
                )
            tower = "image" if name == "image" else "text"
            return OpenClipEncoder(
                model, weights or None, modality=tower, random_state=seed, **options
            )
    if (
        (isinstance(spec, str) and spec)
        or isinstance(spec, os.PathLike)
        or (hasattr(spec, "encode") and not isinstance(spec, str | type))
    ):
        return SentenceTransformerEncoder(spec, **options)
    raise TypeError(
        f"encoders[{name!r}] must be a scikit-learn transformer, a SentenceTransformer or its name "
        "or folder, 'open_clip:MODEL/WEIGHTS', 'timm:MODEL/FILE' or 'precomputed'; got "
        f"{spec!r}."
    )


def content_kind(name: str, transformer: Any) -> Kind:
    """Return the kind of content that an encoder takes: by its attribute, else by the modality."""
    while isinstance(transformer, Pipeline) and transformer.steps:
        transformer = transformer.steps[0][1]
    kinds: dict[str, Kind] = {"text": "text", "image": "image"}
    return kinds.get(getattr(transformer, "_content", name), "raw")
