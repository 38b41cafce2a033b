"""A store in a folder of this machine: LMDB, with one synced transaction for all who wait."""

from __future__ import annotations

import errno
import json
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from shutil import disk_usage
from typing import Any, TypeVar

import lmdb
import numpy as np
from numpy.typing import NDArray

from skmars.serving.store._batch import (
    BLOCK,
    FORMAT,
    MAX_ITEMS,
    Batch,
    batches,
    check_kind,
    check_position,
    check_since,
    check_trimmed,
    history,
    id_keys,
    id_of,
    streamed_event,
)
from skmars.serving.store._group import Group, Kept
from skmars.serving.store._leases import check_lease, check_name, grant
from skmars.serving.store._store import (
    Events,
    ItemId,
    Lease,
    StoreError,
    Streamed,
    UserId,
)

T = TypeVar("T")

TERABYTE = 2**40
FIRST_MAP = 2**30  # address space, not disk; doubled when it is full
N_READERS = 1024  # threads that read at the same time, of all processes
USERS_AT_ONCE = 1000

DATA = "data.mdb"  # the file of LMDB
DATABASES = ("meta", "users", "touched", "items", "numbers", "stream")


@cache
def _of_this_process(path: Path, max_bytes: int) -> LMDBStore:
    """Return the store that a pickle stands for, which all pickles of a process share."""
    return LMDBStore(path, max_bytes=max_bytes)


