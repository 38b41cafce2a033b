"""What no content does: end a fit, hang, be taken for another one; a few inputs of each kind.

`python -m benchmarks.fuzz.content` draws as many as there is time for.
"""

from __future__ import annotations

import pytest

pytest.importorskip("benchmarks.fuzz", reason="the benchmarks are not part of a source package")
from benchmarks.fuzz.content import checks, fuzz


@pytest.mark.parametrize(
    ("kind", "n"), [("pictures", 150), ("texts", 60), ("raw", 60), ("digests", 150), ("cache", 25)]
)
def test_whatever_the_content(kind, n):
    fuzz(kind, n)


def test_every_kind_is_tested():
    assert set(checks()) == {"pictures", "texts", "raw", "digests", "cache"}
