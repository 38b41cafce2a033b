"""What a runner does on a cluster is to the bit what it does alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from skmars.distributed import RayMap
from skmars.serving import Runner, StoreError, open_store
from skmars.serving.runner import _activity
from tests.distributed.shop import N_KNOWN, append
from tests.serving.servers import start_redis


@pytest.mark.parametrize("engine", ["lmdb", "redis"])
def test_pools_are_those_of_one_process(
    engine: str,
    cluster: Any,
    folder: Path,
    log: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of all users, and later of those who did something."""
    with ExitStack() as stack:
        if engine == "lmdb":
            pytest.importorskip("lmdb")
            urls = [f"lmdb:{tmp_path}/{name}.store" for name in ("alone", "spread")]
        else:
            server = stack.enter_context(start_redis(tmp_path)).url
            urls = [server, server.removesuffix("0") + "1"]
        alone, spread = (stack.enter_context(closing(open_store(url))) for url in urls)
        for name in ("alone", "spread"):
            shutil.copytree(folder, tmp_path / name)
        monkeypatch.setattr(_activity, "BLOCK", 16)
        for events in (log[:N_KNOWN], log[N_KNOWN:]):
            append(alone, events)
            append(spread, events)
            (here,) = Runner(tmp_path / "alone", alone).passes()
            (there,) = Runner(tmp_path / "spread", spread, map=RayMap()).passes()
            assert here == there
            assert here.pool is not None
            found = contents(tmp_path / "spread", here.pool)
            assert found == contents(tmp_path / "alone", here.pool)


def contents(deployment: Path, pool: str) -> dict[str, bytes]:
    """Return all files of a pool, and of what the next one goes on from."""
    folders = [deployment / pool, deployment / f"{pool}.activity"]
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    assert len(files) > 4
    return {f"{i} {path.name}": path.read_bytes() for i, path in enumerate(files)}


def test_order_and_bound(cluster: Any) -> None:
    taken = []

    def blocks() -> Iterator[int]:
        for block in range(7):
            taken.append(block)
            yield block

    results = RayMap(in_flight=2)(lambda n: n * n, blocks())
    assert taken == []
    assert next(results) == 0
    assert len(taken) == 3
    assert list(results) == [n * n for n in range(1, 7)]
    assert list(RayMap()(lambda n: n, [])) == []


def test_exceptions_are_raised_as_they_are(cluster: Any) -> None:
    def refuse(block: int) -> None:
        raise StoreError(f"block {block} is gone")

    with pytest.raises(StoreError, match=r"^block 1 is gone$") as raised:
        list(RayMap()(refuse, [1, 2]))
    assert type(raised.value) is StoreError


def test_bad_parameter(cluster: Any) -> None:
    with pytest.raises(ValueError, match="in_flight must be at least 1, got 0"):
        RayMap(0)
