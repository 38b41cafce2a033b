"""Names of versions: which are current, whose they are, and where they lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from skmars.serving.store._current import Current, below, model_of, version_folder
from tests.serving.fake_store import FakeStore


@pytest.mark.parametrize(
    ("pointers", "model", "params", "pool"),
    [
        ({}, ".", ".", "fit"),
        ({"pool": "pools/3"}, ".", ".", "pools/3"),
        ({"params": "params/2", "model": "."}, ".", "params/2", "fit"),
        ({"model": "fits/1", "pool": "pools/3", "params": "params/2"}, "fits/1", "fits/1", "fit"),
        ({"model": "fits/1", "fits/1/pool": "pools/4"}, "fits/1", "fits/1", "fits/1/pools/4"),
        (
            {"model": "fits/1", "fits/1/params": "params/5", "fits/2/pool": "pools/9"},
            *("fits/1", "fits/1/params/5", "fit"),
        ),
        ({"params": ".", "pool": "fit"}, ".", ".", "fit"),
        (
            {"model": "fits/1", "fits/1/params": ".", "fits/1/pool": "fit"},
            *("fits/1", "fits/1", "fit"),
        ),
    ],
)
def test_pointers_name_what_is_current(pointers, model, params, pool) -> None:
    store = FakeStore()
    store.pointers = pointers
    current = Current.of(store)
    assert (current.model, current.params, current.pool) == (model, params, pool)
    assert model_of(current.params) == model


@pytest.mark.parametrize("n_read", range(4))
def test_a_switch_of_the_model_mixes_nothing(n_read) -> None:
    """Whichever of the pointers have been read when all of them are switched."""
    before = {"model": "fits/1", "fits/1/pool": "pools/1", "fits/1/params": "params/1"}
    after = {"model": "fits/2", "fits/2/pool": "pools/8", "fits/2/params": "params/9"}
    store, asked = FakeStore(), []

    def pointer(name: str) -> str | None:
        store.pointers = before if len(asked) < n_read else {**before, **after}
        asked.append(name)
        return store.pointers.get(name)

    store.pointer = pointer  # type: ignore[method-assign]
    found = Current.of(store)
    assert model_of(found.params) == model_of(found.pool) == found.model
    assert found.model == ("fits/1" if n_read else "fits/2")


@pytest.mark.parametrize(
    ("version", "model"),
    [
        (".", "."),
        ("params/2", "."),
        ("pools/3", "."),
        ("fits/1", "fits/1"),
        ("fits/12/params/2", "fits/12"),
        ("fits/12/pools/2", "fits/12"),
    ],
)
def test_a_version_belongs_to_a_model(version, model) -> None:
    assert model_of(version) == model
    assert model_of(below(model, "pools/1")) == model


@pytest.mark.parametrize("version", ["../x", "/etc", "pools/../../x", "fits/1/../../x", "a\0b"])
def test_a_version_lies_below_the_deployment(version) -> None:
    with pytest.raises(ValueError, match="must be a folder below deployment"):
        version_folder("deployment", version)
    assert version_folder("deployment", "fits/1/pools/2") == Path("deployment/fits/1/pools/2")
