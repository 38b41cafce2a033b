"""Crashes, full disks, forks, dead servers: nothing acknowledged is lost, nothing counts twice."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.serving.killed_stores import check_kept, kill_servers, kill_writers
from skmars.serving import Events, StoreError, open_store
from tests.serving.processes import Forked, wait_for
from tests.serving.servers import start_redis, without_redis


def one(user: Any, item: Any, time: float = 0.0) -> Events:
    return Events([user], [item], np.array([time]), np.array([1], np.uint8))


def many(n: int, user: str = "ann", start: int = 0) -> Events:
    return Events(
        [user] * n,
        list(range(n)),
        np.arange(start, start + n, dtype=float),
        np.ones(n, np.uint8),
        payload=[b"x" * 200] * n,
    )


@pytest.mark.parametrize("kind", ["lmdb", "redis"])
def test_a_killed_writer_loses_nothing_and_counts_nothing_twice(kind: str, tmp_path: Path) -> None:
    if kind == "lmdb":
        pytest.importorskip("lmdb", reason="the package lmdb is not installed")
        list(kill_writers(f"lmdb:{tmp_path / 'store'}", tmp_path, 4))
    else:
        with start_redis(tmp_path) as server:
            list(kill_writers(server.url, tmp_path, 4))


def test_a_killed_redis_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    with start_redis(tmp_path) as server:
        list(kill_servers(server, tmp_path, 3))


# LMDB


@pytest.fixture
def lmdb() -> Any:
    return pytest.importorskip("lmdb", reason="the package lmdb is not installed")


def small_map(monkeypatch: pytest.MonkeyPatch, n_bytes: int = 2**17) -> None:
    from skmars.serving.store import _lmdb

    monkeypatch.setattr(_lmdb, "FIRST_MAP", n_bytes)


def test_the_map_grows_under_readers_and_writers(
    lmdb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_map(monkeypatch)
    store = open_store(f"lmdb:{tmp_path}")
    stop, errors = threading.Event(), []

    def read() -> None:
        try:
            while not stop.wait(0.001):
                (history,), position = store.histories(["ann"])
                assert len(history) == position
                assert history["position"].tolist() == list(range(1, position + 1))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for start in range(0, 6000, 300):
        store.append(many(300, start=start))
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert store.position == 6000
    assert (tmp_path / "data.mdb").stat().st_size > 10 * 2**17
    store.close()


def append_many(path: str, user: str) -> None:
    from skmars.serving.store import _lmdb

    _lmdb.FIRST_MAP = 2**17
    store = open_store(f"lmdb:{path}")
    for start in range(0, 3000, 100):
        store.append(many(100, user, start))
    assert len(store.histories([user])[0][0]) == 3000
    store.close()


def test_processes_write_at_once_and_follow_each_others_growth(
    lmdb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_map(monkeypatch)
    store = open_store(f"lmdb:{tmp_path}")  # with the small map that others will outgrow
    processes = [Forked(tmp_path, user, append_many, str(tmp_path), user) for user in "abc"]
    for process in processes:
        assert process.wait() == 0, process.told
    assert store.position == 9000
    check_kept(store, [])
    store.close()


def test_a_full_store_refuses_events_and_keeps_the_others(
    lmdb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_map(monkeypatch)
    store = open_store(f"lmdb:{tmp_path}?max_bytes={2**20}")
    refuse_when_full(store, "has reached its max_bytes (1,048,576)")
    store.close()
    larger = open_store(f"lmdb:{tmp_path}")
    larger.append(many(100, "zoe"))
    check_kept(larger, [])
    larger.close()


def refuse_when_full(store: Any, message: str) -> None:
    appended, told = 0, None
    while told is None:
        try:
            store.append(many(100, start=appended))
            appended += 100
        except StoreError as error:
            told = error
    assert message in str(told)
    assert told.errno == errno.ENOSPC
    assert appended > 0
    assert store.position == appended
    check_kept(store, [["ann", float(moment)] for moment in range(appended)])


def test_a_full_disk_is_told_and_all_stays_readable(lmdb: Any, small_disk: Path) -> None:
    other = small_disk / "other"
    other.write_bytes(b"x" * 2**20)
    store = open_store(f"lmdb:{small_disk / 'store'}")
    refuse_when_full(store, "is full")
    with pytest.raises(StoreError, match="is full"):
        store.append(many(2000, "bob"))
    kept = store.position
    other.unlink()  # somebody made room
    assert store.append(many(100, "zoe")) == kept + 100
    check_kept(store, [])
    store.close()


def test_a_forked_process_opens_the_store_itself(lmdb: Any, tmp_path: Path) -> None:
    store = open_store(f"lmdb:{tmp_path}")
    store.append(one("ann", 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pytest may run threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            with pytest.raises(StoreError, match="Open it in each process after the fork"):
                store.append(one("ann", 2))
            store.close()
            mine = open_store(f"lmdb:{tmp_path}")
            assert mine.append(one("ann", 3)) == 2
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.append(one("ann", 4)) == 3
    store.close()


def test_the_pages_of_a_killed_reader_are_used_again(lmdb: Any, tmp_path: Path) -> None:
    store = open_store(f"lmdb:{tmp_path}/store")
    store.append(many(100))
    reader = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import lmdb, sys, time\n"
            f"env = lmdb.open({str(tmp_path / 'store')!r}, max_dbs=6, map_size=2**30)\n"
            "txn = env.begin()\nprint('reading', flush=True)\ntime.sleep(60)",
        ],
        stdout=subprocess.PIPE,
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == b"reading\n"
    reader.kill()
    reader.wait()
    reader.stdout.close()
    store.close()
    store = open_store(f"lmdb:{tmp_path}/store")
    assert f"{reader.pid}" not in store._env.readers()
    store.close()


def append_during_a_slow_sync(store: Any, calls: list[Events]) -> list[Exception]:
    """Append from a thread each, all while the sync of another's event takes its time."""
    refused, slow, group = [], threading.Event(), store._group
    write = group._write

    def wait_and_write(batches: Any) -> Any:
        slow.wait()
        return write(batches)

    def append(events: Events) -> None:
        try:
            store.append(events)
        except Exception as error:
            refused.append(error)

    group._write = wait_and_write
    threads = [threading.Thread(target=append, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(group._waiting) == len(calls))
    slow.set()
    for thread in threads:
        thread.join()
    return refused


def test_threads_share_syncs(lmdb: Any, tmp_path: Path) -> None:
    store = open_store(f"lmdb:{tmp_path}")
    transactions = store._env.info()["last_txnid"]
    assert not append_during_a_slow_sync(store, [one("ann", t) for t in range(40)])
    assert store.position == 40
    assert store._env.info()["last_txnid"] == transactions + 2
    store.close()


def test_one_bad_call_does_not_fail_those_who_share_its_transaction(
    lmdb: Any, tmp_path: Path
) -> None:
    store = open_store(f"lmdb:{tmp_path}")
    store.append(one("ann", 0))
    calls = [one("ann", 1), one("ann", 2), one(7, 1), one("bob", 1)]
    (refused,) = append_during_a_slow_sync(store, calls)
    assert isinstance(refused, TypeError)
    assert store.position == 4
    store.close()


def test_folders_that_hold_no_store_are_refused(lmdb: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no store")
    with pytest.raises(StoreError, match="must be a folder"):
        open_store(f"lmdb:{tmp_path / 'file'}")
    with lmdb.open(str(tmp_path / "other")) as env, env.begin(write=True) as txn:
        txn.put(b"meta", b"something")
    with pytest.raises(StoreError, match="no store of skmars"):
        open_store(f"lmdb:{tmp_path / 'other'}")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "data.mdb").write_bytes(b"\1" * 20_000)
    with pytest.raises(StoreError, match="can't be opened"):
        open_store(f"lmdb:{tmp_path / 'torn'}")
    store = open_store(f"lmdb:{tmp_path / 'store'}")
    with pytest.raises(StoreError, match="opened once in a process"):
        open_store(f"lmdb:{tmp_path / 'store'}")
    store.close()
    store = open_store(f"lmdb:{tmp_path / 'store'}")
    with store._env.begin(write=True) as txn:
        txn.put(b"format", b"skmars store 2 little-endian", db=store._db["meta"])
    store.close()
    with pytest.raises(StoreError, match="'skmars store 2 .*Use the version that made it"):
        open_store(f"lmdb:{tmp_path / 'store'}")


# Redis


@pytest.fixture
def folder() -> Iterator[Path]:
    reason = without_redis()
    if reason is not None:
        pytest.skip(f"Redis: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--appendonly", "no"], "appendonly no. Set in redis.conf appendonly yes"),
        (
            ["--appendfsync", "everysec"],
            "appendfsync everysec. Set in redis.conf appendfsync always",
        ),
        (["--no-appendfsync-on-rewrite", "yes"], "Set in redis.conf no-appendfsync-on-rewrite no"),
        (
            ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"],
            "Set maxmemory-policy noeviction",
        ),
    ],
)
def test_a_server_that_may_lose_events_is_refused(
    folder: Path, options: list[str], message: str
) -> None:
    with start_redis(folder, *options) as server:
        with pytest.raises(StoreError, match=message):
            open_store(server.url)
        store = open_store(f"{server.url}?durable=no")
        assert store.append(one("ann", 1)) == 1
        store.close()


