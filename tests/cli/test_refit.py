"""The command `skmars refit`: tables, what it says, and how it ends."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("lmdb")
pytest.importorskip("safetensors")

import skmars
from skmars.cli import main
from skmars.serving import Events, open_store

from .shop import FAST_BASE, write

N, BUSY = 120, 75


def log(n: int = N, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "who": [f"u{u}" for u in rng.integers(0, 10, n)],
        "sku": [f"i{i}" for i in rng.integers(0, 6, n)],
        "when": 1.7e9 + np.arange(n) + 1000.0 * seed,
        "bought": rng.integers(0, 2, n),
        "device": rng.choice(["app", "web"], n),
    }


def items(first: int, last: int, word: str) -> dict[str, Any]:
    ids = [f"i{i}" for i in range(first, last)]
    return {"sku": ids, "text": [f"{word} {i}" for i in ids], "price": np.arange(float(len(ids)))}


Shop = Callable[..., tuple[Path, str]]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Make a deployment by the commands, and fill its store."""
    table = write(tmp_path, "log.parquet", log())
    columns = ["--user", "who", "--item", "sku", "--time", "when", "--label", "bought"]

    def make(*options: str, name: str = "shop") -> tuple[Path, str]:
        files = [str(table), "--items", str(write(tmp_path, "items.csv", items(0, 4, "old")))]
        users = write(tmp_path, "users.csv", {"who": ["u1", "u2"], "land": ["fr", "it"]})
        files += ["--attributes", "price", "--users", str(users)]
        out = tmp_path / name
        assert (
            main(["fit", *files, *columns, *options, "--base", *FAST_BASE, "--out", str(out)]) == 0
        )
        store, url = open_store(f"lmdb:{tmp_path / 'store'}"), f"lmdb:{tmp_path / 'store'}"
        rows = log()
        clicked = np.asarray(rows["bought"], dtype=np.uint8)
        events = Events(rows["who"], rows["sku"], np.asarray(rows["when"]), clicked)
        store.append(events, streamed=False)
        store.close()
        return out, url

    return make


def run(where: tuple[Path, str], *options: str) -> int:
    return main(["refit", "--model", str(where[0]), "--store", where[1], *options])


def current(where: tuple[Path, str]) -> str | None:
    store = open_store(where[1])
    try:
        return store.pointer("model")
    finally:
        store.close()


def test_tables_of_items_and_users(shop: Shop, tmp_path: Path, capsys: Any) -> None:
    where = shop()
    new = write(tmp_path, "new.csv", items(3, 5, "new"))
    newer = write(tmp_path, "newer.parquet", items(4, 5, "newer"))
    users = write(tmp_path, "more.csv", {"who": ["u2", "u3"], "land": ["pt", "de"]})
    tables = ["--items", str(new), "--items", str(newer), "--users", str(users)]
    assert run(where, *tables) == 0
    told = capsys.readouterr().err
    assert "published fits/1, fitted to 120 events of 10 users up to position 120" in told
    assert "fits/1 was not tried" in told
    model = skmars.load(where[0] / "fits/1")
    catalog, known = model.histories.catalog, model.histories.known
    assert catalog.content["text"].tolist() == [
        *(f"old i{i}" for i in range(3)),
        "new i3",
        "newer i4",
        None,
    ]
    land = dict(zip(known.ids.tolist(), known.attributes["land"].to_list()))
    assert [land[user] for user in ("u1", "u2", "u3")] == ["fr", "pt", "de"]
    assert run(where, "--quiet", "--keep", "1") == 0  # a model that was refitted is refitted
    (warned,) = capsys.readouterr().err.splitlines()
    assert "was not tried" in warned  # that is told, --quiet or not
    assert current(where) == "fits/2"
    assert not (where[0] / "fits/1").exists()
    again = skmars.load(where[0] / "fits/2").histories.catalog
    assert again.fingerprint == catalog.fingerprint


def test_a_model_with_context_is_fitted_to_the_log(shop: Shop, tmp_path: Path, capsys: Any) -> None:
    where = shop("--context", "device")
    assert run(where) == 1
    assert re.search(r"context columns \(device\).*--fitted NEW", capsys.readouterr().err)
    new, _ = shop("--context", "device", name="new")
    assert run(where, "--fitted", str(new)) == 0
    assert "published fits/1, fitted elsewhere up to position" in capsys.readouterr().err
    assert current(where) == "fits/1"


def test_mistakes_are_told(shop: Shop, tmp_path: Path, capsys: Any) -> None:
    where = shop()
    wrong = write(tmp_path, "wrong.csv", {"id": ["i9"], "text": ["x"]})
    assert run(where, "--items", str(wrong)) == 1
    assert "wrong.csv has no column 'sku'" in capsys.readouterr().err
    assert run(where, "--fitted", str(tmp_path / "none")) == 1
    assert "none does not exist" in capsys.readouterr().err
    for options in (
        ["--fitted", "x", "--items", "y.csv"],
        ["--items", "-", "--users", "-"],
        ["--worse-by", "-1"],
        ["--worse-by", "1", "--anyway"],
        ["--keep", "0"],
    ):
        with pytest.raises(SystemExit, match="2"):
            run(where, *options)
    assert current(where) is None


def test_exit_codes(shop: Shop, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from skmars.serving.refits import _refit as module
    from skmars.serving.refits._trial import Trial

    where = shop()
    with monkeypatch.context() as worse:
        worse.setattr(module, "tried", lambda *given: Trial(70, 0.9, 0.7, 0.5, 0.6))
        capsys.readouterr()
        assert run(where, "--quiet") == 1
        assert re.search(
            r"refused.* 70 rows since, log loss 0.9000 \(the current one: 0.7000\), AUC 0.5000",
            capsys.readouterr().err,
        )
        assert run(where, "--worse-by", "0.3") == 0
        assert run(where, "--anyway") == 0
    assert current(where) == "fits/2"
    store = open_store(where[1])
    store.acquire("refit", "another", 60)
    store.close()
    assert run(where) == BUSY
    assert "another" in capsys.readouterr().err
