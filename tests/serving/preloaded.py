"""Imports what commands of serving need, once for all that are forked from a process."""

import importlib
from contextlib import suppress

for name in (
    *("torch", "pandas", "pyarrow.parquet", "sklearn.pipeline", "lmdb", "redis", "uvicorn"),
    *("skmars.cli", "skmars.cli._runner", "skmars.persistence._saved"),
    *(
        "skmars.serving.service._app",
        "skmars.serving.service._server",
        "skmars.serving.trainer._trainer",
    ),
):
    with suppress(ImportError):
        importlib.import_module(name)
