"""A store on a Redis server: one script for what must happen at once."""

from __future__ import annotations

import errno
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from uuid import uuid4

import redis
from numpy.typing import NDArray
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from skmars.serving.store._batch import (
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
from skmars.serving.store._leases import check_name, check_request, held, stale
from skmars.serving.store._scripts import ACQUIRE, APPEND, PUBLISH, RELEASE, TRIM
from skmars.serving.store._store import (
    Events,
    ItemId,
    Lease,
    StoreError,
    Streamed,
    UserId,
)

T = TypeVar("T")

PREFIX = b"skmars:"
USER = PREFIX + b"user:"  # followed by the key of the user: a history
USERS_AT_ONCE = 1000

# What the server must be set to, so that it loses nothing that it has acknowledged.
DURABLE = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}

FORMAT_KEY, POSITION, USER_KIND, ITEM_KIND, ITEMS, NUMBERS, STREAM, TOUCHED, TRIMMED = (
    PREFIX + name
    for name in (
        *(b"format", b"position", b"user kind", b"item kind", b"items", b"numbers"),
        *(b"stream", b"touched", b"trimmed"),
    )
)
APPEND_KEYS = [FORMAT_KEY, POSITION, USER_KIND, ITEM_KIND, ITEMS, NUMBERS, STREAM, TOUCHED]


@cache
def _of_this_process(url: str) -> RedisStore:
    """Return the store that a pickle stands for, which all pickles of a process share."""
    return RedisStore(url)


