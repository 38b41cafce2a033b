"""A few dozen odd tables and commands; `python -m benchmarks.fuzz.command_line` tries thousands."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

pytest.importorskip("pyarrow")
pytest.importorskip("benchmarks.fuzz", reason="the benchmarks are not part of a source package")
from benchmarks.fuzz.command_line import Case, arguments, cases, check, check_arguments


@settings(max_examples=60)
@given(cases())
def test_predictions_belong_to_their_rows(case: Case) -> None:
    check(case)


@settings(max_examples=60)
@given(arguments())
def test_a_command_works_or_says_why_not(words: list[str]) -> None:
    check_arguments(words)
