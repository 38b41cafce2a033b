"""What a process of the service does: score, recommend and keep events."""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np

from skmars.pipeline._steps import augmenter_in
from skmars.serving.scoring._request import Request, context_columns, read_requests
from skmars.serving.scoring._scorer import Answer, Scorer
from skmars.serving.scoring._snapshot import Snapshot
from skmars.serving.service import _schemas as schemas
from skmars.serving.service._metrics import Metrics
from skmars.serving.service._queue import BatchQueue, QueueFull
from skmars.serving.service._refusal import Refusal
from skmars.serving.service._score_log import ScoreLog
from skmars.serving.service._timely import Known, TimelyHistories
from skmars.serving.service._trainer_status import TrainerWatch
from skmars.serving.service._versions import VersionWatcher
from skmars.serving.store._payload import encode
from skmars.serving.store._store import Events, Store, UserId
from skmars.utils._ids import kind_of
from skmars.utils._values import check_same_unit

log = logging.getLogger(__name__)

MAX_BATCH = 16  # requests that are scored at once
WRITERS = 16  # threads; the store syncs once for all that wait
MAX_WRITES = 256  # requests with events that wait at once
WRITE_SECONDS = 5.0
START_SECONDS = 60.0  # for the first version to be loaded
CLOSE_SECONDS = 10.0  # all is answered by then: the store has had its `WRITE_SECONDS`
RETRY = {"retry-after": "1"}

TYPES = {"integers": int, "strings": str}


@dataclass(frozen=True)
class ScoreJob:
    """A request of `/score`."""

    requests: list[Request]
    explain: bool


@dataclass(frozen=True)
class RecommendJob:
    """A request of `/recommend`."""

    request: Request
    n: int
    exclude_seen: bool


