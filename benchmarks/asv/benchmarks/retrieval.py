"""SequenceRetrievalAugmenter."""

from __future__ import annotations

from typing import Any, ClassVar

from .common import Transformer, impressions


class Augmenter(Transformer):
    """The strategies, with the exact search and a graph."""

    param_names: ClassVar[list[str]] = ["strategy", "neighbors"]
    params: ClassVar[list[Any]] = [["most_similar", "filter", "dp"], ["exact", "hnsw"]]

    def data(self, strategy: str, neighbors: str) -> tuple[Any, Any]:
        return impressions()

    def estimator(self, strategy: str, neighbors: str) -> Any:
        from skmars import SequenceRetrievalAugmenter

        return SequenceRetrievalAugmenter(strategy, n_neighbors=5, neighbors=neighbors)

    def track_borrowed(self, strategy: str, neighbors: str) -> int:
        return int(self.fitted.transform(self.X).borrowed.length.sum())

    track_borrowed.unit = "items"  # type: ignore[attr-defined]
