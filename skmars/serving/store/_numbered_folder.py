"""Folders 1, 2, 3, ... that never change, of which a pointer of a store names the current one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from skmars.serving.store._current import (
    AS_SAVED,
    FITS,
    MODEL,
    PARAMS,
    POOL,
    POOLS,
    below,
    version_folder,
)
from skmars.serving.store._store import Store
from skmars.utils._files import sync_folder

# Lets a pointer of a store point to something, as `Store.publish` and `HeldLease.publish` do.
Publish = Callable[[str, str], Any]
# Writes something to a folder that does not exist yet, durably; or reads it, and may raise.
Use = Callable[[Path], Any]

_NUMBER = "[1-9][0-9]*"
_ENTRY = re.compile(rf"\.?({_NUMBER})(\.\w+)?")


class NumberedFolder:
    """A folder of versions, such as ``pools``, with ``pools/1``, ``pools/2`` and so on in it.

    A version is written aside, gets its name when it is complete, and never changes. No number is
    given twice, or whoever has loaded the one would take it for the other: the store keeps the last
    one, also of a version that was never published. One process at a time may write, see
    `HeldLease`.

    Parameters
    ----------
    model : Path
        Folder of the saved model that the versions belong to.
    name : str
        Name of the folder in it, such as "pools".
    store : Store
    pointer : str
        Pointer of the store that names the current version, such as "pool".
    """

    def __init__(self, model: Path, name: str, store: Store, pointer: str) -> None:
        self.path, self._name, self._store, self._pointer = model / name, name, store, pointer
        self._last = f"{pointer}/last"
        self._current = re.compile(f"{re.escape(name)}/({_NUMBER})")

    @classmethod
    def of_pools(cls, deployment: Path, store: Store, model: str = AS_SAVED) -> NumberedFolder:
        """Return the folder of the pools of a model of a deployment, such as "fits/1"."""
        return cls(version_folder(deployment, model), POOLS, store, below(model, POOL))

    @classmethod
    def of_params(cls, deployment: Path, store: Store, model: str = AS_SAVED) -> NumberedFolder:
        """Return the folder of the parameters of a model of a deployment, such as "fits/1"."""
        return cls(version_folder(deployment, model), PARAMS, store, below(model, PARAMS))

    @classmethod
    def of_fits(cls, deployment: Path, store: Store) -> NumberedFolder:
        """Return the folder of the models of a deployment that were fitted anew."""
        return cls(deployment, FITS, store, MODEL)

    def name(self, number: int) -> str:
        """Return what the pointer says of a version, such as "pools/3"."""
        return f"{self._name}/{number}"

    def current(self) -> int | None:
        """Return the number of the current version, None if it is none of this folder."""
        found = self._current.fullmatch(self._store.pointer(self._pointer) or "")
        return None if found is None else int(found[1])

    def save(self, write: Use, publish: Publish, *, check: Use | None = None, **beside: Use) -> int:
        """Write a version under the next number. It is not current yet.

        Parameters
        ----------
        write : callable
            Writes it to a path, at which there is nothing, and syncs it.
        publish : callable
            Keeps the number in the store.
        check : callable, default=None
            Called with the path when it is complete. If it raises, the version is removed.
        **beside : callable
            Write what stands beside it: ``activity=`` writes ``3.activity`` for 3.

        Returns
        -------
        int
            The number. Whatever is raised, nothing of it stays.
        """
        number = 1 + max([self.current() or 0, self._given(), *self._entries()])
        publish(self._last, str(number))
        aside, path = self.path / f".{number}", self.path / str(number)
        try:
            aside.mkdir(parents=True)
            write(aside / "main")
            for name, write_it in beside.items():
                write_it(aside / name)
            for name in beside:
                (aside / name).rename(self.path / f"{number}.{name}")
            (aside / "main").rename(path)
            sync_folder(self.path)
            sync_folder(self.path.parent)
            if check is not None:
                check(path)
        except BaseException:
            self.remove(number)
            raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return number

    def publish(self, number: int, publish: Publish) -> str:
        """Let a version be the current one, and return its name."""
        publish(self._pointer, self.name(number))
        return self.name(number)

    def remove(self, number: int) -> None:
        """Remove a version and what stands beside it."""
        for entry in self._entries().get(number, ()):
            shutil.rmtree(entry, ignore_errors=True)

    def remove_old(self, keep: int) -> None:
        """Remove all but the current version and the `keep` - 1 before it.

        Beyond the current one lies what was never published, since its writer was killed, or is
        not wanted any longer. Where the pointer names none of this folder, but was given, the last
        `keep` stay: somebody went back to what was before all of them. What another store has
        numbered stays, too.
        """
        entries, current, given = self._entries(), self.current(), self._given()
        end = current or (given if self._store.pointer(self._pointer) else 0)
        whole = [n for n in entries if (self.path / str(n)).is_dir() and n <= end]
        for number in entries.keys() - {current, *sorted(whole)[-keep:]}:
            if number <= given:
                self.remove(number)

    def _given(self) -> int:
        """Return the last number that was given."""
        return int(self._store.pointer(self._last) or 0)

    def _entries(self) -> dict[int, list[Path]]:
        found: dict[int, list[Path]] = {}
        with suppress(FileNotFoundError):
            for entry in self.path.iterdir():
                if match := _ENTRY.fullmatch(entry.name):
                    found.setdefault(int(match[1]), []).append(entry)
        return found
