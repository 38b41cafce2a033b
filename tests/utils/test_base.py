"""Diagrams of estimators, and the documentation that they link to."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
from sklearn.base import BaseEstimator

import skmars
from skmars.utils import _base as base


def public_estimators() -> Iterator[Any]:
    for module in iter_modules(skmars.__path__):
        folder = import_module(f"skmars.{module.name}")
        for name in getattr(folder, "__all__", ()):
            cls = getattr(folder, name)
            if isinstance(cls, type) and issubclass(cls, BaseEstimator):
                yield pytest.param(cls, folder.__name__, id=name)


@pytest.mark.parametrize(("cls", "folder"), list(public_estimators()))
def test_links_to_the_page_of_the_public_name(cls: Any, folder: str) -> None:
    estimator = cls.__new__(cls)
    assert estimator._get_doc_link() == f"{base.DOCUMENTATION}/api/{folder}.{cls.__name__}.html"


def test_one_place_says_where_the_documentation_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "DOCUMENTATION", "file:///docs")
    html = skmars.DINClassifier()._repr_html_()
    assert 'href="file:///docs/api/skmars.ctr.DINClassifier.html"' in html
    assert "readthedocs" not in html


def test_it_is_where_the_package_says() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert base.DOCUMENTATION.startswith(project["urls"]["Documentation"])
