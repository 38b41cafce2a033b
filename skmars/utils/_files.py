"""Check that files can be read or written, and write files atomically."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from io import BufferedRandom
from pathlib import Path
from typing import Any
from uuid import uuid4

try:
    import fcntl
except ImportError:  # Windows, where nobody can remove a file that is open
    fcntl = None  # type: ignore[assignment]

# Name of a file while it is written.
PART = ".skmars-{}.part"


def check_readable(path: Path, advice: str = "") -> None:
    """Raise OSError if there is no file at `path`, or it can't be read.

    Parameters
    ----------
    path : Path
    advice : str, default=""
        Where such a file comes from, for the message.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} does not exist (looked in {Path.cwd()}). {advice}".strip())
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path} is a folder; name a file. {advice}".strip())
    if not stat.S_ISREG(mode):
        raise OSError(f"{path} is a {_kind(mode)}, no file. Save its data in a file.")
    if not os.access(path, os.R_OK):
        raise PermissionError(f"{path} may not be read. Change its permissions (chmod u+r).")


def check_writable(path: Path) -> None:
    """Raise OSError if `write_whole` can't write a file at `path`."""
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = None
    if mode is not None:
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(f"{path} is a folder; name a file in it.")
        if not stat.S_ISREG(mode):
            raise OSError(f"{path} is a {_kind(mode)}; name a file.")
        if not os.access(target, os.W_OK):
            raise PermissionError(f"{path} is read-only; name another file.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path} can't be written: there is no folder {target.parent}.")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} can't be written: folder {target.parent} is read-only.")


def _kind(mode: int) -> str:
    return "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"


def write_whole(path: Path, write: Callable[[BufferedRandom], Any]) -> None:
    """Write a file atomically: an earlier file stays until the new one is complete.

    Parameters
    ----------
    path : Path
        A symbolic link is followed. The file keeps the permissions of an earlier one.
    write : callable
        Called with the file, open for writing and reading.

    Raises
    ------
    OSError
        If the file can't be written. Nothing has changed then, nor if `write` raises.
    """
    check_writable(path)
    target = Path(os.path.realpath(path))
    _remove_remains(target.parent)
    part = None
    try:
        part, file = _new_part(target.parent)
        with file:
            write(file)
            file.flush()
            if target.exists():
                earlier = target.stat()
                with suppress(OSError):  # whoever may write a file need not own it
                    os.chown(part, earlier.st_uid, earlier.st_gid)
                part.chmod(stat.S_IMODE(earlier.st_mode))
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()
            part.replace(target)
    except OSError as error:
        raise OSError(
            f"{path} can't be written: {error.strerror or error}. Nothing has changed there; make "
            "room, or name a file elsewhere."
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    sync_folder(target.parent)


def sync_folder(path: Path) -> None:
    """Make what was renamed in a folder durable."""
    with suppress(OSError):  # Windows opens no folders
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _new_part(folder: Path) -> tuple[Path, BufferedRandom]:
    """Open a new temporary file, locked until it is closed or the process ends."""
    while True:
        part = folder / PART.format(uuid4().hex)
        file = part.open("x+b")
        if fcntl is None:
            return part, file
        with suppress(OSError):  # a file system without locks, on which remains stay
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return part, file
        file.close()  # somebody took it for remains before it was locked


def _remove_remains(folder: Path) -> None:
    """Remove the temporary files of killed processes from a folder."""
    for part in folder.glob(PART.format("*")):
        with suppress(OSError):  # locked, so that somebody is writing it; or not ours
            if fcntl is None:
                part.unlink()
                continue
            with part.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