def test_a_server_that_does_not_tell_its_settings_gets_a_warning(folder: Path) -> None:
    with start_redis(folder, "--rename-command", "CONFIG", "") as server:
        with pytest.warns(UserWarning, match="doesn't tell its settings") as caught:
            store = open_store(server.url)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        store.close()


def test_a_wrong_password_is_told_and_never_shown(folder: Path) -> None:
    with start_redis(folder, "--requirepass", "secret") as server:
        with pytest.raises(StoreError, match="redis://USER:PASSWORD@") as caught:
            open_store(server.url.replace("//", "//:wrong@"))
        assert "wrong@" not in str(caught.value)
        store = open_store(server.url.replace("//", "//:secret@"))
        assert "secret" not in repr(store)
        store.close()


def test_a_dead_server_is_told_at_once_and_recovers_by_itself(folder: Path) -> None:
    with start_redis(folder) as server:
        store = open_store(server.url)
        store.append(one("ann", 1))
        server.kill()
        for call in (
            lambda: store.append(one("ann", 2)),
            lambda: store.histories(["ann"]),
            lambda: store.acquire("runner", "me", 10),
        ):
            with pytest.raises(StoreError, match="Look whether the server runs"):
                call()
        server.start()
        assert store.append(one("ann", 2)) == 2
        assert len(store.histories(["ann"])[0][0]) == 2
        store.close()


