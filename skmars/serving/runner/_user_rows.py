"""The rows of a store's users, each with the longest history, of which pools are made."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions, ItemCatalog, Sequences
from skmars.data._activity import UserActivity
from skmars.data._log import LogFormat
from skmars.persistence import Model
from skmars.serving.runner._activity import Activity, Map, blocks_of
from skmars.serving.scoring._rows import as_log, as_rows, until
from skmars.serving.store._store import Store, UserId
from skmars.utils._ids import as_ids, check_same_kind
from skmars.utils._ragged import offsets


def user_rows(
    store: Store,
    activity: Activity,
    catalog: ItemCatalog,
    form: LogFormat,
    map: Map = map,
) -> Impressions:
    """Return one row for each user with a history: a row of theirs with the longest one.

    Where there is none, it is a row of somebody without: no step takes nothing at all.

    Parameters
    ----------
    store : Store
    activity : Activity
        Of all users; events beyond its position are left out.
    catalog : ItemCatalog
        Has all items of these events, see `catalog_of`.
    form : LogFormat
    map : callable
        Reads the users in blocks, here or elsewhere.
    """
    chosen = activity.longest > 0
    ids = activity.users[chosen] if chosen.any() else activity.users[:1]
    codes = catalog.codes(as_ids(store.item_ids()[: activity.n_items], "the items of the store"))
    read = partial(_longest, store, activity.position, form)
    parts = list(map(read, blocks_of(ids.tolist())))
    return replace(
        parts[0],
        catalog=catalog,
        users=ids,
        user=np.arange(len(ids), dtype=np.int32),
        target=codes[np.concatenate([X.target for X in parts])],
        history=_joined([X.history for X in parts]).recode(codes),
        time=_column([X.time for X in parts]),
    )


def _longest(store: Store, position: int, form: LogFormat, ids: list[UserId]) -> Impressions:
    """Return the row of each user with the longest history; items are numbers of the store."""
    log = as_log(ids, until(store.histories(ids)[0], position), form)
    X = as_rows(log, ItemCatalog(np.zeros(0, dtype=np.int64)), form)
    X = X[UserActivity.of(X)[1]]
    return replace(X, history=X.history.compact())


def catalog_of(store: Store, activity: Activity, model: Model) -> ItemCatalog:
    """Return the catalogue of a model with all items that the events have.

    It is that of `Impressions.from_log` for the log of these events.
    """
    ids = store.item_ids()[: activity.n_items]
    catalog = model.histories.catalog
    return catalog.extend(as_ids(ids, "the items of the store")) if ids else catalog


def with_columns(X: Impressions, model: Model) -> Impressions:
    """Return rows with the context and the attributes of users that a model was fitted with.

    What is not known is missing: the context is empty, or 0 where it is a number.
    """
    check_same_kind(X.users, "the store", model.histories.users, "the log of the model")
    return replace(
        X,
        context={name: _empty(kind, len(X)) for name, kind in model.columns.context.items()},
        user_attributes=model.histories.known.of(X.users, "the store"),
    )


def _empty(kind: str | None, n: int) -> NDArray[Any]:
    return np.zeros(n) if kind == "numbers" else np.full(n, "", dtype=object)


def _column(values: list[Any]) -> Any:
    return None if values[0] is None else np.concatenate(values)


def _joined(histories: list[Sequences]) -> Sequences:
    """Return the rows of compact sequences, one behind another."""
    length = np.concatenate([history.length for history in histories])
    return Sequences(
        np.concatenate([history.items for history in histories]),
        offsets(length)[:-1],
        length,
        feedback=_column([history.feedback for history in histories]),
        time=_column([history.time for history in histories]),
    )
