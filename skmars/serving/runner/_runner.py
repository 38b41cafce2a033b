"""The offline runner: a log into the store, and the store's donors into a new pool."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skmars.persistence import Model
from skmars.serving.runner._activity import Map
from skmars.serving.runner._loading import Loaded, LogFile, load_log
from skmars.serving.runner._model_pools import ModelPools
from skmars.serving.store._current import AS_SAVED, MODEL
from skmars.serving.store._held_lease import HeldLease
from skmars.serving.store._store import StaleLease, Store, StoreError

LEASE = "runner"


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
        The pool that was published, such as "pools/3" or "fits/1/pools/3"; None if nothing was
        new.
    n_users, n_donors : int
        Of this pool.
    failed : str
        What prevented the pass, or the rest of it; the next one tries it again.
    """

    loaded: Loaded
    position: int
    pool: str | None = None
    n_users: int = 0
    n_donors: int = 0
    failed: str = ""


class Runner:
    """Keeps the pool of a deployment up to date with its log and its store.

    A pass brings what is new in the log into the store, and makes a pool of all events that the
    store has then. The pool equals the one that `SequenceRetrievalAugmenter.fit` collects from
    all these events as one log. It costs what is new: of users who did nothing since the last
    pass only the donors are read. It is made for the model that is current when the pass begins.

    Parameters
    ----------
    deployment : path
        Folder of a saved model, for one store. Pools are written to its folder ``pools``, or to
        that of the current model, such as ``fits/1/pools``.
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
        Calls a function with blocks of users, whose events it reads. `skmars.distributed.RayMap`
        does so on the machines of a cluster.

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
        self._told, self._map = told or (lambda what, done, of: None), map
        self._deployment = Path(deployment)
        self._pools: ModelPools | None = None
        self._position = 0  # of the store, in the last pass
        self._pools_of_current()

    def _pools_of_current(self) -> ModelPools:
        """Return the pools of the model that is current now, which is loaded if it is another."""
        name = self._store.pointer(MODEL) or AS_SAVED
        if self._pools is None or not self._pools.is_of(name):
            self._pools = ModelPools(self._deployment, self._store, name, self._map)
        return self._pools

    def passes(self, every: float | None = None) -> Generator[Pass]:
        """Do one pass, or one every so many seconds, and yield what was done in each.

        With `every`, it goes on where a single pass ends with an error: the pass that is yielded
        tells what `failed`, the current pool stays as it is, and the next pass tries again. A lease
        that ran out, since the store did not answer, is taken again.

        Raises
        ------
        LeaseHeld
            If another runner works for this store: the message says which, and until when. With
            `every`, also if it took the lease since.
        StaleLease
            Without `every`, if another runner may have begun since: nothing was published then.
        OSError
            Without `every`, if something can't be read or written; with it, if the store can't be
            asked at the beginning.
        ValueError
            Without `every`, if the log can't be read, or a new pool does not work.
        """
        lease, began = HeldLease(self._store, LEASE, self._seconds), False
        if every is None:
            with lease:
                yield self._pass(lease)
            return
        while True:
            try:
                with lease:
                    began = True
                    yield from self._passes(lease, every)
            except StaleLease:
                # Nobody else works if it can be taken again; a pass begins where the store says.
                yield self._failed("the lease was lost, and is taken again")
            except StoreError as error:
                if not began:
                    raise
                yield self._failed(str(error))
                time.sleep(every)

    def _passes(self, lease: HeldLease, every: float) -> Generator[Pass]:
        while True:
            began = time.monotonic()
            try:
                done = self._pass(lease)
            except (OSError, ValueError) as error:
                done = self._failed(str(error))
            yield done
            time.sleep(max(0.0, began + every - time.monotonic()))
            lease.check()

    def _failed(self, reason: str) -> Pass:
        return Pass(Loaded(), self._position, failed=" ".join(reason.split()))

    def _pass(self, lease: HeldLease) -> Pass:
        pools, loaded = self._pools_of_current(), Loaded()
        pools.remove_old(self._keep)
        if self._log is not None:
            loaded = load_log(self._log(pools.model), self._store, lease.publish, self._told)
        position = self._position = self._store.position
        done = pools.update(position, lease.publish)
        if done is None:
            return Pass(loaded, position)
        pools.remove_old(self._keep)
        return Pass(loaded, position, done.name, done.n_users, done.n_donors)
