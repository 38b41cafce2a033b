"""A service in this process, with a store and a deployment that are real."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from starlette.testclient import TestClient

import skmars
from skmars.serving.service._app import make_app
from skmars.serving.service._metrics import Metrics
from skmars.serving.service._server import _loader
from skmars.serving.service._service import Service
from tests.serving.served import NOW, model, wait_until
from tests.serving.service.test_service import Served

USER = {"user_id": 1, "item_ids": [1, 2, 3]}


@cache
def saved() -> Path:
    """Return the folder of a saved model, which no test may change."""
    folder = Path(mkdtemp(), "model")
    skmars.save(model(), folder)
    return folder


def deployment(folder: Path) -> Path:
    """Return the folder of a saved model of a test's own."""
    return Path(shutil.copytree(saved(), folder / "model"))


@contextmanager
def serving(store: Any, folder: Path | None = None, **settings: Any) -> Iterator[Served]:
    """Serve a deployment, and give a client; the store is closed at the end."""
    metrics = Metrics()
    load = _loader(folder or saved(), [])
    service = Service(store, load, metrics, **{"interval": 0.02, "deadline": 2.0, **settings})
    with TestClient(make_app(service, metrics), raise_server_exceptions=False) as client:
        wait_until(lambda: service._versions.current is not None)
        yield Served(client, store, load, service)


def event(n: int) -> dict[str, Any]:
    """Return an event like no other."""
    return {"user_id": n % 7, "item_id": n % 11, "time": NOW + n, "clicked": n % 3 > 0}
