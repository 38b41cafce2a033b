"""What runs in production: a store, a scorer, an HTTP service, a runner, a trainer, refits."""

from skmars.serving._rollback import rollback
from skmars.serving.refits._refit import Refit, refit
from skmars.serving.refits._trial import Trial
from skmars.serving.runner._loading import LogFile
from skmars.serving.runner._runner import Pass, Runner
from skmars.serving.scoring._replay import Replay, logged, replay
from skmars.serving.scoring._request import Request
from skmars.serving.scoring._scorer import Answer, Recommendation, Scorer
from skmars.serving.scoring._snapshot import Snapshot
from skmars.serving.store._current import Current
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
from skmars.serving.trainer._trainer import Step, Trainer
from skmars.serving.trainer._validation import Judgement

__all__ = [
    "Answer",
    "Current",
    "Events",
    "Judgement",
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
    "Step",
    "Store",
    "StoreError",
    "StreamTrimmed",
    "Streamed",
    "Trainer",
    "Trial",
    "logged",
    "open_store",
    "refit",
    "replay",
    "rollback",
]
