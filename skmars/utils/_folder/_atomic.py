"""Write a folder atomically: aside, then in the place of the earlier one."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from skmars.utils._folder._manifest import APART, CHECKSUM, FILES, MANIFEST, kind_in, listed

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Name of a folder while it is written, or is about to be removed.
PART = ".skmars-{}.folder"
# Of Linux: see renameat2(2).
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def check_replaceable(path: Path, kind: str) -> None:
    """Raise OSError if a saved object can't be put at `path`.

    There may be nothing, an empty folder, or an earlier saved object of this kind, for which
    nothing was made since: folders in it (`APART`) are of use to that very object alone, and
    would be lost, or be taken for those of the new one.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path} can't be written: there is no folder {target.parent}.")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} can't be written: folder {target.parent} is read-only.")
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        raise FileExistsError(f"{path} is no folder; a saved {kind} is one. Name another place.")
    inside = set(os.listdir(target))
    foreign = inside - {*FILES, *APART}
    if inside and (foreign or not {MANIFEST, CHECKSUM} <= inside):
        first = f" (such as {min(foreign)!r})" if foreign else ""
        raise FileExistsError(
            f"{path} is a folder that holds something else{first}. Name a new folder in it, or "
            f"remove what is there."
        )
    with suppress(ValueError):
        listed(target)
    there = kind_in(target) if inside else None
    if there not in (None, kind):
        raise FileExistsError(f"{path} holds a saved {there}, not a {kind}. Name another place.")
    used = [name for name in APART if (target / name).is_dir() and any((target / name).iterdir())]
    if used:
        raise FileExistsError(
            f"{path} is in use: its folder {used[0]!r} holds what was made for the {kind} that is "
            "there, and fits no other. Save the new one elsewhere, or remove that folder."
        )


@contextmanager
def new_folder(path: Path, kind: str) -> Iterator[Path]:
    """Give an empty folder to be filled, which then takes the place of what is at `path`.

    Parameters
    ----------
    path : Path
        A symbolic link is followed.
    kind : str
        See `check_replaceable`.

    Raises
    ------
    OSError
        If it can't be written. Nothing has changed at `path` then, nor if the block raises.
    """
    check_replaceable(path, kind)
    target = Path(os.path.realpath(path))
    try:
        with scratch_folder(target.parent) as part:
            yield part
            for each in part.iterdir():
                _sync(each)
            _sync(part)
            check_replaceable(path, kind)
            _put(part, target)
            _sync(target.parent)
    except OSError as error:
        if isinstance(error, FileExistsError):
            raise
        raise OSError(
            f"{path} can't be written: {error.strerror or error}. Nothing has changed there; make "
            "room, or name another place."
        ) from error


@contextmanager
def scratch_folder(parent: Path, mode: int = 0o777) -> Iterator[Path]:
    """Give a new folder in another one, and remove it at the end if it is still there.

    Those of processes that were killed before their end are removed first.
    """
    _remove_remains(parent)
    part, lock = _new_part(parent, mode)
    try:
        yield part
    finally:
        os.close(lock)
        shutil.rmtree(part, ignore_errors=True)


def _put(part: Path, target: Path) -> None:
    """Put a folder in the place of an earlier one, which then has the name of the first."""
    if not target.exists() or not any(target.iterdir()):
        part.rename(target)
    elif not _exchange(part, target):  # then there is no folder for a moment
        aside = target.parent / PART.format(uuid4().hex)
        target.rename(aside)
        part.rename(target)
        aside.rename(part)


def _exchange(a: Path, b: Path) -> bool:
    """Exchange two folders at once; return False where the system can't."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    names = os.fsencode(a), os.fsencode(b)
    return rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0


def _new_part(parent: Path, mode: int) -> tuple[Path, int]:
    """Make a new folder, locked until its descriptor is closed or the process ends."""
    while True:
        part = parent / PART.format(uuid4().hex)
        part.mkdir(mode)
        if fcntl is None:
            return part, os.open(os.devnull, os.O_RDONLY)
        lock = os.open(part, os.O_RDONLY)
        with suppress(OSError):  # a file system without locks, on which remains stay
            fcntl.flock(lock, fcntl.LOCK_EX)
        if part.exists():
            return part, lock
        os.close(lock)  # somebody took it for remains before it was locked


def _remove_remains(parent: Path) -> None:
    """Remove the folders of killed processes."""
    if fcntl is None:
        return
    for part in parent.glob(PART.format("*")):
        with suppress(OSError):  # locked, so that somebody is writing it; or not ours
            lock = os.open(part, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(part)
            finally:
                os.close(lock)


def _sync(path: Path) -> None:
    with suppress(PermissionError):  # Windows opens no folders
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
