"""Embeds items and users by the linear maps of their modalities, as a small, picklable object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from skmars.alignment._linear_maps import LinearMap, Mask, Rows
from skmars.alignment._modalities import check_features
from skmars.data import Impressions, ItemCatalog
from skmars.data._memo import Memo


class LinearEncoder:
    """Embeds the items of a catalogue, the users of impressions, and the rows of an array.

    It never changes: a further fit makes a new one. Embeddings of a catalogue are cached by the
    content of the catalogue's parts.

    Parameters
    ----------
    maps : mapping of str to LinearMap
        The map of each modality, or of each block of columns, in order.
    """

    def __init__(self, maps: Mapping[str, LinearMap]) -> None:
        self.maps = dict(maps)
        self._embedded: Memo[ItemCatalog] = Memo()

    def __repr__(self) -> str:
        return f"LinearEncoder({', '.join(self.maps)}; {self.width} components)"

    @property
    def width(self) -> int:
        return next(iter(self.maps.values())).width

    @staticmethod
    def read(
        catalog: ItemCatalog, names: Iterable[str], items: NDArray[np.integer] | None = None
    ) -> tuple[list[Rows], list[Mask]]:
        """Return the checked features of each modality (0 where missing), and who has them."""
        names = list(names)
        check_features(catalog, {name: catalog.widths[name] for name in names})
        items = np.arange(len(catalog)) if items is None else items
        there = [~catalog.take_missing(name, items) for name in names]
        views = [
            np.where(has[:, None], catalog.take_features(name, items), 0).astype(np.float64)
            for name, has in zip(names, there)
        ]
        return views, there

    def embed_modalities(self, catalog: ItemCatalog) -> dict[str, NDArray[np.float32]]:
        """Embed each modality on its own, at unit length; zeros where an item lacks it."""
        sizes = {name: len(each.mean) for name, each in self.maps.items()}
        check_features(catalog, sizes)
        views, there = self.read(catalog, sizes)
        return {
            name: (each(view) * has[:, None]).astype(np.float32)
            for (name, each), view, has in zip(self.maps.items(), views, there)
        }

    def embed_catalog(self, catalog: ItemCatalog) -> ItemCatalog:
        """Return the catalogue with the embedding of its items: the mean over their modalities."""
        return catalog.map_parts(lambda part: self._embedded.get(part, self._embed_part))

    def _embed_part(self, part: ItemCatalog) -> ItemCatalog:
        total = np.sum(list(self.embed_modalities(part).values()), axis=0, dtype=np.float64)
        n = np.sum([~part.missing[name] for name in self.maps], axis=0)
        return part.with_embedding(total / np.maximum(n, 1)[:, None])

    def embed_rows(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        """Embed the rows of an array, in its dtype: the mean over the blocks of columns."""
        ends = np.cumsum([len(each.mean) for each in self.maps.values()])[:-1]
        views = np.split(X, ends, axis=1)
        unit = [each(view) for each, view in zip(self.maps.values(), views)]
        return np.mean(unit, axis=0).astype(X.dtype, copy=False)

    def __call__(self, X: Impressions) -> NDArray[np.float32]:
        """Return the user embedding of each row: the mean over the items of the history.

        Items without an embedding are left out; an empty history gives zeros.
        """
        history = X.history
        items, codes = np.unique(history.items[history.positions()], return_inverse=True)
        vectors = self.embed_catalog(X.catalog).take_embedding(items)
        assert vectors is not None
        shape = len(history), len(items)
        counts = csr_array((np.ones(len(codes)), codes, history.offsets), shape=shape)
        n = counts @ vectors.any(axis=1).astype(np.float64)
        return ((counts @ vectors) / np.maximum(n, 1)[:, None]).astype(np.float32)