class LMDBStore:
    """Events, item numbers, pointers and leases in a folder, for the processes of one machine.

    `append` writes one transaction, synced to the disk, for all threads that wait at that time.
    Readers see the last transaction, and neither wait for writers nor delay them.

    Parameters
    ----------
    path : str or Path
        Folder; made if there is none. Not on a network file system, which LMDB can't lock.
    max_bytes : int, default=None
        The store refuses events beyond this size. None: a terabyte.
    clock : callable, default=time.time
        Seconds since 1970, for leases and arrivals.

    Raises
    ------
    StoreError
        If the folder can't be opened, holds something else, or is open in this process already.

    Notes
    -----
    Files that are removed or replaced while the store is open are noticed: all calls but `close`
    raise StoreError, rather than to keep events in a file that nobody will find.

    Open it after a fork: a forked process that uses the store of its parent gets a StoreError. A
    pickle is its address: another process that reads it opens the store.

    Leases go by the clock of the machine. If it is set back, a lease lasts as long again as it was
    taken for; if it is set forward, it ends early, and the token keeps its holder from publishing
    once another has taken it.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skmars.serving import Events, open_store
    >>> folder = tempfile.TemporaryDirectory()
    >>> store = open_store(f"lmdb:{folder.name}")
    >>> store.append(Events(["ann"], [7], time=np.array([10.0]), clicked=np.array([1])))
    1
    >>> (events,), position = store.histories(["ann"])
    >>> events["time"], store.item_ids()
    (array([10.]), [7])
    >>> store.close()
    >>> folder.cleanup()
    """

    def __init__(
        self,
        path: str | Path,
        *,
        max_bytes: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._clock = Path(path), clock
        self._max_bytes = (max_bytes or TERABYTE) // mmap.PAGESIZE * mmap.PAGESIZE
        self._gate, self._pid = _Gate(), os.getpid()
        self._group = Group(self._append_all)
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            self._env: Any = lmdb.open(
                str(self._path),
                map_size=min(FIRST_MAP, self._max_bytes),
                max_dbs=len(DATABASES),
                max_readers=N_READERS,
                max_spare_txns=16,
            )
            self._file = os.stat(self._path / DATA)
        except (OSError, lmdb.Error) as error:
            raise StoreError(
                f"The store at {self._path} can't be opened: {error}. It must be a folder that "
                "may be written, and is opened once in a process, whose threads share it."
            ) from error
        try:
            self._transact(self._open_databases, write=True)
            self._env.reader_check()
            _sync_folder(self._path)
            _sync_folder(self._path.parent)
        except BaseException:
            self.close()
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        return _of_this_process, (self._path.absolute(), self._max_bytes)

    def __repr__(self) -> str:
        return f"LMDBStore({str(self._path)!r})"

    def _open_databases(self, txn: Any) -> None:
        foreign = StoreError(
            f"{self._path} holds an LMDB database that is no store of skmars. Name another folder."
        )
        new = not txn.stat()["entries"]
        try:
            self._db = {
                name: self._env.open_db(name.encode(), txn, create=new) for name in DATABASES
            }
        except (lmdb.NotFoundError, lmdb.IncompatibleError) as error:
            raise foreign from error
        meta = self._db["meta"]
        if new:
            txn.put(b"format", FORMAT.encode(), db=meta)
        found = txn.get(b"format", db=meta)
        if found is None:
            raise foreign
        if found != FORMAT.encode():
            raise StoreError(
                f"The store at {self._path} is a {found.decode(errors='replace')!r}, and this "
                f"version of skmars keeps a {FORMAT!r}. Use the version that made it."
            )

    # Transactions

    def _transact(self, work: Callable[[Any], T], write: bool = False) -> T:
        """Return what `work` returns of a transaction, which is repeated if the map must grow."""
        while True:
            self._check_not_forked()
            try:
                with self._gate:
                    self._check_open()
                    self._check_same()
                    with self._env.begin(write=write) as txn:
                        return work(txn)
            except lmdb.MapFullError:
                self._grow()
            except lmdb.MapResizedError:  # by another process
                self._follow_growth()
            except lmdb.ReadersFullError as error:
                if not self._env.reader_check():
                    raise self._failure(error) from error
            except lmdb.Error as error:
                raise self._failure(error) from error

    def _check_not_forked(self) -> None:
        if self._pid != os.getpid():
            raise StoreError(
                f"The store at {self._path} was opened before this process was forked. Open it in "
                "each process after the fork."
            )

    def _check_open(self) -> None:
        if self._env is None:
            raise StoreError(f"The store at {self._path} is closed. Open it again.")

    def _check_same(self) -> None:
        """Raise StoreError if the file was removed: what is written to it is lost at the end."""
        with suppress(OSError):
            if os.path.samestat(os.stat(self._path / DATA), self._file):
                return
        raise StoreError(
            f"The store at {self._path} is not the one that was opened: its folder was removed or "
            "replaced. Restore its files, or open the store again and load the log."
        )

    def _grow(self) -> None:
        with self._gate.alone():
            self._check_open()
            if self._env.reader_check():  # a killed reader had kept old pages from being reused
                return
            size = self._env.info()["map_size"]
            if size >= self._max_bytes:
                raise StoreError(
                    errno.ENOSPC,
                    f"The store at {self._path} has reached its max_bytes ({self._max_bytes:,}). "
                    "Nothing that was acknowledged is lost. Open it with a larger max_bytes, or "
                    "trim its stream.",
                )
            self._env.set_mapsize(min(2 * size, self._max_bytes))

    def _follow_growth(self) -> None:
        with self._gate.alone():
            self._check_open()
            self._env.set_mapsize(0)  # the size that another process has given it

    def _failure(self, error: Exception) -> StoreError:
        full = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
        # What found room for its beginning only is told as another error.
        torn = os.strerror(errno.EIO) in str(error) and disk_usage(self._path).free < 2**20
        if torn or any(reason in str(error) for reason in full):
            return StoreError(
                errno.ENOSPC,
                f"The disk of the store at {self._path} is full. Nothing that was acknowledged is "
                "lost, and all of it can be read. Make room and repeat the call.",
            )
        return StoreError(
            f"The store at {self._path} failed: {error}. Nothing that was acknowledged is lost; "
            "look after the disk, then open the store again."
        )

    # Events

    def append(self, events: Events, *, streamed: bool = True) -> int:
        """Keep events durably, each once; see `Store.append`."""
        return self.append_counted(events, streamed=streamed)[0]

    def append_counted(self, events: Events, *, streamed: bool = True) -> tuple[int, int]:
        """Do as `append`, and also return how many events were new."""
        position, n_new = None, 0
        for batch in batches(events, streamed, self._clock()):
            position, added = self._group.append(batch)
            n_new += added
        return self.position if position is None else position, n_new

    def _append_all(self, group: list[Batch]) -> list[Kept | Exception]:
        return self._transact(lambda txn: [self._try(txn, batch) for batch in group], write=True)

    def _try(self, txn: Any, batch: Batch) -> Kept | Exception:
        try:
            return self._keep(txn, batch)
        except (TypeError, StoreError) as error:  # told before anything of it was written
            return error

    def _keep(self, txn: Any, batch: Batch) -> Kept:
        meta, users = self._db["meta"], self._db["users"]
        check_kind(batch.users, txn.get(b"user kind", db=meta), "user_ids")
        check_kind(batch.items, txn.get(b"item kind", db=meta), "item_ids")
        if txn.stat(self._db["numbers"])["entries"] + len(batch.items) > MAX_ITEMS:
            raise StoreError(f"The store at {self._path} holds {MAX_ITEMS:,} items, and no more.")
        past = [txn.get(key, default=b"", db=users) for key in batch.users]
        known = [set(history(value)["id"].tolist()) for value in past]
        pairs = zip(batch.user.tolist(), batch.records["id"].tolist())
        new = np.array([event not in known[user] for user, event in pairs], dtype=bool)
        position = self._position(txn)
        n_new = np.count_nonzero(new)
        if n_new == 0:
            return position, 0

        records, user, item = batch.records[new], batch.user[new], batch.item[new]
        records["position"] = position + 1 + np.arange(n_new)
        records["item"] = self._number_items(txn, batch.items, item)
        order = np.argsort(user, kind="stable")
        ends = np.cumsum(np.bincount(user, minlength=len(batch.users)))
        starts = ends - np.bincount(user, minlength=len(batch.users))
        ordered = records[order]
        touched = self._db["touched"]
        for key, value, start, end in zip(batch.users, past, starts.tolist(), ends.tolist()):
            if start == end:
                continue
            if value:
                txn.delete(_position_key(int(history(value)["position"][-1])), db=touched)
            txn.put(key, value + ordered[start:end].tobytes(), db=users)
            txn.put(_position_key(int(ordered["position"][end - 1])), key, db=touched)
        if batch.tails is not None:
            tails = [batch.tails[at] for at in np.flatnonzero(new)]
            for record, tail, at in zip(records, tails, records["position"].tolist()):
                entry = record.tobytes() + tail
                txn.put(_position_key(at), entry, db=self._db["stream"], append=True)
        if position == 0:
            txn.put(b"user kind", batch.users[0][:1], db=meta)
            txn.put(b"item kind", batch.items[0][:1], db=meta)
        position += int(n_new)
        txn.put(b"position", _position_key(position), db=meta)
        return position, int(n_new)

    def _number_items(
        self, txn: Any, keys: list[bytes], codes: NDArray[np.uint32]
    ) -> NDArray[np.uint32]:
        """Return the number of each event's item; new items get the next ones."""
        items, numbers = self._db["items"], self._db["numbers"]
        next_number = txn.stat(numbers)["entries"]
        of_code = np.zeros(len(keys), dtype=np.uint32)
        for code in dict.fromkeys(codes.tolist()):
            found = txn.get(keys[code], db=items)
            if found is None:
                found = _position_key(next_number)
                txn.put(keys[code], found, db=items)
                txn.put(found, keys[code], db=numbers, append=True)
                next_number += 1
            of_code[code] = int.from_bytes(found, "big")
        return of_code[codes]

    def _position(self, txn: Any) -> int:
        return int.from_bytes(txn.get(b"position", default=b"", db=self._db["meta"]), "big")

    @property
    def position(self) -> int:
        """Position of the last event, 0 if there is none."""
        return self._transact(self._position)

    def histories(self, user_ids: Sequence[UserId]) -> tuple[list[NDArray[Any]], int]:
        """Return the events of each user, and the position; see `Store.histories`."""
        keys, db = id_keys(user_ids, "user_ids"), self._db

        def read(txn: Any) -> tuple[list[bytes | None], int]:
            check_kind(keys, txn.get(b"user kind", db=db["meta"]), "user_ids")
            return [txn.get(key, db=db["users"]) for key in keys], self._position(txn)

        values, position = self._transact(read)
        return [history(value) for value in values], position

    def users(self) -> Iterator[tuple[list[UserId], list[NDArray[Any]]]]:
        """Yield all users with their events; see `Store.users`."""
        after = b""

        def read(txn: Any) -> list[tuple[bytes, bytes]]:
            cursor = txn.cursor(db=self._db["users"])
            found = cursor.set_range(after) and (cursor.key() != after or cursor.next())
            return _first(cursor, USERS_AT_ONCE) if found else []

        while block := self._transact(read):
            after = block[-1][0]
            yield [id_of(key) for key, _ in block], [history(value) for _, value in block]

    def touched(self, since: int) -> list[UserId]:
        """Return the users who have an event beyond a position; see `Store.touched`."""
        check_position(since, "since")

        def read(txn: Any) -> list[bytes]:
            check_since(since, self._position(txn))
            cursor = txn.cursor(db=self._db["touched"])
            if not cursor.set_range(_position_key(since + 1)):
                return []
            return list(cursor.iternext(keys=False))

        return [id_of(key) for key in self._transact(read)]

    def stream(self, since: int, limit: int) -> list[Streamed]:
        """Return at most `limit` streamed events beyond a position; see `Store.stream`."""
        check_position(since, "since")
        check_position(limit, "limit")

        def read(txn: Any) -> list[tuple[bytes, bytes]]:
            check_since(since, self._position(txn))
            check_trimmed(since, self._trimmed(txn))
            cursor = txn.cursor(db=self._db["stream"])
            return _first(cursor, limit) if cursor.set_range(_position_key(since + 1)) else []

        return [streamed_event(entry) for _, entry in self._transact(read)]

    def _trimmed(self, txn: Any) -> int:
        return int.from_bytes(txn.get(b"trimmed", default=b"", db=self._db["meta"]), "big")

    def trim(self, before: int) -> None:
        """Remove what lies before a position from the stream; see `Store.trim`."""
        check_position(before, "before")

        def remove(txn: Any) -> bool:
            end = _position_key(min(before, self._position(txn) + 1))
            if int.from_bytes(end, "big") > self._trimmed(txn):
                txn.put(b"trimmed", end, db=self._db["meta"])
            cursor = txn.cursor(db=self._db["stream"])
            left, there = BLOCK, cursor.first()
            while there and left and cursor.key() < end:
                there, left = cursor.delete(), left - 1
            return left == 0

        while self._transact(remove, write=True):
            pass

    def item_ids(self, since: int = 0) -> list[ItemId]:
        """Return the ids of the items with the numbers `since`, `since` + 1, ... ."""
        check_position(since, "since")

        def read(txn: Any) -> list[bytes]:
            cursor = txn.cursor(db=self._db["numbers"])
            found = cursor.set_range(_position_key(since))
            return list(cursor.iternext(keys=False)) if found else []

        return [id_of(key) for key in self._transact(read)]

    # Pointers and leases

    def pointer(self, name: str) -> str | None:
        """Return what a name points to, None if nothing."""
        key = b"pointer " + check_name(name)
        value = self._transact(lambda txn: txn.get(key, db=self._db["meta"]))
        return None if value is None else value.decode()

    def publish(self, name: str, value: str, lease: Lease | None = None) -> None:
        """Let a name point to something else, durably; StaleLease if the lease was lost."""
        key = b"pointer " + check_name(name)

        def write(txn: Any) -> None:
            if lease is not None:
                check_lease(lease, self._lease(txn, lease.name))
            txn.put(key, value.encode(), db=self._db["meta"])

        self._transact(write, write=True)

    def acquire(self, name: str, holder: str, seconds: float) -> Lease:
        """Take a lease, or renew one's own; LeaseHeld if somebody else holds it."""
        check_name(name)

        def write(txn: Any) -> tuple[Lease | None, Exception | None]:
            before = self._lease(txn, name)
            kept, lease, refused = grant(before, name, holder, seconds, self._clock())
            if kept != before:  # who waits and asks again costs no sync
                self._put_lease(txn, name, kept)
            return lease, refused

        lease, refused = self._transact(write, write=True)
        if refused is not None:
            raise refused
        assert lease is not None
        return lease

    def release(self, lease: Lease) -> None:
        """Give a lease back, if it is still held."""

        def write(txn: Any) -> None:
            kept = self._lease(txn, lease.name)
            if kept is not None and kept["token"] == lease.token:
                self._put_lease(txn, lease.name, kept | {"holder": ""})

        self._transact(write, write=True)

    def _lease(self, txn: Any, name: str) -> dict[str, Any] | None:
        value = txn.get(b"lease " + check_name(name), db=self._db["meta"])
        return None if value is None else json.loads(value)

    def _put_lease(self, txn: Any, name: str, kept: dict[str, Any]) -> None:
        txn.put(b"lease " + check_name(name), json.dumps(kept).encode(), db=self._db["meta"])

    def close(self) -> None:
        """Free what is held; the store can't be used any longer."""
        # After a fork, threads that were inside will not come out; the parent goes on undisturbed.
        with self._gate.alone() if self._pid == os.getpid() else nullcontext():
            if self._env is not None:
                self._env.close()
            self._env = None


class _Gate:
    """Lets many threads in at the same time, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside, self._closed = 0, False

    def __enter__(self) -> None:
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            if self._closed and not self._inside:
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._closed = True
            while self._inside:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()


def _position_key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _first(cursor: Any, n: int) -> list[tuple[bytes, bytes]]:
    return [pair for _, pair in zip(range(n), cursor)]


def _sync_folder(path: Path) -> None:
    with suppress(OSError):  # Windows opens no folders
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
