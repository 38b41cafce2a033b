"""DINClassifier."""

from __future__ import annotations

from typing import Any, ClassVar

from .common import Classifier, impressions


class DIN(Classifier):
    """On ids, and with the content features of the catalogue."""

    param_names: ClassVar[list[str]] = ["item_features", "activation"]
    params: ClassVar[list[Any]] = [[None, "auto"], ["dice", "relu"]]

    def data(self, item_features: Any, activation: str) -> tuple[Any, Any]:
        return impressions()

    def estimator(self, item_features: Any, activation: str) -> Any:
        from skmars import DINClassifier

        return DINClassifier(
            item_features=item_features,
            activation=activation,
            batch_size=512,
            max_iter=3,
            early_stopping=False,
            random_state=0,
            device="cpu",
        )
