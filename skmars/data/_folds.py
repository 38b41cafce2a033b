"""Folds of users, for features that are learnt without the users of a row's own fold.

A feature of a training row that was made with that row's own click leaks the target. So a step that
learns from what users did learns once more for each fold, without the users of that fold, and
`fit_transform` gives their rows the result, as scikit-learn's `TargetEncoder` does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import murmurhash3_32

# Values of `Impressions.fold` besides 0, 1, ...: the row's features were learnt from all users of
# fit, and later events of its own user were among what they were learnt from (OWN) or not.
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
    """Mark the rows whose features were learnt from later events of their own user, as `OWN`.

    Parameters
    ----------
    X : Impressions
        As they go through `transform`.
    own : ndarray of shape (n_rows,), bool
        Which rows to mark.

    Returns
    -------
    Impressions
    """
    if not own.any():
        return X
    return X.with_fold(
        np.where(own, np.int8(OWN), np.int8(EVERYBODY) if X.fold is None else X.fold)
    )
