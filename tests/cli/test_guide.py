"""The commands of the page "From the command line" run one after another, as they stand there."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from skmars.cli import main
from skmars.cli._arguments import MODELS

from .shop import FAST

PAGE = Path(__file__).parents[2] / "docs/guide/command_line.rst"
# Training that takes no time; the models that need some are left out.
SHORTER = {"fit": FAST[1:], "compare": [w for name in MODELS[2:] for w in ("--without", name)]}


def blocks(language: str) -> list[str]:
    pattern = rf"^( *)\.\. code-block:: {language}\n\n((?:\1   .*\n|\n)+)"
    return [dedent(m[2]) for m in re.finditer(pattern, PAGE.read_text(), re.MULTILINE)]


def test_commands_of_the_guide_run(capsys, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("pandas")
    if not PAGE.exists():
        pytest.skip("the documentation is not part of a source package")
    monkeypatch.chdir(tmp_path)
    (make,) = blocks("python")
    exec(compile(make, str(PAGE), "exec"), {})
    text = "".join(blocks("bash")).replace("\\\n", "")
    commands = [line for line in text.splitlines() if line]
    assert {line.split()[1] for line in commands} == {
        *("compare", "fit", "recommend", "predict", "explain", "evaluate")
    }
    told = {}
    for line in commands:
        program, command, *words = shlex.split(line)
        assert program == "skmars"
        if "<" in words:
            words, (name,) = words[: words.index("<")], words[words.index("<") + 1 :]
            monkeypatch.setattr(sys, "stdin", open(name))  # noqa: SIM115
        capsys.readouterr()
        code = main([command, *words, *SHORTER.get(command, [])])
        told[command], err = capsys.readouterr()
        assert code == 0, f"{line}: {err}"
        if "device" in words:
            assert err.splitlines()[-1] in PAGE.read_text()
    assert told["recommend"].splitlines()[0] in PAGE.read_text()
    assert len(told["recommend"].splitlines()) == 1 + 3 * 10
    assert "Row 0: user c-" in told["explain"] or told["explain"] == ""
    assert told["evaluate"].startswith('"metric","value","rows","users"')
    assert "sku" in Path("clicks.csv").read_text()
    assert Path("clicks.parquet").exists()
    assert "borrowed_item" in Path("borrowed.csv").read_text()
