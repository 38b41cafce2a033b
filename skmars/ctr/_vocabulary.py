"""What a fit learns of its rows: the columns, their scales and categories, and the items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from skmars.ctr._attributes import LearntAttribute, chosen_attributes, learn_attribute
from skmars.ctr._batches import N_FEEDBACK, UNKNOWN_FEEDBACK
from skmars.ctr._labelled_rows import has_borrowed
from skmars.ctr._row_encoder import (
    ALIGNED,
    Codes,
    ItemFeatures,
    RowEncoder,
    UsedItems,
    feature_widths,
    numbers,
    numeric_columns,
    strings,
)
from skmars.data import Impressions, ItemCatalog
from skmars.data._attributes import Attribute, take_entries
from skmars.data._catalog import distinct_codes
from skmars.data._columns import CLICK_LOGIT, FACTORS, LOOKALIKES
from skmars.utils import _ragged as ragged
from skmars.utils._ids import Lookup, factorize
from skmars.utils._on_disk import MANY, blocks, count_codes, release
from skmars.utils._units import mean_of_known

# The mean of features is that of so many items at most, of which so many are read at a time.
MOST_CENTERED, CENTERED_BLOCK = 100_000, 1 << 12


def learn_encoder(
    X: Impressions | NDArray[Any],
    weight: NDArray[np.float64] | None,
    *,
    max_length: int,
    borrowed: str,
    item_features: str | Sequence[str] | None,
    linear_context: str | Sequence[str] | None,
    item_attributes: str | Sequence[str] | None,
    user_attributes: str | Sequence[str] | None,
) -> RowEncoder:
    """Learn vocabularies and scales; for the parameters see `DINClassifier`.

    `weight` of shape (n_rows,) says how often each row counts.
    """
    if not isinstance(X, Impressions):
        return RowEncoder(scaler=StandardScaler().fit(X, sample_weight=weight))
    numeric = numeric_columns(X)
    categorical = [name for name in X.context if name not in numeric]
    linear = _linear_columns(numeric, categorical, linear_context)
    numeric = [name for name in numeric if name not in linear] + linear
    scaler = categories = None
    category_counts: list[Codes] = []
    if numeric:
        scaler = _learn_scales(X, numeric, weight)
    if categorical:
        categories, category_counts = _learn_categories(X, categorical)
    borrows = has_borrowed(X)
    parts = [X.history, X.borrowed if borrows else None]
    encoder = RowEncoder(
        # No history is longer than its 32-bit length.
        min(max_length, np.iinfo(np.int32).max),
        borrowed,
        numeric,
        categorical,
        len(linear),
        scaler,
        categories,
        category_counts,
        items=Lookup(X.catalog.take_ids(np.zeros(0, dtype=np.int64)), "item_id of the rows of fit"),
        item_features=_chosen_features(X.catalog, item_features),
        has_feedback=any(part is not None and part.feedback is not None for part in parts),
        has_borrowed=borrows,
    )
    encoder = with_items_of(encoder, X)
    assert encoder.items is not None
    centers = _feature_centers(X.catalog, encoder.item_features, encoder.items.ids)
    n_rows = count_codes(X.user, len(X.users))
    user = np.flatnonzero(n_rows)
    n_rows = n_rows[user]
    names = X.catalog.parts[0].attributes
    of_items = {}
    if names:
        seen = X.catalog.codes(encoder.items.ids)
        of_items = {name: X.catalog.take_attribute(name, seen) for name in names}
    of_users = {name: take_entries([v], user) for name, v in X.user_attributes.items()}
    return replace(
        encoder,
        feature_centers=centers,
        item_attributes=_learnt(of_items, item_attributes, encoder.item_count[1:], "item"),
        user_attributes=_learnt(of_users, user_attributes, n_rows, "user"),
    )


def _learn_scales(
    X: Impressions, numeric: list[str], weight: NDArray[np.float64] | None
) -> StandardScaler:
    """Learn mean and variance of numeric columns; of more than MANY rows, block by block."""
    scaler = StandardScaler()
    for rows in blocks(len(X), max(len(X), 1) if len(X) <= MANY else None):
        of_rows = None if weight is None else weight[rows]
        scaler.partial_fit(numbers(X, numeric, rows), sample_weight=of_rows)
        release(*X.context.values())
    return scaler


def _learn_categories(X: Impressions, categorical: list[str]) -> tuple[OrdinalEncoder, list[Codes]]:
    """Learn the categories of columns of strings, and how many rows have each, none the first."""
    found: list[dict[str, int]] = [{} for _ in categorical]
    for rows in blocks(len(X)):
        for count, column in zip(found, strings(X, categorical, rows).T):
            distinct, codes = factorize(column)
            for word, n in zip(distinct.tolist(), np.bincount(codes).tolist()):
                count[word] = count.get(word, 0) + n
    n_most = max(map(len, found))
    # Columns of one length for the encoder: the last category again.
    table = [[*sorted(count), *[max(count)] * (n_most - len(count))] for count in found]
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    encoder.fit(np.array(table, dtype=object).T)
    return encoder, [np.array([0, *(count[c] for c in sorted(count))]) for count in found]


def _learnt(
    there: dict[str, Attribute], names: str | Sequence[str] | None, count: Codes, of: str
) -> dict[str, LearntAttribute]:
    chosen = chosen_attributes(there, names, of)
    return {
        name: learn_attribute(there[name], count, f"attribute {name!r} of {of}s") for name in chosen
    }


def with_items_of(encoder: RowEncoder, X: Impressions) -> RowEncoder:
    """Return the encoder with the rows' items counted, and new ones behind the known ones."""
    assert encoder.items is not None
    history, borrowed = encoder.used_items(X)
    seen, count = count_items(len(X.catalog), X.target, history, borrowed)
    ids = X.catalog.take_ids(seen)
    row = encoder.items(ids, "item_id of X")
    new, there = row < 0, row >= 0
    item_count = np.append(encoder.item_count, count[new])
    item_count[row[there] + 1] += count[there]
    used = [part for part in (history, borrowed) if part is not None]
    feedback_count = encoder.feedback_count + sum(_count_feedback(part) for part in used)
    return encoder.with_items(encoder.items.extended(ids[new]), item_count, feedback_count)


