"""The fault suite needs the packages of serving."""

import pytest

for package in (
    *("fastapi", "uvicorn", "httptools", "psutil", "msgspec", "prometheus_client", "httpx2"),
    *("lmdb", "pyarrow", "safetensors", "pandas"),
):
    pytest.importorskip(package)
