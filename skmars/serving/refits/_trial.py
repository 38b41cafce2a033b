"""How two models predict the newest events, which neither has learnt."""

from __future__ import annotations

import warnings
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skmars.model_selection import sample_negatives
from skmars.persistence import Model
from skmars.serving.scoring._histories import ItemNumbers
from skmars.serving.store._store import Store, Streamed, StreamTrimmed
from skmars.serving.trainer._training_rows import training_rows
from skmars.serving.trainer._validation import scored

# Of fewer rows, a log loss tells nothing; more tell nothing that so many do not.
LEAST, MOST = 50, 20_000
BLOCK = 4096  # events that are read at a time


@dataclass(frozen=True)
class Trial:
    """How a new model and the current one predict the same rows.

    Attributes
    ----------
    rows : int
        How many; 0 if there were fewer than 50.
    log_loss, current_log_loss : float or None
        Of the new model and of the current one; None without rows, or where a probability is none.
    auc, current_auc : float or None
        None also where the rows are of one class.
    """

    rows: int = 0
    log_loss: float | None = None
    current_log_loss: float | None = None
    auc: float | None = None
    current_auc: float | None = None

    def is_worse(self, by: float | None) -> bool:
        """Return whether the log loss of the new model is larger by more than this."""
        if by is None or not self.rows:
            return False
        if self.log_loss is None or self.current_log_loss is None:
            return self.log_loss is None
        return self.log_loss > self.current_log_loss + by


def tried(new: Model, current: Model, store: Store, since: int) -> Trial:
    """Try two models on the streamed events beyond a position, each as it was shown.

    Parameters
    ----------
    new, current : Model
        Neither has learnt these events.
    store : Store
    since : int
    """
    events = _newest(store, since)
    if len(events) < LEAST:
        return Trial()
    numbers = ItemNumbers(store)
    rows = [training_rows(model, numbers, events, store) for model in (new, current)]
    if new.negatives:
        try:
            rows = _with_negatives(rows, new.negatives)
        except ValueError as error:
            warnings.warn(f"The new model is not tried: {error}", UserWarning, stacklevel=3)
            return Trial()
    if min(len(y) for _, y in rows) < LEAST:
        return Trial()
    (_, loss, auc), (_, current_loss, current_auc) = (
        scored(model.pipeline, X, y) for model, (X, y) in zip((new, current), rows)
    )
    return Trial(len(rows[0][1]), loss, current_loss, auc, current_auc)


def _newest(store: Store, since: int) -> list[Streamed]:
    events: deque[Streamed] = deque(maxlen=MOST)
    try:
        while block := store.stream(since, BLOCK):
            events += block
            since = block[-1].position
    except StreamTrimmed:
        return []
    return list(events)


def _with_negatives(rows: list[Any], n: int) -> list[Any]:
    """Return the clicks with drawn negatives, the same for both models."""
    (X, y), (other, _) = ((X[y == 1], y[y == 1]) for X, y in rows)
    drawn, y = sample_negatives(X, n_negatives=n, exclude="before", random_state=0)
    catalog = other.catalog.extend(drawn.item_ids)
    same = other[np.repeat(np.arange(len(other)), 1 + n)]
    same = same.with_catalog(catalog)
    return [(drawn, y), (replace(same, target=catalog.codes(drawn.item_ids)), y)]
