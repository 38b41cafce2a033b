"""What the network reads of some rows, and what its head reads of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

# The arrays of a batch: of NumPy where it is gathered, tensors where the network reads it.
A = TypeVar("A")

# Feedback of a history item, as a code into the network's feedback embedding.
UNKNOWN_FEEDBACK = 2
N_FEEDBACK = 3


@dataclass(frozen=True)
class RaggedItems(Generic[A]):
    """The histories of a batch: its positions one after another, row after row.

    Attributes
    ----------
    item : int64 array of shape (n_positions,)
        Index into `Batch.items`.
    row : int64 array of shape (n_positions,)
        Row of the batch to which the position belongs.
    length : int64 array of shape (n_rows,)
        Positions of each row.
    feedback : int64 array of shape (n_positions,)
        1 liked, 0 not liked, 2 not known.
    borrowed : int64 array of shape (n_positions,)
        1 where the item was borrowed from another user.
    similarity : float32 array of shape (n_positions,) or None
        `s_i` of the borrowed items (Eq. 16), 0 for own ones and where it is not known; None where
        no item has one.
    """

    item: A
    row: A
    length: A
    feedback: A
    borrowed: A
    similarity: A | None = None


@dataclass(frozen=True)
class Entries(Generic[A]):
    """An attribute of some items or users.

    Attributes
    ----------
    values : float array of shape (n_entries,), or int64 array of shape (n_values,)
        Scaled numbers, or rows of the embedding table (0: missing or not in it), one an entry or,
        of lists, one list after another.
    length : int64 array of shape (n_entries,) or None
        Length of each list, one at least. None for numbers and single categories.
    """

    values: A
    length: A | None = None


@dataclass(frozen=True)
class Batch(Generic[A]):
    """What the network reads for some rows; without items, the first two alone.

    Attributes
    ----------
    dense : float array of shape (n_rows, n_dense)
    categorical : int64 array of shape (n_rows, n_categorical)
    items : int64 array of shape (n_distinct,)
        The distinct items of the batch, as rows of the embedding table (0: not in it).
    codes : int64 array of shape (n_distinct,)
        The same as codes into the catalogue, whose item features they select. Where rows are of
        folds (`Impressions.fold`), an item of several folds stands there several times, with
        the number of items added once for the first fold, twice for the second and so on.
    target : int64 array of shape (n_rows,)
        Index into `items` of the target.
    length : int64 array of shape (n_rows,)
        Length of the user's own history, before it was cut.
    history, borrowed : RaggedItems or None
        Borrowed items stand apart, or among `history`.
    n_sharing : int64 array of shape (n_histories,), or None
        Where `history` holds histories that consecutive rows share: how many rows each has. None
        where there is one for each row.
    user_attributes : tuple of Entries
        Of the user of each row. (Those of items are looked up by code, as their features are.)
    """

    dense: A
    categorical: A
    items: A | None = None
    codes: A | None = None
    target: A | None = None
    length: A | None = None
    history: RaggedItems[A] | None = None
    borrowed: RaggedItems[A] | None = None
    n_sharing: A | None = None
    user_attributes: tuple[Entries[A], ...] = ()


@dataclass(frozen=True)
class Representation:
    """What the head of the network reads of some rows.

    Attributes
    ----------
    context : Tensor of shape (n_rows, n_context)
    interest, target, product, borrowed : Tensor of shape (n_rows, item_dim), or None
        Pooled history, embedded target, their product, and pooled borrowed items.
    linear : Tensor of shape (n_rows, n_linear), or None
        What passes the network by.
    """

    context: Tensor
    interest: Tensor | None = None
    target: Tensor | None = None
    product: Tensor | None = None
    borrowed: Tensor | None = None
    linear: Tensor | None = None

    def mixed(self, other: Tensor, share: Tensor) -> Representation:
        """Mix each row with the row at `other`: of itself it keeps `share`.

        Parameters
        ----------
        other : LongTensor of shape (n_rows,)
        share : Tensor of shape (n_rows, 1) or (n_rows, item_dim)
            Context keeps the mean of a row's shares.
        """

        def mix(x: Tensor, share: Tensor) -> Tensor:
            return share * x + (1 - share) * x.index_select(0, other)

        assert self.interest is not None
        assert self.target is not None
        interest, target = mix(self.interest, share), mix(self.target, share)
        return Representation(
            mix(self.context, share.mean(dim=1, keepdim=True)),
            interest,
            target,
            interest * target,
            None if self.borrowed is None else mix(self.borrowed, share),
        )
