"""The Python lines of the README run, one after another, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


QUICKER = {
    "n_users=500, n_items=300": "n_users=120, n_items=80",
    "make_mars(random_state=0)": "make_mars(random_state=0, align__max_iter=2, ctr__max_iter=3)",
}


def test_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = README.read_text()
    for long, short in QUICKER.items():
        text = text.replace(long, short)
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    printed = capsys.readouterr().out
    assert "Use '" in printed  # the recommendation of `compare`
    assert "donor_id" in printed
    assert "Empty DataFrame" not in printed
