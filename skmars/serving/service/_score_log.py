"""A log of scored requests, which `skmars replay` reads."""

from __future__ import annotations

import logging
import os
import queue
import random
import threading
import time
from pathlib import Path

import msgspec

from skmars.serving.scoring._replay import logged
from skmars.serving.scoring._request import Request
from skmars.serving.scoring._scorer import Answer

log = logging.getLogger(__name__)

ROOM = 1_000  # records that wait to be written


class ScoreLog:
    """Writes a share of the scored requests as JSON lines, and never lets scoring wait.

    Parameters
    ----------
    path : Path
        Is appended to, by several processes at once if need be.
    share : float, default=0.01
        Share of the requests that is written, drawn at random.

    Raises
    ------
    OSError
        If the file can't be opened.
    """

    def __init__(self, path: Path, share: float = 0.01) -> None:
        self._path, self._share = path, share
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        self._waiting: queue.Queue[tuple[Request, Answer] | None] = queue.Queue(ROOM)
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="skmars-log", daemon=True)
        self._thread.start()

    def __call__(self, request: Request, answer: Answer) -> bool:
        """Let a request be written if it is drawn; return False if there is no room for it."""
        if random.random() >= self._share:
            return True
        try:
            self._waiting.put_nowait((request, answer))
        except queue.Full:
            return False
        return not self._failed

    def close(self, timeout: float = 5.0) -> None:
        """Write what waits, and close the file."""
        try:
            self._waiting.put(None, timeout=timeout)
        except queue.Full:  # the disk hangs
            return
        self._thread.join(timeout)

    def _run(self) -> None:
        while (record := self._waiting.get()) is not None:
            # One call a line, so that lines of several processes don't mix.
            self._write(msgspec.json.encode(logged(*record)) + b"\n")
        os.close(self._file)

    def _write(self, line: bytes) -> None:
        """Write a line, or nothing of it; what has begun is finished, however long it takes."""
        rest = line
        while rest:
            try:
                rest = rest[os.write(self._file, rest) :]
                self._failed = False
            except OSError as error:
                if not self._failed:
                    log.error("Scores can't be logged to %s: %s", self._path, error)
                self._failed = True
                if rest is line:
                    return
                time.sleep(1.0)
