"""Centred, unit-length embeddings of users and items, and the cosine between them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from skmars.data import ItemCatalog, Sequences
from skmars.data._catalog import side_by_side
from skmars.utils._ids import check_same_kind

Vectors = NDArray[np.float32]

# Cosines are rounded to this many decimals: finer differences depend on the order in which the
# processor adds, and would let ties and values at theta fall one way or the other by chance.
DECIMALS = 6
_GATHER = 1 << 22  # values gathered at a time
# So many items tell whether a space is that of fit; computed twice, embeddings differ by less.
_COMPARED, _SAME = 256, 1e-3


def has_embedding(vectors: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which rows have an embedding at all: a zero vector stands for none."""
    return np.asarray(vectors.any(axis=1))


def center_of(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of the rows that have an embedding (zeros if none has)."""
    there = has_embedding(vectors)
    if not there.any():
        return np.zeros(vectors.shape[1])
    return vectors[there].mean(axis=0, dtype=np.float64)


def centred_units(vectors: NDArray[Any], center: NDArray[np.float64]) -> Vectors:
    """Subtract `center` and scale each row to length 1; no embedding stays a zero vector."""
    centred = vectors - center
    centred[~has_embedding(vectors)] = 0.0
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    # An embedding at the centre has no direction; what the rounding left there is no direction.
    norm[norm <= 1e-12 * np.linalg.norm(center)] = np.inf
    return (centred / norm).astype(np.float32)


def rounded(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Clip cosines to [-1, 1] and round them to `DECIMALS`, in place."""
    np.clip(cosines, -1.0, 1.0, out=cosines)
    return np.round(cosines, DECIMALS, out=cosines)


def pairwise_cosine(
    a: NDArray[Any], i: NDArray[Any], b: NDArray[Any], j: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the rounded cosine of row ``a[i[p]]`` with row ``b[j[p]]`` for each pair `p`.

    Each value is a sum of its own: it doesn't depend on the other pairs.
    """
    result = np.empty(len(i))
    step = max(1, _GATHER // max(1, a.shape[1]))
    for at in range(0, len(i), step):
        left = a[i[at : at + step]].astype(np.float64)
        left *= b[j[at : at + step]]
        left.sum(axis=1, out=result[at : at + step])
    return rounded(result)


class ItemSpace:
    """Item ids with their vectors, the centre of these, and the centred unit vectors.

    Parameters
    ----------
    catalog : ItemCatalog
        Of which the ids are used.
    vectors : ndarray of shape (n_items, n_components), float32, or None
        Vectors as they are. May hold more rows, of items that are not in `catalog`.
    kind : {"features", "embedding"}
        What `item_vectors` made them of.
    center : ndarray of shape (n_components,), default=None
        Default: the mean of `vectors`.
    seen : ndarray of shape (n_seen, n_aligned), default=None
        Aligned embedding of some items of fit, by which another space is noticed.
    """

    def __init__(
        self,
        catalog: ItemCatalog,
        vectors: Vectors | None,
        kind: str = "embedding",
        center: NDArray[np.float64] | None = None,
        seen: Vectors | None = None,
    ) -> None:
        self.catalog, self.vectors, self.kind = catalog, vectors, kind
        self.center, self.seen = center, seen
        if center is None and vectors is not None:
            self.center = center_of(vectors)

    @classmethod
    def of(cls, catalog: ItemCatalog, representation: str) -> ItemSpace:
        """Read the space of a catalogue; `representation` is that of the augmenter."""
        kind = "features" if catalog.embedding is None else "embedding"
        if representation == "features" and catalog.features:
            kind = "features"
        some = _some(len(catalog))
        seen = None if catalog.embedding is None else catalog.embedding[some]
        return cls(ItemCatalog(catalog.ids), item_vectors(catalog, kind), kind, seen=seen)

    @cached_property
    def units(self) -> Vectors | None:
        """Centred unit vectors, shape (n_items, n_components)."""
        if self.vectors is None or self.center is None:
            return None
        return centred_units(self.vectors, self.center)

    def __getstate__(self) -> dict[str, Any]:
        # The unit vectors are made anew, so that pickles hold the vectors once.
        return {k: v for k, v in self.__dict__.items() if k != "units"}

    def join(self, catalog: ItemCatalog) -> tuple[ItemSpace, NDArray[np.int32] | None]:
        """Return a space that also has the items of another catalogue.

        Items known here keep code and embedding; new ones follow, with the embedding that
        `catalog` has for them.

        Returns
        -------
        space : ItemSpace
        codes : ndarray of shape (len(catalog),), int32, or None
            Code in the space of each item of `catalog`; None where the codes are the same.
        """
        check_same_kind(catalog.ids, "item_id of X", self.catalog.ids, "the catalogue of fit")
        same = catalog.ids is self.catalog.ids or np.array_equal(catalog.ids, self.catalog.ids)
        some = _some(len(self.catalog))
        self._check_same_space(catalog, some if same else catalog.codes(self.catalog.ids[some]))
        if same:
            return self, None
        codes = self.catalog.codes(catalog.ids)
        new = np.flatnonzero(codes < 0)
        codes[new] = len(self.catalog) + np.arange(len(new), dtype=np.int32)
        if len(new) == 0 or self.vectors is None:
            return self, codes
        added = item_vectors(catalog, self.kind, new)
        if added is None:
            added = np.zeros((len(new), self.vectors.shape[1]), np.float32)
        if not np.isfinite(added).all():
            raise ValueError("the item embedding of X holds NaN or infinite values.")
        assert self.units is not None
        assert self.center is not None
        vectors = np.concatenate([self.vectors, added])
        joined = ItemSpace(self.catalog, vectors, self.kind, self.center, self.seen)
        joined.units = np.concatenate([self.units, centred_units(added, self.center)])
        return joined, codes

    def _check_same_space(self, catalog: ItemCatalog, codes: NDArray[np.integer]) -> None:
        """Raise ValueError if items that are known here have other vectors in `catalog`.

        A space that was made anew moves all of them, so that a few tell: those of `_some`, whose
        codes in `catalog` are given (-1 for items that it lacks).
        """
        some = _some(len(self.catalog))
        there = np.flatnonzero(codes >= 0)
        pairs = [
            (self.vectors, item_vectors(catalog, self.kind, codes[there]), some[there]),
            (
                self.seen,
                None if catalog.embedding is None else catalog.embedding[codes[there]],
                there,
            ),
        ]
        for ours, theirs, rows in pairs:
            if ours is None or theirs is None:
                continue
            if theirs.shape[1] != ours.shape[1]:
                raise ValueError(
                    f"the item embeddings of X have {theirs.shape[1]} columns, those of fit had "
                    f"{ours.shape[1]}. Transform X with the steps that made the embeddings of fit."
                )
            known = ours[rows]
            both = has_embedding(theirs) & has_embedding(known)
            apart = np.abs(theirs[both] - known[both]).max(axis=1, initial=0.0)
            moved = apart > _SAME * np.abs(known[both]).max(axis=1, initial=0.0)
            if moved.any():
                raise ValueError(
                    "the item embeddings of X are not those that SequenceRetrievalAugmenter was "
                    f"fitted with: {np.count_nonzero(moved)} of {len(moved)} items compared have "
                    "moved (the aligner or encoder was fitted again since, say). Fit the "
                    "augmenter again on rows of the new space, or transform X by the steps that "
                    "made the old one."
                )

    def mean_over(self, history: Sequences, units: bool = False) -> Vectors:
        """Return the mean embedding of each row's items, of those that have one (Eq. 13).

        With `units` it is the mean of their centred unit vectors: every item counts the same, and
        what all items have in common does not count.
        """
        vectors = self.units if units else self.vectors
        assert vectors is not None
        items, codes = np.unique(history.items[history.positions()], return_inverse=True)
        vectors = vectors[items].astype(np.float64)
        counts = csr_array(
            (np.ones(len(codes)), codes, history.offsets), shape=(len(history), len(items))
        )
        n = counts @ has_embedding(vectors).astype(np.float64)
        return ((counts @ vectors) / np.maximum(n, 1.0)[:, None]).astype(np.float32)


def _some(n_items: int) -> NDArray[np.int64]:
    return np.arange(0, n_items, max(1, n_items // _COMPARED))


def item_vectors(
    catalog: ItemCatalog, kind: str, items: NDArray[np.integer] | None = None
) -> Vectors | None:
    """Return what stands for all items, or those with these codes.

    Their aligned embedding ("embedding"), or their features side by side ("features"); None if
    the catalogue has none.
    """
    if kind == "features":
        if not catalog.features:
            return None
        return side_by_side(catalog, sorted(catalog.features), items)
    if catalog.embedding is None or items is None:
        return catalog.embedding
    return catalog.embedding[items]
