"""The table that `SequenceRetrievalAugmenter.explain` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skmars.data import Impressions
from skmars.data._frames import default_frame, make_frame

if TYPE_CHECKING:
    from narwhals.typing import IntoDataFrame


def explanation(X: Impressions, frame: str | None) -> IntoDataFrame:
    """Return what each row borrowed, one line an item; see `SequenceRetrievalAugmenter.explain`."""
    borrowed, catalog = X.borrowed, X.catalog
    assert borrowed is not None
    at = borrowed.positions()
    row = np.repeat(np.arange(len(X)), borrowed.length)
    columns = {"row": row, "user_id": X.user_ids[row]}
    columns["donor_id"] = borrowed.donors[borrowed.donor[at]]  # type: ignore[index]
    columns["donor_similarity"] = borrowed.donor_similarity[at]  # type: ignore[index]
    distinct, number = np.unique(borrowed.items[at], return_inverse=True)
    columns["item_id"] = catalog.ids[distinct][number]
    columns["title"] = np.array([catalog.title(i) for i in distinct], dtype=object)[number]
    columns["similarity"] = borrowed.similarity[at]  # type: ignore[index]
    if borrowed.feedback is not None:
        columns["feedback"] = borrowed.feedback[at]
    if borrowed.time is not None:
        columns["timestamp"] = borrowed.time[at]
    return make_frame(columns, frame or default_frame("explain"))