class Service:
    """One process of the service, between its routes and scorer, store and versions.

    Parameters
    ----------
    store : Store
    load : callable
        Loads a snapshot, see `VersionWatcher`.
    metrics : Metrics
    deadline : float, default=0.05
        Seconds that the store has to tell histories.
    capacity : int, default=256
        How many requests may wait to be scored.
    interval : float, default=1.0
        Seconds between two looks for new versions.
    score_log : ScoreLog, default=None
        Where scored requests are written.
    give_up : callable
        Called when it can't be closed in time, since the store hangs.
    """

    def __init__(
        self,
        store: Store,
        load: Callable[..., Snapshot],
        metrics: Metrics,
        *,
        deadline: float = 0.05,
        capacity: int = 256,
        interval: float = 1.0,
        score_log: ScoreLog | None = None,
        give_up: Callable[[], Any] = lambda: None,
    ) -> None:
        self._store, self._metrics, self._score_log = store, metrics, score_log
        self._give_up = give_up
        self._scorer = Scorer(store)
        self._histories = TimelyHistories(
            self._fetch,
            deadline,
            missed=lambda reason: metrics.store_misses.labels(reason).inc(),
        )
        self._versions = VersionWatcher(
            store,
            load,
            check=self._scorer.prepare,
            interval=interval,
            switched=self._switched,
            failed=metrics.failed_loads.inc,
            besides=self._look_at_trainer,
        )
        self._trainer = TrainerWatch(store)
        self._queue: BatchQueue[ScoreJob | RecommendJob, Any] = BatchQueue(
            self._work,
            capacity=capacity,
            max_batch=MAX_BATCH,
            max_size=2 * schemas.MAX_ROWS,
            name="skmars-score",
            observe=self._observe,
        )
        self._told: set[str] = set()
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="skmars-events")
        self._writes = 0

    def start(self) -> None:
        """Begin to look for versions, and wait for the first one, so that no request comes before.

        If it can't be loaded, the service begins nevertheless: it keeps events, and tries again.
        """
        self._versions.start()
        self._versions.looked.wait(START_SECONDS)

    def close(self) -> None:
        """Finish what waits, and end all threads."""
        hanging = threading.Timer(CLOSE_SECONDS, self._give_up)
        hanging.daemon = True
        hanging.start()
        self._queue.close()
        self._versions.close()
        self._histories.close()
        if self._score_log is not None:
            self._score_log.close()
        self._writers.shutdown(wait=self._writes == 0)
        self._store.close()  # waits for who is inside
        hanging.cancel()

    # --- in the event loop --------------------------------------------------------------------

    async def score(self, wanted: schemas.ScoreRequest) -> schemas.ScoreAnswer:
        """Return the probabilities of the candidates of each user."""
        snapshot = self._snapshot()
        rows = sum(len(user.item_ids) for user in wanted.users)
        if rows > schemas.MAX_ROWS:
            raise Refusal(
                422,
                "too_many_candidates",
                f"There are {rows} candidates in all, more than {schemas.MAX_ROWS}. Send several "
                "requests.",
                "users",
            )
        user_kind, item_kind = _kinds(snapshot)
        requests = []
        for at, user in enumerate(wanted.users):
            place = f"users[{at}]"
            _check_ids([user.user_id], user_kind, f"{place}.user_id")
            _check_ids(user.item_ids, item_kind, f"{place}.item_ids[*]")
            requests.append(Request(user.user_id, user.item_ids, user.time, user.context or {}))
        return await self._submit(ScoreJob(requests, wanted.explain), rows)

    async def recommend(self, wanted: schemas.RecommendRequest) -> schemas.RecommendAnswer:
        """Return the best items of a user."""
        snapshot = self._snapshot()
        items = wanted.item_ids or []
        user_kind, item_kind = _kinds(snapshot)
        _check_ids([wanted.user_id], user_kind, "user_id")
        _check_ids(items, item_kind, "item_ids[*]")
        request = Request(wanted.user_id, items, wanted.time, wanted.context or {})
        job = RecommendJob(request, wanted.n, not wanted.include_seen)
        return await self._submit(job, len(items) or len(snapshot.catalog))

    async def keep(self, wanted: schemas.EventsRequest) -> schemas.EventsAnswer:
        """Keep events durably, and return their last position and how many were new."""
        snapshot = self._versions.current
        events = _events(wanted.events, snapshot)
        if self._writes >= MAX_WRITES:
            message = "Too many requests with events wait. Try again."
            raise Refusal(429, "queue_full", message, headers=RETRY)
        self._writes += 1
        loop = asyncio.get_running_loop()
        seen = [event.position or 0 for event in wanted.events]
        writing = loop.run_in_executor(self._writers, self._append, events, seen)
        writing.add_done_callback(self._written)
        try:
            position, n_new = await asyncio.wait_for(asyncio.shield(writing), WRITE_SECONDS)
        except TimeoutError:
            raise Refusal(
                503,
                "store_late",
                f"The store did not answer within {WRITE_SECONDS:.0f} seconds. Whether it kept the "
                "events is unknown; to send them again is safe.",
                headers=RETRY,
            ) from None
        except OSError as error:
            raise _store_failed(error) from error
        except (TypeError, ValueError) as error:
            raise Refusal(422, "wrong_value", str(error), "events") from error
        self._metrics.events.labels("new").inc(n_new)
        self._metrics.events.labels("known").inc(len(events) - n_new)
        return schemas.EventsAnswer(position=position, new=n_new)

    def _append(self, events: Events, seen: list[int]) -> tuple[int, int]:
        """Append events, in a thread; a Refusal if a position was not reached yet."""
        if any(seen) and max(seen) > (end := self._store.position):
            at = next(at for at, position in enumerate(seen) if position > end)
            raise Refusal(
                422,
                "wrong_value",
                f"The position is {seen[at]}, but the store ends at {end}. Send the position of "
                "the answer of this service that the user was shown.",
                f"events[{at}].position",
            )
        return self._store.append_counted(events)

    def ready(self) -> dict[str, str]:
        """Return the versions in use; a Refusal if there are none, or the store is silent."""
        snapshot = self._snapshot()
        if not self._histories.answers():
            raise Refusal(503, "store_silent", "The store does not answer.", headers=RETRY)
        return dict(snapshot.versions)

    def _switched(self, snapshot: Snapshot) -> None:
        self._metrics.set_versions(snapshot.versions, snapshot.written)
        with suppress(OSError):  # a store that does not answer is told elsewhere
            for told in _surprises(snapshot, self._store):
                if told not in self._told:
                    self._told.add(told)
                    log.warning("%s", told)

    def _look_at_trainer(self) -> None:
        self._trainer.look()
        status = self._trainer.status
        self._metrics.trainer.seen = None if status is None else (status, self._trainer.behind)

    def _snapshot(self) -> Snapshot:
        snapshot = self._versions.current
        if snapshot is None:
            raise Refusal(503, "no_model", "No model is loaded yet. Try again.", headers=RETRY)
        return snapshot

    async def _submit(self, job: ScoreJob | RecommendJob, rows: int) -> Any:
        try:
            waiting = self._queue.submit(job, rows)
        except QueueFull:
            raise Refusal(
                429, "queue_full", "Too many requests wait. Try again.", headers=RETRY
            ) from None
        self._metrics.queue.set(len(self._queue))
        return await waiting

    def _written(self, _writing: Any) -> None:
        self._writes -= 1

    # --- in the scoring thread ----------------------------------------------------------------

    def _fetch(self, user_ids: Sequence[UserId]) -> tuple[list[Any], int]:
        """Read histories, and what else of the store they need; in a thread that may be late."""
        events, position = self._store.histories(user_ids)
        self._scorer.learn_items(events)
        return events, position

    def _observe(self, batch: int, waiting: int) -> None:
        self._metrics.batch.observe(batch)
        self._metrics.queue.set(waiting)

    def _work(self, jobs: list[ScoreJob | RecommendJob]) -> list[Any]:
        """Return the answer, or the Refusal, of each job."""
        snapshot = self._versions.current
        assert snapshot is not None  # the routes have looked
        groups = [job.requests if isinstance(job, ScoreJob) else [job.request] for job in jobs]
        known = iter(self._histories([r.user_id for requests in groups for r in requests]))
        tasks = [
            _Task(job, requests, [next(known) for _ in requests])
            for job, requests in zip(jobs, groups)
        ]
        try:
            answers = self._answers(snapshot, [t for t in tasks if isinstance(t.job, ScoreJob)])
            done = [
                self._recommended(snapshot, task)
                if isinstance(task.job, RecommendJob)
                else self._scored(snapshot, task, next(answers))
                for task in tasks
            ]
        except (TypeError, ValueError) as error:
            if len(jobs) > 1:
                raise  # each is tried alone
            raise _refusal(tasks[0], snapshot) or error from error
        for task in tasks:
            for known_ in task.known:
                self._metrics.histories.labels(known_.state).inc()
        return done

    def _answers(self, snapshot: Snapshot, tasks: list[_Task]) -> Iterator[list[Answer]]:
        """Yield the answers of each task; all are predicted together."""
        requests = [request for task in tasks for request in task.requests]
        events, positions = _fetched([known for task in tasks for known in task.known])
        answers = iter(self._scorer.answer(snapshot, requests, events, positions))
        return iter([[next(answers) for _ in task.requests] for task in tasks])

    def _scored(
        self, snapshot: Snapshot, task: _Task, answers: list[Answer]
    ) -> schemas.ScoreAnswer:
        users = []
        for request, known, answer in zip(task.requests, task.known, answers):
            scores = schemas.UserScores(
                user_id=request.user_id,
                probabilities=answer.probability.tolist(),
                history=known.state,
                position=known.position,
            )
            if task.job.explain:
                scores.explanation = self._explained(snapshot, request, known)
            users.append(scores)
            if self._score_log is not None and not self._score_log(request, answer):
                self._metrics.unlogged.inc()
        return schemas.ScoreAnswer(users=users, versions=dict(snapshot.versions))

    def _explained(self, snapshot: Snapshot, request: Request, known: Known) -> dict[str, Any]:
        if augmenter_in(snapshot.pipeline) is None:
            raise Refusal(422, "no_explanation", "The model borrows nothing.", "explain")
        told = self._scorer.explain(snapshot, request, fetched=_fetched([known]))
        return {"rows": told.rows.to_pylist(), "borrowed": told.borrowed.to_pylist()}

    def _recommended(self, snapshot: Snapshot, task: _Task) -> schemas.RecommendAnswer:
        request, (known,) = task.job.request, task.known
        best = self._scorer.recommend(
            snapshot,
            request,
            task.job.n,
            exclude_seen=task.job.exclude_seen,
            fetched=_fetched([known]),
        )
        items = zip(best.item_ids, best.titles, best.probability.tolist())
        return schemas.RecommendAnswer(
            user_id=request.user_id,
            items=[schemas.Recommendation(item_id=i, title=t, probability=p) for i, t, p in items],
            history=known.state,
            position=known.position,
            versions=dict(snapshot.versions),
        )


