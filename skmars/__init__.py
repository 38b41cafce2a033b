"""Click prediction for users with hardly any history, as scikit-learn estimators.

skmars implements MARS (Modality-Aligned Retrieval for Sequence Augmented CTR
Prediction, arXiv 2509.01184). The main path, from a log and a catalogue to click
probabilities, is one scikit-learn pipeline::

    Impressions -> MultimodalEncoder -> SteinAligner -> SequenceRetrievalAugmenter -> DINClassifier
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names for type checkers, which do not see those that are lazy
    from skmars.alignment import SteinAligner as SteinAligner
    from skmars.ctr import DINClassifier as DINClassifier
    from skmars.data import Impressions as Impressions
    from skmars.data import ItemCatalog as ItemCatalog
    from skmars.datasets import load_amazon_reviews as load_amazon_reviews
    from skmars.datasets import load_movielens_1m as load_movielens_1m
    from skmars.datasets import make_multimodal_ctr as make_multimodal_ctr
    from skmars.datasets import make_small_shop as make_small_shop
    from skmars.encoding import MultimodalEncoder as MultimodalEncoder
    from skmars.metrics import gauc_score as gauc_score
    from skmars.metrics import relative_improvement as relative_improvement
    from skmars.model_selection import LeaveLastOut as LeaveLastOut
    from skmars.model_selection import TimeSplit as TimeSplit
    from skmars.model_selection import leave_last_out as leave_last_out
    from skmars.model_selection import sample_negatives as sample_negatives
    from skmars.model_selection import time_split as time_split
    from skmars.persistence import load as load
    from skmars.persistence import save as save
    from skmars.pipeline import compare as compare
    from skmars.pipeline import explain as explain
    from skmars.pipeline import make_mars as make_mars
    from skmars.pipeline import recommend as recommend
    from skmars.pipeline import update as update
    from skmars.rates import ClickRateClassifier as ClickRateClassifier
    from skmars.rates import ClickRateEncoder as ClickRateEncoder
    from skmars.rates import PopularityClassifier as PopularityClassifier
    from skmars.retrieval import SequenceRetrievalAugmenter as SequenceRetrievalAugmenter

__version__ = "0.1.0.dev0"

# Public names and the folder that each lives in, in the order in which the data flows.
# Resolved on first use, so that `import skmars` costs next to nothing.
_PUBLIC = {
    "ItemCatalog": "data",
    "Impressions": "data",
    "MultimodalEncoder": "encoding",
    "SteinAligner": "alignment",
    "SequenceRetrievalAugmenter": "retrieval",
    "ClickRateEncoder": "rates",
    "ClickRateClassifier": "rates",
    "PopularityClassifier": "rates",
    "DINClassifier": "ctr",
    "make_mars": "pipeline",
    "update": "pipeline",
    "recommend": "pipeline",
    "explain": "pipeline",
    "compare": "pipeline",
    "LeaveLastOut": "model_selection",
    "leave_last_out": "model_selection",
    "TimeSplit": "model_selection",
    "time_split": "model_selection",
    "sample_negatives": "model_selection",
    "gauc_score": "metrics",
    "relative_improvement": "metrics",
    "load_movielens_1m": "datasets",
    "load_amazon_reviews": "datasets",
    "make_multimodal_ctr": "datasets",
    "make_small_shop": "datasets",
    "save": "persistence",
    "load": "persistence",
}

__all__ = [*_PUBLIC, "__version__"]


if not TYPE_CHECKING:  # or a type checker would take any name for a public one

    def __getattr__(name: str) -> Any:
        if name in _PUBLIC:
            value = getattr(import_module(f"skmars.{_PUBLIC[name]}"), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module 'skmars' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
