"""What is kept out of training is what is scored: last rows, or all rows from a moment on."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from sklearn.pipeline import Pipeline

from skmars import make_multimodal_ctr
from skmars.cli import main
from skmars.persistence import load

from .shop import FAST_BASE, write


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return (code, *capsys.readouterr())


@pytest.fixture
def trained(monkeypatch) -> list:
    """The rows that pipelines were fitted to."""
    rows: list = []
    fit = Pipeline.fit

    def noted(self, X, y, **params):
        rows.append((X, y))
        return fit(self, X, y, **params)

    monkeypatch.setattr(Pipeline, "fit", noted)
    return rows


LOG = {
    "user_id": [1, 1, 2, 2, 3, 3, 1, 2],
    "item_id": [1, 2, 2, 3, 1, 3, 3, 1],
    "timestamp": [f"2026-01-0{day}" for day in (1, 2, 1, 3, 2, 4, 5, 6)],
    "clicked": [1, 0, 1, 0, 1, 1, 0, 1],
}


@pytest.mark.parametrize(
    ("at", "n_test"), [("2026-01-04", 3), ("2026-01-03T12:00", 3), ("0.75", 2), ("1767484800", 3)]
)
def test_rows_from_a_moment_on_are_scored(capsys, tmp_path: Path, trained, at, n_test) -> None:
    log, model = write(tmp_path, "log.csv", LOG), tmp_path / "m.skmars"
    fit = ["fit", log, "--base", "--out", model, *FAST_BASE]
    assert run(capsys, *fit, "--split-at", at)[0] == 0
    (X, _), *_ = trained
    assert len(X) == 8 - n_test
    code, out, _ = run(capsys, "evaluate", model, log)
    assert code == 0
    figures = list(csv.DictReader(io.StringIO(out)))
    assert figures[0]["rows"] == str(n_test)
    # A model that has not seen the later rows has seen some of the last ones.
    code, _, err = run(capsys, "evaluate", model, log, "--holdout", "last")
    assert code == 1
    assert "--holdout last" in err
    early = write(tmp_path, "early.csv", {name: values[:3] for name, values in LOG.items()})
    code, _, err = run(capsys, "evaluate", model, early)
    assert code == 1
    assert "early.csv" in err
    timeless = write(tmp_path, "timeless.csv", {k: v for k, v in LOG.items() if k != "timestamp"})
    assert run(capsys, "evaluate", model, timeless)[0] == 1


def test_moments_that_split_nothing(capsys, tmp_path: Path) -> None:
    log, out = write(tmp_path, "log.csv", LOG), ["--out", tmp_path / "m.skmars", *FAST_BASE]
    for at in ("2025-01-01", "2027-01-01", "0"):
        code, _, err = run(capsys, "fit", log, "--base", *out, "--split-at", at)
        assert code == 1
        for part in ("--split-at", "log.csv"):
            assert part in err
    for at in ("soon", "31/01/2026", "nan", ""):
        code, _, err = run(capsys, "fit", log, "--base", *out, "--split-at", at)
        assert code == 2
        assert "2026-01-31" in err
    both = ["--split-at", "2026-01-03", "--holdout", "last"]
    assert run(capsys, "fit", log, "--base", *out, *both)[0] == 2
    assert run(capsys, "fit", log, "--base", *out, "--no-time", "--split-at", "0.5")[0] == 1


def test_a_log_of_clicks_alone(capsys, tmp_path: Path, trained) -> None:
    X, y = make_multimodal_ctr(n_users=40, n_items=30, random_state=0)
    clicks = {"user_id": X.user_ids[y == 1], "item_id": X.item_ids[y == 1]}
    clicks["timestamp"] = X.time[y == 1]
    log, model = write(tmp_path, "clicks.csv", clicks), tmp_path / "m.skmars"
    fit = ["fit", log, "--base", "--out", model, *FAST_BASE]
    code, _, err = run(capsys, *fit)
    assert code == 1
    assert "'clicked'" in err
    assert "--negatives N" in err
    code, _, err = run(capsys, *fit, "--negatives", 3, "--label", "bougth")
    assert code == 1
    assert "no column 'bougth'" in err
    assert run(capsys, *fit, "--negatives", 3, "--holdout", "last")[0] == 0
    (rows, clicked), *_ = trained
    assert clicked.mean() == 0.25
    seen = {(u, i) for u, i in zip(rows.user_ids[clicked == 1], rows.item_ids[clicked == 1])}
    drawn = zip(rows.user_ids[clicked == 0], rows.item_ids[clicked == 0])
    assert not seen & set(drawn)
    code, out, _ = run(capsys, "evaluate", model, log)
    figures = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert int(figures[0]["rows"]) == 4 * int(figures[0]["users"])
    assert 0 <= float(figures[0]["value"]) <= 1
    assert run(capsys, "predict", model, log, "--log", log)[0] == 0
    assert load(model).histories.events.length.sum() == len(clicks["user_id"])


def test_negatives_are_for_clicks_alone(capsys, tmp_path: Path) -> None:
    log, out = write(tmp_path, "log.csv", LOG), ["--out", tmp_path / "m.skmars", *FAST_BASE]
    code, _, err = run(capsys, "fit", log, "--base", *out, "--negatives", 1)
    assert code == 1
    for part in ("log.csv", "'clicked'", "3 rows that are no clicks", "--negatives"):
        assert part in err
    clicks = write(tmp_path, "clicks.csv", LOG | {"clicked": [1] * 8})
    code, _, err = run(capsys, "fit", clicks, "--base", *out, "--negatives", 3)
    assert code == 1
    assert "--negatives 3" in err  # there are three items
    clicks = write(tmp_path, "clicks.csv", LOG | {"clicked": [1] * 8, "item_id": list(range(8))})
    assert run(capsys, "fit", clicks, "--base", *out, "--negatives", 3)[0] == 0
    # Rows with labels are scored by them, though the model was fitted on clicks alone.
    code, scores, _ = run(capsys, "evaluate", tmp_path / "m.skmars", log, "--holdout", "none")
    assert code == 0
    assert scores.splitlines()[1].split(",")[2] == "8"


def test_the_same_seed_draws_the_same(capsys, tmp_path: Path, trained) -> None:
    columns = LOG | {"clicked": [1] * 8, "item_id": list(range(8))}
    clicks = write(tmp_path, "clicks.csv", columns)
    for seed in (1, 1, 2):
        out = ["--out", tmp_path / "m.skmars", *FAST_BASE, "--seed", seed]
        assert run(capsys, "fit", clicks, "--base", *out, "--negatives", 2)[0] == 0
    a, b, c = (X.item_ids.tolist() for X, _ in trained)
    assert a == b != c
