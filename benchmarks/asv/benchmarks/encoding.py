"""MultimodalEncoder."""

from __future__ import annotations

from itertools import count
from typing import Any, ClassVar

import numpy as np

from .common import N_USERS, Transformer

_calls = count()


class Encoder(Transformer):
    """Texts that were never seen, and texts that are in the cache."""

    param_names: ClassVar[list[str]] = ["content"]
    params: ClassVar[list[Any]] = [["new", "cached"]]

    def data(self, content: str) -> tuple[Any, Any]:
        from skmars import ItemCatalog

        words = np.array([f"w{i}" for i in range(2000)])
        # asv calls this before each sample; what is new has to be so in each of them.
        drawn = np.random.default_rng(next(_calls) if content == "new" else 0)
        texts = [" ".join(row) for row in words[drawn.integers(2000, size=(N_USERS, 40))]]
        return ItemCatalog(np.arange(N_USERS), content={"text": texts}), None

    def estimator(self, content: str) -> Any:
        from skmars import MultimodalEncoder

        return MultimodalEncoder()

    def setup(self, content: str) -> None:
        super().setup(content)
        if content == "new":
            self.X, _ = self.data(content)
