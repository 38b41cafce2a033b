"""Training rows borrow from users of other folds: groups of rows, and the whole made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions
from skmars.data._columns import LOOKALIKES
from skmars.data._folds import EVERYBODY, user_folds
from skmars.retrieval._assemble import stacked
from skmars.utils._ids import Lookup


@dataclass(frozen=True)
class FoldGroup:
    """Rows that borrow from the same donors, in the same space."""

    rows: NDArray[np.int64]
    fold: int  # that of their users, from whom they don't borrow
    seen: int  # the fold without which their items and users were made, negative for none


def fold_of_users(X: Impressions, cv: int) -> NDArray[np.int8]:
    """Return the fold of each of ``X.users``; where an earlier step made folds, those."""
    return user_folds(X.users, len(X.catalog.folds) or cv)


def fold_groups(X: Impressions, cv: int) -> list[FoldGroup]:
    """Return the rows of each fold of users, apart where they see items and users otherwise."""
    fold = fold_of_users(X, cv)[X.user]
    seen = fold if X.fold is None else np.maximum(X.fold, EVERYBODY)
    kinds, kind = np.unique(np.stack([seen, fold]), axis=1, return_inverse=True)
    return [
        FoldGroup(np.flatnonzero(kind == i), int(k), int(s)) for i, (s, k) in enumerate(kinds.T)
    ]


def join_groups(
    X: Impressions, groups: list[FoldGroup], parts: list[Impressions], donor_ids: NDArray[Any]
) -> Impressions:
    """Return `X` with what its groups got, each from donors of its own; `donor_ids` are all."""
    number = Lookup(donor_ids, "the donors")
    made = {name: np.zeros(len(X)) for name in LOOKALIKES if name in parts[0].context}
    pieces = []
    for group, part in zip(groups, parts):
        borrowed: Any = part.borrowed
        donor = number(borrowed.donors, "the donors")[borrowed.donor]
        pieces.append(replace(borrowed, donor=donor))
        for name, column in made.items():
            column[group.rows] = part.context[name]
    borrowed = stacked([group.rows for group in groups], pieces, len(X))
    X = replace(X, context={**X.context, **made})
    return X.with_borrowed(replace(borrowed, donors=donor_ids))
