"""What runs in production: a store of events, a scorer, an HTTP service and an offline runner."""

from skmars.serving._open import open_store
from skmars.serving._replay import Replay, logged, replay
from skmars.serving._request import Request
from skmars.serving._scorer import Answer, Recommendation, Scorer
from skmars.serving._snapshot import Snapshot
from skmars.serving._store import (
    EVENT,
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
    "EVENT",
    "Answer",
    "Events",
    "Lease",
    "LeaseHeld",
    "Recommendation",
    "Replay",
    "Request",
    "Scorer",
    "Snapshot",
    "StaleLease",
    "Store",
    "StoreError",
    "StreamTrimmed",
    "Streamed",
    "logged",
    "open_store",
    "replay",
]
