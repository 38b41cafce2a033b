"""What a type checker knows of skmars: every public name, strictly."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import skmars

from . import typed_program

ROOT = Path(skmars.__file__).parents[1]
# What `mypy --strict` has beyond the settings of pyproject.toml.
STRICT = (
    "# mypy: disallow-subclassing-any, disallow-untyped-calls, warn-return-any, warn-unused-ignores"
)


def public_names() -> list[str]:
    """Every public name, by every way to import it."""
    folders = [f"skmars.{m.name}" for m in pkgutil.iter_modules(skmars.__path__) if m.ispkg]
    return [
        f"{folder}.{name}"
        for folder in ("skmars", *folders)
        for name in getattr(importlib.import_module(folder), "__all__", ())
    ]


def test_a_user_program_is_strictly_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = pytest.importorskip("mypy.api", reason="needs mypy")
    names = public_names()
    assert len(names) > 30
    modules = sorted({name.rpartition(".")[0] for name in names})
    lines = [STRICT, *(f"import {module}" for module in modules)]
    lines += [f"reveal_type({name})" for name in names]
    (tmp_path / "names.py").write_text("\n".join(lines))
    assert Path(typed_program.__file__).read_text().startswith(STRICT)
    # With the settings of `make lint`, which leaves what it has read of all packages in the cache.
    monkeypatch.chdir(ROOT)
    found, problems, _ = api.run([str(tmp_path / "names.py"), typed_program.__file__])
    assert problems == ""
    assert ": error: " not in found
    revealed = [line.partition("Revealed type is ")[2] for line in found.splitlines()]
    assert len([r for r in revealed if r]) == len(names)
    assert '"Any"' not in revealed


def test_the_user_program_runs() -> None:
    assert 0 <= typed_program.main() <= 1


def test_lazy_names_are_those_that_type_checkers_see() -> None:
    assert (Path(skmars.__file__).parent / "py.typed").is_file()
    tree = ast.parse(Path(skmars.__file__).read_text())
    seen = {
        (alias.asname, (node.module or "").removeprefix("skmars."))
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == set(skmars._PUBLIC.items())
