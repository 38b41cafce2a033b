"""Click prediction for users with hardly any history, as scikit-learn estimators.

skmars implements MARS (Modality-Aligned Retrieval for Sequence Augmented CTR
Prediction, arXiv 2509.01184). The main path, from a log and a catalogue to click
probabilities, is one scikit-learn pipeline::

    Impressions -> MultimodalEncoder -> SteinAligner -> SequenceRetrievalAugmenter -> DINClassifier
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0.dev0"

# Public names and the folder that each lives in, in the order in which the data flows.
# Resolved on first use, so that `import skmars` costs next to nothing.
_PUBLIC = {
    "ItemCatalog": "data",
    "Impressions": "data",
    "MultimodalEncoder": "encoding",
    "SteinAligner": "alignment",
    "SequenceRetrievalAugmenter": "retrieval",
    "RandomItems": "augmentation",
    "RandomSequence": "augmentation",
    "RepeatPad": "augmentation",
    "CropMaskReorder": "augmentation",
    "CropMaskReorderSubstituteInsert": "augmentation",
    "CL4SRec": "augmentation",
    "CoSeRec": "augmentation",
    "BASRec": "augmentation",
    "DINClassifier": "ctr",
    "LeaveLastOut": "model_selection",
    "leave_last_out": "model_selection",
    "gauc_score": "metrics",
    "relative_improvement": "metrics",
    "load_movielens_1m": "datasets",
    "load_amazon_reviews": "datasets",
    "make_multimodal_ctr": "datasets",
}

__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(import_module(f"skmars.{_PUBLIC[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'skmars' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
