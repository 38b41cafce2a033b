"""The lowest versions that are tested are those that pyproject.toml promises."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOWEST = ROOT / "constraints-lowest.txt"

pytestmark = pytest.mark.skipif(not LOWEST.is_file(), reason="not part of an sdist")


def lower_bounds() -> dict[str, set[str]]:
    """Return the lower bounds of each package, by all that names it; linters are pinned instead."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + [
        line for name, lines in extras.items() if name != "lint" for line in lines
    ]
    bounds = defaultdict(set)
    for requirement in map(Requirement, lines):
        if requirement.name != project["name"]:
            [specifier] = requirement.specifier  # a bound, and nothing else
            assert specifier.operator == ">=", f"{requirement} should have a lower bound"
            bounds[canonicalize_name(requirement.name)].add(specifier.version)
    return bounds


def pins(path: Path) -> dict[str, str]:
    lines = re.findall(r"^([^#\s]+)==(\S+)$", path.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in lines}


def test_each_dependency_has_one_lower_bound_and_it_is_tested() -> None:
    bounds, tested = lower_bounds(), pins(LOWEST)
    assert len(bounds) > 30
    wrong = {
        name: (versions, tested.get(name))
        for name, versions in bounds.items()
        if len(versions) != 1 or Version(tested.get(name, "0")) != Version(*versions)
    }
    assert not wrong


def test_what_is_usually_tested_is_no_older() -> None:
    tested = pins(ROOT / "constraints.txt")
    older = {
        name
        for name, [bound] in lower_bounds().items()
        if name in tested and Version(tested[name]) < Version(bound)
    }
    assert not older
