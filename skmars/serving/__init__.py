"""What runs in production: a store of events, a scorer, an HTTP service and an offline runner."""

from skmars.serving.refits._refit import Refit, refit
from skmars.serving.refits._trial import Trial
from skmars.serving.runner._loading import LogFile
from skmars.serving.runner._runner import Pass, Runner
from skmars.serving.scoring._replay import Replay, logged, replay
from skmars.serving.scoring._request import Request
from skmars.serving.scoring._scorer import Answer, Recommendation, Scorer
from skmars.serving.scoring._snapshot import Snapshot
from skmars.serving.store._open import open_store
from skmars.serving.store._store import EVENT as EVENT
from skmars.serving.store._store import (
    Events,
    Lease,
    LeaseHeld,
    StaleLease,
    Store,
    StoreError,
    Streamed,
    StreamTrimmed,
)

__all__ = [
    "Answer",
    "Events",
    "Lease",
    "LeaseHeld",
    "LogFile",
    "Pass",
    "Recommendation",
    "Refit",
    "Replay",
    "Request",
    "Runner",
    "Scorer",
    "Snapshot",
    "StaleLease",
    "Store",
    "StoreError",
    "StreamTrimmed",
    "Streamed",
    "Trial",
    "logged",
    "open_store",
    "refit",
    "replay",
]
