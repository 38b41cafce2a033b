"""Numbered versions: whole or not there, no number twice, and the current one stays."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skmars.serving.store._numbered_folder import NumberedFolder
from tests.serving.fake_store import FakeStore


def write(text: str):
    def to(path: Path) -> None:
        path.mkdir()
        (path / "text").write_text(text)

    return to


def entries(folder: NumberedFolder) -> set[str]:
    return {path.name for path in folder.path.iterdir()} if folder.path.exists() else set()


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.mark.parametrize("model", [".", "fits/1"])
def test_a_version_is_written_whole_and_then_published(tmp_path, store, model) -> None:
    pools = NumberedFolder.of_pools(tmp_path, store, model)
    number = pools.save(write("a pool"), store.publish, activity=write("its activity"))
    assert number == 1
    assert pools.current() is None
    assert pools.publish(number, store.publish) == "pools/1"
    assert pools.current() == 1
    assert store.pointer("pool" if model == "." else "fits/1/pool") == "pools/1"
    assert (tmp_path / model / "pools/1/text").read_text() == "a pool"
    assert (tmp_path / model / "pools/1.activity/text").read_text() == "its activity"
    assert entries(pools) == {"1", "1.activity"}


def test_each_kind_has_a_folder_and_a_pointer_of_its_own(tmp_path, store) -> None:
    kinds = [
        NumberedFolder.of_pools(tmp_path, store),
        NumberedFolder.of_params(tmp_path, store),
        NumberedFolder.of_fits(tmp_path, store),
        NumberedFolder.of_pools(tmp_path, store, "fits/1"),
        NumberedFolder.of_params(tmp_path, store, "fits/1"),
    ]
    for n, kind in enumerate(kinds, start=1):
        for _ in range(n):
            kind.publish(kind.save(write("x"), store.publish), store.publish)
    assert [kind.current() for kind in kinds] == [1, 2, 3, 4, 5]
    assert store.pointer("model") == "fits/3"


@pytest.mark.parametrize("fails", ["write", "beside", "check", "number"])
def test_what_fails_leaves_nothing_and_loses_its_number(tmp_path, store, fails) -> None:
    def fail(*_: object) -> None:
        raise OSError("no room")

    pools = NumberedFolder.of_pools(tmp_path, store)
    pools.publish(pools.save(write("good"), store.publish), store.publish)
    with pytest.raises(OSError, match="no room"):
        pools.save(
            fail if fails == "write" else write("bad"),
            fail if fails == "number" else store.publish,
            check=fail if fails == "check" else None,
            activity=fail if fails == "beside" else write("bad"),
        )
    assert entries(pools) == {"1"}
    assert pools.current() == 1
    assert pools.save(write("good"), store.publish) == (2 if fails == "number" else 3)


@pytest.mark.parametrize(
    "pointer",
    ["", "fit", ".", "pools/", "pools/0", "pools/01", "pools/-1", "pools/٣", "pools/1/", "x/1"],
)
def test_what_is_no_version_of_the_folder_is_none(tmp_path, store, pointer) -> None:
    store.publish("pool", pointer)
    assert NumberedFolder.of_pools(tmp_path, store).current() is None


def test_another_store_removes_nothing(tmp_path, store) -> None:
    pools = NumberedFolder.of_pools(tmp_path, store)
    for _ in range(3):
        pools.publish(pools.save(write("x"), store.publish), store.publish)
    other = NumberedFolder.of_pools(tmp_path, FakeStore())
    other.remove_old(1)
    assert entries(pools) == {"1", "2", "3"}
    assert other.save(write("x"), store.publish) == 4


steps = st.lists(
    st.one_of(
        st.sampled_from(["publish", "fail", "killed aside", "killed whole"]),
        st.tuples(st.just("back"), st.integers(0, 12)),
        st.tuples(st.just("remove"), st.integers(1, 4)),
    ),
    max_size=25,
)


@given(steps)
def test_no_number_is_given_twice_and_the_current_version_stays(tmp_path_factory, steps) -> None:
    root, store = tmp_path_factory.mktemp("model"), FakeStore()
    pools, given_, published = NumberedFolder.of_pools(root, store), [], []
    for step in steps:
        if step == "publish":
            given_.append(pools.save(write("x"), store.publish, activity=write("x")))
            pools.publish(given_[-1], store.publish)
            published.append(given_[-1])
        elif step == "fail":
            pools.save(write("x"), store.publish, check=lambda path: given_.append(int(path.name)))
            pools.remove(given_[-1])
        elif step == "killed whole":
            given_.append(pools.save(write("x"), store.publish))
        elif step == "killed aside":
            given_.append(pools.save(write("x"), store.publish))
            (pools.path / str(given_[-1])).rename(pools.path / f".{given_[-1]}")
        elif step[0] == "back" and step[1] in published and (pools.path / str(step[1])).is_dir():
            pools.publish(step[1], store.publish)
        elif step[0] == "remove":
            pools.remove_old(step[1])
            whole = [int(e) for e in entries(pools) if e.isdigit()]
            assert len(whole) <= step[1]
            assert max(whole, default=None) == pools.current()
            assert not any(e.startswith(".") for e in entries(pools))
        assert pools.current() is None or (pools.path / str(pools.current()) / "text").exists()
    assert given_ == sorted(set(given_))
    shutil.rmtree(root)


def test_going_back_to_before_all_versions_keeps_the_last_ones(tmp_path, store) -> None:
    params = NumberedFolder.of_params(tmp_path, store)
    for _ in range(5):
        params.publish(params.save(write("x"), store.publish), store.publish)
    store.publish("params", ".")
    (params.path / "checkpoint").mkdir()
    params.remove_old(2)
    assert entries(params) == {"4", "5", "checkpoint"}
