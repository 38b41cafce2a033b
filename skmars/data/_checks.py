"""Checks of the input of estimators: rows, columns, numbers and targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import (
    _check_sample_weight,
    column_or_1d,
)

from skmars.data._columns import REQUIRED, RESERVED
from skmars.data._frames import column_names, is_frame
from skmars.data._impressions import Impressions
from skmars.data._user_columns import is_user_column
from skmars.utils._on_disk import BLOCK, blocks, release

# Largest number that a network takes: its products with weights stay within float32 (3.4e38).
LARGEST = 1e30


def as_impressions(X: Any) -> Impressions | None:
    """Return `X` as impressions, or None if it is something else (a numeric array).

    Parameters
    ----------
    X : Impressions, pandas.DataFrame, polars.DataFrame, pyarrow.Table or anything else

    Raises
    ------
    TypeError
        If `X` is a dict.
    ValueError
        If `X` has some but not all of the columns `user_id`, `item_id`, `history`.
    """
    if isinstance(X, Impressions):
        return X
    # A sparse matrix in DOK format is a dict, too.
    if isinstance(X, dict) and not issparse(X):
        raise TypeError(
            "X is a dict, which scikit-learn can't slice. Make a table of it, for example with "
            "pandas.DataFrame(X), with columns 'user_id', 'item_id' and 'history'."
        )
    if not is_frame(X):
        return None
    columns = column_names(X, "X")
    missing = [name for name in REQUIRED if name not in columns]
    if len(missing) == len(REQUIRED):
        return None
    if missing:
        raise ValueError(
            f"X has no column {missing[0]!r}; a table of impressions has the columns 'user_id', "
            f"'item_id' (the target) and 'history' (a list column), got {columns}. "
            "A raw log becomes impressions with Impressions.from_log(log)."
        )
    return Impressions.from_frame(X)


def require_impressions(X: Any, *, estimator_name: str) -> Impressions:
    """Return `X` as impressions; TypeError if it is anything else."""
    impressions = as_impressions(X)
    if impressions is None:
        raise TypeError(
            f"{estimator_name} works on Impressions or on a pandas, polars or pyarrow table with "
            f"columns 'user_id', 'item_id' and 'history'; got {type(X).__name__}. "
            "A log becomes impressions with Impressions.from_log(log, catalog)."
        )
    return impressions


def check_columns(estimator: Any, X: Impressions, *, reset: bool) -> None:
    """Store the columns of `X` as fitted attributes, or check that `X` has those of `fit`.

    Raises
    ------
    ValueError
        If a context column of `fit` is missing, or changed between numbers and strings.
    """
    if reset:
        estimator.n_features_in_ = len(X.columns)
        estimator.feature_names_in_ = np.array(X.columns, dtype=object)
        return
    names = getattr(estimator, "feature_names_in_", ())
    missing = [n for n in names if n not in RESERVED and n not in X.columns]
    if missing and is_user_column(missing[0]):
        raise ValueError(
            f"X lacks the column {missing[0]!r}, an attribute of users that "
            f"{type(estimator).__name__} was fitted with; X has {X.columns}. Add the column (empty "
            "where it is not known) or X.with_users(users), or fit without it."
        )
    if missing:
        raise ValueError(
            f"X lacks the context column {missing[0]!r}, which {type(estimator).__name__} was "
            f"fitted with; X has {X.columns}. Add the column, or fit without it."
        )


def check_range(
    columns: NDArray[np.floating], names: Sequence[Any] | None, what: str = "holds"
) -> None:
    """Check that a network, which computes in float32, can take all numbers of some columns.

    Parameters
    ----------
    columns : ndarray of shape (n_rows, n_columns)
        Finite.
    names : sequence or None
        Of the columns; None numbers them.
    what : str, default="holds"
        Verb for messages: the column "holds" a number.

    Raises
    ------
    ValueError
        If a number is larger than `LARGEST`. The message names the column.
    """
    if columns.min(initial=0) >= -LARGEST and columns.max(initial=0) <= LARGEST:
        return
    row, j = np.argwhere(np.abs(columns) > LARGEST)[0]
    column = f"Column {j}" if names is None else f"Column {names[j]!r}"
    raise ValueError(
        f"{column} of X {what} {columns[row, j]:g} in row {row}, but numbers may be {LARGEST:g} at "
        "most. Correct the value, or take the logarithm of the column."
    )


def check_sample_weight(
    sample_weight: ArrayLike, y: NDArray[Any] | None, rows: Any
) -> NDArray[np.float64]:
    """Return the weights of `rows` as an array.

    Raises
    ------
    ValueError
        If there are not as many as rows, one is negative, infinite or NaN, none is positive, or
        rows of one class of `y` alone have a weight.
    """
    count = _check_sample_weight(sample_weight, rows, dtype=np.float64, ensure_non_negative=True)
    if count.max(initial=0) > LARGEST:
        raise ValueError(
            f"sample_weight holds {count.max():g}, but weights may be {LARGEST:g} at most. "
            "Divide them by a constant."
        )
    if y is not None and len(np.unique(y[count > 0])) < len(np.unique(y)):
        raise ValueError(
            "sample_weight leaves rows of one class only: all rows of the other class have "
            "weight zero."
        )
    return np.asarray(count)


def check_target(
    y: Any, n_rows: int, *, estimator_name: str
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Return `y` as 0.0 and 1.0, and its two classes in order.

    Raises
    ------
    ValueError
        If `y` is None, has not one entry a row, or has not exactly two classes.
    """
    if y is None:
        raise ValueError(
            f"{estimator_name} requires y to be passed, but the target y is None: it learns from "
            "clicks, one 0 or 1 a row. To a log of clicks alone, skmars.sample_negatives(X) "
            "adds rows that are not clicked."
        )
    y = column_or_1d(y, warn=True)
    if len(y) != n_rows:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {n_rows} rows, y "
            f"has {len(y)} entries. Pass X and y of the same rows."
        )
    kind = type_of_target(y[:BLOCK], input_name="y", raise_unknown=True)
    classes = np.unique(np.concatenate([np.unique(y[block]) for block in blocks(len(y))]))
    release(y)
    if len(y) > BLOCK:
        some = np.concatenate([y[:BLOCK], classes])
        kind = type_of_target(some, input_name="y", raise_unknown=True)
    if len(classes) == 1:
        only = classes.tolist()[0]
        draw = " To a log of clicks alone, skmars.sample_negatives(X) adds them." if only else ""
        raise ValueError(
            f"{estimator_name} needs rows of two classes, but y holds only one class: {only!r}. "
            f"Add rows of the other class.{draw}"
        )
    if kind != "binary":
        raise ValueError(
            f"Only binary classification is supported. The type of the target is {kind}; y holds "
            f"{len(classes)} distinct values. Make it binary, for example y = rating >= 4."
        )
    codes = (y == classes[1]).astype(np.float32)
    release(y)
    return codes, classes
