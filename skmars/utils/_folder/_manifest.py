"""The manifest of a folder: what it is, with what it was written, and a checksum of each file."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FORMAT, VERSION = "skmars-folder", 1
MANIFEST, CHECKSUM, ARRAYS, STRINGS = (
    "manifest.json",
    "manifest.sha256",
    "arrays.safetensors",
    "strings.arrow",
)
FILES = (MANIFEST, CHECKSUM, ARRAYS, STRINGS)
# Folders that may stand in a folder, and are units of their own: what was made for it later.
APART = ("fits", "params", "pools")
# A larger manifest is not read. Those of models have a few hundred kilobytes.
MAX_BYTES = 64 * 1024**2

# Objects may be other ones in other versions of these; of the others, arrays alone are kept.
_THAT_MATTER = ("skmars", "scikit-learn", "torch")
_RECORDED = ("numpy", "scipy", "safetensors", "pyarrow", "faiss-cpu")


@dataclass(frozen=True)
class Manifest:
    """What a manifest tells."""

    kind: str
    versions: dict[str, str]
    nodes: list[Any]
    root: Any


def write_manifest(folder: Path, kind: str, nodes: list[Any], root: Any) -> None:
    """Write the manifest of the files that are in a folder, and its own checksum."""
    names = [name for name in (ARRAYS, STRINGS) if (folder / name).exists()]
    told = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "versions": installed_versions(),
        "files": {
            name: {"size": (folder / name).stat().st_size, "sha256": _digest(folder / name)}
            for name in names
        },
        "root": root,
        "nodes": nodes,
    }
    text = json.dumps(told, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > MAX_BYTES:
        raise ValueError(
            f"the object has too many parts for its manifest: {len(text)} bytes, where {MAX_BYTES} "
            "are read. Keep large collections in arrays, or use joblib.dump(model, FILE)."
        )
    (folder / MANIFEST).write_bytes(text)
    (folder / CHECKSUM).write_bytes(_checksum_line(text))


def read_manifest(folder: Path, kind: str) -> Manifest:
    """Check all files of a folder, and return what its manifest tells.

    Raises
    ------
    ValueError
        If anything differs from what was written, by a bit, or is of another kind or format. The
        message names the file.
    OSError
        If a file can't be read.
    """
    names = listed(folder)
    for name in (MANIFEST, CHECKSUM):
        if name not in names:
            raise ValueError(f"{folder} is no saved {kind}: it has no file {name}.")
    told = _parsed(folder)
    form, number = told.get("format"), told.get("version")
    if form != FORMAT or number != VERSION or isinstance(number, bool):
        found = f"{form!r}, version {number!r}"
        raise ValueError(
            f"{folder / MANIFEST} has the format {found}, and this is skmars "
            f"{installed_versions()['skmars']}, which reads {FORMAT!r}, version {VERSION}. Save "
            "the object again, or install the version that saved it."
        )
    if told.get("kind") != kind:
        raise ValueError(f"{folder} holds a saved {told.get('kind')}, not a {kind}.")
    files, versions, nodes = (told.get(name) for name in ("files", "versions", "nodes"))
    if not (isinstance(files, dict) and isinstance(versions, dict) and isinstance(nodes, list)):
        raise ValueError(f"{folder / MANIFEST} is no manifest: a part is missing.")
    for name in sorted(files.keys() | (names - {MANIFEST, CHECKSUM})):
        if name not in (ARRAYS, STRINGS):
            where = "names" if name in files else "does not name"
            raise ValueError(
                f"{folder / MANIFEST} {where} the file {name!r}. Copy the folder anew."
            )
        if name not in names:
            raise ValueError(f"{folder} lacks the file {name}. Copy the folder anew.")
        told_of = {"size": (folder / name).stat().st_size, "sha256": _digest(folder / name)}
        if name not in files or files[name] != told_of:
            raise ValueError(_damaged(folder / name))
    return Manifest(kind, versions, nodes, told.get("root"))


def listed(folder: Path) -> set[str]:
    """Return the names of the files in a folder, without the folders that stand apart.

    Raises
    ------
    ValueError
        If something else is there: a link, a pipe, a folder.
    """
    names = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and entry.name in APART:
                continue
            if not entry.is_file(follow_symlinks=False):
                what = "a link" if entry.is_symlink() else "no file"
                raise ValueError(
                    f"{Path(entry.path)} is {what}, and a saved object consists of files. "
                    "Remove it, or copy the folder anew."
                )
            names.add(entry.name)
    return names


def kind_in(folder: Path) -> str | None:
    """Return what kind of object a folder says that it holds, None where that can't be told."""
    try:
        kind = _parsed(folder).get("kind")
    except (OSError, ValueError):
        return None
    return kind if isinstance(kind, str) else None


def checksum_of(folder: Path) -> bytes | None:
    """Return what tells the content of a folder from any other, None where there is none."""
    try:
        return _start(folder / CHECKSUM)
    except OSError:
        return None


@cache
def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that objects are made of."""
    own = import_module("skmars").__version__
    found = {"python": platform.python_version(), "skmars": own}
    for name in (*_THAT_MATTER[1:], *_RECORDED):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def other_versions(written: dict[str, Any]) -> list[str]:
    """Return what is installed in another version than what wrote a folder, as text."""
    here = installed_versions()
    return [
        f"{name} {written[name]} (here: {here.get(name, 'none')})"
        for name in _THAT_MATTER
        if name in written and written[name] != here.get(name)
    ]


def _parsed(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{path} has {size} bytes, more than any manifest. Copy the folder anew.")
    text = path.read_bytes()
    if _start(folder / CHECKSUM) != _checksum_line(text):
        raise ValueError(_damaged(path, CHECKSUM))
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no manifest: {error}") from error
    if not isinstance(told, dict):
        raise ValueError(f"{path} is no manifest: it holds a {type(told).__name__}.")
    return told


def _start(path: Path) -> bytes:
    """Return what a short file holds; of a longer one, more than it should."""
    with path.open("rb") as file:
        return file.read(1000)


def _checksum_line(text: bytes) -> bytes:
    # As `sha256sum --check` reads it.
    return f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n".encode()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(path: Path, checksum: str = MANIFEST) -> str:
    return (
        f"{path} is damaged or incomplete: it does not match the checksum in {checksum}. Copy the "
        "folder again from where it was written, or save the object again."
    )
