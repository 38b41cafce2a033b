"""Context columns: of the log and of the rows, of one kind in all tables, and never left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from skmars.cli import main
from skmars.cli._inputs import read_rows
from skmars.persistence import load

from .shop import FAST, FAST_BASE, write

LOG = {
    "user_id": [1, 1, 2, 2, 3, 3],
    "item_id": [1, 2, 2, 3, 1, 3],
    "timestamp": [1, 2, 1, 3, 2, 4],
    "clicked": [1, 0, 1, 0, 1, 1],
    "hour": [9, 10, 22, 23, 0, 12],
    "device": ["app", "web", "app", "app", "web", "tv"],
    "gift": [True, False, False, True, False, False],
}
ROWS = {
    "user_id": [1, 9],
    "item_id": [3, 1],
    "hour": [8, 20],
    "device": ["tv", "fridge"],
    "gift": [False, True],
}


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return (code, *capsys.readouterr())


def fit(capsys, tmp_path: Path, log: Path, *options: object) -> tuple[int, str, str]:
    out = ["--base", "--out", tmp_path / "m.skmars", *FAST_BASE]
    return run(capsys, "fit", log, *out, *options)


@pytest.mark.parametrize("log", ["log.csv", "log.parquet"])
@pytest.mark.parametrize("rows", ["rows.csv", "rows.parquet"])
def test_context_reaches_the_model(capsys, tmp_path: Path, log: str, rows: str) -> None:
    names = ["--context", "hour,device", "--context", "gift"]
    assert fit(capsys, tmp_path, write(tmp_path, log, LOG), *names)[0] == 0
    model = load(tmp_path / "m.skmars")
    kinds = {"hour": "numbers", "device": "strings", "gift": "booleans"}
    assert model.columns.context == kinds
    path = write(tmp_path, rows, ROWS)
    for source in (None, write(tmp_path, "newer.csv", {k: LOG[k] for k in list(LOG)[:4]})):
        _, X = read_rows(model, path, log=source, items=None)
        assert list(X.context) == list(kinds)
        assert X.context["hour"].tolist() == [8, 20]
        assert X.context["device"].tolist() == ["tv", "fridge"]
        assert X.context["gift"].tolist() == ["False", "True"]
    found = run(capsys, "predict", tmp_path / "m.skmars", path)[1]
    other = write(tmp_path, "other.csv", ROWS | {"hour": [23, 23]})
    assert found != run(capsys, "predict", tmp_path / "m.skmars", other)[1]
    assert (
        run(capsys, "evaluate", tmp_path / "m.skmars", tmp_path / log, "--holdout", "none")[0] == 0
    )


def test_context_comes_with_histories_in_rows(capsys, tmp_path: Path) -> None:
    assert fit(capsys, tmp_path, write(tmp_path, "log.csv", LOG), "--context", "hour")[0] == 0
    rows = write(tmp_path, "own.parquet", ROWS | {"history": [[1], [2]]})
    _, X = read_rows(load(tmp_path / "m.skmars"), rows, log=None, items=None)
    assert X.context["hour"].tolist() == [8, 20]
    assert list(X.context) == ["hour"]


def test_codes_stay_codes(capsys, tmp_path: Path) -> None:
    text = "user_id,item_id,clicked,zip\n1,1,1,01067\n1,2,0,80331\n2,1,1,\n2,3,0,80331\n"
    (tmp_path / "log.csv").write_text(text)
    assert fit(capsys, tmp_path, tmp_path / "log.csv", "--context", "zip", "--no-time")[0] == 0
    model = load(tmp_path / "m.skmars")
    assert model.columns.context == {"zip": "strings"}
    # Rows that look like numbers are those codes all the same.
    (tmp_path / "rows.csv").write_text("user_id,item_id,zip\n1,1,80331\n1,1,80331\n")
    _, X = read_rows(model, tmp_path / "rows.csv", log=None, items=None)
    assert X.context["zip"].tolist() == ["80331", "80331"]


def test_context_that_does_not_fit_is_named(capsys, tmp_path: Path) -> None:
    model, log = tmp_path / "m.skmars", write(tmp_path, "log.csv", LOG)
    code, _, err = fit(capsys, tmp_path, log, "--context", "weather")
    assert code == 1
    for part in ("log.csv", "'weather'", "--context"):
        assert part in err
    dates = write(tmp_path, "dates.csv", LOG | {"born": ["2001-01-01"] * 6})
    code, _, err = fit(capsys, tmp_path, dates, "--context", "born")
    assert code == 1
    for part in ("dates.csv", "'born'", "--context", "hour"):
        assert part in err
    assert fit(capsys, tmp_path, log, "--context", "hour,device,gift")[0] == 0
    for change, parts in {
        ("hour", ("8", "late")): ("'hour'", "'late' in row 1", "numbers"),
        ("gift", ("true", "maybe")): ("'gift'", "booleans"),
        ("hour", None): ("'hour'", "--context"),
    }.items():
        column, values = change
        rows = {k: v for k, v in ROWS.items() if k != column}
        if values is not None:
            rows[column] = list(values)
        code, out, err = run(capsys, "predict", model, write(tmp_path, "rows.csv", rows))
        assert (code, out) == (1, "")
        for part in ("rows.csv", *parts):
            assert part in err
    numbers = write(tmp_path, "rows.parquet", ROWS | {"device": [1, 2]})
    code, _, err = run(capsys, "predict", model, numbers)
    assert code == 1
    assert "'device'" in err


def test_a_column_has_one_meaning(capsys, tmp_path: Path) -> None:
    log = write(tmp_path, "log.csv", LOG)
    for name in ("user_id", "item_id", "timestamp", "clicked"):
        code, _, err = fit(capsys, tmp_path, log, "--context", f"hour,{name}")
        assert code == 2
        assert f"--context {name}" in err
    for wrong in ("", "hour,,gift", ","):
        assert "--context" in fit(capsys, tmp_path, log, "--context", wrong)[2]


def test_the_whole_model_takes_context(capsys, tmp_path: Path) -> None:
    log, out = write(tmp_path, "log.csv", LOG), tmp_path / "m.skmars"
    items = write(tmp_path, "items.csv", {"item_id": [1, 2, 3], "title": ["Up", "Heat", "Big"]})
    files = ["fit", log, "--items", items, "--out", out, "--context", "device"]
    options = [option for option in FAST if option != "--quiet"]
    code, out_, err = run(capsys, *files, *options)
    assert (code, out_) == (0, "")
    assert "context device (strings)" in err
    assert run(capsys, "predict", out, write(tmp_path, "rows.csv", ROWS))[0] == 0
