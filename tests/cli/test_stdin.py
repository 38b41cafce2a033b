"""In place of one table, - is standard input."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from skmars.cli import main
from skmars.persistence import load

from .shop import FAST_BASE


def run(capsys, monkeypatch, data: bytes, *arguments: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    capsys.readouterr()
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return (code, *capsys.readouterr())


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_rows_come_from_a_pipe(capsys, monkeypatch, folder: Path, model: Path, command) -> None:
    data = (folder / "rows.csv").read_bytes()
    expected = run(capsys, monkeypatch, b"", command, model, folder / "rows.csv")
    assert run(capsys, monkeypatch, data, command, model, "-") == expected
    assert expected[0] == 0


def test_a_log_comes_from_a_pipe(capsys, monkeypatch, folder: Path, tmp_path: Path) -> None:
    data = (folder / "log.csv").read_bytes()
    for i, source in enumerate((folder / "log.csv", "-")):
        out = ["--out", tmp_path / f"{i}.skmars", *FAST_BASE]
        # Ids of the items are strings, so that the log has to be read twice.
        items = tmp_path / "items.csv"
        items.write_text("item_id,title\n007,Seven\n1,One\n")
        fit = ["fit", source, "--base", "--items", items, *out]
        assert run(capsys, monkeypatch, data, *fit)[0] == 0
    a, b = (load(tmp_path / f"{i}.skmars").histories for i in range(2))
    assert a.events.items.tolist() == b.events.items.tolist()
    assert a.catalog.ids.tolist() == b.catalog.ids.tolist()
    scores = ["evaluate", tmp_path / "0.skmars", "-", "--holdout", "none"]
    assert run(capsys, monkeypatch, data, *scores)[0] == 0


def test_standard_input_is_one_table_of_csv(capsys, monkeypatch, folder: Path, model: Path) -> None:
    code, _, err = run(capsys, monkeypatch, b"", "predict", model, "-", "--log", "-")
    assert code == 2
    assert "standard input" in err
    for data in (b"", b"PAR1", (folder / "rows.parquet").read_bytes()):
        code, out, err = run(capsys, monkeypatch, data, "predict", model, "-")
        assert (code, out) == (1, "")
        assert "standard input" in err
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["predict", str(model), "-"]) == 1
    assert "standard input is closed" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="asks for the file behind a descriptor")
def test_what_is_read_from_a_pipe_is_not_written_over(folder: Path, model: Path, tmp_path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_bytes((folder / "rows.csv").read_bytes())
    command = [sys.executable, "-m", "skmars", "predict", model, "-", "--out", rows]
    with rows.open() as file:
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "standard input" in done.stderr
    assert rows.read_bytes() == (folder / "rows.csv").read_bytes()
