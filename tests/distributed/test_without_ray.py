"""Who does not use Ray neither waits for it nor needs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from skmars.distributed import RayMap, predict


def test_importing_does_not_import_ray() -> None:
    code = "import sys, skmars.distributed, skmars.serving; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_where_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    for call in (RayMap, lambda: predict("model", "rows.parquet")):
        with pytest.raises(ImportError, match=r"pip install \"skmars\[ray\]\""):
            call()
