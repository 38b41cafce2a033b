"""A Redis server of the tests' own: started, killed and started again."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest


def without_redis() -> str | None:
    """Return why there is no Redis to test with, None if there is."""
    if shutil.which("redis-server") is None:
        return "there is no program redis-server"
    try:
        import redis  # noqa: F401
    except ImportError:
        return "the package redis is not installed"
    return None


class RedisServer:
    """A server that keeps its data in a folder, durable unless options say otherwise."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options = folder, options
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> RedisServer:
        command = ["redis-server", "--port", str(self.port), "--dir", str(self.folder)]
        command += ["--bind", "127.0.0.1", "--save", "", "--loglevel", "warning"]
        command += ["--appendonly", "yes", "--appendfsync", "always", *self.options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(100).startswith((b"+PONG", b"-NOAUTH")):
                        return self
            except OSError:
                pass
            if self._process.poll() is not None:
                raise RuntimeError(f"redis-server ended with {self._process.returncode}")
            time.sleep(0.02)
        raise RuntimeError("redis-server doesn't answer")

    def kill(self) -> None:
        """End the server at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> RedisServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


def start_redis(folder: Path, *options: str) -> RedisServer:
    """Return a server that is started by `with`; skip the test where there is no Redis."""
    reason = without_redis()
    if reason is not None:
        pytest.skip(f"Redis: {reason}")
    return RedisServer(folder, *options)
