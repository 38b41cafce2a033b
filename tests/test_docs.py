"""What the site says about the package holds."""

from __future__ import annotations

import ast
import re
import runpy
import textwrap
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import skmars

DOCS = Path(__file__).parents[1] / "docs"
PACKAGE = Path(__file__).parents[1] / "skmars"
COMPARED = DOCS / "guide" / "compared"

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the docs are not part of an sdist")


def test_the_reference_lists_every_folder_with_public_names() -> None:
    listed = re.findall(r"^   (skmars\.\w+)$", (DOCS / "api/index.rst").read_text(), re.MULTILINE)
    folders = (f"skmars.{path.parent.name}" for path in PACKAGE.glob("*/__init__.py"))
    public = {name for name in folders if getattr(import_module(name), "__all__", None)}
    assert set(listed) == public


def names_in(module: Path) -> set[str]:
    """Names of functions, classes and methods, as ``literalinclude`` looks them up."""
    tree = ast.parse(module.read_text())
    kinds = (ast.FunctionDef, ast.ClassDef)
    top = [node for node in tree.body if isinstance(node, kinds)]
    return {node.name for node in top} | {
        f"{node.name}.{inner.name}"
        for node in top
        for inner in node.body
        if isinstance(node, ast.ClassDef) and isinstance(inner, kinds)
    }


def test_the_code_beside_the_equations_is_where_the_guide_looks_for_it() -> None:
    shown = [
        (page.parent / path, name)
        for page in DOCS.rglob("*.rst")
        for path, name in re.findall(
            r"literalinclude:: (\S+\.py)\n +:pyobject: (\S+)", page.read_text()
        )
    ]
    assert len(shown) > 10
    missing = [(path.name, name) for path, name in shown if name not in names_in(path)]
    assert not missing


@pytest.mark.parametrize("library", ["skmars", "imbalanced_learn", "skorch", "fuxictr"])
def test_the_comparison_counts_lines_right(library: str) -> None:
    program = (COMPARED / f"with_{library}.py").read_text()
    lines = sum(1 for line in program.splitlines() if line)
    name = library.replace("_", "-")
    row = re.search(rf"^{name} +(\d+) ", (DOCS / "guide/comparison.rst").read_text(), re.M | re.I)
    assert row is not None
    assert int(row[1]) == lines


def test_the_program_of_the_comparison_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    rng = np.random.RandomState(0)
    log = pandas.DataFrame(
        {
            "user_id": rng.randint(20, size=200),
            "item_id": rng.randint(30, size=200),
            "timestamp": np.arange(200),
            "clicked": rng.randint(2, size=200),
        }
    )
    log.to_parquet(tmp_path / "log.parquet")
    monkeypatch.chdir(tmp_path)
    result = runpy.run_path(str(COMPARED / "with_skmars.py"))
    assert len(result["probability"]) == len(result["test"])


def snippets(page: Path) -> list[str]:
    block = r"^( *)\.\. code-block:: python\n(?:\1   :.*\n)*\n((?:\1   .*\n|\n)+)"
    found = re.findall(block, page.read_text() + "\n", re.MULTILINE)
    return [textwrap.dedent(text) for _, text in found]


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the guide's snippets take as given: a log, items, impressions, a small pipeline."""
    pandas = pytest.importorskip("pandas")
    X, y = skmars.make_multimodal_ctr(40, 20, history="all", random_state=0)
    train, valid, test = skmars.leave_last_out(X)
    small = {"align__n_components": 4, "align__id_dim": 4, "align__max_iter": 1}
    quick = {**small, "ctr__max_iter": 1, "ctr__early_stopping": False}
    mars = skmars.make_mars(random_state=0, **quick)
    log = pandas.DataFrame(
        {
            "user_id": X.user_ids,
            "item_id": X.item_ids,
            "timestamp": np.arange(len(X)),
            "clicked": y,
        }
    )
    items = pandas.DataFrame({"item_id": X.catalog.ids, "title": X.catalog.titles})
    items["audio_vector"] = [[0.5, 1.0]] * len(items)
    return {
        **{name: getattr(skmars, name) for name in skmars.__all__},
        **{"np": np, "pd": pandas, "Pipeline": Pipeline, "GridSearchCV": GridSearchCV},
        **{"BaseEstimator": BaseEstimator, "TransformerMixin": TransformerMixin, "clone": clone},
        **{"X": X, "y": y, "train": train, "valid": valid, "test": test},
        **{
            "log": log,
            "click_log": log[log["clicked"] == 1],
            "items": items,
            "catalog": skmars.ItemCatalog.from_frame(items),
        },
        **{"matrix": np.ones((len(items), 2)), "my_transformer": FunctionTransformer()},
        **{"mars": clone(mars).fit(X[train], y[train]), "base": mars.fit(X[train], y[train])},
        "grid": {"augment__theta": [0.1, 0.3]},
    }


PAGES = ["alignment", "cold_items", "comparing", "ctr", "data", "decisions", "encoders"]
PAGES += ["encoding", "explain", "metrics", "missing", "paper", "problem", "rates", "recommending"]
PAGES += ["retrieval", "sklearn_tools", "splitting", "tuning", "updating"]


@pytest.mark.parametrize("page", PAGES)
def test_snippets_of_the_guide_run(
    page: str, names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = snippets(DOCS / f"guide/{page}.rst")
    assert found
    monkeypatch.chdir(tmp_path)  # some write files
    here = {**names, "items": names["items"].copy(), "log": names["log"].copy()}
    for text in found:
        if "from imblearn" in text and not find_spec("imblearn"):
            continue
        exec(compile(text, f"{page}.rst", "exec"), here)
    if page == "explain":  # what it prints, but for digits that depend on the machine
        printed, told = (
            re.sub(r"\d\.\d+", "#", textwrap.dedent(text))
            for text in (repr(here["why"]), (DOCS / "guide/explain.rst").read_text())
        )
        assert textwrap.indent(printed, "   ").replace("\n   \n", "\n\n") in told


@pytest.mark.filterwarnings("ignore:DINClassifier is trained on:UserWarning")
def test_what_the_guide_says_of_coin_flips_is_so(names: dict[str, Any]) -> None:
    here = dict(names)
    for text in snippets(DOCS / "guide/own_answers.rst"):
        exec(compile(text, "own_answers.rst", "exec"), here)
    assert here["wrong"] == pytest.approx((0.60, 0.77), abs=0.04)
    assert here["right"] == pytest.approx((0.49, 0.69), abs=0.02)
    assert len(here["mars"]["ctr"].validation_scores_) == here["mars"]["ctr"].n_iter_
    assert "augment__theta" in here["search"].best_params_
