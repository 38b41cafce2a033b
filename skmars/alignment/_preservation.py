"""What an aligned space keeps of the similarities within each modality, as a table."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from skmars.alignment._modalities import modality_names
from skmars.data import ItemCatalog
from skmars.data._catalog import require_catalog
from skmars.data._frames import make_frame
from skmars.metrics import similarity_preservation


def modality_preservation(catalog: ItemCatalog, *, frame: str = "pandas", **options: Any) -> Any:
    """Tell, for each modality, whether similar items are still similar in the aligned space.

    Compares the features of each modality with the item embedding, over the items that have the
    modality, see :func:`skmars.metrics.similarity_preservation`. An embedding that is made for
    clicks need not keep all similarities; one that keeps hardly any of a modality does not use it.

    Parameters
    ----------
    catalog : ItemCatalog
        With features and an embedding: ``aligner.transform(X).catalog``.
    frame : {"pandas", "polars", "pyarrow"}, default="pandas"
        What the table is to be.
    **options
        Of `similarity_preservation`: `n_neighbors`, `center`, `max_items`, `random_state`.

    Returns
    -------
    pandas.DataFrame, polars.DataFrame or pyarrow.Table
        One row a modality: `modality`, `trustworthiness`, `continuity`, `rank_correlation`,
        `neighbor_overlap`, `n_items`.

    Raises
    ------
    ValueError
        If the catalogue has no embedding or no features, or as in `similarity_preservation`.
    TypeError
        If it is no catalogue.

    Examples
    --------
    >>> from skmars import MultimodalEncoder, SteinAligner, make_multimodal_ctr
    >>> from skmars.alignment import modality_preservation
    >>> X, y = make_multimodal_ctr(n_users=60, n_items=40, random_state=0)
    >>> X = MultimodalEncoder().fit_transform(X)
    >>> aligner = SteinAligner(16, id_dim=8, max_iter=2, random_state=0)
    >>> catalog = aligner.fit(X, y).transform(X).catalog
    >>> table = modality_preservation(catalog, n_neighbors=5)
    >>> list(table["modality"])
    ['text', 'image', 'factors']
    """
    embedding = require_catalog(catalog).embedding
    if embedding is None:
        raise ValueError(
            "catalog has no embedding to compare with. Pass that of aligned rows: "
            "SteinAligner().fit(X, y).transform(X).catalog."
        )
    names = modality_names(None, catalog)
    rows = [
        similarity_preservation(
            catalog.features[name], embedding, mask=~catalog.missing[name], **options
        )
        for name in names
    ]
    columns = {"modality": np.array(names, dtype=object)}
    for column in asdict(rows[0]):
        columns[column] = np.array([getattr(row, column) for row in rows])
    return make_frame(columns, frame)