class _Task(NamedTuple):
    """A job, its requests, and what is known of the user of each."""

    job: Any
    requests: list[Request]
    known: list[Known]


def _fetched(known: Sequence[Known]) -> tuple[list[Any], list[int | None]]:
    """Return events and positions as a scorer takes them."""
    events = [None if k.state == "missing" else k.events for k in known]
    return events, [k.position for k in known]


def _refusal(task: _Task, snapshot: Snapshot) -> Refusal | None:
    """Return why a model can't use the requests of a task, None if it can."""
    for at, request in enumerate(task.requests):
        place = f"users[{at}]." if isinstance(task.job, ScoreJob) else ""
        try:
            read_requests([request], snapshot.model)
        except (TypeError, ValueError) as error:
            text = str(error)
            name = next((n for n in ("user_id", "item_ids", "time", "context") if n in text), "")
            return Refusal(422, "wrong_value", text, f"{place}{name}".rstrip(".") or None)
    return None


def _surprises(snapshot: Snapshot, store: Store) -> Iterator[str]:
    """Yield what lets answers be other than expected, though nothing is wrong in itself."""
    known = snapshot.model.histories
    if len(known.users) and store.position == 0:
        yield (
            f"The store is empty: the {len(known.users)} users of the model's log are scored as if "
            "they had done nothing. Bring the log into the store: skmars runner --log."
        )
    if snapshot.columns.absolute is False:
        yield (
            "The dates of the model's log had no time zone, so that 14:00 there is 14:00 UTC here. "
            "Send times as if the clock of the log showed UTC, or fit to dates with a zone."
        )
    if known.now is not None and not -schemas.LIMIT < known.now < schemas.LIMIT:
        yield (
            f"The model's log has times up to {known.now:.4g}, which are no seconds since 1970, so "
            "that no event with a time is accepted. Fit to a log with seconds, or datetimes."
        )


