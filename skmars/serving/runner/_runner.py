"""The offline runner: a log into the store, and the store's donors into a new pool."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from skmars.data import Impressions
from skmars.data._activity import thresholds_of_counts
from skmars.persistence import Model
from skmars.persistence._saved import load_model
from skmars.pipeline._steps import augmenter_in, before_augmenter, with_pool
from skmars.retrieval import DonorPool
from skmars.serving.runner._activity import Activity, Map
from skmars.serving.runner._donor_rows import catalog_of, donor_rows, with_columns
from skmars.serving.runner._loading import Loaded, LogFile, load_log
from skmars.serving.runner._pool_folder import POINTER, PoolFolder
from skmars.serving.scoring._rows import log_format
from skmars.serving.store._held_lease import HeldLease
from skmars.serving.store._store import Store
from skmars.utils._folder import checksum_of

LEASE = "runner"
# The last number that a pool was given, also one that was never published: none is given twice,
# or whoever has loaded the one would take it for the other.
LAST = "runner/pool"
# A new pool is tried with so many donors, of whom so many items are known.
TRIED, TRIED_ITEMS = 8, 2
# Scores may differ by this much from those of the pool as it was before it was written.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Pass:
    """What the runner did in one pass.

    Attributes
    ----------
    loaded : Loaded
        What was read of the log.
    position : int
        Position of the store up to which the pool knows the events.
    pool : str or None
        The pool that was published, such as "pools/3"; None if nothing was new.
    n_users, n_donors : int
        Of this pool.
    """

    loaded: Loaded
    position: int
    pool: str | None = None
    n_users: int = 0
    n_donors: int = 0


class Runner:
    """Keeps the pool of a deployment up to date with its log and its store.

    A pass brings what is new in the log into the store, and makes a pool of all events that the
    store has then. The pool equals the one that `SequenceRetrievalAugmenter.fit` collects from
    all these events as one log. It costs what is new: of users who did nothing since the last
    pass only the donors are read.

    Parameters
    ----------
    deployment : path
        Folder of a saved model. Pools are written to its folder ``pools``, for one store.
    store : Store
    log : callable, default=None
        Takes the model, and returns the files that the log has now, in the order of their events
        (see `LogFile`). None reads no log: the events come through the service.
    keep : int, default=3
        How many pools are kept, the current one among them.
    lease : float, default=60.0
        Seconds for which no other runner can begin after this one was killed.
    told : callable, default=None
        Called with a line of text from time to time, and with the number of rows loaded of a
        file, and that of all its rows.
    map : callable, default=map
        Maps a function over blocks of users: their events are read with it. That of
        `skmars.distributed.RayMap` does so on the machines of a cluster.

    Raises
    ------
    OSError, ValueError
        If there is no model, or none that has a pool.

    Examples
    --------
    >>> from skmars.serving import Runner, open_store
    >>> runner = Runner("deployment", open_store("lmdb:store"))  # doctest: +SKIP
    >>> for done in runner.passes():  # doctest: +SKIP
    ...     print(done.pool)
    pools/1
    """

    def __init__(
        self,
        deployment: str | Path,
        store: Store,
        log: Callable[[Model], Iterable[LogFile]] | None = None,
        *,
        keep: int = 3,
        lease: float = 60.0,
        told: Callable[[str, int, int], Any] | None = None,
        map: Map = map,
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}: the current pool is kept.")
        self._store, self._log, self._keep, self._seconds = store, log, keep, lease
        self._told = told or (lambda what, done, of: None)
        self._map = map
        self._folder = PoolFolder(Path(deployment))
        self._checksum: bytes | None = None
        self._read_model()

    def _read_model(self) -> None:
        """Load the model of the deployment, unless it is the one that was loaded."""
        path = self._folder.deployment
        checksum = checksum_of(path)
        if checksum is not None and checksum == self._checksum:
            return
        self._model: Model = load_model(path)
        self._form = log_format(self._model)
        augmenter = augmenter_in(self._model.pipeline)
        if augmenter is None:
            raise ValueError(
                "the pipeline of the model has no SequenceRetrievalAugmenter: nothing is borrowed, "
                "and there is no pool to build. Fit a model that has one (`skmars fit` without "
                "--base)."
            )
        self._augmenter, self._checksum = augmenter, checksum
        self._digest = (checksum or b"").hex()

    def passes(self, every: float | None = None) -> Generator[Pass]:
        """Do one pass, or one every so many seconds, and yield what was done in each.

        Raises
        ------
        LeaseHeld
            If another runner works for this store: the message says which, and until when.
        StaleLease
            If another runner may have begun since: nothing was published then.
        OSError
            If something can't be written. The current pool stays as it is.
        ValueError
            If the log can't be read, or a new pool does not work.
        """
        with HeldLease(self._store, LEASE, self._seconds) as lease:
            while True:
                began = time.monotonic()
                yield self._pass(lease)
                if every is None:
                    return
                time.sleep(max(0.0, began + every - time.monotonic()))
                lease.check()

    def _pass(self, lease: HeldLease) -> Pass:
        self._read_model()
        store, current = self._store, self._folder.current(self._store)
        last = int(store.pointer(LAST) or 0)
        self._folder.remove_old(current, last, self._keep)
        loaded = Loaded()
        if self._log is not None:
            loaded = load_log(self._log(self._model), store, lease.publish, self._told)
        position, known = store.position, None
        if current is not None:
            known = self._folder.activity(current, self._digest)
        if known is None or known.position > position:  # the store is another one
            activity = Activity.of(store, position, self._form, self._map)
        elif known.position == position:
            return Pass(loaded, position)
        else:
            activity = known.brought_forward(store, position, self._form, self._map)
        if len(activity.users) == 0:
            return Pass(loaded, position)
        pool, raw = self._build(activity)
        number = self._folder.next_number(current, last)
        lease.publish(LAST, str(number))
        self._folder.save(number, pool, activity, self._digest)
        try:
            self._try(number, pool, raw)
        except BaseException:
            self._folder.remove(number)
            raise
        name = f"pools/{number}"
        lease.publish(POINTER, name)
        self._folder.remove_old(number, number, self._keep)
        return Pass(loaded, position, name, len(activity.users), len(pool.ids))

    def _build(self, activity: Activity) -> tuple[DonorPool, Impressions]:
        """Return the pool, and the donors' rows as they come into the pipeline."""
        augmenter = self._augmenter
        by_row = augmenter.activity == "row"
        low, high = thresholds_of_counts(
            activity.rows if by_row else np.bincount(activity.longest),
            augmenter.low_quantile,
            augmenter.high_quantile,
        )
        catalog = catalog_of(self._store, activity, self._model)
        raw = donor_rows(self._store, activity, low, high, catalog, self._form, self._map)
        raw = with_columns(raw, self._model)
        _, X = before_augmenter(self._model.pipeline, raw)
        return DonorPool.build(augmenter, X, thresholds=(low, high)), raw

    def _try(self, number: int, pool: DonorPool, raw: Impressions) -> None:
        """Raise ValueError unless the pool that was written scores as the one in memory does."""
        rows = raw[:TRIED]
        rows = replace(rows, history=rows.history.last(TRIED_ITEMS))
        path = self._folder.path / str(number)
        try:
            read = DonorPool.load(path)
            if len(rows) == 0:
                return
            pipelines = [with_pool(self._model.pipeline, p) for p in (read, pool)]
            scores = [pipeline.predict_proba(rows)[:, 1] for pipeline in pipelines]
        except Exception as error:
            raise ValueError(
                f"the new pool {path} can't be used, and is removed: {error}"
            ) from error
        if not np.isfinite(scores).all() or np.abs(scores[0] - scores[1]).max() > TOLERANCE:
            raise ValueError(
                f"the new pool {path} gives other scores than before it was written, and is "
                "removed. Check the disk."
            )
