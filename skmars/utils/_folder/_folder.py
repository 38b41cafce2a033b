"""Write an object to a folder, and read it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from skmars.utils._folder._arrays import ArrayFile, write_arrays
from skmars.utils._folder._atomic import new_folder
from skmars.utils._folder._manifest import (
    ARRAYS,
    STRINGS,
    Manifest,
    other_versions,
    read_manifest,
    write_manifest,
)
from skmars.utils._folder._read_tree import TreeReader
from skmars.utils._folder._strings import StringFile, write_strings
from skmars.utils._folder._write_tree import TreeWriter

# A folder that is replaced while it is read is read again, so many times at most.
MOST_READS = 5


def write_folder(path: str | os.PathLike[str], kind: str, obj: Any) -> None:
    """Write an object to a folder of plain data: safetensors, Arrow IPC and JSON.

    Parameters
    ----------
    path : str or path-like
        Where it is to be: nothing, or an earlier one of this kind, which stays unless the new one
        is complete, and which nothing was made for since (see `check_replaceable`).
    kind : str
        What it is, in a word: "model", "pool". `read_folder` asks for it.
    obj : object
        It consists of plain values, arrays, tensors, and objects of known classes; all that it
        refers to several times is stored once.

    Raises
    ------
    TypeError
        If a part of it can't be stored; the message has the way to this part.
    ValueError
        If it has too many parts.
    OSError
        If the folder can't be written, or something else is there.
    ImportError
        If a package is not installed.
    """
    _require()
    tree = TreeWriter()
    root = tree.write(obj, type(obj).__name__)
    with new_folder(Path(path), kind) as folder:
        if tree.arrays:
            with (folder / ARRAYS).open("wb") as file:
                write_arrays(file, tree.arrays)
        if tree.strings:
            with (folder / STRINGS).open("wb") as file:
                write_strings(file, tree.strings)
        write_manifest(folder, kind, tree.nodes, root)


def read_folder(path: str | os.PathLike[str], kind: str) -> Any:
    """Read an object from a folder. No code that a folder could bring is run.

    Arrays are mapped into memory: they cost what is looked at, once for all processes of a
    machine. Writing to one changes a copy that is private to the process.

    Parameters
    ----------
    path : str or path-like
    kind : str
        What `write_folder` was told that it is.

    Returns
    -------
    object

    Raises
    ------
    OSError
        If there is no such folder, or it can't be read.
    ValueError
        If it holds something else, anything in it has changed since it was written, or its classes
        are none that are known. The message names the file or the class.
    ImportError
        If a package is not installed.

    Warns
    -----
    UserWarning
        If scikit-learn, torch or skmars have another version than those that wrote it.
    """
    _require()
    folder = Path(path)
    if not folder.is_dir():
        if folder.exists():
            raise NotADirectoryError(f"{folder} is no folder; a saved {kind} is one.")
        raise FileNotFoundError(f"{folder} does not exist (looked in {Path.cwd()}).")
    for _ in range(MOST_READS):
        with _held(folder) as before:
            try:
                manifest = read_manifest(folder, kind)
                found = _read(folder, manifest)
            except (OSError, ValueError):
                if not _replaced(folder, before):
                    raise
            else:
                if not _replaced(folder, before):
                    _warn_of_versions(folder, manifest.versions)
                    return found
    raise OSError(f"{folder} was replaced whenever it was read. Try again when it stays.")


def _read(folder: Path, manifest: Manifest) -> Any:
    arrays = strings = None
    with _naming(folder / ARRAYS):
        if (folder / ARRAYS).exists():
            arrays = ArrayFile(folder / ARRAYS)
    with _naming(folder / STRINGS):
        if (folder / STRINGS).exists():
            strings = StringFile(folder / STRINGS)
    with _naming(folder):
        return TreeReader(arrays, strings).read(manifest.nodes, manifest.root)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raise ValueError with the name of a file, whatever is raised; OSError stays."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{path} can't be read: {error}") from error


@contextmanager
def _held(folder: Path) -> Iterator[os.stat_result]:
    """Give the identity of a folder, which no other one can have before the end."""
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders, or it is just being replaced
        yield os.stat(folder)
        return
    try:
        yield os.fstat(opened)  # as long as it is open, its number is not given to another
    finally:
        os.close(opened)


def _replaced(folder: Path, before: os.stat_result) -> bool:
    """Return whether another folder has taken the place of one."""
    try:
        return not os.path.samestat(os.stat(folder), before)
    except FileNotFoundError:
        return True


def _warn_of_versions(folder: Path, versions: dict[str, Any]) -> None:
    other = other_versions(versions)
    if other:
        warnings.warn(
            f"{folder} was saved with {', '.join(other)}. It may not work here, or give other "
            "results. Fit and save it again, or install these versions.",
            UserWarning,
            stacklevel=3,
        )


def _require() -> None:
    for package in ("pyarrow", "safetensors"):
        if find_spec(package) is None:
            raise ImportError(
                f"A saved object needs {package}, which is not installed: "
                'pip install "skmars[serving]"'
            )
