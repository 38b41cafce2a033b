"""The service says at once what it can't serve, instead of waiting for what will not come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("httptools")
pytest.importorskip("msgspec")
pytest.importorskip("prometheus_client")
pytest.importorskip("lmdb")
pytest.importorskip("safetensors")

import skmars
from skmars.cli import main
from skmars.serving import Events, open_store
from tests.serving.served import model


def serve(folder: Path, store: Path, *options: str) -> int:
    return main(
        ["serve", "--model", str(folder), "--store", f"lmdb:{store}", "--port", "0", *options]
    )


def test_a_pipeline_without_histories_ends_the_command(tmp_path: Path, capsys: Any) -> None:
    skmars.save(model().pipeline, tmp_path / "model")
    assert serve(tmp_path / "model", tmp_path / "store") == 1
    assert "Model.of" in capsys.readouterr().err


def test_a_store_of_other_ids_ends_the_command(tmp_path: Path, capsys: Any) -> None:
    skmars.save(model(), tmp_path / "model")
    store = open_store(f"lmdb:{tmp_path / 'store'}")
    store.append(Events(["ann"], ["tea"], np.array([1.7e9]), np.array([1], dtype=np.uint8)))
    store.close()
    assert serve(tmp_path / "model", tmp_path / "store") == 1
    assert "strings" in capsys.readouterr().err


def test_a_token_file_that_is_not_there(tmp_path: Path, capsys: Any) -> None:
    skmars.save(model(), tmp_path / "model")
    assert serve(tmp_path / "model", tmp_path / "s", "--token-file", str(tmp_path / "no")) == 1
    assert "--token-file" in capsys.readouterr().err


def test_a_module_is_imported_first(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("of_my_own.py").write_text("raise RuntimeError('imported')")
    assert serve(tmp_path, tmp_path / "s", "--import", "of_my_own") == 1
    assert "imported" in capsys.readouterr().err
    assert serve(tmp_path, tmp_path / "s", "--import", "of_nobody") == 1
    assert "--import of_nobody: there is no such module" in capsys.readouterr().err