def test_connections_that_a_restart_broke_are_not_noticed(folder: Path) -> None:
    with start_redis(folder) as server:
        store = open_store(server.url)
        lease = store.acquire("runner", "me", 60)
        server.kill()
        server.start()
        store.publish("pool", "pools/1", lease)
        assert store.pointer("pool") == "pools/1"
        store.close()


def test_a_server_that_hangs_is_given_up_on(folder: Path) -> None:
    with start_redis(folder) as server:
        store = open_store(f"{server.url}?socket_timeout=0.2")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(StoreError, match="Timeout"):
                store.histories(["ann"])
            with pytest.raises(StoreError, match="keeps no event twice"):
                store.append(one("ann", 1))
            assert time.monotonic() - began < 5
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert store.append(one("ann", 1)) == 1
        store.close()


def test_an_emptied_server_is_not_taken_for_the_store(folder: Path) -> None:
    import redis

    with start_redis(folder) as server:
        store = open_store(server.url)
        store.append(one("ann", 1))
        lease = store.acquire("runner", "me", 60)
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        open_store(server.url).close()
        refuses_all(store, lease, "emptied or replaced")
        store.close()


@pytest.mark.parametrize("then", ["nothing", "another"])
def test_a_removed_folder_keeps_no_events_that_nobody_will_find(
    lmdb: Any, tmp_path: Path, then: str
) -> None:
    if then == "another" and lmdb.__version__ < "3":
        pytest.skip("lmdb before 3 knows what is open by its path, and refuses the other one")
    store = open_store(f"lmdb:{tmp_path / 'store'}")
    store.append(one("ann", 1))
    lease = store.acquire("runner", "me", 60)
    (tmp_path / "store").rename(tmp_path / "away")
    if then == "another":
        open_store(f"lmdb:{tmp_path / 'store'}").close()
    refuses_all(store, lease, "removed or replaced")
    shutil.rmtree(tmp_path / "store", ignore_errors=True)
    (tmp_path / "away").rename(tmp_path / "store")  # restored
    assert store.append(one("ann", 2)) == 2
    store.close()


def refuses_all(store: Any, lease: Any, why: str) -> None:
    for call in (
        lambda: store.append(one("ann", 2)),
        lambda: store.histories(["ann"]),
        lambda: store.position,
        lambda: store.stream(0, 1),
        lambda: store.publish("pool", "x", lease),
        lambda: store.acquire("runner", "me", 60),
    ):
        with pytest.raises(StoreError, match=why):
            call()


def test_a_redis_that_is_full_refuses_events_and_keeps_the_others(folder: Path) -> None:
    with start_redis(folder, "--maxmemory", "3mb") as server:
        store = open_store(server.url)
        refuse_when_full(store, "maxmemory")
        store.close()


def test_another_format_in_redis_is_refused(folder: Path) -> None:
    import redis

    with start_redis(folder) as server:
        with redis.Redis.from_url(server.url) as client:
            client.set(b"skmars:format", b"skmars store 2 little-endian abc")
        with pytest.raises(StoreError, match="'skmars store 2 .*Use the version that made it"):
            open_store(server.url)


def test_a_redis_without_disk_ends_and_has_all_that_it_acknowledged(
    folder: Path, small_disk: Path
) -> None:
    other = small_disk / "other"
    other.write_bytes(b"x" * 2**20)
    with start_redis(small_disk) as server:
        store = open_store(server.url)
        appended, told = 0, None
        while told is None:
            try:
                store.append(many(100, start=appended))
                appended += 100
            except StoreError as error:
                told = error
        assert "Look whether the server runs" in str(told)
        other.unlink()  # somebody made room
        server.kill()
        server.start()
        check_kept(store, [["ann", float(moment)] for moment in range(appended)])
        kept = store.position
        assert kept in (appended, appended + 100)
        assert store.append(many(100, "zoe")) == kept + 100
        store.close()
