"""Going back to an earlier version: what changes, what does not, and who goes on from there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
pytest.importorskip("lmdb")
pytest.importorskip("safetensors")
from skmars.cli import main
from skmars.serving import (
    Current,
    LeaseHeld,
    Runner,
    StoreError,
    Trainer,
    open_store,
    rollback,
)
from skmars.serving.scoring._parameters import Parameters
from skmars.serving.trainer._checkpoint import CHECKPOINT
from tests.serving.trainer.shop import (
    NOW,
    OPTIONS,
    assert_same,
    checkpoint,
    events_of,
    fresh,
    log_of,
    opened,
    run,
)

pytestmark = pytest.mark.parametrize("store_kind", ["lmdb"])


@pytest.fixture
def store(store: Any) -> Any:
    """A store with the log of the fit, whose events arrive in one period each ten."""
    return opened(store, [100.0 * (i // 10) + i % 10 for i in range(10_000)])


@pytest.fixture
def folder(store: Any) -> Path:
    """A deployment with several versions of pool and parameters."""
    made = fresh()
    runner = Runner(made, store)
    list(runner.passes())
    store.append(events_of(log_of(40, 1, NOW)))
    run(made, store, keep=9)
    list(runner.passes())
    assert Current.of(store).pool == "pools/2"
    assert Current.of(store).params not in (".", "params/1")
    return made


def state(folder: Path, store: Any) -> Any:
    """Return all that a rollback could change."""
    files = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    return Current.of(store), files


def with_model(folder: Path, store: Any) -> str:
    """Make a version of the model, as a refit does, and let it be current."""
    name = "fits/1"
    kept = shutil.ignore_patterns("params", "pools", "fits")
    shutil.copytree(folder, folder / name, ignore=kept)
    store.publish(f"{name}/position", str(store.position))
    store.publish("model", name)
    return name


def test_the_trainer_goes_on_from_there(folder: Path, store: Any) -> None:
    """It ends where one does that had only learnt so much, to the bit."""
    before, wanted = Current.of(store), Parameters.load(folder / "params/1")
    expected = checkpoint(folder)
    assert wanted.position < expected.position
    assert rollback(folder, store, "params/1") == Current(".", "params/1", before.pool)
    assert Current.of(store) == Current(".", "params/1", before.pool)
    first = next(Trainer(folder, store, **OPTIONS).steps())
    assert wanted.position < first.position < expected.position
    assert Current.of(store).params == "params/1"
    run(folder, store)
    assert_same(checkpoint(folder), expected)


def test_to_the_parameters_and_the_pool_of_the_fit(folder: Path, store: Any) -> None:
    assert rollback(folder, store, "params/0") == Current(".", ".", "pools/2")
    assert not (folder / "params" / CHECKPOINT).exists()
    assert rollback(folder, store, "pools/0") == Current() == Current.of(store)
    assert rollback(folder, store, "pools/1") == Current(pool="pools/1") == Current.of(store)
    (done,) = Runner(folder, store).passes()
    assert done.pool == "pools/3"  # no number twice


def test_to_a_model_and_back(folder: Path, store: Any) -> None:
    had, new = Current.of(store), with_model(folder, store)
    store.append(events_of(log_of(20, 2, NOW + 2e5), 100))
    run(folder, store)
    learnt = Current.of(store)
    assert learnt.params == f"{new}/params/2"
    before = state(folder, store)
    for version in ("params/1", "pools/1"):
        with pytest.raises(ValueError, match=r"model \., and fits/1 .*skmars rollback \."):
            rollback(folder, store, version)
    with pytest.raises(ValueError, match="current already.* name fits/1/params/0"):
        rollback(folder, store, new)
    assert state(folder, store) == before
    assert rollback(folder, store, ".") == had == Current.of(store)
    assert rollback(folder, store, new) == learnt == Current.of(store)
    assert rollback(folder, store, f"{new}/params/0") == Current(new, new)
    assert store.pointer(f"{new}/params") == "."
    assert rollback(folder, store, new) == Current(new, new)  # as it is
    assert rollback(folder, store, f"{new}/params/2") == learnt == Current.of(store)
    assert (folder / "params" / CHECKPOINT).exists()  # that of the other model


@pytest.mark.parametrize(
    "version",
    [
        *("fit", "", "params", "params/", "params/01", "params/-1", "/params/1", "fits/0"),
        *("fits/1/", "../params/1", "params/1\n", "fits/1/fits/1", "params/checkpoint"),
    ],
)
def test_what_is_no_version(version: str, store_kind: str) -> None:
    with pytest.raises(ValueError, match=r"none that one can go back to.*params/0.*pools/0"):
        rollback("nowhere", None, version)  # type: ignore[arg-type]


def test_what_is_not_there_or_broken_changes_nothing(folder: Path, store: Any) -> None:
    for name in ("params/1", "pools/1"):
        for file in (folder / name).glob("*.safetensors"):
            data = bytearray(file.read_bytes())
            data[-1] ^= 1
            file.write_bytes(data)
    shutil.copytree(folder / "pools/2", folder / "params/8")
    before = state(folder, store)
    for version in ("params/1", "pools/1", "params/8", "params/99", "pools/99", "fits/3"):
        with pytest.raises((OSError, ValueError), match=version):
            rollback(folder, store, version)
    assert state(folder, store) == before


def test_where_the_current_pool_and_parameters_are_both_broken(folder: Path, store: Any) -> None:
    """One has to begin with one of them."""
    now = Current.of(store)
    for name in (now.params, now.pool):
        shutil.rmtree(folder / name)
    rollback(folder, store, "params/1")
    assert rollback(folder, store, "pools/1") == Current(".", "params/1", "pools/1")


@pytest.mark.parametrize(
    ("version", "lease"), [("params/1", "trainer"), ("pools/1", "runner"), (".", "refit")]
)
def test_who_would_undo_it_has_to_end_first(
    version: str, lease: str, folder: Path, store: Any
) -> None:
    held = store.acquire(lease, "somebody", 60)
    before = state(folder, store)
    with pytest.raises(LeaseHeld, match=f"stop the {lease} first.*somebody"):
        rollback(folder, store, version)
    assert state(folder, store) == before
    store.release(held)
    if version != ".":
        rollback(folder, store, version)
        rollback(folder, store, version)  # the lease was given back


def test_a_store_that_fails_leaves_nothing_that_undoes_it(
    folder: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows whether it was published: a trainer goes on from what is current, either way."""

    def fails(*given: Any) -> None:
        raise StoreError("no answer")

    before, expected = Current.of(store), checkpoint(folder)
    monkeypatch.setattr(store._store, "publish", fails)
    with pytest.raises(StoreError):
        rollback(folder, store, "params/1")
    monkeypatch.undo()
    assert Current.of(store) == before
    run(folder, store)
    assert_same(checkpoint(folder), expected)


def test_the_command(store_kind: str, tmp_path: Path, capsys: Any) -> None:
    url, model = f"lmdb:{tmp_path / 'store'}", fresh()
    store = open_store(url)
    opened(store, [])
    list(Runner(model, store).passes())
    command = ["--model", str(model), "--store", url]
    store.close()
    assert main(["rollback", "pools/0", *command]) == 0
    assert capsys.readouterr().err == "skmars rollback: current now: params ., pool fit\n"
    assert main(["rollback", *command, "--quiet", "pools/1"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["rollback", "params/7", *command]) == 1
    assert "params/7 does not exist" in capsys.readouterr().err
    store = open_store(url)
    assert Current.of(store).pool == "pools/1"
    store.acquire("trainer", "somebody", 60)
    store.close()
    assert main(["rollback", "params/0", *command]) == 75
    assert "skmars rollback: stop the trainer first" in capsys.readouterr().err
