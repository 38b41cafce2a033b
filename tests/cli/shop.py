"""Small tables in files, and settings with which a fit takes no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

FAST_BASE = ["--quiet", "--set", "ctr__max_iter=1", "--set", "ctr__hidden_units=(8,)"]
FAST = [
    *FAST_BASE,
    *("--set", "align__max_iter=1", "--set", "align__n_components=8", "--set", "align__id_dim=4"),
    *("--set", "augment__theta=-1.0"),
]


def write(folder: Path, name: str, columns: dict[str, Any]) -> Path:
    """Write a table as CSV or Parquet."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import csv, parquet

    table = pyarrow.table(columns)
    if name.endswith(".csv"):
        csv.write_csv(table, folder / name)
    else:
        parquet.write_table(table, folder / name)
    return folder / name
