"""What each row borrowed, as the columns of the table that `explain` returns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions, ItemCatalog
from skmars.utils._values import as_dates


def borrowed_columns(X: Impressions) -> dict[str, NDArray[Any]]:
    """Return what each row borrowed, one entry an item; see the augmenter's `explain`."""
    borrowed, catalog = X.borrowed, X.catalog
    assert borrowed is not None
    at = borrowed.positions()
    row = np.repeat(np.arange(len(X)), borrowed.length)
    columns = {"row": row, "user_id": X.user_ids[row]}
    columns["donor_id"] = borrowed.donors[borrowed.donor[at]]  # type: ignore[index]
    columns["donor_similarity"] = borrowed.donor_similarity[at]  # type: ignore[index]
    items = borrowed.items[at]
    columns["item_id"] = catalog.ids[items]
    columns["title"] = item_titles(catalog, items)
    columns["similarity"] = borrowed.similarity[at]  # type: ignore[index]
    if borrowed.feedback is not None:
        columns["feedback"] = borrowed.feedback[at]
    if borrowed.time is not None:
        columns["timestamp"] = as_dates(borrowed.time[at])
    return columns


def item_titles(catalog: ItemCatalog, items: NDArray[np.integer]) -> NDArray[Any]:
    """Return the title of each item; that of a repeated one is made once."""
    distinct, number = np.unique(items, return_inverse=True)
    return np.array([catalog.title(int(i)) for i in distinct], dtype=object)[number]
