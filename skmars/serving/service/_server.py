"""Run the service: the processes, what they listen to, and how they end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from skmars.persistence._modules import import_modules
from skmars.serving.store._current import Current

if TYPE_CHECKING:
    from fastapi import FastAPI

    from skmars.serving.scoring._snapshot import Snapshot
    from skmars.serving.service._score_log import ScoreLog
    from skmars.serving.store._store import Store

log = logging.getLogger(__name__)

DRAIN_SECONDS = 30  # for what is being answered when the service is asked to end
KEEP_ALIVE_SECONDS = 30
WORKER_SECONDS = 30  # without a sign of life, after which a process is replaced
BACKLOG = 1024  # connections that wait to be accepted
LONGEST_SWITCH = 5e-4  # seconds that a thread keeps the interpreter while another waits


@dataclass(frozen=True)
class Settings:
    """How the service runs.

    Parameters
    ----------
    model : Path
        Folder of a saved model.
    store : str
        Address of the store, as `open_store` takes it.
    host, port
        What it listens to; port 0 takes a free one.
    workers : int, default=1
        Number of processes.
    token : str, default=None
        Bearer token that requests need.
    queue : int, default=256
        How many requests may wait to be scored, in each process.
    deadline : float, default=0.05
        Seconds that the store has to tell histories.
    interval : float, default=1.0
        Seconds between two looks for new versions.
    access_log : bool, default=False
        Whether to log a line a request.
    log_scores : Path, default=None
        Where to write scored requests, for `skmars replay`.
    log_share : float, default=0.01
        Share of the scored requests that is written.
    modules : tuple of str, default=()
        Modules to import first, in which classes of one's own are registered.
    """

    model: Path
    store: str
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    token: str | None = field(default=None, repr=False)
    queue: int = 256
    deadline: float = 0.05
    interval: float = 1.0
    access_log: bool = False
    log_scores: Path | None = None
    log_share: float = 0.01
    modules: tuple[str, ...] = ()


def serve(settings: Settings) -> None:
    """Run the service until it is asked to end, by SIGTERM or Ctrl-C.

    Raises
    ------
    OSError
        If the model can't be found, the store not be opened, or the address is taken.
    ValueError
        If the address of the store is none, or the model can't be served.
    TypeError
        If ids are strings in the store and integers in the model, or the other way round.
    """
    from uvicorn import Config, Server
    from uvicorn.supervisors import Multiprocess

    from skmars.serving.service._protocol import BoundedProtocol
    from skmars.serving.store._open import open_store

    if not (settings.model / "manifest.json").is_file():
        raise FileNotFoundError(
            f"{settings.model} is no saved model (there is no manifest.json in it). Name the "
            "folder that `skmars fit` or skmars.save wrote."
        )
    # What can't be opened or loaded is told at once, before anybody waits for an answer.
    import_modules(settings.modules)
    store = open_store(settings.store)
    try:
        tried = [_tried(settings.model, store)]
    finally:
        store.close()
    if settings.workers > 1:
        tried.clear()  # worker processes load it by themselves, and share its pages
    listening = _listen(settings.host, settings.port)
    config = Config(
        partial(_application, settings, tried),
        factory=True,
        workers=settings.workers,
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        loop="asyncio",
        interface="asgi3",
        log_config=None,
        access_log=settings.access_log,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_worker_healthcheck=WORKER_SECONDS,
    )
    host, port = listening.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    where = f"http://{host}:{port} (store: {_shown(settings.store)})"
    print(f"skmars serve: listening on {where}", file=sys.stderr, flush=True)
    # uvicorn raises the signals that it caught again, when all is answered.
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    try:
        if settings.workers == 1:
            Server(config).run(sockets=[listening])
        else:
            with tempfile.TemporaryDirectory(prefix="skmars-metrics-") as folder:
                os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
                Multiprocess(config, sockets=[listening]).run()
    finally:
        listening.close()


def _tried(folder: Path, store: Store) -> Snapshot:
    """Return the current versions, or else those before them; raise if none of them works."""
    from skmars.serving.scoring._scorer import Scorer
    from skmars.serving.scoring._snapshot import Snapshot

    current, scorer = Current.of(store), Scorer(store)

    def load(versions: Current) -> Snapshot:
        snapshot = Snapshot.load_versions(folder, versions.params, versions.pool)
        scorer.prepare(snapshot)
        return snapshot

    *others, last = [current, *current.without_later()]
    for versions in others:
        with suppress(Exception):  # the service logs it, and does the same
            return load(versions)
    return load(last)


def _shown(url: str) -> str:
    """Return the address of a store without its password."""
    scheme, mark, rest = url.partition("://")
    return scheme + mark + rest.rpartition("@")[2]


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise OSError(
            f"The service can't listen on {host}, port {port}: {error.strerror}. Give another "
            "--host or --port; port 0 takes a free one."
        ) from error
    # Connections inherit it. (asyncio sets it for sockets that know their protocol alone.)
    # Without it, the body of an answer waits 40 ms until the client has confirmed its headers.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _end(*_: Any) -> NoReturn:
    raise SystemExit(0)


def _application(settings: Settings, tried: list[Snapshot]) -> FastAPI:
    """Return the application of one process. `tried` is what is loaded already, if anything."""
    import torch

    import_modules(settings.modules)
    from skmars.serving.service._app import make_app
    from skmars.serving.service._metrics import Metrics
    from skmars.serving.service._service import Service
    from skmars.serving.store._open import open_store

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    logging.getLogger("skmars").setLevel(logging.WARNING)  # estimators tell what each call did
    logging.getLogger("skmars.serving").setLevel(logging.INFO)
    torch.set_num_threads(1)  # one scoring thread a process: more would wait for each other
    sys.setswitchinterval(LONGEST_SWITCH)
    metrics = Metrics()
    service = Service(
        open_store(settings.store),
        _loader(settings.model, tried),
        metrics,
        deadline=settings.deadline,
        capacity=settings.queue,
        interval=settings.interval,
        score_log=_score_log(settings),
    )
    return make_app(service, metrics, settings.token)


def _score_log(settings: Settings) -> ScoreLog | None:
    from skmars.serving.service._score_log import ScoreLog

    if settings.log_scores is None:
        return None
    return ScoreLog(settings.log_scores, settings.log_share)


def _loader(folder: Path, tried: list[Snapshot]) -> Callable[..., Any]:
    """Return a function that loads the versions that are wanted, if they are not at hand.

    `tried` is what was loaded before; it is forgotten when there is something current.
    """
    from skmars.serving.scoring._snapshot import Snapshot

    def load(wanted: Current, current: Snapshot | None) -> Snapshot:
        if current is not None:
            tried.clear()
        loaded = tried[0] if tried else current
        return Snapshot.load_versions(folder, wanted.params, wanted.pool, loaded=loaded)

    return load
