"""Vectors of items and users, centred and scaled to unit length, and their cosines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from skmars.data import Impressions, ItemCatalog, Sequences
from skmars.data._catalog import side_by_side
from skmars.data._memo import Memo
from skmars.utils._ids import Lookup
from skmars.utils._ragged import offsets
from skmars.utils._stacked import take_rows
from skmars.utils._units import Vectors, center_of, centred_units, has_embedding
from skmars.utils._values import rows_not_finite

_Part = tuple[NDArray[np.int32], tuple[Vectors, Vectors] | None]

# Cosines are rounded to this many decimals: finer differences depend on the order in which the
# processor adds, and would let ties and values at theta fall one way or the other by chance.
DECIMALS = 6
_GATHER = 1 << 16  # values gathered at a time, which are in the cache when they are summed up
# Vectors of one item with at most this relative difference are of the same space: rounding makes
# smaller differences.
_SAME = 1e-3


def rounded(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Clip cosines to [-1, 1] and round them to `DECIMALS`, in place."""
    np.clip(cosines, -1.0, 1.0, out=cosines)
    return np.round(cosines, DECIMALS, out=cosines)


def pairwise_cosine(
    a: NDArray[Any], i: NDArray[np.integer], b: NDArray[Any], j: NDArray[np.integer]
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


def check_finite(vectors: NDArray[Any], name: str) -> NDArray[Any]:
    """Return `vectors`; ValueError if some are NaN or infinite."""
    wrong = rows_not_finite(vectors)
    if len(wrong):
        raise ValueError(
            f"{name} holds NaN or infinite values in {len(wrong)} of {len(vectors)} "
            "rows. Replace them; a row of zeros stands for 'no embedding'."
        )
    return vectors


class ItemSpace:
    """The items of `fit`: ids, vectors, the centre of these (Eq. 16), and centred unit vectors.

    `representation`, "features" or "embedding", chooses the vectors of items if the catalogue has
    both; without either, they are None. With `centred` false the centre is zero.
    """

    def __init__(self, catalog: ItemCatalog, representation: str, centred: bool) -> None:
        features_first = representation == "features" and catalog.widths
        self.kind = "features" if features_first or catalog.embedding is None else "embedding"
        self._lookup = Lookup(catalog.ids, "the catalogue of fit")
        self.vectors = catalog.embedding
        if self.kind == "features":
            self.vectors = _item_vectors(catalog, self.kind, np.arange(len(catalog)))
        if self.vectors is not None:
            check_finite(self.vectors, "the item embedding (or features) of the catalogue")
        self.center = None if self.vectors is None else center_of(self.vectors, centred)
        # Centred unit vectors, shape (n_items, n_components).
        self.units = None if self.vectors is None else self._units_of(self.vectors)
        self._aligned = _sampled_columns(catalog.embedding)
        begin = offsets(np.array([len(part) for part in catalog.parts])).tolist()
        self._begin = dict(zip([part.fingerprint for part in catalog.parts], begin))
        self._parts: Memo[_Part] = Memo()

    @property
    def ids(self) -> NDArray[Any]:
        return self._lookup.ids

    def _units_of(self, vectors: Vectors) -> Vectors:
        assert self.center is not None
        return centred_units(vectors, self.center)

    def view(self, catalog: ItemCatalog) -> ItemView:
        """Return codes and vectors, in this space, of the items of another catalogue.

        Items known to `fit` keep the vector they had there, others have that of `catalog`. Each
        part of a catalogue is looked up once, and refused if its vectors are of another space.
        """
        view = ItemView([], [], [])
        if self.vectors is not None and self.units is not None:
            view = ItemView([], [self.vectors], [self.units])
        n_new = 0
        for items in catalog.parts:
            codes, new = self._parts.get(items, self._read)
            # New items of a further part are numbered behind those of the parts before it.
            shifted = codes + np.int32(n_new) * (codes >= len(self.ids)) if n_new else codes
            view.part_codes.append(shifted)
            if new is not None:
                n_new += len(new[0])
                view.stacked_vectors.append(new[0])
                view.stacked_units.append(new[1])
        return view

    def changed(self, other: ItemSpace) -> tuple[int, int]:
        """Return how many items have other vectors in another space, and how many are in both."""
        codes = self._lookup(other.ids, "item_id of the other space")
        changed = np.zeros(np.count_nonzero(codes >= 0), dtype=bool)
        for mine, theirs in ((self.vectors, other.vectors), (self._aligned, other._aligned)):
            if mine is not None and theirs is not None:
                changed |= _changed(mine, theirs, codes)
        return int(np.count_nonzero(changed)), len(changed)

    def _read(self, part: ItemCatalog) -> _Part:
        """Return the codes of a part's items, with vectors and unit vectors of unknown ones."""
        begin = self._begin.get(part.fingerprint)
        if begin is not None:
            return np.arange(begin, begin + len(part), dtype=np.int32), None
        codes = self._lookup(part.ids, "item_id of X")
        vectors = _item_vectors(part, self.kind, np.arange(len(part)))
        _check_same_space(self.vectors, vectors, codes)
        # The embedding is compared even if features are the vectors: later steps use it.
        _check_same_space(self._aligned, _sampled_columns(part.embedding), codes)
        new = np.flatnonzero(codes < 0)
        codes[new] = len(self.ids) + np.arange(len(new), dtype=np.int32)
        if self.vectors is None or len(new) == 0:
            return codes, None
        if vectors is None:
            vectors = np.zeros((len(part), self.vectors.shape[1]), np.float32)
        check_finite(vectors[new], "the item embedding (or features) of X")
        return codes, (vectors[new], self._units_of(vectors[new]))


@dataclass(frozen=True)
class ItemView:
    """The items of a catalogue as codes of an `ItemSpace`, with the vectors of new items.

    `part_codes` has the codes of each part's items; items unknown to `fit` have codes beyond those
    of the space. `stacked_vectors` and `stacked_units`, one above another, have the vectors by
    code; they are empty where items have none.
    """

    part_codes: list[NDArray[np.int32]]
    stacked_vectors: list[Vectors]
    stacked_units: list[Vectors]

    def codes(self, items: NDArray[np.integer]) -> NDArray[np.int32]:
        """Return the codes in the space of some items of the catalogue."""
        return take_rows(self.part_codes, items)

    def units(self, items: NDArray[np.integer]) -> Vectors:
        """Return the centred unit vectors of some items of the catalogue."""
        return take_rows(self.stacked_units, self.codes(items))

    def vectors(self, items: NDArray[np.integer]) -> Vectors:
        """Return the vectors of some items of the catalogue, neither centred nor scaled."""
        return take_rows(self.stacked_vectors, self.codes(items))


def user_vectors(X: Impressions, items: ItemView, kind: str) -> Vectors:
    """Return the vector of each row's user, of one of three kinds.

    "units" is the mean of the centred unit vectors of the history's items (every item counts the
    same, and what all items have in common does not count), "embedding" the user embedding of `X`,
    and "vectors" the mean of the item vectors, neither centred nor scaled (Eq. 13 without context).
    """
    if kind != "embedding":
        return mean_over(X.history, items.units if kind == "units" else items.vectors)
    vectors = X.user_embedding
    if vectors is None:
        raise ValueError(
            "X has no user embedding, but the rows of fit had one. Transform X with the steps "
            "that fit was given, or add the column 'user_embedding'."
        )
    with np.errstate(over="ignore"):  # what float32 can't hold is refused as infinite
        return check_finite(np.asarray(vectors, dtype=np.float32), "user_embedding of X")


def mean_over(history: Sequences, vectors_of: Callable[[NDArray[np.int32]], Vectors]) -> Vectors:
    """Return the mean vector of each row's items, of those that have one."""
    items, codes = np.unique(history.items[history.positions()], return_inverse=True)
    vectors = vectors_of(items).astype(np.float64)
    counts = csr_array(
        (np.ones(len(codes)), codes, history.offsets), shape=(len(history), len(items))
    )
    known = has_embedding(vectors)
    n = history.length if known.all() else counts @ known.astype(np.float64)
    return ((counts @ vectors) / np.maximum(n, 1.0)[:, None]).astype(np.float32)


def _item_vectors(catalog: ItemCatalog, kind: str, items: NDArray[np.integer]) -> Vectors | None:
    """Return the vectors of items, "embedding" or "features"; None if the catalogue has none."""
    if kind == "embedding":
        return catalog.take_embedding(items)
    return side_by_side(catalog, sorted(catalog.widths), items) if catalog.widths else None


def _sampled_columns(embedding: Vectors | None) -> Vectors | None:
    """Return three columns of an embedding, and the largest value of each row.

    They are enough to notice another space: an aligner that is fitted again changes all columns.
    """
    if embedding is None or embedding.shape[1] == 0:
        return None
    columns = embedding[:, [0, embedding.shape[1] // 2, -1]]
    largest = np.abs(np.maximum(embedding.max(axis=1), -embedding.min(axis=1)))
    return np.column_stack([columns, largest])


def _check_same_space(
    fitted: Vectors | None, vectors: Vectors | None, codes: NDArray[np.int32]
) -> None:
    """Raise ValueError if items have other vectors than in `fit`, where they had these codes."""
    if fitted is None or vectors is None:
        return
    if vectors.shape[1] != fitted.shape[1]:
        raise ValueError(
            f"the item embeddings of X have {vectors.shape[1]} columns, those of fit had "
            f"{fitted.shape[1]}. Transform X with the steps that made the embeddings of fit."
        )
    changed = _changed(fitted, vectors, codes)
    if changed.any():
        raise ValueError(
            "the item embeddings of X are not those that SequenceRetrievalAugmenter was fitted "
            f"with: those of {np.count_nonzero(changed)} of {len(changed)} items have changed (the "
            "aligner or encoder was fitted again since, say). Fit the augmenter again on rows "
            "with the new embeddings, or transform X with the steps that made the old ones."
        )


def _changed(fitted: Vectors, vectors: Vectors, codes: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return of each item that has a code in `fit` whether it has another vector than there."""
    known = codes >= 0
    fitted, vectors = fitted[codes[known]], vectors[known]
    with np.errstate(over="ignore", invalid="ignore"):
        difference = np.abs(vectors - fitted).max(axis=1, initial=0.0)
    changed = difference > _SAME * np.abs(fitted).max(axis=1, initial=0.0)
    return np.asarray(changed & has_embedding(vectors) & has_embedding(fitted))
