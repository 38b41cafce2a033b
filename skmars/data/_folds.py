"""Folds of users: which behaviour the features of a row must not know.

A feature of a training row that was made with that row's own click is an answer, not a feature. So
whatever a step learns from what users did, it learns once more for each fold of users without
them, and gives that to their rows in `fit_transform`, as scikit-learn's `TargetEncoder` does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import murmurhash3_32

# Values of `Impressions.fold` besides 0, 1, ...: the features of the row were made of everybody,
# and its own user, whose later behaviour they know, is among them (OWN) or not (EVERYBODY).
EVERYBODY, OWN = -1, -2


def user_folds(users: NDArray[Any], n_folds: int) -> NDArray[np.int8]:
    """Assign users to folds by a hash of their id: the same in every step and process.

    Parameters
    ----------
    users : ndarray of shape (n_users,)
        User ids, integers or strings.
    n_folds : int
        Number of folds, at most 127.

    Returns
    -------
    ndarray of shape (n_users,), int8
        0 .. n_folds - 1.

    Examples
    --------
    >>> import numpy as np
    >>> user_folds(np.array(["ann", "bob", "cid"], dtype=object), 5)
    array([3, 4, 0], dtype=int8)
    """
    folds = (murmurhash3_32(str(user), positive=True) % n_folds for user in users)
    return np.fromiter(folds, dtype=np.int8, count=len(users))


def mark_own(X: Any, own: NDArray[np.bool_]) -> Any:
    """Return impressions that say of which rows the features know the user's later behaviour.

    Parameters
    ----------
    X : Impressions
        As they go through `transform`.
    own : ndarray of shape (n_rows,), bool

    Returns
    -------
    Impressions
    """
    if not own.any():
        return X
    return X.with_fold(
        np.where(own, np.int8(OWN), np.int8(EVERYBODY) if X.fold is None else X.fold)
    )
