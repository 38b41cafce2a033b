"""The checks of the built site find what they look for, and nothing else."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "check_site.py"

pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="the docs are not part of an sdist")


@pytest.fixture(scope="module")
def check_site() -> Any:
    spec = importlib.util.spec_from_file_location("check_site", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_site"] = module  # where dataclasses look
    spec.loader.exec_module(module)
    return module


def write(site: Path, name: str, body: str) -> None:
    (site / name).parent.mkdir(parents=True, exist_ok=True)
    (site / name).write_text(f"<html><body>{body}</body></html>", encoding="utf-8")


def test_a_sound_site_has_no_findings(check_site: Any, tmp_path: Path, capsys: Any) -> None:
    write(tmp_path, "_static/theme/part.html", '<a href="{{ nowhere }}">of a template</a>')
    write(
        tmp_path,
        "index.html",
        """<h1 id="top">a</h1> <a href="#top">up</a> <a href="guide/">guide</a>
        <a href="guide/index.html?x=1#m%C3%A4rz">part</a> <a href="https://example.org/">far</a>
        <img src="a%20b.png"><img src="data:image/png;base64,AA=="><a>no link</a>""",
    )
    write(tmp_path, "guide/index.html", '<a name="märz"></a><a href="../index.html">back</a>')
    (tmp_path / "a b.png").touch()
    assert list(check_site.check_links(tmp_path)) == []
    assert check_site.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "0 findings in 2 pages\n"


@pytest.mark.parametrize(
    ("body", "finding"),
    [
        ('<a href="gone.html">x</a>', "gone.html leads to no file"),
        ('<a href="#gone">x</a>', "#gone leads to no anchor"),
        ('<a href="index.html#gone">x</a>', "index.html#gone leads to no anchor"),
        ('<img src="gone.png">', "gone.png leads to no file"),
        ('<link rel="stylesheet" href="gone.css">', "gone.css leads to no file"),
        ('<script src="https://cdn.example/x.js"></script>', "loads https://cdn.example/x.js"),
        ('<link rel="stylesheet" href="//cdn.example/x.css">', "loads //cdn.example/x.css"),
    ],
)
def test_what_leads_nowhere_or_is_loaded_from_elsewhere_is_found(
    check_site: Any, tmp_path: Path, capsys: Any, body: str, finding: str
) -> None:
    write(tmp_path, "index.html", body)
    ((page, found),) = check_site.check_links(tmp_path)
    assert page == "index.html"
    assert found.startswith(finding)
    assert check_site.main([str(tmp_path)]) == 1
    assert f"index.html: {finding}" in capsys.readouterr().out


def test_no_site_is_told(check_site: Any, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        check_site.main([str(tmp_path)])
    assert "Build the site first: make docs" in capsys.readouterr().err
