"""Impressions as a table with one row an impression, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data._catalog import ItemCatalog
from skmars.data._columns import OPTIONAL, REQUIRED
from skmars.data._frames import Table
from skmars.data._sequences import Sequences
from skmars.utils import _ragged as ragged
from skmars.utils._ids import as_ids, check_same_kind, factorize, joined


def frame_columns(X: Any) -> dict[str, Callable[[], Any]]:
    """Return the columns of the table, each as a function that makes its values.

    Names are needed far more often than values (`shape` asks for them), hence the functions.
    """
    columns: dict[str, Callable[[], Any]] = {
        "user_id": lambda: X.user_ids,
        "item_id": lambda: X.item_ids,
        **_sequence_columns("history", X.history, X.catalog),
    }
    if X.time is not None:
        columns["timestamp"] = lambda: X.time
    for name, column in X.context.items():
        columns[name] = partial(_itself, column)
    if X._embedding is not None or X._encoder is not None:
        columns["user_embedding"] = lambda: X.user_embedding
    if X.borrowed is not None:
        columns |= _sequence_columns("borrowed", X.borrowed, X.catalog)
    return columns


def _itself(column: NDArray[Any]) -> NDArray[Any]:
    return column


def _sequence_columns(
    name: str, sequences: Sequences, catalog: ItemCatalog
) -> dict[str, Callable[[], Any]]:
    def column(values: NDArray[Any] | None, ids: NDArray[Any] | None = None) -> Any:
        def make() -> tuple[NDArray[Any], NDArray[Any]]:
            taken = values[sequences.positions()]  # type: ignore[index]
            return (taken if ids is None else ids[taken]), sequences.length

        return make

    columns = {name: column(sequences.items, catalog.ids)}
    if sequences.donor is not None:
        columns[f"{name}_donor"] = column(sequences.donor, sequences.donors)
    for attribute, suffix in (
        ("similarity", "similarity"),
        ("donor_similarity", "donor_similarity"),
        ("feedback", "feedback"),
        ("time", "timestamp"),
    ):
        values = getattr(sequences, attribute)
        if values is not None:
            columns[f"{name}_{suffix}"] = column(values)
    return columns


def read_rows(cls: Any, frame: Any, catalog: ItemCatalog | None) -> Any:
    """Do what `Impressions.from_frame` promises."""
    table = Table(frame, "X")
    for name in REQUIRED:
        table.series(name)
    users, user = factorize(table.ids("user_id"))
    target = table.ids("item_id")
    lists = {"history": table.lists("history")}
    if "borrowed" in table.columns:
        lists["borrowed"] = table.lists("borrowed")
    values = {name: as_ids(flat, f"column {name!r} of X") for name, (flat, _) in lists.items()}
    # An empty history tells nothing of the type of its items.
    values = {k: v if len(v) else target[:0] for k, v in values.items()}
    if catalog is None:
        for name, flat in values.items():
            check_same_kind(flat, f"column {name!r} of X", target, "column 'item_id' of X")
        catalog = ItemCatalog(factorize(joined(target, *values.values()))[0])
    else:
        for name, ids in {"item_id": target, **values}.items():
            check_same_kind(ids, f"column {name!r} of X", catalog.ids, "the catalogue")
            catalog = catalog.extend(ids)

    time = table.seconds("timestamp") if "timestamp" in table.columns else None
    sequences = {
        name: Sequences(
            catalog.codes(flat),
            ragged.offsets(lists[name][1])[:-1],
            lists[name][1].astype(np.int32),
            feedback=_feedback(table, f"{name}_feedback", lists[name][1]),
            time=_event_times(table, f"{name}_timestamp", lists[name][1], time),
        )
        for name, flat in values.items()
    }
    if "borrowed" in sequences:
        sequences["borrowed"] = _with_provenance(table, sequences["borrowed"])
    embedding = None
    if "user_embedding" in table.columns:
        embedding, _ = table.vectors("user_embedding")
    fold = None
    if "user_fold" in table.columns:
        fold = np.asarray(table.context("user_fold")).astype(np.int8)
    known = {*REQUIRED, *OPTIONAL, "borrowed_timestamp"}
    return cls(
        catalog,
        users,
        user,
        catalog.codes(target),
        sequences["history"],
        time=None if time is None else np.where(np.isnan(time), -np.inf, time),
        context={c: table.context(c) for c in table.columns if c not in known},
        borrowed=sequences.get("borrowed"),
        fold=fold,
        _embedding=embedding,
    )


def _aligned(table: Table, column: str, length: NDArray[Any]) -> NDArray[Any] | None:
    """Values of a list column that goes along with another one; None if it is not there."""
    if column not in table.columns:
        return None
    flat, found = table.lists(column)
    if not np.array_equal(found, length):
        row = int(np.argmax(found != length))
        raise ValueError(
            f"{table.describe(column)} must have one entry for each item of its list; row {row} "
            f"has {found[row]} for {length[row]} items."
        )
    return flat


def _feedback(table: Table, column: str, length: NDArray[Any]) -> NDArray[np.int8] | None:
    flat = _aligned(table, column, length)
    if flat is None:
        return None
    values = np.asarray(flat, dtype=np.float64)
    if not np.isin(values, (0, 1)).all():
        wrong = values[~np.isin(values, (0, 1))][0]
        raise ValueError(f"{table.describe(column)} must hold 0 and 1 only, got {wrong}.")
    return values.astype(np.int8)


def _event_times(
    table: Table, column: str, length: NDArray[Any], time: NDArray[np.float64] | None
) -> NDArray[np.float64] | None:
    flat = _aligned(table, column, length)
    if flat is not None:
        seconds = np.asarray(flat, dtype=np.float64)
    elif time is not None and column == "history_timestamp":
        # All that is known of a history is that it lies before its impression.
        seconds = np.repeat(time, length)
    else:
        return None
    return np.where(np.isnan(seconds), np.inf, seconds)


def _with_provenance(table: Table, borrowed: Sequences) -> Sequences:
    changes: dict[str, Any] = {}
    donor = _aligned(table, "borrowed_donor", borrowed.length)
    if donor is not None:
        donors, codes = factorize(as_ids(donor, table.describe("borrowed_donor")))
        changes |= {"donors": donors, "donor": codes}
    for name in ("similarity", "donor_similarity"):
        values = _aligned(table, f"borrowed_{name}", borrowed.length)
        if values is not None:
            changes[name] = np.asarray(values, dtype=np.float32)
    return replace(borrowed, **changes)
