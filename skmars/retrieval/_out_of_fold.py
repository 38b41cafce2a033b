"""Divide training rows into groups that borrow from users of other folds, and join the results."""

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
    feature_fold: int  # the fold without which their features were made, negative for none


def fold_of_users(X: Impressions, cv: int) -> NDArray[np.int8]:
    """Return the fold of each of ``X.users``: that of an earlier step, if it made folds."""
    return user_folds(X.users, len(X.catalog.folds) or cv)


def fold_groups(X: Impressions, cv: int) -> list[FoldGroup]:
    """Group the rows by the fold of their user and the fold without which features were made."""
    fold = fold_of_users(X, cv)[X.user]
    feature_fold = fold if X.fold is None else np.maximum(X.fold, EVERYBODY)
    pairs, group = np.unique(np.stack([feature_fold, fold]), axis=1, return_inverse=True)
    return [
        FoldGroup(np.flatnonzero(group == i), int(own), int(features))
        for i, (features, own) in enumerate(pairs.T)
    ]


def join_groups(
    X: Impressions, groups: list[FoldGroup], parts: list[Impressions], donor_ids: NDArray[Any]
) -> Impressions:
    """Return `X` with the borrowed items and look-alike features of its groups.

    Each group has donors of its own; `donor_ids` are the ids of all donors.
    """
    number = Lookup(donor_ids, "the donors")
    features = {name: np.zeros(len(X)) for name in LOOKALIKES if name in parts[0].context}
    pieces = []
    for group, part in zip(groups, parts):
        borrowed: Any = part.borrowed
        donor = number(borrowed.donors, "the donors")[borrowed.donor]
        pieces.append(replace(borrowed, donor=donor))
        for name, column in features.items():
            column[group.rows] = part.context[name]
    borrowed = stacked([group.rows for group in groups], pieces, len(X))
    X = replace(X, context={**X.context, **features})
    return X.with_borrowed(replace(borrowed, donors=donor_ids))
