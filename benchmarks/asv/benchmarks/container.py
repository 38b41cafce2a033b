"""Impressions."""

from __future__ import annotations

import pickle
from typing import Any, ClassVar

import numpy as np

from .common import impressions


class Container:
    """From a log, and what scikit-learn does with rows."""

    timeout = 600
    param_names: ClassVar[list[str]] = ["history"]
    params: ClassVar[list[Any]] = [["positive", "all"]]

    def setup(self, history: str) -> None:
        import pandas as pd

        X, y = impressions()
        columns = {"user_id": X.user_ids, "item_id": X.item_ids, "liked": y}
        self.log = pd.DataFrame({**columns, "timestamp": X.time}).sample(frac=1, random_state=0)
        self.X = self._build(history)
        self.rows = np.random.default_rng(0).permutation(len(self.X))

    def _build(self, history: str) -> Any:
        from skmars import Impressions

        return Impressions.from_log(self.log, label="liked", history=history)[0]

    def time_from_log(self, history: str) -> None:
        self._build(history)

    def peakmem_from_log(self, history: str) -> None:
        self._build(history)

    def time_select_rows(self, history: str) -> None:
        self.X[self.rows]

    def time_to_frame(self, history: str) -> None:
        self.X.to_frame("pandas")

    def time_pickle(self, history: str) -> None:
        pickle.loads(pickle.dumps(self.X))

    def track_bytes_per_row(self, history: str) -> float:
        return len(pickle.dumps(self.X)) / len(self.X)

    track_bytes_per_row.unit = "bytes"  # type: ignore[attr-defined]
