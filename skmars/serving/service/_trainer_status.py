"""What the trainer told last, as it stands in the store."""

from __future__ import annotations

import json
import logging
from typing import Annotated

import msgspec

from skmars.serving.store._current import TRAINER_STATUS
from skmars.serving.store._store import Store

log = logging.getLogger(__name__)

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class TrainerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How training goes; None where the trainer did not tell.

    Losses and AUCs are those of the last rows that none of the candidate, the current version and
    the fit had learnt.
    """

    position: Count
    n_events: Count
    time: float
    log_loss: float | None = None
    current_log_loss: float | None = None
    fit_log_loss: float | None = None
    auc: float | None = None
    current_auc: float | None = None
    fit_auc: float | None = None
    rows: Count | None = None
    n_skipped: Count | None = None
    n_accepted: Count | None = None
    n_rejected: Count | None = None


class TrainerWatch:
    """Reads what the trainer told, and how much of the store it had not learnt then.

    Parameters
    ----------
    store : Store

    Attributes
    ----------
    status : TrainerStatus or None
        The last one that could be read; None as long as no trainer has told anything.
    behind : int
        How many positions of the store lie beyond that of the status.
    """

    def __init__(self, store: Store) -> None:
        self.status: TrainerStatus | None = None
        self.behind = 0
        self._store, self._text = store, ""

    def look(self) -> None:
        """Read it, if the store answers. A status that can't be read is told once, and ignored."""
        try:
            text = self._store.pointer(TRAINER_STATUS) or ""
            end = self._store.position if text else 0
        except OSError:  # told by those who need it
            return
        if text != self._text:
            self._text = text
            try:
                # json, since a metric may be NaN.
                self.status = msgspec.convert(json.loads(text), TrainerStatus) if text else None
            except (ValueError, RecursionError) as error:
                log.error("What the trainer told can't be read, and is ignored: %s", error)
        if self.status is not None:
            self.behind = max(0, end - self.status.position)
