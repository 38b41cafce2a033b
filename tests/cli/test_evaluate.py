"""Scores of rows whose histories come from another log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skmars.cli import main
from skmars.cli._inputs import read_labelled, read_log
from skmars.persistence import load

from .shop import FAST_BASE, write

LOG = {
    "user_id": [1, 1, 2, 2, 3, 3, 1],
    "item_id": [1, 2, 2, 3, 1, 3, 9],
    "timestamp": [1, 2, 1, 3, 2, 4, 5],
    "clicked": [1, 0, 1, 0, 1, 1, 0],
}


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return (code, *capsys.readouterr())


@pytest.fixture
def fitted(capsys, tmp_path: Path) -> Path:
    log = write(tmp_path, "log.csv", LOG)
    out = ["--base", "--history", "all", "--out", tmp_path / "m.skmars", *FAST_BASE]
    assert run(capsys, "fit", log, *out)[0] == 0
    return tmp_path / "m.skmars"


def test_a_row_is_in_no_history_of_its_own(tmp_path: Path, fitted: Path) -> None:
    # The same rows from the log itself, and from another log that holds them, are the same.
    model, log = load(fitted), tmp_path / "log.csv"
    X, y = read_log(log, None, model)
    Z, z = read_labelled(model, log, log=log, items=None)
    assert y.tolist() == z.tolist()
    for i in range(len(X)):
        expected = X.catalog.ids[X.history.row(i)].tolist()
        assert Z.catalog.ids[Z.history.row(i)].tolist() == expected


def test_scores_with_another_log(capsys, tmp_path: Path, fitted: Path) -> None:
    log = tmp_path / "log.csv"
    own = run(capsys, "evaluate", fitted, log, "--holdout", "none")
    assert run(capsys, "evaluate", fitted, log, "--log", log) == own
    rows = write(tmp_path, "rows.csv", {name: values[4:] for name, values in LOG.items()})
    code, out, _ = run(capsys, "evaluate", fitted, rows, "--log", log)
    assert code == 0
    assert out.splitlines()[1].split(",")[2:] == ["3", "2"]


def test_rows_that_might_know_their_answer_are_refused(capsys, tmp_path: Path, fitted) -> None:
    log = tmp_path / "log.csv"
    code, _, err = run(capsys, "evaluate", fitted, log, "--log", log, "--holdout", "last")
    assert code == 2
    assert "--holdout last" in err
    missing = LOG | {"timestamp": [None, *LOG["timestamp"][1:]]}
    without = {name: values for name, values in LOG.items() if name != "timestamp"}
    nan = LOG | {"timestamp": [np.nan, *map(float, LOG["timestamp"][1:])]}
    for name, rows in (("a.csv", missing), ("b.csv", without), ("c.parquet", nan)):
        code, out, err = run(capsys, "evaluate", fitted, write(tmp_path, name, rows), "--log", log)
        assert (code, out) == (1, "")
        assert name in err
        assert "'timestamp'" in err
    blank = write(tmp_path, "d.csv", LOG | {"clicked": [None, *LOG["clicked"][1:]]})
    code, _, err = run(capsys, "evaluate", fitted, blank, "--log", log)
    assert code == 1
    assert "'clicked' is missing in 1 rows" in err
