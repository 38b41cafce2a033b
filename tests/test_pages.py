"""The first pages of the site run as they stand, and say what the package holds."""

from __future__ import annotations

import ast
import re
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skmars

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the docs are not part of an sdist")

SHORT = "align__max_iter=1, align__n_components=8, align__id_dim=4, ctr__max_iter=2"
QUICKER = {
    "make_mars(random_state=0)": f"make_mars(random_state=0, {SHORT})",
    "n_users=200, n_items=100": "n_users=60, n_items=60",
    "DINClassifier(random_state=0)": "DINClassifier(max_iter=2, random_state=0)",
}


def code(page: str) -> list[str]:
    block = r"code-block:: python\n(?:   :.*\n)*\n((?:(?:   .*)?\n)+)"
    return [textwrap.dedent(text) for text in re.findall(block, (DOCS / page).read_text() + "\n")]


def quicker(text: str) -> str:
    for long, short in QUICKER.items():
        text = text.replace(long, short)
    return text


def run(page: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    names = dict(names or {})
    assert code(page)
    for text in code(page):
        exec(compile(text, page, "exec"), names)
    return names


def test_the_quick_start_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("pandas", "pyarrow", "safetensors"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for text in code("quickstart.rst"):
        exec(compile(quicker(text), "quickstart.rst", "exec"), names)
    assert re.match(r"MARS: 0\.\d+\nDIN alone: 0\.\d+\n", capsys.readouterr().out)
    assert names["now"].item_ids[-1] == 12  # the new event is part of the history
    assert len(names["X"]) == len(names["log"]) + 1


@pytest.mark.slow
def test_the_quick_start_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run("quickstart.rst")
    said = re.search(r"code-block:: text\n\n((?:   .*\n)+)", (DOCS / "quickstart.rst").read_text())
    assert said is not None
    pairs = zip(said[1].split(), capsys.readouterr().out.split())
    for expected, found in pairs:
        if expected.startswith("0."):
            assert float(found) == pytest.approx(float(expected), abs=0.02)
        else:
            assert found == expected


@pytest.mark.parametrize("page", ["gpu.rst", "install.rst", "reproducibility.rst"])
def test_assertions_of_the_pages_hold(page: str) -> None:
    run(page)


def test_the_network_of_the_aligner_matters_where_the_page_says_so() -> None:
    names = run("limitations.rst")  # which asserts that it does not by default
    small = {**names["small"], "augment__item_representation": "embedding"}
    X, y, train, test = (names[name] for name in ("X", "y", "train", "test"))
    found = [
        skmars.make_mars(align__max_iter=n, **small).fit(X[train], y[train]).predict_proba(X[test])
        for n in (1, 3)
    ]
    assert not np.array_equal(*found)


def test_the_time_of_a_tenth_can_be_taken(capsys: pytest.CaptureFixture[str]) -> None:
    X, y = skmars.make_multimodal_ctr(300, 30, mean_length=5, random_state=0)
    [text] = code("data_and_time.rst")
    exec(compile(quicker(text), "data_and_time.rst", "exec"), {"X": X, "y": y})
    assert f"CPU seconds for {np.sum(X.user % 10 == 0)} rows" in capsys.readouterr().out


def test_our_side_of_the_migrations_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pandas = pytest.importorskip("pandas")
    rng = np.random.RandomState(0)
    log = pandas.DataFrame(
        {"user_id": rng.randint(40, size=600), "item_id": rng.randint(30, size=600)}
    )
    log["category"] = np.array(["tea", "jam", "rum"])[log["item_id"] % 3]
    log["hour"], log["timestamp"] = rng.randint(24, size=600), np.arange(600)
    log["clicked"] = rng.randint(2, size=600)
    names = run("migrating.rst", {"log": log})
    assert names["probability"].shape == names["test"].shape
    assert "category" in names["X"].catalog.attributes


def test_the_migrations_name_our_parameters_with_their_defaults() -> None:
    page = (DOCS / "migrating.rst").read_text()
    defaults = skmars.DINClassifier().get_params()
    values = r"""``(\w+)`` \(("[^"]+"|\([^)]*\)|None|[\d.e-]+)"""
    ours = [line for line in page.splitlines() if line.startswith("     - ")]
    told = [
        (name, ast.literal_eval(value))
        for line in ours
        for name, value in re.findall(values, line)
        if name in defaults
    ]
    assert len(told) >= 20
    assert all(defaults[name] == value for name, value in told), told


def test_the_table_of_extras_is_that_of_the_project() -> None:
    page = (DOCS / "install.rst").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = set()
    for row in re.findall(r"   \* - (``.*?)\n     - .*?\n     - (.*?)\n", page):
        names = re.findall(r"``(\w+)``", row[0])
        named |= set(names)
        if "pyproject.toml" in row[1]:
            continue
        packages = {re.split(r"[\[>=;]", line)[0] for line in extras[names[0]]} - {"skmars"}
        said = set(re.findall(r"[\w-]+", re.sub(r"those of ``\w+``, and", "", row[1])))
        assert said == packages, names
    assert named == set(extras)


def test_the_version_to_cite_is_this_one() -> None:
    assert (DOCS / "citing.rst").read_text().count(skmars.__version__) == 2


@pytest.mark.filterwarnings("ignore:SequenceRetrievalAugmenter will borrow nothing")
def test_how_long_measures_each_step() -> None:
    from benchmarks.how_long import STEPS, line, measure

    found = measure(20)
    assert all(found[name] > 0 for name in (*STEPS, "predict", "one epoch"))
    assert found["peak"] >= found["start"] > 0
    assert line(found).startswith("| 20 | ")
