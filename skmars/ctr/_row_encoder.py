"""From rows to the batches that the network reads: NumPy gathers, no Python loop over rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from skmars.ctr._attributes import LearntAttribute, coded_attributes, entries_of
from skmars.ctr._batches import N_FEEDBACK, UNKNOWN_FEEDBACK, Batch, Entries, RaggedItems
from skmars.ctr._errors import (
    column_changed,
    column_lacking,
    factors_of_all_users,
    features_lacking,
    features_out_of_range,
    numbers_out_of_range,
)
from skmars.data import Impressions, ItemCatalog
from skmars.data._attributes import Attribute, take_entries
from skmars.data._catalog import distinct_codes
from skmars.data._checks import LARGEST
from skmars.data._columns import FACTORS
from skmars.data._memo import Memo
from skmars.data._sequences import Sequences
from skmars.utils._ids import Lookup
from skmars.utils._on_disk import Disk, blocks, computed, release
from skmars.utils._stacked import take_rows
from skmars.utils._units import centred_units
from skmars.utils._values import BLOCK

if TYPE_CHECKING:
    from torch import Tensor

# The name of the catalogue's embedding among item features.
ALIGNED = "aligned"
# Columns that join the logit count up to so many standard deviations.
LARGEST_JOINING = 3.0
# Item features may be so large that the squares of many stay within float32.
LARGEST_FEATURE = 1e18
# A prediction block holds at most this many history positions (and at least one row).
BLOCK_POSITIONS = 1 << 16
BLOCK_ROWS = 1 << 13
# Histories that fewer consecutive rows share, on average, are scored row by row.
SHORT_RUN = 8
ALL = slice(None)

Codes = NDArray[np.int64]


class UsedItems(NamedTuple):
    """What is used of histories: some of the attributes of `Sequences`, after `cut`."""

    items: NDArray[np.int32]
    start: NDArray[np.int64]
    length: NDArray[np.int32]
    feedback: NDArray[np.int8] | None = None
    similarity: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class RowEncoder:
    """Turns rows into numbers, by the vocabularies and scales that a fit has learnt."""

    max_length: int = 0  # items of a history that are used, the last ones
    borrowed: str = "separate"  # how borrowed items stand to the user's own
    numeric: list[str] = field(default_factory=list)  # context columns
    categorical: list[str] = field(default_factory=list)
    n_linear: int = 0  # so many of the numeric ones, the last, join the logit after training
    scaler: StandardScaler | None = None  # of the numeric columns
    categories: OrdinalEncoder | None = None  # of the categorical ones, -1 for unknown values
    category_counts: list[Codes] = field(default_factory=list)  # rows of each; first the unknown
    items: Lookup | None = None  # ids in the order of the embedding table; None for plain arrays
    # How often each item occurs in the rows of the fit, the unknown one first; and each feedback.
    item_count: Codes = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    feedback_count: Codes = field(default_factory=lambda: np.zeros(N_FEEDBACK, dtype=np.int64))
    item_features: dict[str, int] = field(default_factory=dict)  # their widths
    # The means of those that are centred, over the items that have them.
    feature_centers: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    has_feedback: bool = False
    has_borrowed: bool = False
    item_attributes: dict[str, LearntAttribute] = field(default_factory=dict)
    user_attributes: dict[str, LearntAttribute] = field(default_factory=dict)
    _coded: Memo[list[Attribute]] = field(default_factory=Memo, init=False)
    _table_rows: Memo[NDArray[np.int32]] = field(default_factory=Memo, init=False)

    @property
    def table_counts(self) -> list[Codes]:
        """How often each row of the embedding tables occurs in the rows of the fit.

        In the order of ``DINNetwork.tables``.
        """
        attributes = [*self.item_attributes.values(), *self.user_attributes.values()]
        counts = [*self.category_counts, *(learnt.count for learnt in attributes)]
        return counts if self.items is None else [self.item_count, *counts]

    def encode(self, X: Impressions | NDArray[Any]) -> EncodedRows:
        """Read rows: items as rows of the embedding table, numbers scaled, strings coded."""
        if not isinstance(X, Impressions):
            assert self.scaler is not None
            scaled = np.asarray(self.scaler.transform(X))  # whatever `set_config` asks for
            nothing = np.zeros((len(X), 0), dtype=np.int64)
            return EncodedRows(in_range(scaled, None, "is scaled to"), nothing)
        n_rows, disk = len(X.target), X._disk
        columns = list(X.context.values())
        try:
            dense = _each(n_rows, lambda rows: self._dense(X, rows), disk, *columns)
        except ValueError:
            self._dense(X, ALL)  # says which row of all it is
            raise
        history, borrowed = self.used_items(X)
        return EncodedRows(
            dense,
            _each(n_rows, lambda rows: self._categorical(X, rows), disk, *columns),
            table_rows=self.table_rows(X.catalog),
            target=X.target,
            length=X.history.length,
            history=history,
            borrowed=borrowed,
            shift=_shift(X),
            merge=self.borrowed != "separate",
            features=ItemFeatures(
                X.catalog,
                self.item_features,
                self.coded_items(X.catalog),
                self.feature_centers,
            ),
            user_attributes=self.coded_users(X),
            user=X.user if disk is not None and self.user_attributes else None,
            disk=disk,
        )

    def _dense(self, X: Impressions, rows: slice) -> NDArray[np.float32]:
        """Return the numeric columns of some rows, scaled."""
        if self.scaler is None:
            return np.zeros((len(X.target[rows]), 0), dtype=np.float32)
        dense = numbers(X, self.numeric, rows)
        dense = (dense - self.scaler.mean_) / self.scaler.scale_  # checked above
        in_range(dense, self.numeric, "is scaled to")
        # A weight that was learnt of small values must not decide a row by a large one.
        joins = dense[:, dense.shape[1] - self.n_linear :]
        np.clip(joins, -LARGEST_JOINING, LARGEST_JOINING, out=joins)
        return dense.astype(np.float32)

    def _categorical(self, X: Impressions, rows: slice) -> Codes:
        """Return the categorical columns of some rows as rows of their embedding tables."""
        if self.categories is None:
            return np.zeros((len(X.target[rows]), 0), dtype=np.int64)
        words = strings(X, self.categorical, rows)
        if not len(words):
            return words.astype(np.int64)
        return np.asarray(self.categories.transform(words), np.int64) + 1

    def table_rows(self, catalog: ItemCatalog) -> TableRows:
        """Return the embedding row of each item of a catalogue."""
        assert self.items is not None
        known = self.items

        def look_up(part: ItemCatalog) -> NDArray[np.int32]:
            first = known.parts[0]
            rows = np.empty(len(part), dtype=np.int32)
            for at in range(0, len(part), BLOCK):  # a large catalogue takes no further arrays
                rows[at : at + BLOCK] = first(part.ids[at : at + BLOCK], "item_id of X") + 1
            return rows

        parts = [self._table_rows.get(part, look_up) for part in catalog.parts]
        return TableRows(parts, catalog, known if known._parts else None)

    def with_items(self, items: Lookup, item_count: Codes, feedback_count: Codes) -> RowEncoder:
        """Return the encoder with other counts, and further items behind the known ones.

        What was read of a catalogue is kept, since a catalogue may be far larger than what is new.
        """
        assert self.items is not None
        new = replace(self, items=items, item_count=item_count, feedback_count=feedback_count)
        kept = {"_coded": self._coded}
        if items.parts[0] is self.items.parts[0]:
            kept["_table_rows"] = self._table_rows  # type: ignore[assignment]
        vars(new).update(kept)  # past the frozen attributes
        return new

    def coded_items(self, catalog: ItemCatalog) -> dict[str, list[Attribute]]:
        """Return the parts of each coded attribute of the items of a catalogue."""
        learnt = self.item_attributes
        if not learnt:
            return {}

        def coded(part: ItemCatalog) -> list[Attribute]:
            return coded_attributes(part.attributes, learnt, "item")

        parts = [self._coded.get(part, coded) for part in catalog.parts]
        return {name: [part[i] for part in parts] for i, name in enumerate(learnt)}

    def coded_users(self, X: Impressions) -> dict[str, Attribute]:
        """Return the coded attributes of the user of each row; on disk, of all of ``X.users``."""
        if not self.user_attributes:
            return {}
        rows = dict(X.user_attributes)
        if X._disk is None:
            rows = {k: take_entries([v], X.user) for k, v in rows.items()}
        coded = coded_attributes(rows, self.user_attributes, "user")
        return dict(zip(self.user_attributes, coded))

    def used_items(self, X: Impressions) -> tuple[UsedItems, UsedItems | None]:
        """Return histories and borrowed items, cut to what is used."""
        # A pool, or a mark, for borrowed items that no borrowed item has trained adds noise.
        heed = self.has_borrowed or self.borrowed == "joint"
        return cut(X.history, X.borrowed if heed else None, self.max_length, X._disk)


class TableRows:
    """The embedding row of each item of a catalogue, 0 for none.

    Parameters
    ----------
    parts : sequence of ndarray of shape (n_items of the part,), int
        Rows of the items that the first part of the vocabulary has.
    catalog : ItemCatalog
    known : Lookup or None
        The whole vocabulary, where it has further parts: items of these are looked up when they
        are needed, as they are few, and were new in one of the last calls of `partial_fit`.
    """

    def __init__(
        self,
        parts: Sequence[NDArray[np.integer]],
        catalog: ItemCatalog | None = None,
        known: Lookup | None = None,
    ) -> None:
        self._parts, self._catalog, self._known = parts, catalog, known

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def take(self, items: Codes) -> Codes:
        """Return the embedding rows of some items, as a new array."""
        rows: Codes = take_rows(self._parts, items).astype(np.int64)
        if self._known is not None and self._catalog is not None:
            others = np.flatnonzero(rows == 0)
            ids = self._catalog.take_ids(items[others])
            rows[others] = self._known(ids, "item_id of X").astype(np.int64) + 1
        return rows

    def all(self) -> Codes:
        """Return the embedding rows of all items."""
        return self.take(np.arange(len(self)))


class ItemFeatures:
    """Looks up item features by name and code, see `Batch`; zeros where an item lacks them.

    Parameters
    ----------
    catalog : ItemCatalog
    widths : mapping of str to int
        Of the features that are needed.
    coded : mapping of str to list of Attribute
        The parts of each attribute, see `LearntAttribute.coded`.
    centers : mapping of str to ndarray of shape (width,)
        What is subtracted from features, which then are scaled to unit length; an item at the
        centre has zeros. Others are looked up as they are.

    Raises
    ------
    ValueError
        If the catalogue lacks features, or has them in another width. When items are looked up:
        if their features are not finite, or too large to be scaled to unit length.
    """

    def __init__(
        self,
        catalog: ItemCatalog,
        widths: Mapping[str, int],
        coded: Mapping[str, list[Attribute]],
        centers: Mapping[str, NDArray[np.float64]],
    ) -> None:
        self.catalog, self.widths, self.coded, self.centers = catalog, widths, coded, centers
        if widths and not widths.items() <= (there := feature_widths(catalog)).items():
            raise features_lacking(there, widths)

    def __call__(self, name: str, codes: Tensor) -> Tensor:
        import torch

        return torch.from_numpy(self.take(name, codes.cpu().numpy())).to(codes.device)

    def attributes(self, codes: Tensor) -> list[Entries[Tensor]]:
        """Return the attributes of these codes, which are those of all folds alike."""
        import torch

        item = codes.cpu().numpy() % max(len(self.catalog), 1)
        found = []
        for name, parts in self.coded.items():
            entries = entries_of(parts, item, f"attribute {name!r} of items")
            # Copies, as the arrays of attributes are read-only.
            values = torch.tensor(entries.values, device=codes.device)
            length = entries.length
            found.append(
                Entries(values, None if length is None else torch.tensor(length).to(values.device))
            )
        return found

    def take(self, name: str, codes: Codes) -> NDArray[np.float32]:
        """Return the features of these codes, shape (n_codes, width)."""
        fold, item = np.divmod(codes, max(len(self.catalog), 1))
        folds = np.flatnonzero(np.bincount(fold, minlength=1)).tolist()
        if len(folds) <= 1:
            rows = self._of_fold(name, max(folds, default=0), item)
        else:
            rows = np.empty((len(codes), self.widths[name]), dtype=np.float32)
            for k in folds:
                rows[fold == k] = self._of_fold(name, k, item[fold == k])
        if not (rows.max(initial=0) <= LARGEST_FEATURE and rows.min(initial=0) >= -LARGEST_FEATURE):
            bad = item[~(np.abs(rows) <= LARGEST_FEATURE).all(axis=1)]
            raise features_out_of_range(name, self.catalog.ids[np.unique(bad)], LARGEST_FEATURE)
        return centred_units(rows, self.centers[name]) if name in self.centers else rows

    def _of_fold(self, name: str, fold: int, item: Codes) -> NDArray[np.float32]:
        seen = self.catalog.in_fold(fold - 1)
        if name != ALIGNED:
            return seen.take_features(name, item)
        embedding = seen.take_embedding(item)
        assert embedding is not None
        return embedding


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """Rows as numbers, from which batches are gathered; plain arrays have the first two alone."""

    dense: NDArray[Any]  # shape (n_rows, n_dense)
    categorical: Codes  # shape (n_rows, n_categorical)
    table_rows: TableRows | None = None
    target: NDArray[Any] | None = None  # item codes
    length: NDArray[Any] | None = None  # of the user's own history, before it was cut
    history: UsedItems | None = None
    borrowed: UsedItems | None = None
    shift: Codes | None = None  # what the fold of each row adds to item codes, see `Batch`
    merge: bool = False  # whether borrowed items join `history` in the batches
    features: ItemFeatures | None = None
    user_attributes: Mapping[str, Attribute] = field(default_factory=dict)
    user: NDArray[Any] | None = None  # of each row, where attributes are not those of rows
    disk: Disk | None = None  # where arrays of many rows are put; None for memory

    def __len__(self) -> int:
        return len(self.dense)

    def release(self) -> None:
        """Let go of the pages of arrays in files."""
        release(self.dense, self.categorical, self.target, self.length, self.shift, self.user)
        for part in (self.history, self.borrowed):
            if part is not None:
                release(*part)

    def batch(self, rows: Codes | slice, *, sharing: bool = False) -> Batch[NDArray[Any]]:
        """Gather the batch of the given rows; with `sharing`, shared histories once."""
        dense, categorical = self.dense[rows], self.categorical[rows]
        if self.history is None:
            return Batch(dense, categorical)
        assert self.table_rows is not None
        assert self.target is not None
        assert self.length is not None
        own = [(self.history, False)]
        lent = [] if self.borrowed is None else [(self.borrowed, True)]
        pools = [lent + own] if self.merge or not lent else [own, lent]
        first, n_sharing = self._runs(rows) if sharing and pools[0] is own else (None, None)
        of_history = rows if first is None else first
        gathered = [_gather(pool, of) for pool, of in zip(pools, (of_history, rows))]
        used = [self.target[rows], *(positions.item for positions in gathered)]
        n_items = n_codes = len(self.table_rows)
        if self.shift is not None:
            shifts = [self.shift[of] for of in (of_history, rows)]
            moved = (part.item + shift[part.row] for part, shift in zip(gathered, shifts))
            used = [used[0] + shifts[1], *moved]
            n_codes = n_items + int(shifts[1].max(initial=0))
        codes, (target, *places) = distinct_codes(used, n_codes)
        gathered = [replace(part, item=place) for part, place in zip(gathered, places)]
        return Batch(
            dense,
            categorical,
            items=self.table_rows.take(codes % n_items),
            codes=codes,
            target=target,
            length=self.length[rows],
            history=gathered[0],
            borrowed=gathered[1] if len(gathered) > 1 else None,
            n_sharing=n_sharing,
            user_attributes=self._user_entries(rows),
        )

    def _runs(self, rows: Codes | slice) -> tuple[Codes, Codes] | tuple[None, None]:
        """Return the first of each run of rows with one history, and its length.

        There are none if runs are short.
        """
        assert self.history is not None
        at = self._numbers(rows)
        changes = np.zeros(len(at), dtype=bool)
        changes[:1] = True
        for column in (self.history.start, self.history.length, self.shift):
            if column is not None:
                changes[1:] |= column[at[1:]] != column[at[:-1]]
        first = np.flatnonzero(changes)
        if len(at) < SHORT_RUN * len(first):
            return None, None
        return at[first], np.diff(first, append=len(at))

    def _user_entries(self, rows: Codes | slice) -> tuple[Entries[NDArray[Any]], ...]:
        at = self._numbers(rows)
        at = at if self.user is None else self.user[at]
        return tuple(
            entries_of([column], at, f"attribute {name!r} of users")
            for name, column in self.user_attributes.items()
        )

    def _numbers(self, rows: Codes | slice) -> Codes:
        return np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows

    def n_positions(self, rows: slice = slice(None)) -> Codes:
        """Return the number of history positions of rows, borrowed ones included."""
        n = np.zeros(len(self.dense[rows]), dtype=np.int64)
        for part in (self.history, self.borrowed):
            if part is not None:
                n += part.length[rows]
        return n

    def blocks(self, rows: slice = slice(None)) -> Iterator[slice]:
        """Cut consecutive rows, all by default, into blocks of bounded work."""
        start, end, _ = rows.indices(len(self))
        while start < end:
            most = min(start + BLOCK_ROWS, end)
            ends = np.cumsum(self.n_positions(slice(start, most)))
            n_rows = int(np.searchsorted(ends, BLOCK_POSITIONS, side="right"))
            stop = min(start + max(n_rows, 1), most)
            yield slice(start, stop)
            start = stop


def _gather(pool: list[tuple[UsedItems, bool]], rows: Codes | slice) -> RaggedItems[NDArray[Any]]:
    """Put the sequences of each row behind one another; a flag says which are borrowed."""
    lengths = [part.length[rows].astype(np.int64) for part, _ in pool]
    length = np.sum(lengths, axis=0)
    n = int(length.sum())
    item, feedback = np.empty(n, dtype=np.int64), np.full(n, UNKNOWN_FEEDBACK, dtype=np.int64)
    borrowed = np.zeros(n, dtype=np.int64)
    known = any(part.similarity is not None for part, _ in pool)
    similarity = np.zeros(n, dtype=np.float32) if known else None
    free = np.cumsum(length) - length  # the next free position of each row
    for (part, is_borrowed), n_each in zip(pool, lengths):
        row = np.repeat(np.arange(len(n_each)), n_each)
        begin = np.cumsum(n_each) - n_each
        source = np.arange(len(row)) + (part.start[rows] - begin)[row]
        place = np.arange(len(row)) + (free - begin)[row]
        free = free + n_each
        item[place] = part.items[source]
        borrowed[place] = is_borrowed
        if part.feedback is not None:
            feedback[place] = part.feedback[source]
        if similarity is not None and part.similarity is not None:
            similarity[place] = np.nan_to_num(part.similarity[source])
    row = np.repeat(np.arange(len(length)), length)
    return RaggedItems(item, row, length, feedback, borrowed, similarity)


def cut(
    history: Sequences, borrowed: Sequences | None, max_length: int, disk: Disk | None = None
) -> tuple[UsedItems, UsedItems | None]:
    """Keep the last `max_length` items of each row; borrowed ones, which stand left, go first."""

    def last(part: Sequences, n_of: Callable[[slice], Any]) -> UsedItems:
        sources = part.start, part.length

        def length(rows: slice) -> NDArray[np.int32]:
            return np.minimum(part.length[rows], n_of(rows))

        def start(rows: slice) -> NDArray[np.int64]:
            return part.start[rows] + (part.length[rows] - length(rows))

        starts, lengths = (_each(len(part.start), make, disk, *sources) for make in (start, length))
        return UsedItems(part.items, starts, lengths, part.feedback, part.similarity)

    used = last(history, lambda _: max_length)
    if borrowed is None:
        return used, None
    return used, last(borrowed, lambda rows: max_length - used.length[rows])


def feature_widths(catalog: ItemCatalog) -> dict[str, int]:
    """Return what a catalogue offers as item features, with the number of columns of each."""
    embedding = catalog.parts[0].embedding
    return catalog.widths | ({} if embedding is None else {ALIGNED: embedding.shape[1]})


def _shift(X: Impressions) -> Codes | None:
    """Return what the fold of each row adds to item codes; None where all folds are alike."""
    if X.fold is None:
        return None
    if not X.catalog.folds:
        if (X.fold >= 0).any() and FACTORS in X.catalog.widths:
            raise factors_of_all_users()
        return None
    fold, n_items = X.fold, np.int64(len(X.catalog))
    return _each(len(fold), lambda rows: np.maximum(fold[rows] + 1, 0) * n_items, X._disk, fold)


def _each(
    n_rows: int, make: Callable[[slice], NDArray[Any]], disk: Disk | None, *sources: Any
) -> NDArray[Any]:
    """Do as `computed`, without a further step for the rows of a request."""
    return make(slice(0, n_rows)) if disk is None else computed(n_rows, make, disk, *sources)


def numbers(X: Impressions, names: Sequence[str], rows: slice = ALL) -> NDArray[np.float64]:
    """Return numeric context columns, shape (n_rows, n_names); errors name what is amiss."""
    columns = [_column(X, name, numeric=True)[rows] for name in names]
    stacked = np.column_stack(columns) if columns else np.zeros((len(X.target[rows]), 0))
    return in_range(stacked.astype(np.float64), names)


def check_numbers(X: Impressions, names: Sequence[str]) -> None:
    """Raise as `numbers` does, at no cost of memory for all rows."""
    for block in blocks(len(X)):
        try:
            numbers(X, names, block)
        except ValueError:
            numbers(X, names)  # says which row of all it is
            raise
        release(*X.context.values())


def strings(X: Impressions, names: Sequence[str], rows: slice = ALL) -> NDArray[Any]:
    """Return categorical context columns as strings, shape (n_rows, n_names)."""
    columns = [_column(X, name, numeric=False)[rows] for name in names]
    return np.column_stack([column.astype(str).astype(object) for column in columns])


def numeric_columns(X: Impressions) -> list[str]:
    """Return the names of the context columns that hold numbers; booleans are categories."""
    return [name for name, column in X.context.items() if _is_numeric(column)]


def _is_numeric(column: NDArray[Any]) -> bool:
    return column.dtype.kind in "iuf"


def _column(X: Impressions, name: str, *, numeric: bool) -> NDArray[Any]:
    if name not in X.context:
        raise column_lacking(name, X.columns)
    column = X.context[name]
    if len(column) and _is_numeric(column) != numeric:
        raise column_changed(name, column[:1].tolist()[0], numeric)
    return column


def in_range(
    columns: NDArray[Any], names: Sequence[str] | None, what: str = "holds"
) -> NDArray[Any]:
    """Return columns of numbers, unless a network, which computes in float32, can't take them."""
    if not np.abs(columns).max(initial=0) <= LARGEST:
        raise numbers_out_of_range(columns, names, what)
    return columns
