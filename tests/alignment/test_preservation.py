"""The table of what an aligned space keeps of each modality."""

from __future__ import annotations

import numpy as np
import pytest

from skmars import ItemCatalog
from skmars.alignment import modality_preservation
from skmars.metrics import similarity_preservation

RNG = np.random.RandomState(0)
FEATURES = {"text": RNG.normal(size=(30, 4)), "image": RNG.normal(size=(30, 3))}
LACKS = np.arange(30) < 5
CATALOG = ItemCatalog(range(30), features=FEATURES, missing={"image": LACKS})


@pytest.mark.parametrize("frame", ["pandas", "polars", "pyarrow"])
def test_a_row_a_modality_over_the_items_that_have_it(frame):
    embedding = FEATURES["text"]
    table = modality_preservation(CATALOG.with_embedding(embedding), frame=frame, n_neighbors=5)
    assert type(table).__module__.startswith(frame)
    table = table if frame == "pandas" else table.to_pandas()
    assert table["modality"].tolist() == ["text", "image"]
    assert table["n_items"].tolist() == [30, 25]
    assert table["neighbor_overlap"][0] == 1
    image = similarity_preservation(
        FEATURES["image"][~LACKS].astype(np.float32),
        embedding[~LACKS].astype(np.float32),
        n_neighbors=5,
    )
    assert table["trustworthiness"][1] == image.trustworthiness
    assert table["rank_correlation"][1] == pytest.approx(image.rank_correlation)


def test_errors():
    with pytest.raises(ValueError, match="catalog has no embedding to compare with"):
        modality_preservation(CATALOG)
    with pytest.raises(TypeError, match="catalog must be an ItemCatalog"):
        modality_preservation(FEATURES)
    with pytest.raises(ValueError, match="has no modality features"):
        modality_preservation(ItemCatalog([1]).with_embedding([[1.0]]))
