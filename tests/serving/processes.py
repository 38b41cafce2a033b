"""Commands of skmars as processes: started, asked, paused, killed and started again."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]


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


class Command:
    """A running command; what it says goes to a file in a folder, with a number of its own.

    Parameters
    ----------
    folder : Path
        Also the place of its temporary files (in ``tmp``), so that what stays there can be seen.
    arguments : str
        Of `skmars`.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        self._log = folder / f"{arguments[0]}.{time.monotonic_ns()}.log"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "tmp")}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path])
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "skmars", *arguments], stderr=log, env=environment
            )

    @property
    def told(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until_told(self, pattern: str, seconds: float = 60) -> None:
        """Wait until it has said something; RuntimeError if it ends before."""
        wait_for(lambda: re.search(pattern, self.told) or self.process.poll() is not None, seconds)
        if re.search(pattern, self.told) is None:
            raise RuntimeError(f"it ended with {self.process.returncode}: {self.told}")

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def end(self, seconds: float = 60) -> int:
        """Ask it to end, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Service(Command):
    """A running `skmars serve`, and a client of it."""

    def __init__(self, folder: Path, *arguments: str, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        super().__init__(folder, "serve", "--port", str(self.port), "--no-token", *arguments)

    def ready(self, seconds: float = 60) -> Service:
        """Wait until it is ready to score; RuntimeError if it ends before."""
        wait_for(self._answers_or_ended, seconds)
        if self.process.poll() is not None:
            raise RuntimeError(f"it ended with {self.process.returncode}: {self.told}")
        return self

    def _answers_or_ended(self) -> bool:
        if self.process.poll() is not None:
            return True
        try:
            return self.ask("GET", "/ready")[0] == 200
        except (OSError, HTTPException):
            return False

    def ask(
        self, method: str, route: str, body: Any = None, timeout: float = 30
    ) -> tuple[int, Any]:
        """Return status and body of an answer; OSError or HTTPException if there is none."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout)
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
