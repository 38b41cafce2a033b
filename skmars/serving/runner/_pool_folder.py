"""The pools of a deployment: numbered folders that never change, of which one is current."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

from skmars.retrieval import DonorPool
from skmars.serving.runner._activity import Activity
from skmars.serving.store._store import Store
from skmars.utils._files import sync_folder
from skmars.utils._folder import read_folder, write_folder

POINTER = "pool"
KIND = "activity of users"
_CURRENT = re.compile(r"pools/(\d+)")
_ENTRY = re.compile(r"\.?(\d+)(\.activity)?")


class PoolFolder:
    """The folder ``pools`` of a deployment.

    ``pools/3`` is a pool, and ``pools/3.activity`` what the next one goes on from. Both are written
    aside, and get these names when they are complete.
    """

    def __init__(self, deployment: Path) -> None:
        self.deployment, self.path = deployment, deployment / "pools"

    def current(self, store: Store) -> int | None:
        """Return the number of the pool that a store names, None if it is none of this folder."""
        found = _CURRENT.fullmatch(store.pointer(POINTER) or "")
        return None if found is None else int(found[1])

    def activity(self, number: int, model: str) -> Activity | None:
        """Return what belongs to a pool, if it is there, undamaged, and that of this model."""
        try:
            kept = read_folder(self.path / f"{number}.activity", KIND)
            if kept.pop("model") == model and (self.path / str(number)).is_dir():
                return Activity(**kept)
        except (OSError, ValueError, TypeError, KeyError):
            pass  # it can be made anew
        return None

    def next_number(self, current: int | None, last: int) -> int:
        """Return a number that no pool ever had; `last` is the last one that was given."""
        return 1 + max([current or 0, last, *self._entries()])

    def save(self, number: int, pool: DonorPool, activity: Activity, model: str) -> None:
        """Write a pool durably. `model` tells the model that it is for: a digest."""
        aside = self.path / f".{number}"
        try:
            aside.mkdir(parents=True)
            write_folder(aside / "activity", KIND, {"model": model, **vars(activity)})
            pool.save(aside / "pool")
            (aside / "activity").rename(self.path / f"{number}.activity")
            (aside / "pool").rename(self.path / str(number))
            sync_folder(self.path)
        except BaseException:
            self.remove(number)
            raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def remove(self, number: int) -> None:
        """Remove a pool and what belongs to it."""
        for entry in self._entries().get(number, ()):
            shutil.rmtree(entry, ignore_errors=True)

    def remove_old(self, current: int | None, last: int, keep: int) -> None:
        """Remove all but the current pool and the `keep` - 1 before it.

        `last` is the last number that was given. Beyond the current one lies what was never
        published, since its runner was killed, or is not wanted any longer.
        """
        entries = self._entries()
        whole = [n for n in entries if (self.path / str(n)).is_dir() and n <= (current or 0)]
        for number in entries.keys() - {current, *sorted(whole)[-keep:]}:
            if number <= last:
                self.remove(number)

    def _entries(self) -> dict[int, list[Path]]:
        found: dict[int, list[Path]] = {}
        with suppress(FileNotFoundError):
            for entry in self.path.iterdir():
                if match := _ENTRY.fullmatch(entry.name):
                    found.setdefault(int(match[1]), []).append(entry)
        return found
