"""The command `skmars export`: read with the columns of the model, its log is the store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("lmdb")
pytest.importorskip("safetensors")

import skmars
from skmars.cli import main
from skmars.cli._inputs import read_log
from skmars.serving import Events, open_store
from skmars.serving.refits import _arrival
from skmars.serving.refits._log import events_until, items_of, rows_of

from .shop import FAST_BASE, write

FORMS: list[dict[str, Any]] = [
    {},
    {"click_from": 4.0, "time_format": "milliseconds"},
    {"absolute": False},
    {"time_format": "%d/%m/%Y %H:%M", "absolute": False},
    {"time_format": "%Y%m%d%z"},
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and a store of which some events came late, or without a time."""
    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    log = {
        "who": [f"u{u}" for u in rng.integers(0, 6, 80)],
        "sku": rng.integers(0, 9, 80),
        "at": 1.7e9 + rng.integers(0, 1000, 80) / 8,
        "bought": rng.integers(0, 2, 80),
    }
    columns = ["--user", "who", "--item", "sku", "--time", "at", "--label", "bought"]
    files = [str(write(folder, "log.parquet", log)), "--base", *FAST_BASE]
    assert main(["fit", *files, *columns, "--out", str(folder / "model")]) == 0
    store = open_store(f"lmdb:{folder / 'store'}")
    for begin in range(0, 80, 20):
        rows = slice(begin, begin + 20)
        time = np.where(np.arange(80) % 9, log["at"], np.nan)[rows]
        clicked = log["bought"][rows].astype(np.uint8)
        events = Events(log["who"][rows], log["sku"][rows].tolist(), time, clicked)
        store.append(events, streamed=begin > 40)
    store.close()
    return folder / "model", folder / "store"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:.* have no time", "ignore:.* not in the catalogue")
def test_what_is_exported_is_read_as_the_store(
    shop: tuple[Path, Path], tmp_path: Path, monkeypatch: Any, capsys: Any, form: dict[str, Any]
) -> None:
    folder, path = shop
    model = skmars.load(folder)
    model = replace(model, columns=replace(model.columns, **form))
    skmars.save(model, tmp_path / "model")
    monkeypatch.setattr(_arrival.by_arrival, "__defaults__", (7,))
    files = ["--model", str(tmp_path / "model"), "--store", f"lmdb:{path}"]
    assert main(["export", *files, "--out", str(tmp_path / "log.parquet")]) == 0
    store = open_store(f"lmdb:{path}")
    users, stored = events_until(store, store.position)
    n, items = store.position, items_of(store, stored)
    store.close()
    assert f"wrote {n} events" in capsys.readouterr().err

    X, y = read_log(tmp_path / "log.parquet", None, model)
    histories = model.histories
    expected, clicked = rows_of(
        users, stored, histories.catalog.extend(items), items, model, histories.known
    )
    np.testing.assert_array_equal(y, clicked)
    assert X.time is not None
    np.testing.assert_array_equal(X.time, expected.time)
    assert X.user_ids.tolist() == expected.user_ids.tolist()
    assert X.item_ids.tolist() == expected.item_ids.tolist()
    assert [X.history.row(i).tolist() for i in range(n)] == [
        expected.history.row(i).tolist() for i in range(n)
    ]


def test_mistakes_are_told(shop: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    folder, path = shop
    files = ["export", "--model", str(folder), "--store"]
    with pytest.raises(SystemExit, match="2"):
        main([*files, f"lmdb:{path}", "--out", str(tmp_path / "log.csv")])
    assert main([*files, f"lmdb:{tmp_path / 'empty'}", "--out", str(tmp_path / "l.parquet")]) == 1
    assert "no events to export" in capsys.readouterr().err
    assert not (tmp_path / "l.parquet").exists()
