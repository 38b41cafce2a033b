"""Commands of skmars as processes: started, asked, paused, killed and started again."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Self


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> None:
    """Return when a condition holds; RuntimeError if it doesn't in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"nothing happened in {seconds} seconds")
        time.sleep(0.01)


def free_port() -> int:
    """Return a port that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def run_apart(log: str, temporary: str, target: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Run a function in this process, which was forked for it."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    sys.stdin = os.fdopen(0)  # workers of a service inherit it
    os.environ["TMPDIR"], tempfile.tempdir = temporary, None
    sys.exit(target(*args))


def run_command(*arguments: str) -> int:
    """Run a command of skmars in this process."""
    from skmars.cli import main

    return main(list(arguments))


class Forked:
    """A function in a process of its own; what it says goes to a file in a folder.

    It is forked from a process that has imported all that it needs, so that it begins at once.

    Parameters
    ----------
    folder : Path
        Also the place of its temporary files (in ``tmp``), so that what stays there can be seen.
    name : str
        Of the file.
    target : callable
        A function of a module.
    args
        Of the function.
    """

    def __init__(self, folder: Path, name: str, target: Callable[..., Any], *args: Any) -> None:
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        self._log = folder / f"{name}.{time.monotonic_ns()}.log"
        self._log.touch()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.serving.preloaded"])
        where = str(self._log), str(folder / "tmp")
        self._process = context.Process(target=run_apart, args=(*where, target, args))
        self._process.start()

    @property
    def told(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None as long as it runs."""
        return self._process.exitcode

    def wait(self, seconds: float = 300) -> int:
        """Wait until it ends, and return its exit code; RuntimeError if it doesn't in time."""
        self._process.join(seconds)
        if self.exit_code is None:
            raise RuntimeError(f"it still runs after {seconds} seconds: {self.told}")
        return self.exit_code

    def wait_until(self, condition: Callable[[], Any], seconds: float = 300) -> None:
        """Wait until something holds; RuntimeError if the command ends before, or it takes long."""
        wait_for(lambda: condition() or self.exit_code is not None, seconds)
        if not condition():
            raise RuntimeError(f"it ended with {self.exit_code}: {self.told}")

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def ask_to_end(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def end(self) -> int:
        """Ask it to end, and return its exit code."""
        self.ask_to_end()
        return self.wait()

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self._process.kill()
        self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Command(Forked):
    """A running command of skmars, see `Forked`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        super().__init__(folder, arguments[0], run_command, *arguments)


class Service(Command):
    """A running `skmars serve`, and a client of it."""

    def __init__(self, folder: Path, *arguments: str, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        super().__init__(folder, "serve", "--port", str(self.port), "--no-token", *arguments)

    def ready(self) -> Self:
        """Wait until it is ready to score; RuntimeError if it ends before."""
        self.wait_until(self._answers)
        return self

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "/ready")[0] == 200
        except (OSError, HTTPException):
            return False

    def ask(self, method: str, route: str, body: Any = None) -> tuple[int, Any]:
        """Return status and body of an answer; OSError or HTTPException if there is none."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, route, content, {"content-type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            is_json = "json" in answer.headers.get("content-type", "")
            return answer.status, json.loads(text) if is_json else text.decode()
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        """Return a metric by its name with labels; 0 if there is none."""
        found = re.findall(rf"^{re.escape(name)} (.*)$", self.ask("GET", "/metrics")[1], re.M)
        return float(found[0]) if found else 0.0
