"""Loading versions of a deployment: each as it was written, whatever was loaded before."""

from __future__ import annotations

import os
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import skmars
from skmars.serving import Request, Scorer, Snapshot
from skmars.serving.store._current import Current
from tests.serving.shops import (
    N_USERS,
    MemoryStore,
    Setting,
    events,
    first_log,
    fitted,
    other_pool,
    save_params,
)

pytest.importorskip("safetensors")
SETTING = Setting("all")
HERE = {"hour": 1.0, "device": "phone"}
REQUESTS = [Request(user, [1, 2, 99], None, HERE) for user in (1, N_USERS - 1)]
# Seeds of the classifiers that are saved as each version.
PARAMS = {".": 0, "params/1": 1, "params/2": 2}
OF_FIT = {"fits/1": 3, "fits/1/params/1": 4, "fits/1/params/2": 5}
VERSIONS = [
    *product(PARAMS, ["fit", "pools/1"]),
    *product(OF_FIT, ["fit", "fits/1/pools/1"]),
]


def make(folder: Path) -> Path:
    """Write a deployment with all these versions."""
    for model, seeds in ((".", PARAMS), ("fits/1", OF_FIT)):
        path = folder / model
        path.parent.mkdir(exist_ok=True, parents=True)
        skmars.save(fitted(SETTING, seeds[model]), path)
        for name, seed in seeds.items():
            if name != model:
                below = name.removeprefix(f"{model}/")
                save_params(folder, below, fitted(SETTING, seed).pipeline[-1], model)
        (path / "pools").mkdir()
        other_pool(SETTING).save(path / "pools" / "1")
    return folder


@pytest.fixture(scope="module")
def deployment(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("deployment") / "model")


@pytest.fixture
def own(deployment, tmp_path) -> Path:
    """A deployment that a test may change."""
    return Path(shutil.copytree(deployment, tmp_path / "model"))


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    store = MemoryStore()
    store.append(events(first_log()))
    return store


def scores(snapshot: Snapshot, store: MemoryStore) -> np.ndarray:
    return np.concatenate([a.probability for a in Scorer(store).score(snapshot, REQUESTS)])


def expected(params: str, pool: str) -> Snapshot:
    """Return the same in memory."""
    model = fitted(SETTING, {**PARAMS, **OF_FIT}[params])
    return Snapshot.of(model, None if pool == "fit" else other_pool(SETTING))


def assert_is(found: Snapshot, params: str, pool: str, store: MemoryStore) -> None:
    assert found.versions == {"params": params, "pool": pool}
    np.testing.assert_array_equal(scores(found, store), scores(expected(params, pool), store))


@pytest.mark.parametrize(
    ("pointers", "params", "pool"),
    [
        ({}, ".", "fit"),
        ({"params": "params/2"}, "params/2", "fit"),
        ({"params": "params/1", "pool": "pools/1"}, "params/1", "pools/1"),
        ({"model": "fits/1", "params": "params/1", "pool": "pools/1"}, "fits/1", "fit"),
        (
            {"model": "fits/1", "fits/1/params": "params/2", "fits/1/pool": "pools/1"},
            "fits/1/params/2",
            "fits/1/pools/1",
        ),
    ],
)
def test_a_store_says_what_is_loaded(deployment, store, pointers, params, pool) -> None:
    store.pointers = pointers
    assert_is(Snapshot.load(deployment, store), params, pool, store)


@settings(max_examples=12)
@given(st.lists(st.sampled_from(VERSIONS), min_size=2, max_size=5))
def test_what_was_loaded_before_does_not_matter(deployment, store, way) -> None:
    found = None
    for params, pool in way:
        found = Snapshot.load_versions(deployment, params, pool, loaded=found)
        assert_is(found, params, pool, store)


def test_what_is_at_hand_is_not_read_again(deployment) -> None:
    first = Snapshot.load_versions(deployment, "params/1", "pools/1")
    other = Snapshot.load_versions(deployment, "params/2", "pools/1", loaded=first)
    assert other.model.histories is first.model.histories
    augmenters = [s.pipeline.named_steps["augment"] for s in (first, other)]
    assert augmenters[0].pool_ is augmenters[1].pool_
    assert Snapshot.load_versions(deployment, "params/1", "pools/1", loaded=first) is first


def test_each_version_says_when_it_was_written(own) -> None:
    for at, name in enumerate([".", "params/1", "pools/1", "fits/1"]):
        os.utime(own / name / "manifest.json", (1e9 + at, 1e9 + at))
    found = Snapshot.load_versions(own, "params/1", "pools/1")
    assert found.written == {"params": 1e9 + 1, "pool": 1e9 + 2}
    assert Snapshot.load_versions(own).written == {"params": 1e9, "pool": 1e9}
    fit = Snapshot.load_versions(own, "fits/1", "fit", loaded=found)
    assert fit.written == {"params": 1e9 + 3, "pool": 1e9 + 3}


