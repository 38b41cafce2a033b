"""What a person or a script relies on: results on stdout, one line of blame, exit codes."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from skmars.cli import _inputs as inputs
from skmars.cli import _tables as tables
from skmars.cli import main
from skmars.persistence import load
from skmars.persistence._tables import _arrow

from .shop import FAST, FAST_BASE, write

COMMANDS = ["fit", "predict", "recommend", "explain", "compare", "evaluate"]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command in this process: exit code, stdout, stderr."""
    capsys.readouterr()
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def error(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    """Run a command that is to fail with this code: one line on stderr, nothing on stdout."""
    found, out, err = run(capsys, *arguments)
    assert (found, out) == (code, "")
    assert "Traceback" not in err
    if code == 1:
        assert err.count("\n") == 1
    return err


# --- it works -------------------------------------------------------------------------------


def test_predict_keeps_the_rows_and_knows_no_strangers(capsys, folder: Path, model: Path) -> None:
    code, out, err = run(capsys, "predict", model, folder / "rows.csv")
    rows = table(out)
    assert (code, err) == (0, "")
    assert [r["user_id"] for r in rows] == ["2", "0", "1", "99999"]
    assert [r["item_id"] for r in rows] == ["5", "6", "77777", "5"]
    assert all(0 < float(r["probability"]) < 1 for r in rows)


def test_csv_and_parquet_give_the_same(capsys, folder: Path, model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.skmars"
    fit = ["fit", folder / "log.csv", "--items", folder / "items.csv", "--out", other]
    assert run(capsys, *fit, "--holdout", "last", *FAST)[0] == 0
    _, expected, _ = run(capsys, "predict", model, folder / "rows.csv")
    _, found, _ = run(capsys, "predict", other, folder / "rows.parquet")
    assert found == expected


@pytest.mark.parametrize("command", ["predict", "explain"])
@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_out_holds_what_stdout_says(
    capsys, folder: Path, model: Path, tmp_path: Path, command: str, name: str
) -> None:
    _, expected, _ = run(capsys, command, model, folder / "rows.csv")
    done = run(capsys, command, model, folder / "rows.csv", "--out", tmp_path / name)
    assert done == (0, "", "")
    assert os.listdir(tmp_path) == [name]  # no temporary file is left
    assert tables.csv_of(tables.read_table(tmp_path / name, {})) == expected


def test_explain_names_donors_and_titles(capsys, folder: Path, model: Path) -> None:
    code, out, _ = run(capsys, "explain", model, folder / "log.csv")
    lines = table(out)
    assert code == 0
    log = table((folder / "log.csv").read_text())
    # Every row is there, with what it borrows or why it borrows nothing.
    assert list(dict.fromkeys(int(line["row"]) for line in lines)) == list(range(len(log)))
    assert all(bool(line["reason"]) != bool(line["donor_id"]) for line in lines)
    assert {line["reason"] for line in lines} > {"", "not low-active"}
    for line in lines:
        row = log[int(line["row"])]
        assert (line["user_id"], line["item_id"]) == (row["user_id"], row["item_id"])
        assert line["user_id"] != line["donor_id"]
        if line["borrowed_item"]:
            assert line["borrowed_title"]
            assert float(line["similarity"]) >= -1
    assert {"title", "probability", "activity", "history", "lookalikes_touched"} <= set(lines[0])


def test_explain_in_words(capsys, folder: Path, model: Path) -> None:
    code, out, _ = run(capsys, "explain", model, folder / "rows.csv", "--words")
    assert code == 0
    assert "Row 0: user 2 is shown" in out
    assert "Nothing is borrowed, because" in out
    message = error(capsys, 2, "explain", model, folder / "rows.csv", "--words", "--out", "x.csv")
    assert "--words" in message


def test_evaluate_scores_the_last_impressions(capsys, folder: Path, model: Path) -> None:
    code, out, _ = run(capsys, "evaluate", model, folder / "log.csv")
    figures = {line["metric"]: line for line in table(out)}
    assert code == 0
    assert list(figures) == ["AUC", "GAUC", "AUC low-active"]
    assert figures["AUC"]["rows"] == figures["AUC"]["users"] == "40"
    assert 40 < int(figures["GAUC"]["rows"]) <= 80
    assert all(0 <= float(line["value"]) <= 1 for line in figures.values())
    code, out, _ = run(capsys, "evaluate", model, folder / "log.csv", "--holdout", "none")
    assert int(table(out)[0]["rows"]) == len(tables.read_table(folder / "log.csv", {}))


def test_figures_that_would_flatter_are_refused(capsys, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "din.skmars"
    assert run(capsys, "fit", folder / "log.csv", "--base", "--out", path, *FAST_BASE)[0] == 0
    message = error(capsys, 1, "evaluate", path, folder / "log.csv")
    assert "--holdout last" in message
    assert "--holdout none" in message
    assert "--base" in error(capsys, 1, "explain", path, folder / "rows.csv")


def test_three_ways_to_bring_a_history(capsys, folder: Path, model: Path, tmp_path: Path) -> None:
    rows = folder / "rows.csv"
    _, remembered, _ = run(capsys, "predict", model, rows)
    _, from_log, _ = run(capsys, "predict", model, rows, "--log", folder / "log.parquet")
    assert from_log == remembered
    X = load(model).histories.impressions(np.array([2, 0]), np.array([5, 6]))
    own = write(
        tmp_path,
        "own.parquet",
        {
            "user_id": [2, 0],
            "item_id": [5, 6],
            "history": [X.catalog.ids[X.history.row(i)].tolist() for i in range(2)],
        },
    )
    _, from_rows, _ = run(capsys, "predict", model, own)
    found, expected = table(from_rows), table(remembered)[:2]
    for a, b in zip(found, expected):
        assert float(a["probability"]) == pytest.approx(float(b["probability"]), rel=1e-4)
    # What a user did since changes the prediction.
    newer = write(
        tmp_path,
        "newer.csv",
        {"user_id": [2, 0], "item_id": [5, 6], "timestamp": [1, 1], "clicked": [1, 1]},
    )
    _, changed, _ = run(capsys, "predict", model, rows, "--log", newer)
    assert changed != remembered


def test_names_labels_and_dates_of_ones_own(capsys, tmp_path: Path) -> None:
    log = {
        "who": ["ann", "ann", "bob", "bob", "cid", "cid"],
        "film": ["a", "b", "b", "c", "a", "c"],
        "at": [f"2026-01-0{d} 10:00:00" for d in (1, 2, 1, 3, 2, 4)],
        "stars": [5, 2, 4, 1, 3, 5],
    }
    write(tmp_path, "log.csv", log)
    write(tmp_path, "films.csv", {"film": list("abc"), "plot": ["one", "two", "three"]})
    names = ["--user", "who", "--item", "film", "--time", "at", "--label", "stars"]
    meaning = ["--click-from", "4", "--history", "all", "--text", "plot"]
    path = tmp_path / "m.skmars"
    files_ = ["fit", tmp_path / "log.csv", "--items", tmp_path / "films.csv", "--out", path]
    assert run(capsys, *files_, *names, *meaning, *FAST)[0] == 0
    histories = load(path).histories
    assert histories.events.feedback is not None
    assert histories.now == np.nextafter(np.datetime64("2026-01-04T10:00:00").astype(float), np.inf)
    code, out, _ = run(capsys, "predict", path, tmp_path / "log.csv")
    assert code == 0
    assert list(table(out)[0]) == ["who", "film", "at", "probability"]


def test_what_comes_before_what(capsys, tmp_path: Path) -> None:
    log = {
        "user_id": [1] * 4 + [2] * 4,
        "item_id": [1, 2, 3, 4] * 2,
        "clicked": [1, 0] * 4,
        "step": [2, 1, 1, 0] * 2,
        "ts": [1, 2, 2, 3] * 2,
    }
    write(tmp_path, "log.csv", log)
    write(tmp_path, "rows.csv", {"user_id": [1, 2], "item_id": [9, 9], "ts": [2, None]})
    path = tmp_path / "m.skmars"
    fit = ["fit", tmp_path / "log.csv", "--base", "--history", "all", "--out", path, *FAST_BASE]

    def histories(*options: str) -> list[list[int]]:
        assert run(capsys, *fit, *options)[0] == 0
        model = load(path)
        _, X = inputs.read_rows(model, tmp_path / "rows.csv", log=None, items=None)
        _, Z = inputs.read_rows(model, tmp_path / "rows.csv", log=tmp_path / "log.csv", items=None)
        found = [X.catalog.ids[X.history.row(i)].tolist() for i in range(2)]
        assert found == [Z.catalog.ids[Z.history.row(i)].tolist() for i in range(2)]
        read, _ = inputs.read_log(tmp_path / "log.csv", None, model)
        return [*found, read.history.length[:4].tolist()]

    # The one column of a usual name is found, and the model knows which it was.
    assert histories() == [[1], [1, 2, 3, 4], [0, 1, 1, 3]]
    assert load(path).columns.time == "ts"
    assert histories("--time", "ts") == histories()
    # Without times, rows come after all that the log holds.
    assert histories("--no-time") == [[1, 2, 3, 4], [1, 2, 3, 4], [0, 1, 2, 3]]
    assert histories("--no-time", "--order", "step")[1:] == [[4, 2, 3, 1], [3, 1, 1, 0]]
    assert histories("--order", "step") == [[4, 2, 3, 1], [4, 2, 3, 1], [3, 1, 1, 0]]
    assert load(path).columns.order == "step"
    log["date"] = ["2026-01-01"] * 8
    write(tmp_path, "log.csv", log)
    message = error(capsys, 1, *fit)
    for part in ("log.csv", "'ts', 'date'", "--time", "--no-time"):
        assert part in message
    assert "--order" in error(capsys, 1, *fit, "--order", "place")
    write(tmp_path, "log.csv", log | {"date": ["May"] * 8})
    assert "--no-time" in error(capsys, 1, *fit, "--time", "date")
    write(tmp_path, "log.csv", log | {"step": [None, *range(7)]})
    message = error(capsys, 1, *fit, "--time", "ts", "--order", "step")
    assert "log.csv" in message
    assert "'step'" in message


def test_new_items_come_with_a_table(capsys, folder: Path, model: Path, tmp_path: Path) -> None:
    write(tmp_path, "items.csv", {"item_id": [77_777], "title": ["New"], "text": ["orbit nebula"]})
    rows = folder / "rows.csv"
    _, without, _ = run(capsys, "predict", model, rows)
    message = error(capsys, 1, "predict", model, rows, "--items", tmp_path / "items.csv")
    assert "image" in message  # the model looks at pictures, too
    code, same, _ = run(capsys, "predict", model, rows, "--items", folder / "items.csv")
    assert code == 0
    assert same == without


def test_bars_on_a_terminal_are_no_part_of_the_model(
    capsys, folder: Path, tmp_path: Path, monkeypatch
) -> None:
    pytest.importorskip("rich")
    path = tmp_path / "m.skmars"
    options = [option for option in FAST_BASE if option != "--quiet"]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    code, out, err = run(capsys, "fit", folder / "log.csv", "--base", "--out", path, *options)
    assert (code, out) == (0, "")
    assert "DINClassifier - fit" in err
    assert "epoch" not in err
    assert b"ProgressBar" not in (path / "manifest.json").read_bytes()


def test_help_teaches(capsys) -> None:
    for command in ([], *([name] for name in COMMANDS)):
        code, out, _ = run(capsys, *command, "--help")
        assert code == 0
        assert "skmars fit" in out or f"skmars {command[0]}" in out
    assert "opening one runs no code" in run(capsys, "--help")[1]


# --- it does not ----------------------------------------------------------------------------


def test_usage_errors_exit_with_2(capsys, folder: Path, tmp_path: Path) -> None:
    log, out = folder / "log.csv", tmp_path / "m.skmars"
    error(capsys, 2)
    error(capsys, 2, "fit", log)  # no --out
    error(capsys, 2, "fit", log, "--out", out, "--histroy", "all")
    assert "--base" in error(capsys, 2, "fit", log, "--out", out)
    setting = ["fit", log, "--base", "--out", out, "--set"]
    assert "STEP__PARAM=VALUE" in error(capsys, 2, *setting, "theta")
    assert "ctr" in error(capsys, 2, *setting, "theta=1")
    assert "max_iter" in error(capsys, 2, *setting, "ctr__maxiter=1")
    assert "max_iter" in error(capsys, 2, *setting, "ctr__max_iter=0")
    assert not out.exists()


def test_data_errors_exit_with_1_and_say_the_way_out(
    capsys, folder: Path, model: Path, tmp_path: Path
) -> None:
    log, out = folder / "log.csv", tmp_path / "m.skmars"
    fit = ["fit", log, "--base", "--out", out]
    message = error(capsys, 1, *fit, "--user", "member")
    assert "'member'" in message
    assert "'user_id'" in message
    assert "--user" in message
    assert "absent.csv" in error(capsys, 1, "fit", "absent.csv", "--base", "--out", out)
    assert ".parquet" in error(capsys, 1, "fit", "log.xlsx", "--base", "--out", out)
    assert "--click-from" in error(capsys, 1, *fit, "--label", "timestamp")
    message = error(capsys, 1, *fit, "--user", "item_id")
    assert "'item_id'" in message
    assert "user and as item" in message
    assert "no folder" in error(capsys, 1, *fit[:-1], tmp_path / "no" / "m.skmars")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    assert "broken.parquet" in error(capsys, 1, "predict", model, tmp_path / "broken.parquet")
    rows = write(tmp_path, "rows.csv", {"user_id": ["ann"], "item_id": [1]})
    assert "strings" in error(capsys, 1, "predict", model, rows)
    rows = write(tmp_path, "rows.csv", {"user_id": [1], "item_id": [1], "timestamp": ["soon"]})
    assert "'soon'" in error(capsys, 1, "predict", model, rows)
    assert not out.exists()


def test_an_earlier_file_survives_a_failure(capsys, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.skmars"
    out.write_text("earlier")
    write(tmp_path, "log.csv", {"user_id": [1], "item_id": [1], "clicked": [7]})
    error(capsys, 1, "fit", tmp_path / "log.csv", "--base", "--no-time", "--out", out)
    assert out.read_text() == "earlier"


def test_traceback_on_request(capsys, folder: Path) -> None:
    code, out, err = run(capsys, "predict", "absent", folder / "rows.csv", "--traceback")
    assert (code, out) == (1, "")
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("skmars predict: error:")


def test_no_library_for_tables(capsys, folder: Path, model: Path, monkeypatch) -> None:
    monkeypatch.setattr(_arrow, "find_spec", lambda name: None)
    assert "pip install pyarrow" in error(capsys, 1, "predict", model, folder / "rows.csv")


def test_as_a_program(folder: Path, model: Path) -> None:
    def program(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "skmars", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = program("predict", model, folder / "rows.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(table(done.stdout)) == 4
    failed = program("predict", "absent.skmars", folder / "rows.csv")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("skmars predict: error: absent.skmars does not exist")


def test_a_reader_may_leave(folder: Path, model: Path) -> None:
    command = [sys.executable, "-m", "skmars", "predict", model, folder / "rows.csv"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_an_interrupted_fit_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    files_ = ["fit", folder / "log.csv", "--base", "--out", tmp_path / "m.skmars"]
    command = [sys.executable, "-m", "skmars", *files_, "--set", "ctr__max_iter=100000"]
    with subprocess.Popen(
        [*command, "--set", "ctr__early_stopping=False"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "epoch 1/100000" in process.stderr.readline()  # a line an epoch, without a terminal
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in err
    assert os.listdir(tmp_path) == []
