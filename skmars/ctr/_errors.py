"""Errors for rows that a fitted classifier can't read, returned to be raised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data._checks import check_range


def column_lacking(name: str, there: Iterable[str]) -> ValueError:
    """Say that a context column of fit is not there."""
    return ValueError(
        f"X lacks the context column {name!r}, which DINClassifier was fitted with; X has "
        f"{list(there)}. Add the column, or fit without it."
    )


def column_changed(name: str, value: Any, numeric: bool) -> ValueError:
    """Say that a context column, `numeric` in fit or not, is of the other kind now."""
    was, now, to = "categorical", "numeric", "strings"
    if numeric:
        was, now, to = "numeric", "categorical", "numbers"
    return ValueError(
        f"Context column {name!r} was {was} in fit, but is {now} in X (first value: {value!r}). "
        f"Convert it to {to}."
    )


def numbers_out_of_range(
    columns: NDArray[Any], names: Sequence[str] | None, what: str
) -> ValueError:
    """Say which number of some columns is not finite, or else too large."""
    bad = ~np.isfinite(columns)
    if not bad.any():
        try:
            check_range(columns, names, what)
        except ValueError as error:
            return error
    j = int(np.argmax(bad.any(axis=0)))
    row = int(np.argmax(bad[:, j]))
    column = f"Column {j}" if names is None else f"Context column {names[j]!r}"
    word = "NaN" if np.isnan(columns[row, j]) else "infinity"
    return ValueError(
        f"{column} contains {word} in {bad[:, j].sum()} rows (first: row {row}). Fill these "
        "values, or drop the rows."
    )


def features_lacking(there: Mapping[str, int], widths: Mapping[str, int]) -> ValueError:
    """Say which item features are not there, or of another width."""
    name, width = next(item for item in widths.items() if item not in there.items())
    if name in there:
        return ValueError(
            f"Item features {name!r} have {there[name]} columns in the catalogue of X, but had "
            f"{width} when DINClassifier was fitted."
        )
    return ValueError(
        f"The catalogue of X has no item features {name!r}, which DINClassifier was fitted with; "
        f"it has {list(there)}. Pass X through the steps that made them, or attach them with "
        "catalog.with_features / with_embedding."
    )


def features_out_of_range(name: str, ids: NDArray[Any], largest: float) -> ValueError:
    """Say that features of these items are no numbers to compute with."""
    return ValueError(
        f"Item features {name!r} of the catalogue contain NaN, infinity or numbers beyond "
        f"{largest:g} for {len(ids)} items (first: {ids[:1].tolist()[0]!r}). Repair them, or mask "
        "these items with catalog.with_features(..., missing=...)."
    )


def attributes_lacking(name: str, there: Iterable[str], of: str) -> ValueError:
    """Say that an attribute of fit, `of` items or users, is not there."""
    has, remedy = "The users of X have", "X.with_users(users), or a column 'user.*' of a table"
    if of == "item":
        has = "The catalogue of X has"
        remedy = "Impressions.from_frame(table, catalog), or catalog.with_attributes"
    return ValueError(
        f"{has} no attribute {name!r}, which DINClassifier was fitted with, but {list(there)}. "
        f"Attach it with {remedy}; values that are not known may be missing. Or fit with "
        f"{of}_attributes=None."
    )


def attribute_changed(name: str, kind: str, was: str) -> ValueError:
    """Say that an attribute is of another kind than in fit."""
    words = {"number": "numbers", "category": "strings", "list": "lists of strings"}
    return ValueError(
        f"DINClassifier was fitted when {name} held {words[was]}, but it holds {words[kind]} in X. "
        f"Convert it to {words[was]}."
    )


def attribute_out_of_range(name: str, largest: float) -> ValueError:
    """Say that a number of an attribute can't be computed with."""
    return ValueError(
        f"{name} holds numbers beyond {largest:g}, or is scaled to such. Correct the value, or "
        "take its logarithm."
    )


def factors_of_all_users() -> ValueError:
    """Say that training rows come with a catalogue that knows their users."""
    return ValueError(
        "The rows of X see item factors without the users of their fold (X.fold, column "
        "'user_fold'), but the catalogue of X has those of all users only. Pass the impressions "
        "that fit_transform returned, or their catalogue: Impressions.from_frame(table, X.catalog)."
    )
