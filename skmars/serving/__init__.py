"""What runs in production: a store of events, a scorer, an HTTP service and an offline runner."""

from skmars.serving._open import open_store
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
    "Events",
    "Lease",
    "LeaseHeld",
    "StaleLease",
    "Store",
    "StoreError",
    "StreamTrimmed",
    "Streamed",
    "open_store",
]
