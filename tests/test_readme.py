"""The Python lines of the README run, one after another, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


SHORT = "align__max_iter=1, align__n_components=16, align__id_dim=8, ctr__max_iter=2"
QUICKER = {
    "n_users=500, n_items=300": "n_users=100, n_items=60",
    "n_users=100, n_items=60": "n_users=60, n_items=40",
    "make_mars(random_state=0)": f"make_mars(random_state=0, {SHORT})",
    "align__max_iter=2, ctr__max_iter=2": "align__max_iter=1, ctr__max_iter=1",
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
