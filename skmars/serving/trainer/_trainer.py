"""The trainer: parameters that learn from the stream of events, and are published."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.pipeline._steps import classifier_in
from skmars.serving.scoring._parameters import Parameters
from skmars.serving.scoring._snapshot import Snapshot
from skmars.serving.store._current import TRAINER_STATUS, Current
from skmars.serving.store._held_lease import HeldLease
from skmars.serving.store._store import StaleLease, Store, StoreError, Streamed
from skmars.serving.trainer._batches import batch_length, begins_period
from skmars.serving.trainer._checkpoint import hashes, next_events, with_hashes
from skmars.serving.trainer._learning import Rows, check_trainable, learnt, usable_rows
from skmars.serving.trainer._publishing import publish_version
from skmars.serving.trainer._training import Training
from skmars.serving.trainer._validation import Judgement, judged

LEASE = "trainer"
LONGEST_PAUSE = 60.0  # seconds until what failed is tried again
MOST_REASONS = 100  # why events are left out is told so often at most
BLOCK = 4096  # events that are read at a time to see where the stream ends


@dataclass(frozen=True)
class Step:
    """What the trainer did in one step.

    Attributes
    ----------
    position : int
        Of the last event that was learnt or left out so far.
    learnt, skipped : int
        How many events were learnt and left out in this step.
    judgement : Judgement or None
        What became of parameters that were to be published.
    version : str or None
        The version that was published, such as "params/2".
    failed : str
        What the disk or the store prevented; it is tried again.
    """

    position: int = 0
    learnt: int = 0
    skipped: int = 0
    judgement: Judgement | None = None
    version: str | None = None
    failed: str = ""


class Trainer:
    """Lets the classifier of a deployment learn from the stream of its store, and publishes it.

    Events are learnt in batches by the `partial_fit` of the classifier: each with the history that
    was known when it was shown. From time to time the parameters are tried on the events that come
    next, against the current version. Unless they are worse, they become the current version. Then
    these events are learnt, too.

    A trainer that is killed, at any moment, goes on from its last checkpoint, and learns the same
    parameters, to the bit, as one that never was.

    Parameters
    ----------
    deployment : path
        Folder of a saved model. The trainer writes to its folder ``params``, or to that of the
        model that was fitted anew (``fits/1/params``), for one store.
    store : Store
    batch : int, default=512
        Events that are learnt together, at most.
    sync_every : float, default=1200.0
        Seconds, by the arrival of events, between two versions.
    validate_on : int, default=500
        Events on which a version is tried before it is published.
    worse_by : float, default=0.02
        A version is published unless its log loss is larger by more than this than that of the
        current one, or of the parameters of the fit.
    checkpoint_every : float, default=60.0
        Seconds between two checkpoints. So often it tells that it lives where nothing is new, too.
    keep : int, default=3
        How many versions are kept, the current one among them.
    lease : float, default=60.0
        Seconds for which no other trainer can begin after this one was killed.
    told : callable, default=None
        Called with a line of text when something is amiss.

    Raises
    ------
    OSError, TypeError, ValueError
        If there is no model, or none that can learn from a stream; or if a parameter is out of
        range.

    Examples
    --------
    >>> from skmars.serving import Trainer, open_store
    >>> trainer = Trainer("deployment", open_store("lmdb:store"))  # doctest: +SKIP
    >>> for step in trainer.steps(until_idle=True):  # doctest: +SKIP
    ...     print(step.position, step.version)
    """

    def __init__(
        self,
        deployment: str | Path,
        store: Store,
        *,
        batch: int = 512,
        sync_every: float = 1200.0,
        validate_on: int = 500,
        worse_by: float = 0.02,
        checkpoint_every: float = 60.0,
        keep: int = 3,
        lease: float = 60.0,
        told: Callable[[str], Any] | None = None,
    ) -> None:
        for name, value in {"batch": batch, "validate_on": validate_on, "keep": keep}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if not 0 < sync_every < float("inf"):
            raise ValueError(f"sync_every must be a positive number of seconds, got {sync_every}.")
        if not worse_by >= 0:
            raise ValueError(f"worse_by must be at least 0, got {worse_by}.")
        self._deployment, self._store = Path(deployment), store
        self._batch, self._sync_every, self._validate_on = batch, sync_every, validate_on
        self._worse_by, self._checkpoint_every, self._keep = worse_by, checkpoint_every, keep
        self._seconds, self._told = lease, told or (lambda line: None)
        self._stopped = threading.Event()
        self._said: set[str] = set()
        self._training: Training | None = None
        self._kept: Parameters | None = None  # the state that is the checkpoint, and since when
        self._kept_at, self._told_at, self._failures = 0.0, 0.0, 0
        model = Current.of(store).model
        check_trainable(Snapshot.load_versions(deployment, model).model)

    def stop(self) -> None:
        """Let `steps` write a checkpoint and end, for good. Another thread or a signal may call it.

        It ends when its present step is done.
        """
        self._stopped.set()

    def steps(self, *, until_idle: bool = False, every: float = 1.0) -> Generator[Step]:
        """Learn, and yield what was done step by step.

        Parameters
        ----------
        until_idle : bool, default=False
            Learn what is there and publish it, then end. The last `validate_on` events are what the
            version is tried on, and are left to the next call.
        every : float, default=1.0
            Seconds until the stream is asked again when nothing is new.

        Raises
        ------
        LeaseHeld
            If another trainer works for this store: the message says which, and until when.
        StaleLease
            If another trainer may have begun since: nothing was published then.
        StreamTrimmed
            If events that were not learnt yet are gone.
        ValueError
            If the store is not the one whose stream was learnt.
        OSError
            With `until_idle`, if something can't be read or written. Otherwise it is tried again.
        """
        held, began = HeldLease(self._store, LEASE, self._seconds), False
        while not self._stopped.is_set():
            self._training, self._failures = None, 0
            try:
                with held as lease:
                    began = True
                    yield from self._steps(lease, until_idle, every)
                    return
            except StaleLease:
                if not self._failures:
                    raise
            except StoreError:
                if until_idle or not began:
                    raise
            # The lease ran out while the store did not answer: begin again where the files say.
            self._wait_for_store()

    def _steps(self, lease: HeldLease, until_idle: bool, every: float) -> Generator[Step]:
        end: int | None = None
        try:
            while not self._stopped.is_set():
                lease.check()
                try:
                    if until_idle and end is None:
                        end = self._before_last(lease)
                    done = self._step(lease, end)
                    if done is None and time.monotonic() >= self._told_at + self._checkpoint_every:
                        self._tell(lease)  # that it lives, though nothing is new
                except OSError as error:
                    if until_idle:
                        raise
                    yield self._failed(error)
                    continue
                self._failures = 0
                if done is not None:
                    yield done
                elif until_idle:
                    break
                else:
                    yield Step(self._at.state.position)
                    self._stopped.wait(every)
        except GeneratorExit:
            with suppress(OSError, StaleLease):
                self._checkpoint(lease)
            raise
        self._checkpoint(lease)

    def _failed(self, error: OSError) -> Step:
        """Tell what happened, and wait."""
        line = " ".join(str(error).split())
        if not self._failures:
            self._told(f"{line} (It is tried again.)")
        self._failures += 1
        self._stopped.wait(min(LONGEST_PAUSE, 0.5 * 2.0 ** min(self._failures, 10)))
        return Step(self._training.state.position if self._training else 0, failed=line)

    def _wait_for_store(self) -> None:
        while not self._stopped.is_set():
            with suppress(StoreError):
                _ = self._store.position
                return
            self._stopped.wait(1.0)

    # --- one step ---------------------------------------------------------------------------

    def _step(self, lease: HeldLease, end: int | None) -> Step | None:
        """Do one thing; None if there is nothing to do now. What is beyond `end` waits."""
        at = self._follow(lease)
        events = next_events(self._store, at.state, self._batch + 1)
        whole = end is not None and (len(events) <= self._batch or events[-1].position > end)
        if end is not None:
            events = [event for event in events if event.position <= end]
        if not events:
            return None if end is None else self._judge(lease)
        began, arrival = at.state.began, events[0].arrival
        if math.isnan(began):
            began = arrival
        elif begins_period(began, arrival, self._sync_every):
            done = self._judge(lease)
            if done is not None:
                return done
            if self._is_due():
                return None  # the events to judge by have not come yet
            began = arrival
        n = batch_length(events, began, self._batch, self._sync_every, whole=whole)
        return self._learn(lease, events[:n], began) if n else None

    def _learn(self, lease: HeldLease, events: Sequence[Streamed], began: float) -> Step:
        at, new, last = self._at, hashes(events), events[-1].position
        at.check_kinds(events[0])
        at.switch_pool(events[0].position)
        known = np.isin(new, at.state.learnt)
        fresh = [event for event, was_learnt in zip(events, known) if not was_learnt]
        n, reason = 0, ""
        if fresh:
            n, reason = learnt(at.state.classifier, at.make, fresh, last)
        skipped = len(fresh) - n
        at.state = replace(
            at.state,
            position=last,
            learnt=with_hashes(at.state.learnt, new),
            n_events=at.state.n_events + n,
            n_skipped=at.state.n_skipped + skipped,
            began=began,
            n_items=at.items_by_then(events),
        )
        if reason and reason not in self._said and len(self._said) < MOST_REASONS:
            self._said.add(reason)
            self._told(f"{skipped} of {len(events)} events are left out, the first {reason}")
        self._checkpoint(lease, due=True)
        return Step(last, n, skipped)

    def _before_last(self, lease: HeldLease) -> int:
        """Return the position before the last events, by which the others are judged."""
        state = self._follow(lease).state
        last = deque([state.position], maxlen=self._validate_on + 1)
        block = next_events(self._store, state, BLOCK)
        while block:
            last += [event.position for event in block]
            block = self._store.stream(last[-1], BLOCK)
        return last[0]

    # --- where it stands --------------------------------------------------------------------

    @property
    def _at(self) -> Training:
        assert self._training is not None
        return self._training

    def _follow(self, lease: HeldLease) -> Training:
        """Return the model that is current now, from where it has learnt to."""
        current, at = Current.of(self._store), self._training
        if at is not None and at.is_of(current):
            return at
        if at is not None and at.name != current.model:
            with suppress(OSError):  # its folder may be gone
                self._checkpoint(lease)
        at = self._training = Training(self._deployment, self._store, current, self._told)
        at.hold(at.state, publish=lease.publish)
        self._kept = None
        self._checkpoint(lease)
        return at

    def _checkpoint(self, lease: HeldLease, *, due: bool = False) -> None:
        """Write what was learnt; if it is only `due`, not more often than is wanted."""
        at = self._training
        if at is None or self._kept is at.state:
            return
        if due and time.monotonic() < self._kept_at + self._checkpoint_every:
            return
        lease.check()
        at.save()
        self._kept, self._kept_at = at.state, time.monotonic()
        at.hold(at.state, publish=lease.publish)
        self._tell(lease)

    # --- versions ---------------------------------------------------------------------------

    def _is_due(self) -> bool:
        """Return whether something was learnt that is not current, and was not judged yet."""
        at = self._at
        if at.state.n_events == 0:
            return False
        current = at.current()
        if current is not None and current.position == at.state.position:
            return False
        return self._status()["judged"] != at.state.position

    def _judge(self, lease: HeldLease) -> Step | None:
        """Try what was learnt on the next events, and publish it unless it is worse.

        None if there is no need, or if these events have not come yet.
        """
        if not self._is_due():
            return None
        at = self._at
        events = next_events(self._store, at.state, self._validate_on)
        if len(events) < self._validate_on:
            return None
        self._checkpoint(lease)
        judgement, version = Judgement(at.state.position), None
        rows, _ = usable_rows(at.make, events)
        if rows is not None and len(rows.y):
            current = at.current()
            fitted = classifier_in(at.snapshot.pipeline)
            judgement, p = judged(
                at.state.position,
                rows.X,
                rows.y,
                at.state.classifier,
                fitted if current is None else current.classifier,
                fitted,
                self._worse_by,
            )
            if judgement.accepted:
                try:
                    version = self._publish(lease, rows, p)
                except ValueError as error:
                    self._told(" ".join(str(error).split()))
                    judgement = replace(judgement, accepted=False)
        self._tell(lease, judgement, version)
        return Step(at.state.position, judgement=judgement, version=version)

    def _publish(self, lease: HeldLease, rows: Rows, p: NDArray[np.float64]) -> str:
        """Publish what was learnt, to be served with the pool that is current now."""
        at = self._at
        state = at.with_next_pool(at.state)
        at.hold(at.state, state, publish=lease.publish)  # until a checkpoint has the new one
        pool = at.pool_of(Current.of(self._store))
        try:
            snapshot = at.borrowing_from(pool)
        except FileNotFoundError as error:  # no reason to learn no more: the runner makes others
            raise ValueError(f"no version can be tried with the current pool: {error}") from error
        version = publish_version(
            self._deployment, at.folder, state, rows.X, p, snapshot, lease.publish
        )
        at.state = state
        self._checkpoint(lease)
        at.folder.remove_old(self._keep)
        return version

    # --- what it tells ----------------------------------------------------------------------

    def _status(self) -> dict[str, Any]:
        """Return what was told last of the same model."""
        status: Any = {}
        with suppress(ValueError):
            status = json.loads(self._store.pointer(TRAINER_STATUS) or "{}")
        if not isinstance(status, dict) or status.get("digest") != self._at.digest:
            status = {}
        return {"judged": -1, "n_accepted": 0, "n_rejected": 0, "version": None, **status}

    def _tell(
        self, lease: HeldLease, judgement: Judgement | None = None, version: str | None = None
    ) -> None:
        at, status = self._at, self._status()
        if judgement is not None:
            found = asdict(judgement)
            status |= {"judged": found.pop("position"), **found}
            status["n_accepted" if judgement.accepted else "n_rejected"] += 1
        status |= {
            "model": at.name,
            "digest": at.digest,
            "version": version or status["version"],
            "position": at.state.position,
            "n_events": at.state.n_events,
            "n_skipped": at.state.n_skipped,
            "time": time.time(),
        }
        lease.publish(TRAINER_STATUS, json.dumps(status))
        self._told_at = time.monotonic()
