"""Stores to test with: a fresh one of each kind."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.servers import RedisServer, start_redis

MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def quick_folder() -> Iterator[Path]:
    """A folder that needs no syncing, where there is one."""
    folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def redis_server(quick_folder: Path) -> Iterator[RedisServer]:
    """One durable server for all tests. Who kills it starts one of their own (`start_redis`)."""
    folder = quick_folder / "redis"
    folder.mkdir()
    with start_redis(folder) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """URL of an empty database of a Redis server."""
    empty(redis_server.url)
    return redis_server.url


def empty(url: str) -> None:
    import redis

    with redis.Redis.from_url(url) as client:
        client.flushall()


@pytest.fixture(params=["lmdb", "redis"])
def store_kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def new_store(store_kind: str, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes an empty store of each kind in turn; options are those of its class."""
    opened = []
    if store_kind == "lmdb":
        pytest.importorskip("lmdb", reason="the package lmdb is not installed")
        quick_folder = request.getfixturevalue("quick_folder")
    else:
        redis_url = request.getfixturevalue("redis_url")

    def make(**options: Any) -> Any:
        if store_kind == "lmdb":
            from skmars.serving.store._lmdb import LMDBStore

            opened.append(LMDBStore(tempfile.mkdtemp(dir=quick_folder), **options))
        else:
            from skmars.serving.store._redis import RedisStore

            empty(redis_url)
            opened.append(RedisStore(redis_url, **options))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(new_store: Callable[..., Any]) -> Any:
    """An empty store of each kind in turn."""
    return new_store()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.call(command, stderr=subprocess.DEVNULL):
        pytest.skip("a small disk can't be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
