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
from skmars.serving.runner._activity import Activity
from skmars.serving.runner._donor_rows import catalog_of, donor_rows, with_columns
from skmars.serving.runner._loading import Loaded, LogFile, load_log
from skmars.serving.scoring._rows import log_format
from skmars.serving.store._held_lease import HeldLease
from skmars.serving.store._numbered_folder import NumberedFolder
from skmars.serving.store._store import Store
from skmars.utils._folder import checksum_of, read_folder, write_folder

LEASE = "runner"
# Beside pools/3 stands pools/3.activity, what the next pool goes on from.
KIND = "activity of users"
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
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}: the current pool is kept.")
        self._store, self._log, self._keep, self._seconds = store, log, keep, lease
        self._told = told or (lambda what, done, of: None)
        self._deployment = Path(deployment)
        self._pools = NumberedFolder.of_pools(self._deployment, store)
        self._checksum: bytes | None = None
        self._read_model()

    def _read_model(self) -> None:
        """Load the model of the deployment, unless it is the one that was loaded."""
        path = self._deployment
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
        self._pools.remove_old(self._keep)
        store, loaded = self._store, Loaded()
        if self._log is not None:
            loaded = load_log(self._log(self._model), store, lease.publish, self._told)
        position, known = store.position, self._known()
        if known is None or known.position > position:  # the store is another one
            activity = Activity.of(store, position, self._form)
        elif known.position == position:
            return Pass(loaded, position)
        else:
            activity = known.brought_forward(store, position, self._form)
        if len(activity.users) == 0:
            return Pass(loaded, position)
        pool, raw = self._build(activity)
        kept = {"model": self._digest, **vars(activity)}
        number = self._pools.save(
            pool.save,
            lease.publish,
            check=lambda path: self._try(path, pool, raw),
            activity=lambda path: write_folder(path, KIND, kept),
        )
        name = self._pools.publish(number, lease.publish)
        self._pools.remove_old(self._keep)
        return Pass(loaded, position, name, len(activity.users), len(pool.ids))

    def _known(self) -> Activity | None:
        """Return what belongs to the current pool, if it is undamaged, and that of this model."""
        current = self._pools.current()
        path = self._pools.path / str(current)
        try:
            kept: Any = read_folder(f"{path}.activity", KIND)
            if kept.pop("model") == self._digest and path.is_dir():
                return Activity(**kept)
        except (OSError, ValueError, TypeError, KeyError):
            pass  # it can be made anew
        return None

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
        raw = donor_rows(self._store, activity, low, high, catalog, self._form)
        raw = with_columns(raw, self._model)
        _, X = before_augmenter(self._model.pipeline, raw)
        return DonorPool.build(augmenter, X, thresholds=(low, high)), raw

    def _try(self, path: Path, pool: DonorPool, raw: Impressions) -> None:
        """Raise ValueError unless the pool that was written scores as the one in memory does."""
        rows = raw[:TRIED]
        rows = replace(rows, history=rows.history.last(TRIED_ITEMS))
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