def test_a_model_that_was_replaced_is_read_again(tmp_path, store) -> None:
    folder = tmp_path / "model"
    skmars.save(fitted(SETTING), folder)
    served = Snapshot.load_versions(folder)
    skmars.save(fitted(SETTING, 1), folder)
    (folder / "pools").mkdir()
    other_pool(SETTING).save(folder / "pools" / "1")
    going_on = Snapshot.load_versions(folder, None, "pools/1", loaded=served)
    begun_anew = Snapshot.load_versions(folder, None, "pools/1")
    np.testing.assert_array_equal(scores(going_on, store), scores(begun_anew, store))
    wanted = Snapshot.of(fitted(SETTING, 1), other_pool(SETTING))
    np.testing.assert_array_equal(scores(begun_anew, store), scores(wanted, store))


def test_a_model_that_is_replaced_while_it_is_read_is_refused(own, monkeypatch) -> None:
    from skmars.serving.scoring import _snapshot

    read = _snapshot.load_model

    def replaced(path):
        model = read(path)
        for name in ("params", "pools", "fits"):
            shutil.rmtree(own / name)
        skmars.save(fitted(SETTING, 7), own)
        return model

    monkeypatch.setattr(_snapshot, "load_model", replaced)
    with pytest.raises(ValueError, match="was replaced while it was read"):
        Snapshot.load_versions(own)


@pytest.mark.parametrize("loaded", [None, "params/1"])
def test_parameters_of_another_model_are_refused(own, loaded) -> None:
    has = None if loaded is None else Snapshot.load_versions(own, loaded)
    shutil.rmtree(own / "params" / "2")
    shutil.copytree(own / "fits" / "1" / "params" / "2", own / "params" / "2")
    with pytest.raises(ValueError, match="params/2 belongs to another model than the one"):
        Snapshot.load_versions(own, "params/2", loaded=has)


@pytest.mark.parametrize(
    ("params", "pool"), [(".", "fits/1/pools/1"), ("fits/1/params/1", "pools/1")]
)
def test_a_pool_of_another_model_is_refused(deployment, params, pool) -> None:
    with pytest.raises(ValueError, match="belongs to another model than the parameters"):
        Snapshot.load_versions(deployment, params, pool)


@pytest.mark.parametrize("version", ["../model", "/etc", "params/../../x", "fits/1/../../../x"])
def test_forged_names_are_refused(deployment, store, version) -> None:
    for params, pool in ((version, None), (None, version), (version, version)):
        with pytest.raises(ValueError, match="must be a folder below|belongs to another model"):
            Snapshot.load_versions(deployment, params, pool)
    for pointer in ("model", "params", "pool"):
        store.pointers = {pointer: version}
        with pytest.raises(ValueError, match="must be a folder below|belongs to another model"):
            Snapshot.load(deployment, store)


@pytest.mark.parametrize(
    ("params", "pool"),
    [("params/3", None), (None, "pools/2"), ("fits/2", None), ("fits/1/params/9", None)],
)
def test_versions_that_are_not_there_are_told(deployment, params, pool) -> None:
    with pytest.raises(OSError, match=params or pool):
        Snapshot.load_versions(deployment, params, pool)


@pytest.mark.parametrize(
    ("params", "pool"), [("pools/1", None), ("params/1", "params/1"), ("fits/1/pools/1", None)]
)
def test_a_folder_of_another_kind_is_refused(deployment, params, pool) -> None:
    with pytest.raises(ValueError, match="no saved|not"):
        Snapshot.load_versions(deployment, params, pool)


@pytest.mark.parametrize("version", ["params/1", "pools/1", "fits/1", "fits/1/params/1"])
@pytest.mark.parametrize("file", ["manifest.json", "arrays.safetensors", "manifest.sha256"])
def test_a_bit_that_has_changed_is_told(own, version, file) -> None:
    path = own / version / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    params = None if version.startswith("pools") else version
    with pytest.raises((ValueError, OSError), match=file.partition(".")[0]):
        Snapshot.load_versions(own, params, None if params else version)


def test_what_comes_before_a_broken_version() -> None:
    current = Current("fits/1", "fits/1/params/2", "fits/1/pools/3")
    assert current.without_later() == [Current("fits/1", "fits/1", "fit"), Current()]
    assert Current(".", ".", "pools/1").without_later() == [Current()]
    assert Current().without_later() == []
