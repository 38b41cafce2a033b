"""A few hundred damaged model files; `python -m benchmarks.fuzz.model_file` tries thousands."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

pytest.importorskip("benchmarks.fuzz", reason="the benchmarks are not part of a source package")
from benchmarks.fuzz.model_file import check, damages, whole


@settings(max_examples=300)
@given(damages())
def test_no_damaged_file_is_opened(data: bytes) -> None:
    check(data)


def test_the_whole_file_is_opened() -> None:
    assert check(whole()).startswith("opened")
