"""Pictures: displays in scikit-learn's manner of what was aligned, borrowed and learned."""

from skmars.plotting._activity_auc import ActivityAUCDisplay
from skmars.plotting._aligned_space import AlignedSpaceDisplay
from skmars.plotting._history import HistoryDisplay
from skmars.plotting._loss_curve import LossCurveDisplay
from skmars.plotting._retrieval_precision import RetrievalPrecisionDisplay
from skmars.plotting._search import SearchCurveDisplay, SearchHeatmapDisplay

__all__ = [
    "ActivityAUCDisplay",
    "AlignedSpaceDisplay",
    "HistoryDisplay",
    "LossCurveDisplay",
    "RetrievalPrecisionDisplay",
    "SearchCurveDisplay",
    "SearchHeatmapDisplay",
]
