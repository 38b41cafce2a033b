"""Read what `Impressions.cross` and `Impressions.latest` are given: items, users and context."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data._catalog import ItemCatalog
from skmars.utils._ids import Ids, as_ids, check_same_kind, joined
from skmars.utils._values import is_sequence

Codes = NDArray[np.int32]
Counts = NDArray[np.int64]


def item_codes(items: Any, n_rows: int, catalog: ItemCatalog) -> tuple[Codes, Counts]:
    """Return the item codes that each row is crossed with, row after row, and how many.

    Parameters
    ----------
    items : array-like of shape (n_items,), or list of n_rows array-likes
        Item ids: the same for all rows, or those of each row.
    n_rows : int
    catalog : ItemCatalog

    Raises
    ------
    ValueError
        If the catalogue lacks an item, or there is not one list a row.
    TypeError
        If these are no ids, or of another kind than those of the catalogue.
    """
    ids, count = item_ids(items, n_rows, "items")
    codes = known_codes(ids, catalog, "items")
    return (
        (np.tile(codes, n_rows), np.full(n_rows, len(codes))) if count is None else (codes, count)
    )


def item_ids(items: Any, n_rows: int, name: str) -> tuple[Ids, Counts | None]:
    """Return item ids, row after row, and how many each row has; None if all have the same.

    Parameters are those of `item_codes`; `name` is that of the parameter `items` in messages.
    """
    rows = _rows(items, name)
    if rows is None:
        return as_ids(items, name, "value"), None
    if len(rows) != n_rows:
        raise ValueError(
            f"{name} has {len(rows)} lists of items for {n_rows} rows. Pass one list a row, or one "
            "list of ids for all rows."
        )
    count = np.array([len(row) for row in rows], dtype=np.int64)
    filled = [as_ids(row, f"{name}[{i}]", "value") for i, row in enumerate(rows) if len(row)]
    for i, row in enumerate(filled):
        check_same_kind(row, f"{name}[{i}]", filled[0], f"{name}[0]")
    return (joined(*filled) if filled else np.zeros(0, dtype=np.int64)), count


def known_codes(ids: Ids, catalog: ItemCatalog, name: str) -> Codes:
    """Return the item code of each id; ValueError names those that the catalogue lacks."""
    if len(ids) == 0:
        return np.zeros(0, dtype=np.int32)
    codes = catalog.codes(ids, name)
    check_known(ids, codes < 0, name, "the catalogue of X lacks")
    return codes


def _rows(items: Any, name: str) -> list[Any] | None:
    """Return the items of each row; None if there is one list for all rows."""
    if not is_sequence(items):
        return None  # `as_ids` tells what is wrong
    if isinstance(items, np.ndarray) and items.dtype != object:
        return list(items) if items.ndim > 1 else None
    values = items.to_pylist() if hasattr(items, "to_pylist") else list(items)
    nested = [is_sequence(value) for value in values]
    if any(nested) and not all(nested):
        raise TypeError(
            f"{name} must hold ids, or one list of ids a row, but mixes both: "
            f"{values[nested.index(False)]!r} is no list. Make every entry a list."
        )
    return values if any(nested) else None


def check_known(
    ids: NDArray[Any],
    unknown: NDArray[np.bool_],
    name: str,
    lacks: str,
    advice: str = "Correct the ids, or leave them out.",
) -> None:
    """Raise ValueError, which shows the first ones, if some ids are unknown."""
    if unknown.any():
        distinct = list(dict.fromkeys(ids[unknown].tolist()))
        shown = ", ".join(map(repr, distinct[:3])) + ", ..." * (len(distinct) > 3)
        n = len(distinct)
        raise ValueError(f"{lacks} {shown} ({n} unknown id{'s' * (n > 1)} in {name}). {advice}")


def new_context(
    given: Mapping[str, Any] | None, known: Mapping[str, NDArray[Any]], n_rows: int
) -> dict[str, NDArray[Any]]:
    """Return the context columns of new rows, of the types of those that are known.

    Raises
    ------
    TypeError, ValueError
        If a column is missing or unknown, is of another type, or has not one value a row.
    """
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"context must be a mapping from columns to values, got {given!r}.")
    given = given or {}
    missing, more = [[n for n in a if n not in b] for a, b in ((known, given), (given, known))]
    if missing:
        found = f"context has {', '.join(map(repr, more))} only, but " if more else ""
        raise ValueError(
            f"{found}X has the context {', '.join(map(repr, missing))}, which the new rows need, "
            f"too. Pass context={{{missing[0]!r}: ...}}, one value for all rows or one a row."
        )
    if more:
        raise ValueError(
            f"context has {more[0]!r}, but X has no such context column. Leave it out."
        )
    columns = {}
    for name, column in known.items():
        texts = column.dtype == object
        value = np.asarray(given[name], dtype=object if texts else None)
        if not texts and value.dtype.kind not in "biuf":
            raise TypeError(f"context[{name!r}] must hold numbers, got {given[name]!r}.")
        if value.ndim and value.shape != (n_rows,):
            raise ValueError(
                f"context[{name!r}] has shape {value.shape} for {n_rows} rows. Pass one value for "
                "all rows, or one a row."
            )
        if texts and not all(isinstance(v, str) for v in value.ravel()):
            raise TypeError(f"context[{name!r}] must hold strings, got {given[name]!r}.")
        columns[name] = np.array(np.broadcast_to(value, n_rows))
    return columns
