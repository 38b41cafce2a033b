"""Versions that are damaged, missing or of another model: the last good one is served on."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skmars
from skmars.persistence import Model
from skmars.retrieval import DonorPool
from skmars.serving import Runner, open_store
from skmars.serving.scoring._parameters import Parameters
from skmars.serving.service import _versions
from skmars.utils._folder import checksum_of
from tests.serving.faults.deployed import USER, deployment, event, serving
from tests.serving.served import model, wait_until
from tests.serving.shops import Setting, fitted

KINDS = {"pool": "pools", "params": "params", "model": "fits"}


def write_version(folder: Path, kind: str, number: int) -> Path:
    """Write a version that works."""
    path = folder / KINDS[kind] / str(number)
    path.parent.mkdir(exist_ok=True)
    steps = model().pipeline.named_steps
    if kind == "pool":
        steps["augment"].pool_.save(path)
    elif kind == "params":
        digest = (checksum_of(folder) or b"").hex()
        Parameters(steps["ctr"], digest, 0, np.zeros(0, np.uint64), "fit").save(path)
    else:
        skmars.save(model(), path)
    return path


def largest(path: Path) -> Path:
    return max((file for file in path.iterdir() if file.is_file()), key=lambda f: f.stat().st_size)


def flip(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def put_another(path: Path) -> None:
    """Put a version in the place of one that belongs to another model."""
    kind = {name: kind for kind, name in KINDS.items()}[path.parent.name]
    other: Model = fitted(Setting())
    shutil.rmtree(path)
    if kind == "pool":
        other.pipeline.named_steps["augment"].pool_.save(path)
    elif kind == "params":
        ctr = other.pipeline.named_steps["ctr"]
        Parameters(ctr, "another", 0, np.zeros(0, np.uint64), "fit").save(path)
    else:
        skmars.save(model("din"), path)  # its users and items are strings


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "flipped bit": lambda path: flip(largest(path)),
    "flipped bit of the manifest": lambda path: flip(path / "manifest.json"),
    "cut file": lambda path: largest(path).write_bytes(largest(path).read_bytes()[:-9]),
    "missing file": lambda path: largest(path).unlink(),
    "missing folder": shutil.rmtree,
    "of another model": put_another,
}
POINTERS = ["{}/99", "{}/../../elsewhere", "..", "/etc", "nonsense", "{}/1\n"]


def versions_of(served: Any) -> dict[str, str]:
    answer = served.score(USER)
    assert answer.status_code == 200, answer.text
    found: dict[str, str] = answer.json()["versions"]
    return found


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_last_good_version_stays(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_versions, "LONGEST_PAUSE", 0.5)
    folder, store = deployment(tmp_path), open_store(f"lmdb:{tmp_path / 'store'}")
    write_version(folder, kind, 1)
    store.publish(kind, f"{KINDS[kind]}/1")
    with serving(store, folder) as served, caplog.at_level(logging.ERROR):
        served.post("/events", events=[event(n) for n in range(20)])
        good = versions_of(served)
        assert f"{KINDS[kind]}/1" in good.values()
        wanted = [pointer.format(KINDS[kind]) for pointer in POINTERS]
        for number, damage in enumerate(DAMAGES.values(), 2):
            damage(write_version(folder, kind, number))
            wanted.append(f"{KINDS[kind]}/{number}")
        for pointer in wanted:
            failed, told = served.metric("skmars_failed_loads_total"), len(caplog.records)
            store.publish(kind, pointer)
            wait_until(lambda: served.metric("skmars_failed_loads_total") > failed)  # noqa: B023
            assert versions_of(served) == good, pointer
            texts = [record.getMessage() for record in caplog.records[told:]]
            assert any("can't be loaded, and the last one stays" in text for text in texts), texts
        write_version(folder, kind, 50)
        store.publish(kind, f"{KINDS[kind]}/50")
        wait_until(lambda: f"{KINDS[kind]}/50" in versions_of(served).values())


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_service_that_begins_falls_back(kind: str, tmp_path: Path) -> None:
    """To all that is not damaged; and takes what is published next."""
    folder, store = deployment(tmp_path), open_store(f"lmdb:{tmp_path / 'store'}")
    other = {"pool": "params", "params": "pool", "model": "pool"}[kind]
    write_version(folder, other, 1)
    store.publish(other, f"{KINDS[other]}/1")
    flip(largest(write_version(folder, kind, 1)))
    store.publish(kind, f"{KINDS[kind]}/1")
    with serving(store, folder) as served:
        expected = {"params": ".", "pool": "fit"}
        if kind != "model":
            expected[other] = f"{KINDS[other]}/1"
        assert versions_of(served) == expected
        assert served.metric("skmars_failed_loads_total") >= 1
        assert served.post("/events", events=[event(1)]).status_code == 200
        write_version(folder, kind, 2)
        store.publish(kind, f"{KINDS[kind]}/2")
        wait_until(lambda: f"{KINDS[kind]}/2" in versions_of(served).values())


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_runner_goes_on(damage: str, tmp_path: Path) -> None:
    folder, store = deployment(tmp_path), open_store(f"lmdb:{tmp_path / 'store'}")
    with serving(store, folder) as served:
        served.post("/events", events=[event(n) for n in range(60)])
        list(Runner(folder, store).passes())
        DAMAGES[damage](folder / "pools/1")
        served.post("/events", events=[event(n) for n in range(60, 70)])
        list(Runner(folder, store).passes())
        assert store.pointer("pool") == "pools/2"
        DonorPool.load(folder / "pools/2")
        wait_until(lambda: versions_of(served)["pool"] == "pools/2")
