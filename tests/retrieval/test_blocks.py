"""Work in blocks gives what the whole at once gives, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from skmars.data import ItemCatalog
from skmars.data import _catalog as catalogs
from skmars.utils import _units as units
from skmars.utils import _values as values


@pytest.mark.parametrize("block", [1, 7])
def test_blocks_give_the_same_bits(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 16)).astype(np.float32)
    vectors[[3, 17]] = 0
    center = vectors.mean(axis=0, dtype=np.float64)
    broken = vectors.copy()
    broken[[2, 49], 5] = np.nan, np.inf
    catalog = ItemCatalog(
        np.arange(50),
        features={"text": vectors, "image": vectors[:, :3]},
        missing={"image": rng.random(50) < 0.3},
    )
    items = rng.permutation(50)[:30]

    def everything() -> list[np.ndarray]:
        return [
            units.centred_units(vectors, center),
            catalogs.side_by_side(catalog, ["image", "text"]),
            catalogs.side_by_side(catalog, ["text"], items),
            values.rows_not_finite(broken),
        ]

    whole = everything()
    assert whole[3].tolist() == [2, 49]
    for module in (catalogs, values):
        monkeypatch.setattr(module, "BLOCK", block)
    monkeypatch.setattr(units, "_BLOCK", block)
    for one, other in zip(whole, everything()):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