# --- ids and events -----------------------------------------------------------------------------


def _kinds(snapshot: Snapshot | None) -> tuple[str | None, str | None]:
    """Return the kinds of ids of users and items: "integers", "strings", or None if any will do."""
    if snapshot is None:
        return None, None
    users, items = snapshot.model.histories.users, snapshot.catalog.parts[0].ids
    return kind_of(users) if len(users) else None, kind_of(items) if len(items) else None


def _check_ids(ids: Sequence[int | str], kind: str | None, field: str) -> None:
    """Raise a Refusal if ids are of another kind than those of the model, or too long to keep.

    Parameters
    ----------
    ids : sequence of int or str
    kind : {"integers", "strings"} or None
    field : str
        Place of the ids in the body; the number of an id takes the place of ``*``.
    """
    types = set(map(type, ids))
    if len(types) > 1 or (kind is not None and types and types != {TYPES[kind]}):
        kind = kind or ("integers" if type(ids[0]) is int else "strings")
        at = next(at for at, given in enumerate(ids) if type(given) is not TYPES[kind])
        place, quotes = field.replace("*", str(at)), "in" if kind == "strings" else "without"
        raise Refusal(
            422,
            "wrong_kind",
            f"{place} is {ids[at]!r}, but such ids are {kind} here, so that nothing would match. "
            f"Send {kind}, {quotes} quotes.",
            place,
        )
    if types == {str}:
        for at, text in enumerate(cast("Sequence[str]", ids)):
            # A character has at most 4 bytes.
            if 4 * len(text) > schemas.MAX_ID_BYTES < len(text.encode()):
                place = field.replace("*", str(at))
                raise Refusal(
                    422,
                    "id_too_long",
                    f"{place} has {len(text.encode())} bytes of UTF-8, more than "
                    f"{schemas.MAX_ID_BYTES}. Shorten it, for example to a hash.",
                    place,
                )


