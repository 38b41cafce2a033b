"""Where a table comes from: a file, or standard input."""

from __future__ import annotations

import io
import sys
from functools import cached_property
from pathlib import Path
from typing import IO, TypeAlias


class StandardInput:
    """Standard input as a table: read once, and kept. It has the methods of `Path` that are used.

    Attributes
    ----------
    suffix : str
        ".csv": what is read is CSV.
    parent : Path
        The folder in which the command runs.
    """

    suffix = ".csv"

    def __str__(self) -> str:
        return "standard input"

    @property
    def parent(self) -> Path:
        return Path.cwd()

    @cached_property
    def data(self) -> bytes:
        if sys.stdin is None or sys.stdin.closed:
            raise OSError("standard input is closed. Name a file instead of -.")
        return sys.stdin.buffer.read()

    def open(self, mode: str = "rb") -> IO[bytes]:
        return io.BytesIO(self.data)


class Words:
    """Values that stand in the command itself, which are read as those of a CSV file are.

    Parameters
    ----------
    option : str
        Where they stand, for messages.
    """

    suffix = ".csv"

    def __init__(self, option: str) -> None:
        self._option = option

    def __str__(self) -> str:
        return self._option


Source: TypeAlias = Path | StandardInput


def as_source(text: str) -> Source:
    """Return the file of this name; standard input for "-"."""
    return StandardInput() if text == "-" else Path(text)
