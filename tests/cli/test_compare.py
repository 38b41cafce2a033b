"""From two tables to the comparison in one command."""

from __future__ import annotations

import csv
from pathlib import Path

from skmars import make_small_shop
from skmars.cli import main
from skmars.cli._arguments import MODELS
from skmars.pipeline._compare import _default_models

from .shop import write


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return (code, *capsys.readouterr())


def test_the_models_are_those_that_there_are() -> None:
    X, _ = make_small_shop(n_users=5, random_state=0)
    assert tuple(_default_models(X, 0)) == MODELS


def test_one_command_compares(capsys, tmp_path: Path) -> None:
    X, y = make_small_shop(n_users=120, random_state=0)
    log = {"who": X.user_ids, "sku": X.item_ids, "at": X.time, "bought": y}
    names = ["--user", "who", "--item", "sku", "--time", "at", "--label", "bought"]
    without = [word for name in MODELS[2:] for word in ("--without", name)]
    arguments = ["compare", write(tmp_path, "log.csv", log), *names, *without]
    code, out, err = run(capsys, *arguments, "--out", tmp_path / "figures.csv")
    assert code == 0
    assert "AUC" in out.splitlines()[0]
    assert "Use 'popularity'" in out or "Use 'click rates'" in out
    assert "[compare] popularity" in err
    figures = list(csv.DictReader((tmp_path / "figures.csv").read_text().splitlines()))
    assert [line["model"] for line in figures] == ["popularity", "click rates"]
    assert all(0 < float(line["auc"]) < 1 for line in figures)
    code, again, err = run(capsys, *arguments, "--quiet")
    assert (code, err) == (0, "")
    assert again.splitlines()[-1] == out.splitlines()[-1]


def test_what_can_not_be_compared(capsys, tmp_path: Path) -> None:
    log = {"user_id": [1, 1, 2, 2], "item_id": [1, 2, 1, 2], "clicked": [1, 1, 1, 1]}
    path = write(tmp_path, "log.csv", log)
    code, out, err = run(capsys, "compare", path)
    assert (code, out) == (1, "")
    assert "classes" in err
    code, _, err = run(capsys, "compare", path, "--without", "mars")
    assert code == 2
    assert "MARS" in err
    code, _, err = run(capsys, "compare", path, "--out", path)
    assert code == 2
    assert "the same file" in err


def test_a_log_of_clicks_alone_is_compared_with_negatives(capsys, tmp_path: Path) -> None:
    X, y = make_small_shop(n_users=80, random_state=0)
    clicks = {"user_id": X.user_ids[y == 1], "item_id": X.item_ids[y == 1]}
    log = write(tmp_path, "log.csv", {**clicks, "timestamp": X.time[y == 1]})
    without = [word for name in MODELS[2:] for word in ("--without", name)]
    code, _, err = run(capsys, "compare", log, *without)
    assert code == 1
    assert "`skmars compare` take the name of this column with --label" in err
    code, out, _ = run(capsys, "compare", log, "--negatives", 3, *without, "--quiet")
    assert code == 0
    assert "AUC" in out.splitlines()[0]


def test_it_splits_at_a_time(capsys, tmp_path: Path) -> None:
    X, y = make_small_shop(n_users=80, random_state=0)
    log = {"user_id": X.user_ids, "item_id": X.item_ids, "timestamp": X.time, "clicked": y}
    without = [word for name in MODELS[2:] for word in ("--without", name)]
    arguments = ["compare", write(tmp_path, "log.csv", log), *without, "--quiet"]
    code, out, _ = run(capsys, *arguments, "--split-at", "0.8")
    assert code == 0
    assert "GAUC" in out.splitlines()[0]  # users have several test rows
    code, out, _ = run(capsys, *arguments)
    assert "GAUC" not in out.splitlines()[0]
