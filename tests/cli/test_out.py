"""`--out` is never an input, and what is wrong with it is said before anything is read."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from shutil import copytree

import pytest

from skmars.cli import _commands as commands
from skmars.cli import _scores as scores
from skmars.cli import main

from .shop import FAST_BASE

INPUTS = {
    "predict": ["rows.csv", "--log", "log.csv", "--items", "items.csv"],
    "explain": ["rows.csv", "--log", "log.csv", "--items", "items.csv"],
    "recommend": ["rows.csv", "--log", "log.csv", "--candidates", "items.csv"],
    "evaluate": ["log.csv", "--items", "items.csv"],
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch, folder: Path, model: Path) -> Path:
    """A folder with all inputs, in which we are, and where nothing may be read."""
    monkeypatch.chdir(tmp_path)
    for name in ("log.csv", "items.csv", "rows.csv"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    copytree(model, tmp_path / "m.skmars")
    monkeypatch.setattr(scores, "evaluate", lambda *_, **__: pytest.fail("work was done before"))
    for name in ("predict", "explain", "recommend", "fit"):
        monkeypatch.setattr(commands, name, lambda *_, **__: pytest.fail("work was done before"))
    return tmp_path


def refused(capsys, arguments: list[str]) -> tuple[int, str]:
    """Run a command that is to fail and to change nothing; return code and last line."""
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    assert code in (1, 2)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    captured = capsys.readouterr()
    assert captured.out == ""
    return code, captured.err.splitlines()[-1]


@pytest.mark.skipif(os.name != "posix", reason="has links")
@pytest.mark.parametrize("command", ["fit", "predict", "recommend", "explain", "evaluate"])
def test_no_input_is_written_over(capsys, here: Path, command: str) -> None:
    if command == "fit":
        (here / "log.csv").rename(here / "log.skmars")
        (here / "items.csv").rename(here / "items.skmars")
        arguments = ["log.skmars", "--items", "items.skmars"]
        inputs, ending = ["log.skmars", "items.skmars"], ".skmars"
    else:
        arguments = ["m.skmars", *INPUTS[command]]
        inputs, ending = ["m.skmars", *[a for a in INPUTS[command] if a.endswith("csv")]], ".csv"
    (here / "sub").mkdir()
    for name in inputs:
        Path(f"symbolic-{name}{ending}").symlink_to(name)
        links = [f"symbolic-{name}{ending}"]
        if Path(name).is_file():
            links.append(f"hard-{name}{ending}")
            os.link(name, links[-1])
        for out in (name, f"./{name}", f"sub/../{name}", str(here / name), *links):
            code, err = refused(capsys, [command, *arguments, "--out", out])
            assert code == 2
            assert f"--out {Path(out)} is the same file as {name}" in err


@pytest.mark.skipif(os.name != "posix", reason="has pipes")
@pytest.mark.parametrize("command", ["fit", "predict", "recommend", "explain", "evaluate"])
def test_what_is_wrong_with_out_is_told_first(capsys, here: Path, command: str) -> None:
    end = ".skmars" if command == "fit" else ".csv"
    arguments = ["log.csv", "--base"] if command == "fit" else ["m.skmars", *INPUTS[command]]
    os.mkfifo(f"pipe{end}")
    os.mkdir(f"folder{end}")
    Path(f"folder{end}/notes.txt").write_text("mine")
    messages = {
        f"folder{end}": "folder",
        f"no/new{end}": "no folder",
        f"log.csv/new{end}": "no folder",
        "x" * 300 + end: "too long",
    }
    if command == "fit":
        messages |= {"pipe.skmars": "no folder", "/dev/null": "no folder", "": "something else"}
    else:
        ending = ("/dev/null", "new.txt", "new", "", "new.skmars")
        messages |= {f"pipe{end}": "pipe", **dict.fromkeys(ending, "must end in")}
    for out, message in messages.items():
        code, err = refused(capsys, [command, *arguments, "--out", out])
        assert code == 1
        assert "--out" in err
        assert message in err


@pytest.mark.parametrize("command", ["predict", "recommend", "explain", "evaluate"])
def test_nothing_is_written_into_the_folder_of_a_model(capsys, here: Path, command: str) -> None:
    for out in ("m.skmars/new.csv", "m.skmars/pools/new.csv", str(here / "m.skmars/new.csv")):
        code, err = refused(capsys, [command, "m.skmars", *INPUTS[command], "--out", out])
        assert code == 2
        assert "is in the folder of the model" in err


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--item", "probability"], ["--item", "'probability'", "predictions"]),
        (["--seed", "-1"], ["--seed", "0 to 4294967295"]),
        (["--seed", "x"], ["--seed", "'x'"]),
        (["--click-from", "nan"], ["--click-from", "'nan'"]),
        (["--click-from", "x"], ["--click-from", "'x'"]),
        (["--set", "ctr__a__b=1"], ["--set", "'a__b'", "max_iter"]),
        (["--set", "ctr__max_iter=" + "(" * 3000], ["--set", "max_iter"]),
    ],
)
def test_commands_that_contradict_themselves(capsys, here: Path, options, parts) -> None:
    code, err = refused(capsys, ["fit", "log.csv", "--base", "--out", "new.skmars", *options])
    assert code == 2
    for part in parts:
        assert part in err


def test_a_full_pipe_end_says_so(folder: Path, model: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    command = [sys.executable, "-m", "skmars", "predict", model, folder / "rows.csv"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "stdout can't be written: No space left" in done.stderr


def test_a_thread_may_run_it(folder: Path, tmp_path: Path) -> None:
    codes: list[int] = []
    out = str(tmp_path / "m.skmars")
    arguments = ["fit", str(folder / "log.csv"), "--base", "--out", out, *FAST_BASE]
    thread = threading.Thread(target=lambda: codes.append(main(arguments)))
    thread.start()
    thread.join()
    assert codes == [0]
