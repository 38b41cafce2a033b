"""Borrowed histories as a table for people."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from skmars.data import Impressions
from skmars.data._frames import FRAMES, make_frame


def explanation(X: Impressions, frame: str | None = None) -> Any:
    """Return what each row of `X` borrowed, one line a borrowed item.

    Parameters
    ----------
    X : Impressions
        As the augmenter returns them.
    frame : {"pandas", "polars", "pyarrow"}, default=None
        Kind of table; None takes the first of these that is installed.

    Returns
    -------
    pandas.DataFrame, polars.DataFrame or pyarrow.Table
        Columns as `SequenceRetrievalAugmenter.explain` describes.
    """
    if frame is None:
        installed = [kind for kind in FRAMES if find_spec(kind)]
        if not installed:
            raise ImportError("explain makes a table: install pandas, polars or pyarrow.")
        frame = installed[0]
    borrowed = X.borrowed
    if borrowed is None or borrowed.donor is None or borrowed.donors is None:
        raise ValueError("X holds no borrowed items; pass what transform returned.")
    at = borrowed.positions()
    row = np.repeat(np.arange(len(X)), borrowed.length)
    items, donors = borrowed.items[at], borrowed.donors[borrowed.donor[at]]
    distinct, code = np.unique(items, return_inverse=True)
    titles = np.array(X.catalog.titles, dtype=object)[distinct] if len(distinct) else distinct
    columns = {
        "row": row,
        "user_id": X.user_ids[row],
        "donor_id": donors,
        "donor_similarity": borrowed.donor_similarity[at],  # type: ignore[index]
        "item_id": X.catalog.ids[items],
        "title": titles[code],
        "similarity": borrowed.similarity[at],  # type: ignore[index]
    }
    if borrowed.feedback is not None:
        columns["feedback"] = borrowed.feedback[at]
    if borrowed.time is not None:
        columns["timestamp"] = borrowed.time[at]
    return make_frame(columns, frame)