def _linear_columns(
    numeric: list[str], categorical: list[str], names: str | Sequence[str] | None
) -> list[str]:
    if names is None:
        return []
    if isinstance(names, str):  # "auto"
        return [name for name in (CLICK_LOGIT, *LOOKALIKES) if name in numeric]
    for name in names:
        if name not in numeric:
            what = "is not numeric" if name in categorical else "X does not have"
            raise ValueError(
                f"linear_context names the context column {name!r}, which {what}; its numeric "
                f"context columns are {numeric}."
            )
    return list(names)


def _chosen_features(catalog: ItemCatalog, names: str | Sequence[str] | None) -> dict[str, int]:
    if names is None:
        return {}
    offered = feature_widths(catalog)
    if isinstance(names, str):  # "auto"
        # Item factors say most, for fewest weights. An aligner learns from the labels of the rows
        # that are trained on here, of which its embedding tells more than of others.
        features = [name for name in offered if name != ALIGNED]
        names = [FACTORS] if FACTORS in features else features or list(offered)
    for name in names:
        if name not in offered:
            raise ValueError(
                f"item_features names {name!r}, which the catalogue of X does not have; "
                f"it has {list(offered)}."
            )
    return {name: offered[name] for name in names}


def _feature_centers(
    catalog: ItemCatalog, widths: dict[str, int], ids: NDArray[Any]
) -> dict[str, NDArray[np.float64]]:
    """Return the mean features of items, of those that have them, where they are centred.

    Features made from content have much in common (all pictures are pictures), which would drown
    what tells items apart. Item factors are zero where nobody touched an item, and the space of
    the aligner has its own origin.
    """
    widths = {name: n for name, n in widths.items() if name not in (FACTORS, ALIGNED)}
    if not widths:
        return {}
    # Of many items some are enough: every second, say, as those of a kind may stand together.
    step = max(1, -(-len(ids) // MOST_CENTERED))
    codes = catalog.codes(ids[::step]).astype(np.int64)
    features = ItemFeatures(catalog, widths, {}, {})
    parts = [codes[at : at + CENTERED_BLOCK] for at in range(0, len(codes), CENTERED_BLOCK)]
    return {
        name: mean_of_known((features.take(name, part) for part in parts), n)
        for name, n in widths.items()
    }


def count_items(
    n_codes: int, target: NDArray[Any], *parts: UsedItems | None
) -> tuple[Codes, Codes]:
    """Return the distinct item codes of the rows, ascending, and how often each occurs.

    As target, in histories, borrowed. The cost is that of the rows: neither of the catalogue, which
    has `n_codes` items, nor of a log of which these are a few rows.
    """
    n_used = len(target) + sum(part.length.sum(dtype=np.int64) for part in parts if part)
    if n_used > MANY:
        count = _count_by_blocks(n_codes, target, *parts)
        distinct = np.flatnonzero(count)
        return distinct, count[distinct]
    codes, times = [target], [np.ones(len(target))]
    for part in parts:
        if part is None:
            continue
        n = len(part.items)
        if part.length.sum(dtype=np.int64) < n:
            at = ragged.ranges(part.start, part.length)
            n_times = np.ones(len(at))
        else:
            # Histories are views, so that the times each flat position is used are counted (a
            # running sum over starts and ends) instead of walking through the views.
            steps = np.bincount(part.start, minlength=n + 1) - np.bincount(
                part.start + part.length, minlength=n + 1
            )
            used = np.cumsum(steps)[:n]
            at = np.flatnonzero(used)
            n_times = used[at].astype(np.float64)
        codes.append(part.items[at])
        times.append(n_times)
    distinct, places = distinct_codes(codes, n_codes)
    # Exact: integers below 2**53 are exact as float64 weights.
    count = np.bincount(np.concatenate(places), np.concatenate(times), minlength=len(distinct))
    return distinct, count.astype(np.int64)


def _count_by_blocks(n_codes: int, target: NDArray[Any], *parts: UsedItems | None) -> Codes:
    """Count each code, of rows that may be on disk."""
    count = count_codes(target, n_codes)
    for part in parts:
        if part is not None:
            steps = np.zeros(len(part.items) + 1, dtype=np.int64)
            for rows in blocks(len(part.start)):
                start, length = part.start[rows], part.length[rows]
                np.add.at(steps, start, 1)
                np.subtract.at(steps, start + length, 1)
                release(part.start, part.length)
            used = np.cumsum(steps, out=steps)
            for values in blocks(len(part.items)):
                # Exact: integers below 2**53 are exact as float64 weights.
                found = np.bincount(part.items[values], used[values], minlength=n_codes)
                count += found.astype(np.int64)
                release(part.items)
    return count


def _count_feedback(part: UsedItems) -> Codes:
    if part.feedback is None:
        count = np.zeros(N_FEEDBACK, dtype=np.int64)
        count[UNKNOWN_FEEDBACK] = part.length.sum(dtype=np.int64)
        return count
    seen = part._replace(items=part.feedback)  # type: ignore[arg-type]
    codes, n_each = count_items(N_FEEDBACK, np.zeros(0, dtype=np.int64), seen)
    count = np.zeros(N_FEEDBACK, dtype=np.int64)
    count[codes] = n_each
    return count