class RedisStore:
    """Events, item numbers, pointers and leases on a Redis server, for many machines.

    Each `append` is one script on the server, and each `histories` one command.

    Parameters
    ----------
    url : str
        ``redis://`` or ``rediss://``, as redis-py reads it, and ``?durable=no``.
    clock : callable, default=None
        Seconds since 1970, for leases. None asks the server.

    Raises
    ------
    ValueError
        If redis-py can't read the URL.
    StoreError
        If the server can't be reached, or would lose acknowledged events when it is killed.

    Notes
    -----
    The server must run with ``appendonly yes`` and ``appendfsync always``; it is asked for that
    when the store is opened, unless the URL has ``durable=no``. A server that doesn't tell gets a
    warning.

    A connection that was lost is made again by the next call. A call waits `socket_connect_timeout`
    and `socket_timeout` seconds (of the URL; 2 and 5) at most for the server, and is repeated once
    where the connection broke and repeating it changes nothing.

    A server that was emptied or replaced in the meantime is noticed: all calls but `close` raise
    StoreError, rather than to go on with other positions and item numbers.

    Redis Cluster is not supported. A pickle of the store is its address, with the password if it
    has one: another process that reads it connects to the server.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] | None = None) -> None:
        self._url = url
        address, durable = _without_durable(url)
        parts = urlsplit(address)
        self._name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        if parts.path.strip("/") and not parts.path.strip("/").isdecimal():
            raise ValueError(  # redis-py would take database 0
                f"url names the database {parts.path.strip('/')!r}, and Redis numbers them: "
                "redis://HOST:PORT/0."
            )
        self._clock, self._closed = clock, False
        try:
            self._pool = redis.ConnectionPool.from_url(
                address,
                **{
                    "socket_connect_timeout": 2.0,
                    "socket_timeout": 5.0,
                    "socket_keepalive": True,
                    "max_connections": 1000,
                    "retry": Retry(NoBackoff(), 0),
                    "protocol": 2,  # the pool then notices that a connection was closed
                },
            )
            self._pool.connection_class(**self._pool.connection_kwargs)  # refuses unknown options
        except (ValueError, TypeError, exceptions.ConnectionError) as error:
            raise ValueError(
                f"url can't be read: {error}. It must be redis://HOST:PORT/DATABASE, with options "
                "of redis-py behind a question mark."
            ) from error
        self._group = Group(self._append_all)
        self._redis: Any = redis.Redis(connection_pool=self._pool)
        self._append_script = self._redis.register_script(APPEND)
        self._publish_script = self._redis.register_script(PUBLISH)
        self._acquire_script = self._redis.register_script(ACQUIRE)
        self._release_script = self._redis.register_script(RELEASE)
        self._trim_script = self._redis.register_script(TRIM)
        try:
            if durable:
                self._check_durable()
            self._format = self._open_format()
        except BaseException:
            self.close()
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        return _of_this_process, (self._url,)

    def __repr__(self) -> str:
        return f"RedisStore({self._name!r})"

    def _check_durable(self) -> None:
        try:
            found = self._ask(lambda: self._redis.config_get(*DURABLE, "maxmemory*"), refused=True)
        except exceptions.ResponseError as error:
            warnings.warn(
                f"The server {self._name} doesn't tell its settings ({error}). See to it that it "
                "runs with appendonly yes and appendfsync always, or it may lose events that were "
                "acknowledged; durable=no in the URL says that this is known.",
                stacklevel=4,
            )
            return
        wrong = {name: found.get(name) for name in DURABLE if found.get(name) != DURABLE[name]}
        if wrong:
            raise StoreError(
                f"The server {self._name} may lose events that it has acknowledged: it runs with "
                + ", ".join(f"{name} {value}" for name, value in wrong.items())
                + ". Set in redis.conf "
                + ", ".join(f"{name} {DURABLE[name]}" for name in wrong)
                + " (or by CONFIG SET), or write ?durable=no behind the URL if it may lose them."
            )
        policy = found.get("maxmemory-policy", "")
        if found.get("maxmemory", "0") != "0" and policy.startswith("allkeys"):
            raise StoreError(
                f"The server {self._name} removes events when its memory is full (maxmemory-policy "
                f"{policy}). Set maxmemory-policy noeviction."
            )

    def _open_format(self) -> bytes:
        """Return what tells this store from all others, made if the database has none."""
        made = f"{FORMAT} {uuid4().hex}".encode()
        self._ask(lambda: self._redis.set(FORMAT_KEY, made, nx=True))
        found: bytes = self._ask(lambda: self._redis.get(FORMAT_KEY)) or b""
        if found.rpartition(b" ")[0] != FORMAT.encode():
            raise StoreError(
                f"The store at {self._name} is a {found.decode(errors='replace')!r}, and this "
                f"version of skmars keeps a {FORMAT!r}. Use the version that made it."
            )
        return found

    # Calls

    def _ask(self, call: Callable[[], T], *, repeat: bool = True, refused: bool = False) -> T:
        """Return what a call returns, made again once if the connection broke and `repeat`."""
        if self._closed:
            raise StoreError(f"The store at {self._name} is closed. Open it again.")
        try:
            try:
                return call()
            except exceptions.ConnectionError:
                if not repeat:
                    raise
                return call()
        except exceptions.RedisError as error:
            if refused and isinstance(error, exceptions.ResponseError):
                raise
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> StoreError:
        what = f"The store at {self._name} failed: {error}. "
        if isinstance(error, exceptions.OutOfMemoryError) or str(error).startswith("MISCONF"):
            return StoreError(
                errno.ENOSPC,
                what + "Nothing that was acknowledged is lost, and all of it can be read. Give the "
                "server more memory (maxmemory) or disk, or trim the stream.",
            )
        if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
            return StoreError(what + "Put user and password in the URL: redis://USER:PASSWORD@...")
        if isinstance(error, exceptions.TimeoutError | exceptions.ConnectionError):
            return StoreError(
                what
                + "Nothing that was acknowledged is lost. Look whether the server runs and can "
                "be reached, and repeat the call: it connects again, and keeps no event twice."
            )
        return StoreError(what + "Look into the log of the server.")

    def _check_same(self, found: bytes | None) -> None:
        if found != self._format:
            raise StoreError(
                f"The store at {self._name} is not the one that was opened: the server was emptied "
                "or replaced. Restore its files, or open the store again and load the log."
            )

    def _read(self, *commands: Callable[[Any], Any]) -> list[Any]:
        """Return the answers to commands, which get a pipeline.

        What tells whether the store is the same is read last, so that all answers are of it. (A
        transaction would be refused when the memory is full.)
        """

        def call() -> list[Any]:
            pipeline = self._redis.pipeline(transaction=False)
            for command in commands:
                command(pipeline)
            return pipeline.get(FORMAT_KEY).execute()

        *answers, found = self._ask(call)
        self._check_same(found)
        return answers

    def _write(self, script: Any, keys: list[bytes], *args: Any, repeat: bool) -> list[Any]:
        """Return the answer of a script, whose first key and argument are those of the format."""
        answer: list[Any] = self._ask(
            lambda: script(keys=[FORMAT_KEY, *keys], args=[self._format, *args]), repeat=repeat
        )
        if answer[0] == b"replaced":
            self._check_same(None)
        return answer

    # Events

    def append(self, events: Events, *, streamed: bool = True) -> int:
        """Keep events durably, each once; see `Store.append`."""
        return self.append_counted(events, streamed=streamed)[0]

    def append_counted(self, events: Events, *, streamed: bool = True) -> tuple[int, int]:
        """Do as `append`, and also return how many events were new."""
        position, n_new = None, 0
        for batch in batches(events, streamed, time.time()):
            position, added = self._group.append(batch)
            n_new += added
        return self.position if position is None else position, n_new

    def _append_all(self, group: list[Batch]) -> list[Kept | Exception]:
        """Keep the batches, each by a script of its own, in one round trip."""

        def call() -> list[Any]:
            pipeline = self._redis.pipeline(transaction=False)
            for batch in group:
                keys = APPEND_KEYS + [USER + user for user in batch.users]
                args: list[Any] = [self._format, batch.user.tobytes(), batch.item.tobytes()]
                args += [batch.records.tobytes(), len(USER), len(batch.items), MAX_ITEMS]
                args += batch.items + (batch.tails or [])
                pipeline.evalsha(self._append_script.sha, len(keys), *keys, *args)
            return pipeline.execute(raise_on_error=False)

        answers = self._ask(call)
        if any(isinstance(answer, exceptions.NoScriptError) for answer in answers):
            self._ask(lambda: self._redis.script_load(APPEND))
            answers = self._ask(call)  # an event that was kept already is not kept again
        return [self._appended(batch, answer) for batch, answer in zip(group, answers)]

    def _appended(self, batch: Batch, answer: Any) -> Kept | Exception:
        if isinstance(answer, Exception):
            return self._failure(answer)
        state, *rest = answer
        try:
            if state == b"replaced":
                self._check_same(None)
            if state == b"kind":
                check_kind(batch.users, rest[0], "user_ids")
                check_kind(batch.items, rest[1], "item_ids")
        except (TypeError, StoreError) as error:
            return error
        if state == b"full":
            return StoreError(f"The store at {self._name} holds {MAX_ITEMS:,} items, and no more.")
        return int(rest[0]), int(rest[1])

    @property
    def position(self) -> int:
        """Position of the last event, 0 if there is none."""
        return int(self._read(lambda ask: ask.get(POSITION))[0] or 0)

    def histories(self, user_ids: Sequence[UserId]) -> tuple[list[NDArray[Any]], int]:
        """Return the events of each user, and the position; see `Store.histories`."""
        keys = id_keys(user_ids, "user_ids")
        values, kind, position = self._fetch(keys)
        check_kind(keys, kind, "user_ids")
        return [history(value) for value in values], position

    def _fetch(self, keys: list[bytes]) -> tuple[list[bytes | None], bytes | None, int]:
        names = [FORMAT_KEY, USER_KIND, POSITION, *(USER + key for key in keys)]
        found, kind, position, *values = self._ask(lambda: self._redis.mget(names))
        self._check_same(found)
        return values, kind, int(position or 0)

    def users(self) -> Iterator[tuple[list[UserId], list[NDArray[Any]]]]:
        """Yield all users with their events; see `Store.users`."""
        found: set[bytes] = set()
        cursor, ended = 0, False
        while not ended:
            members: list[tuple[bytes, float]]
            cursor, members = self._ask(partial(self._redis.zscan, TOUCHED, cursor, count=10_000))
            found.update(key for key, _ in members)
            ended = cursor == 0
        keys = sorted(found)
        for start in range(0, len(keys), USERS_AT_ONCE):
            block = keys[start : start + USERS_AT_ONCE]
            values, _, _ = self._fetch(block)
            yield [id_of(key) for key in block], [history(value) for value in values]

    def touched(self, since: int) -> list[UserId]:
        """Return the users who have an event beyond a position; see `Store.touched`."""
        check_position(since, "since")
        keys, last = self._read(
            lambda ask: ask.zrangebyscore(TOUCHED, f"({since}", "+inf"),
            lambda ask: ask.get(POSITION),
        )
        check_since(since, int(last or 0))
        return [id_of(key) for key in keys]

    def stream(self, since: int, limit: int) -> list[Streamed]:
        """Return at most `limit` streamed events beyond a position; see `Store.stream`."""
        check_position(since, "since")
        check_position(limit, "limit")
        entries, trimmed, last = self._read(
            lambda ask: ask.xrange(STREAM, since + 1, "+", max(limit, 1)),
            lambda ask: ask.get(TRIMMED),  # later, so that no entry was trimmed unnoticed
            lambda ask: ask.get(POSITION),
        )
        check_since(since, int(last or 0))
        check_trimmed(since, int(trimmed or 0))
        return [streamed_event(fields[b"e"]) for _, fields in entries[:limit]]

    def trim(self, before: int) -> None:
        """Remove what lies before a position from the stream; see `Store.trim`."""
        check_position(before, "before")
        self._write(self._trim_script, [TRIMMED, POSITION, STREAM], before, repeat=True)

    def item_ids(self, since: int = 0) -> list[ItemId]:
        """Return the ids of the items with the numbers `since`, `since` + 1, ... ."""
        check_position(since, "since")
        return [id_of(key) for key in self._read(lambda ask: ask.lrange(NUMBERS, since, -1))[0]]

    # Pointers and leases

    def pointer(self, name: str) -> str | None:
        """Return what a name points to, None if nothing."""
        key = _pointer_key(name)
        (value,) = self._read(lambda ask: ask.get(key))
        return None if value is None else value.decode()

    def publish(self, name: str, value: str, lease: Lease | None = None) -> None:
        """Let a name point to something else, durably; StaleLease if the lease was lost."""
        key = PREFIX if lease is None else _lease_key(lease.name)
        token = b"" if lease is None else lease.token
        keys = [_pointer_key(name), key]
        state, *rest = self._write(self._publish_script, keys, value, token, repeat=False)
        if lease is not None and state == b"stale":
            raise stale(lease, rest[0].decode())

    def acquire(self, name: str, holder: str, seconds: float) -> Lease:
        """Take a lease, or renew one's own; LeaseHeld if somebody else holds it."""
        check_request(name, holder, seconds)
        now = b"" if self._clock is None else repr(float(self._clock()))
        state, *rest = self._write(
            self._acquire_script,
            [_lease_key(name)],
            holder,
            repr(float(seconds)),
            now,
            repeat=False,
        )
        if state == b"held":
            raise held(name, rest[0].decode(), float(rest[1]), float(rest[2]))
        return Lease(name, holder, int(rest[0]), float(rest[1]))

    def release(self, lease: Lease) -> None:
        """Give a lease back, if it is still held."""
        self._write(self._release_script, [_lease_key(lease.name)], lease.token, repeat=True)

    def close(self) -> None:
        """Free what is held; the store can't be used any longer."""
        self._closed = True
        self._pool.disconnect()


def _pointer_key(name: str) -> bytes:
    return PREFIX + b"pointer:" + check_name(name)


def _lease_key(name: str) -> bytes:
    return PREFIX + b"lease:" + check_name(name)


def _without_durable(url: str) -> tuple[str, bool]:
    """Return the URL that redis-py reads, and whether the server must be durable."""
    parts = urlsplit(url)
    options = parse_qsl(parts.query, keep_blank_values=True)
    durable = [value for name, value in options if name == "durable"]
    if any(value not in ("yes", "no") for value in durable):
        raise ValueError(f"durable must be yes or no, got {durable[0]!r} in the URL.")
    others = urlencode([option for option in options if option[0] != "durable"])
    return urlunsplit(parts._replace(query=others)), "no" not in durable
