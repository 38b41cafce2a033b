"""A few hundred damaged and forged models; `python -m benchmarks.fuzz.saved` tries thousands."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

pytest.importorskip("pyarrow")
pytest.importorskip("safetensors")
pytest.importorskip("benchmarks.fuzz", reason="the benchmarks are not part of a source package")
from benchmarks.fuzz.saved import Files, check, damages, forgeries, whole


@settings(max_examples=150, deadline=None)
@given(damages())
def test_no_damaged_model_is_loaded(files: Files) -> None:
    check(files)


@settings(max_examples=150, deadline=None)
@given(forgeries())
def test_a_forged_model_is_data_or_refused(files: Files) -> None:
    check(files)


def test_the_whole_model_is_loaded() -> None:
    assert check(dict(whole())).startswith("loaded")
