"""The fields of impressions, and the checks of their types, shapes and lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Required, TypedDict

import numpy as np
from numpy.typing import NDArray

from skmars.data._attributes import Attribute
from skmars.data._catalog import ItemCatalog, require_catalog
from skmars.data._columns import RESERVED
from skmars.data._sequences import Sequences, check_codes
from skmars.data._user_columns import is_user_column, of_columns
from skmars.utils._ids import as_ids, factorize
from skmars.utils._on_disk import Disk
from skmars.utils._values import as_column


class Fields(TypedDict, total=False):
    """The fields of `Impressions`, as the functions that read tables return them."""

    catalog: Required[ItemCatalog]
    users: Required[NDArray[Any]]
    user: Required[NDArray[np.int32]]
    target: Required[NDArray[np.int32]]
    history: Required[Sequences]
    time: NDArray[np.float64] | None
    context: Mapping[str, NDArray[Any]]
    borrowed: Sequences | None
    fold: NDArray[np.int8] | None
    user_attributes: Mapping[str, Attribute]
    _embedding: NDArray[np.float32] | None
    _log: Any  # LogRecord, of impressions that hold all rows of a log
    _zone: str | None
    _disk: Disk | None
    _checked: bool


def checked(fields: Fields) -> Fields:
    """Return the fields as arrays of their types; raise if one of them is not valid.

    Raises
    ------
    TypeError, ValueError
        If a field has another type, shape or length, codes lie outside what they point to, or
        user ids repeat. The message names the field.
    """
    catalog = require_catalog(fields["catalog"])
    users = as_ids(fields["users"], "users")
    if len(factorize(users)[0]) != len(users):
        raise ValueError("users must hold distinct ids, but some repeat.")
    user = as_column(fields["user"], np.int32, "user")
    target = as_column(fields["target"], np.int32, "target")
    check_codes(user, len(users), "user", "users")
    check_codes(target, len(catalog), "target", "the catalogue")
    for name in ("history", "borrowed"):
        check_sequences(fields.get(name), name, catalog, optional=name == "borrowed")
    time = fields.get("time")
    if time is not None:
        time = as_column(time, np.float64, "time")
        if np.isnan(time).any():
            raise ValueError("time holds NaN; where it is unknown, pass -inf.")
    return {
        **fields,
        "users": users,
        "user": user,
        "target": target,
        "time": time,
        "context": _context(fields.get("context", {})),
        "fold": as_fold(fields.get("fold")),
        "user_attributes": of_columns(fields.get("user_attributes", {}), len(users)),
        "_embedding": as_embedding(fields.get("_embedding")),
    }


def check_sequences(
    value: Any, name: str, catalog: ItemCatalog, *, optional: bool = True
) -> Sequences | None:
    """Return the value; raise unless it is `Sequences` of items of the catalogue."""
    if value is None and optional:
        return None
    if not isinstance(value, Sequences):
        raise TypeError(f"{name} must be Sequences, got {type(value).__name__}.")
    check_codes(value.items, len(catalog), f"{name}.items", "the catalogue")
    return value


def as_fold(fold: Any) -> NDArray[np.int8] | None:
    """Return the fold of each row (see `Impressions.fold`) as int8."""
    if fold is None:
        return None
    fold = as_column(fold, np.int8, "fold")
    if fold.min(initial=0) < -2:
        raise ValueError(f"fold must be -2 or more, got {fold.min()}.")
    return fold


def as_embedding(embedding: Any) -> NDArray[np.float32] | None:
    """Return user embeddings as a float32 matrix."""
    if embedding is None:
        return None
    matrix = np.asarray(embedding)
    if matrix.ndim != 2 or matrix.dtype.kind not in "iuf":
        raise TypeError(
            "user_embedding must be a matrix of numbers of shape (n_rows, n_components), got dtype "
            f"{matrix.dtype} and shape {matrix.shape}."
        )
    return matrix.astype(np.float32, copy=False)


def as_encoder(encoder: Any) -> Callable[..., NDArray[np.float32]]:
    """Return the function that computes user embeddings; TypeError if it is not callable."""
    if not callable(encoder):
        raise TypeError(f"encoder must be a function of impressions, got {encoder!r}.")
    return encoder


def _context(context: Any) -> dict[str, NDArray[Any]]:
    if not isinstance(context, Mapping):
        raise TypeError(
            f"context must be a mapping from names to columns, got {type(context).__name__}."
        )
    columns = {}
    for name, values in context.items():
        if not isinstance(name, str) or name in RESERVED or is_user_column(name):
            raise ValueError(
                f"context has a column {name!r}, but names must be strings, and not those of other "
                f"columns of a table of impressions ({', '.join(RESERVED)}, or user.* for "
                "attributes of users). Rename it."
            )
        column = np.asarray(values)
        column = column.astype(object) if column.dtype.kind in "UT" else column
        if column.ndim != 1 or column.dtype.kind not in "biufO":
            raise TypeError(
                f"context[{name!r}] must hold one number or string a row, got dtype {column.dtype} "
                f"and shape {column.shape}."
            )
        columns[name] = column
    return columns