def _events(given: Sequence[schemas.Event], snapshot: Snapshot | None) -> Events:
    """Return events as a store takes them, or raise a Refusal."""
    user_kind, item_kind = _kinds(snapshot)
    users, items = [event.user_id for event in given], [event.item_id for event in given]
    _check_ids(users, user_kind, "events[*].user_id")
    _check_ids(items, item_kind, "events[*].item_id")
    time = np.array([np.nan if e.time is None else e.time for e in given], dtype=np.float64)
    now = None if snapshot is None else snapshot.model.histories.now
    if now is not None:
        if np.isnan(time).any():
            at = int(np.argmax(np.isnan(time)))
            raise Refusal(
                422,
                "no_time",
                "The model knows times, and an event without one would be in nobody's history. "
                "Send the seconds when it happened.",
                f"events[{at}].time",
            )
        try:
            check_same_unit(time, "time", np.array([now]), "the log of the model")
        except ValueError as error:
            raise Refusal(422, "wrong_unit", str(error), "events[*].time") from error
    if snapshot is not None and snapshot.columns.context:
        _check_contexts(given, snapshot.columns.context)
    ids = [event.id for event in given]
    if None in ids and any(i is not None for i in ids):
        raise Refusal(
            422,
            "wrong_value",
            "Some events have an id and others have none. Send one for each, or for none.",
            f"events[{ids.index(None)}].id",
        )
    return Events(
        users,
        items,
        time,
        np.array([event.clicked for event in given], dtype=np.uint8),
        ids=None if None in ids else ids,  # type: ignore[arg-type]
        payload=[encode(e.context or {}, e.position) for e in given],
    )


def _check_contexts(given: Sequence[schemas.Event], kinds: Mapping[str, str | None]) -> None:
    """Raise a Refusal if nothing could be learnt of an event because of its context.

    One without any context is kept, as a part of histories alone.
    """
    one = np.ones(1, dtype=np.int64)
    for at, event in enumerate(given):
        if not event.context:
            continue
        try:
            known = {name: value for name, value in event.context.items() if name in kinds}
            context_columns([known], one, kinds)
        except (TypeError, ValueError) as error:
            raise Refusal(422, "wrong_value", str(error), f"events[{at}].context") from error


def _store_failed(error: OSError) -> Refusal:
    if error.errno == errno.ENOSPC:
        return Refusal(507, "disk_full", "The store's disk is full. Nothing of these was kept.")
    log.error("The store failed: %s", error)
    message = "The store failed. Some of the events may be kept; to send them again is safe."
    return Refusal(503, "store_failed", message, headers=RETRY)
