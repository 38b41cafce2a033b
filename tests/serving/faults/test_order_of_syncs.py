"""What is published is on the disk before: files, then folders, then names, in this order.

The power can't be cut here. So it is watched what is synced: everything that a pointer of the store
names must be durable by the time at which it does, and what is renamed before it is.
"""

from __future__ import annotations

import os
import stat
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skmars
from skmars.serving import Runner, open_store, refit
from skmars.serving.scoring._parameters import Parameters
from skmars.serving.store._current import MODEL, PARAMS, POOL
from skmars.utils import _files
from skmars.utils._folder import _atomic
from tests.serving.faults.deployed import deployment, event, serving
from tests.serving.refits import shop as refits
from tests.serving.served import model
from tests.serving.trainer.shop import NOW as SHOP_NOW
from tests.serving.trainer.shop import events_of, fresh, log_of, opened, run

pytestmark = pytest.mark.filterwarnings("ignore:.* will borrow nothing")


class Disk:
    """Knows what of a folder would still be there if the power were cut.

    A file is durable as it was when it was last synced; a folder keeps the names that it had when
    it was last synced. Both are known by their numbers, which renaming doesn't change.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.renamed = root, 0
        self._files: dict[int, tuple[int, int]] = {}
        self._folders: dict[int, dict[str, int]] = {}
        for path in [root, *root.rglob("*")]:  # what was there before
            self._sync(path)
        fsync, exchange = os.fsync, _atomic._exchange
        renames = {name: getattr(os, name) for name in ("rename", "replace")}

        def synced(descriptor: int) -> None:
            fsync(descriptor)
            self._sync(Path(os.readlink(f"/proc/self/fd/{descriptor}")))

        def exchanged(a: Path, b: Path) -> bool:
            self._check_content(a)
            self.renamed += 1
            return exchange(a, b)

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(_atomic, "_exchange", exchanged)
        for name, rename in renames.items():

            def renaming(a: Any, b: Any, *, rename: Any = rename, **options: Any) -> None:
                if Path(a).is_relative_to(self.root):
                    self._check_content(Path(a))
                    self.renamed += 1
                rename(a, b, **options)

            monkeypatch.setattr(os, name, renaming)

    def _sync(self, path: Path) -> None:
        there = path.stat()
        if stat.S_ISDIR(there.st_mode):
            self._folders[there.st_ino] = {p.name: p.stat().st_ino for p in path.iterdir()}
        else:
            self._files[there.st_ino] = there.st_mtime_ns, there.st_size

    def _check_content(self, path: Path) -> None:
        """Fail unless all that is in a file or folder is durable."""
        there = path.stat()
        if stat.S_ISDIR(there.st_mode):
            names = {p.name: p.stat().st_ino for p in path.iterdir()}
            kept = self._folders.get(there.st_ino, {})
            assert names.items() <= kept.items(), f"{path} was not synced: {names} {kept}"
            for inside in path.iterdir():
                self._check_content(inside)
        else:
            kept_as = self._files.get(there.st_ino)
            assert kept_as == (there.st_mtime_ns, there.st_size), f"{path} was not synced"

    def check(self, path: Path) -> None:
        """Fail unless what is at a path is durable, and would be found there."""
        self._check_content(path)
        while path != self.root:
            names = self._folders.get(path.parent.stat().st_ino, {})
            assert names.get(path.name) == path.stat().st_ino, f"{path} would not be found"
            path = path.parent


class Watched:
    """A store that looks whether what a pointer names is durable."""

    def __init__(self, store: Any, disk: Disk, deployment: Path) -> None:
        self.store, self.disk, self.deployment = store, disk, deployment
        self.published: list[str] = []

    def publish(self, name: str, value: str, *lease: Any) -> None:
        if name.rpartition("/")[2] in (MODEL, PARAMS, POOL):
            at = name.rpartition("/")[0]  # "fits/1" of "fits/1/pool"
            self.disk.check(self.deployment / at / value)
            self.published.append(value)
        self.store.publish(name, value, *lease)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


def test_a_file_that_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("before")
    disk = Disk(tmp_path, monkeypatch)
    for name in ("file", "new"):
        _files.write_whole(tmp_path / name, lambda file: file.write(b"after"))
        disk.check(tmp_path / name)
    assert disk.renamed == 2


@pytest.mark.parametrize("kind", ["model", "pool", "params"])
def test_a_folder_that_is_replaced(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = model().pipeline.named_steps
    learnt = Parameters(steps["ctr"], "digest", 7, np.zeros(3, np.uint64), "fit")
    save = {
        "model": lambda path: skmars.save(model(), path),
        "pool": steps["augment"].pool_.save,
        "params": learnt.save,  # also the checkpoint of the trainer
    }[kind]
    disk = Disk(tmp_path, monkeypatch)
    for n in (1, 2):
        save(tmp_path / "version")
        disk.check(tmp_path / "version")
        assert disk.renamed == n


def test_the_pools_of_a_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = deployment(tmp_path)
    disk, store = Disk(folder, monkeypatch), open_store(f"lmdb:{tmp_path / 'store'}")
    watched = Watched(store, disk, folder)
    with serving(store, folder) as served:
        for n in range(0, 60, 20):
            served.post("/events", events=[event(i) for i in range(n, n + 20)])
            list(Runner(folder, watched).passes())
    assert watched.published == ["pools/1", "pools/2", "pools/3"]


def test_the_parameters_of_a_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fresh()
    disk, store = Disk(folder, monkeypatch), open_store(f"lmdb:{tmp_path / 'store'}")
    arrivals = [*np.linspace(0, 90, 20), *np.linspace(110, 190, 20)]
    watched = Watched(opened(store, arrivals), disk, folder)
    watched.append(events_of(log_of(40, 1, SHOP_NOW)))
    run(folder, watched, checkpoint_every=0)
    assert watched.published == ["params/1", "params/2"]
    disk.check(folder / "params" / "checkpoint")
    store.close()


def test_a_refit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"lmdb:{tmp_path / 'store'}")
    refits.fill(store, refits.log(300))
    refits.fill(store, refits.log(80, seed=1, begin=100), streamed=True)
    folder = refits.deployment(tmp_path)
    disk = Disk(folder, monkeypatch)
    watched = Watched(store, disk, folder)
    with warnings.catch_warnings(action="ignore"):
        refit(folder, watched)
    assert watched.published[-1] == "fits/1"
    assert any(value.startswith("pools/") for value in watched.published)
    store.close()


def test_what_is_not_synced_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch itself."""
    disk = Disk(tmp_path, monkeypatch)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("content")
    for sync in (tmp_path / "folder" / "file", tmp_path / "folder", tmp_path):
        with pytest.raises(AssertionError):
            disk.check(tmp_path / "folder")
        descriptor = os.open(sync, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    disk.check(tmp_path / "folder")
    (tmp_path / "folder" / "file").write_text("other content")
    with pytest.raises(AssertionError):
        (tmp_path / "folder").rename(tmp_path / "other")
