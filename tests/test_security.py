"""What SECURITY.md says is so: each claim is tested here, or by the test that stands beside it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline

import skmars
from skmars import DINClassifier, ItemCatalog, MultimodalEncoder
from skmars.encoding import clear_memory_cache
from skmars.persistence import register

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "SECURITY.md"
SERVICE = "serving/service/test_service.py"

# What the page says, and where it is tested.
CLAIMS = {
    "Objects are made of the classes of a": "utils/test_folder.py::test_no_other_class_is_made",
    "Loading runs no code": "utils/test_folder.py::test_loading_looks_up_no_code",
    "so are links and foreign files": "utils/test_folder.py::"
    "test_missing_foreign_and_renamed_files_are_noticed",
    "Caches are None in a model that was loaded": "persistence/test_round_trip.py::"
    "test_caches_belong_to_the_machine_that_fitted",
    "refused before it is decoded": "encoding/test_content.py::"
    "test_a_decompression_bomb_is_masked_before_it_is_decoded",
    "larger than such a": "encoding/test_broken_content.py::"
    "test_a_file_may_be_as_large_as_its_picture_can_be",
    "EPS, which is a program": "encoding/test_broken_content.py::test_bad_pictures_are_masked",
    "Devices and pipes are not opened": "encoding/test_broken_content.py::"
    "test_what_is_no_file_is_masked_at_once",
    "listens to this machine alone": "serving/service/test_serve.py::test_wrong_arguments_are_told",
    "needed by all routes but": f"{SERVICE}::test_without_the_token_only_health_answers",
    "1 MiB of JSON": f"{SERVICE}::test_bodies_are_json_of_limited_size",
    "follows a schema": "serving/service/test_schemas.py::"
    "test_what_lies_beyond_a_documented_limit_is_refused",
    "a request 100 users": f"{SERVICE}::test_requests_have_limits",
    "ten seconds, a body": f"{SERVICE}::test_a_body_that_does_not_come_is_not_waited_for",
    "Headers have 64 KiB": "serving/service/test_protocol.py::"
    "test_endless_headers_lines_and_trailers_take_no_memory",
    "a process 1,000 connections": "serving/service/test_protocol.py::"
    "test_too_many_connections_are_refused_and_others_stay",
    "requests wait": f"{SERVICE}::test_a_full_queue_refuses_and_recovers",
    "Answers to errors tell nothing": f"{SERVICE}::test_no_trace_of_a_failure_leaves",
    "Messages show it without the password": "serving/store/test_store_faults.py::"
    "test_a_wrong_password_is_told_and_never_shown",
}


@pytest.mark.skipif(not PAGE.is_file(), reason="the page is not part of an sdist")
@pytest.mark.parametrize("claim", CLAIMS)
def test_each_claim_has_its_test(claim: str) -> None:
    assert claim in " ".join(PAGE.read_text().split())
    file, _, name = CLAIMS[claim].partition("::")
    assert f"def {name}(" in (ROOT / "tests" / file).read_text()


@pytest.mark.skipif(not PAGE.is_file(), reason="the page is not part of an sdist")
def test_limits_are_those_of_the_code() -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("httptools")
    pytest.importorskip("msgspec")
    from skmars.data._images import MAX_IMAGE_PIXELS
    from skmars.serving.service import _app, _protocol, _schemas
    from skmars.serving.service._server import Settings

    text = " ".join(PAGE.read_text().split())
    assert f"({MAX_IMAGE_PIXELS / 1e6:.0f} million" in text
    assert f"at most {_schemas.MAX_BODY // 2**20} MiB" in text
    assert f"{_schemas.MAX_USERS} users and {_schemas.MAX_ROWS:,} candidates" in text
    assert f"or {_schemas.MAX_EVENTS:,} events" in text
    assert f"Headers have {_protocol.MAX_HEAD // 2**10} KiB" in text
    assert _protocol.HEAD_SECONDS == _app.BODY_SECONDS == 10
    assert f"{_protocol.MAX_CONNECTIONS:,} connections" in text
    assert f"{Settings(Path(), '').queue} requests wait" in text


# --- saved models -------------------------------------------------------------------------------


@register
class Steps(TransformerMixin, BaseEstimator):
    """A class of one's own, which tells when its constructor is called."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    def fit(self, X: Any, y: Any = None) -> Steps:
        return self


def saved_as(path: Path, class_name: str) -> Path:
    """Save an object, and let the folder name another class, with the checksums that it needs."""
    pytest.importorskip("pyarrow")
    pytest.importorskip("safetensors")
    skmars.save(Steps(), path)
    text = (path / "manifest.json").read_text()
    assert f"{__name__}.Steps" in text
    text = text.replace(f"{__name__}.Steps", class_name)
    (path / "manifest.json").write_text(text)
    checksum = hashlib.sha256(text.encode()).hexdigest()
    (path / "manifest.sha256").write_text(f"{checksum}  manifest.json\n")
    return path


def test_a_forged_class_is_not_even_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_module.py").write_text("open('ran', 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="evil_module.Evil"):
        skmars.load(saved_as(tmp_path / "model", "evil_module.Evil"))
    assert "evil_module" not in sys.modules
    assert not (tmp_path / "ran").exists()


def test_constructors_are_not_called(tmp_path: Path) -> None:
    path = saved_as(tmp_path / "model", f"{__name__}.Steps")
    before = Steps.made
    assert isinstance(skmars.load(path), Steps)
    assert Steps.made == before


def test_a_version_outside_of_the_folder_of_the_model_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("safetensors")
    from skmars.serving.scoring._snapshot import Snapshot

    for name in ("../other", "pools/../../other", "/etc", "fits/../../other"):
        for pointers in ({"params": name}, {"pool": name}):
            with pytest.raises(
                ValueError, match="must be a folder below|of another model|another model than"
            ):
                Snapshot.load_versions(_small_model(tmp_path), **pointers)


def _small_model(folder: Path) -> Path:
    from skmars.persistence import Model

    path = folder / "model"
    if not path.exists():
        pandas = pytest.importorskip("pandas")
        log = pandas.DataFrame({"user_id": [1, 2] * 5, "item_id": range(10), "clicked": [0, 1] * 5})
        X, y = skmars.Impressions.from_log(log, label="clicked")
        din = DINClassifier(max_iter=1, early_stopping=False)
        skmars.save(Model.of(make_pipeline(din).fit(X, y), X), path)
    return path


# --- caches -------------------------------------------------------------------------------------


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_fitted_encoders_of_a_cache_are_pickles_and_vectors_are_not(tmp_path: Path) -> None:
    """The page warns of it: if that changes, so must the page."""
    texts = [f"colour{i % 3} thing{i}" for i in range(20)]
    catalog = ItemCatalog(range(20), content={"text": texts})
    encoder = MultimodalEncoder(cache=str(tmp_path))
    encoder.fit(catalog)
    [folder] = [path.parent for path in tmp_path.rglob("encoder.joblib")]
    vectors = list(tmp_path.rglob("*.npz"))
    assert vectors
    for path in vectors:
        with np.load(io.BytesIO(path.read_bytes()[:-32]), allow_pickle=False) as arrays:
            assert {arrays[name].dtype.kind for name in arrays} <= set("uf")
    ran = tmp_path / "ran"
    whole = pickle.dumps(Bomb(ran))
    name = f"{folder.name}/encoder.joblib".encode()
    checksum = hashlib.blake2b(name, digest_size=32)
    checksum.update(whole)
    (folder / "encoder.joblib").write_bytes(whole + checksum.digest())  # by whoever may write it
    clear_memory_cache()
    MultimodalEncoder(cache=str(tmp_path)).fit(catalog)
    assert ran.exists()


# --- contents and tables -------------------------------------------------------------------------


def test_no_address_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address))
    png = io.BytesIO()
    Image.new("RGB", (4, 4)).save(png, "PNG")
    urls = ["http://127.0.0.1:9/a.png", "https://127.0.0.1:9/a.png", "file:///etc/passwd"]
    catalog = ItemCatalog(range(4), content={"image": [png.getvalue(), *urls]})
    with pytest.warns(UserWarning, match="3 of 4 items"):
        MultimodalEncoder().fit(catalog)
    assert asked == []


@pytest.mark.filterwarnings("ignore:.*PyExtensionType")  # what pyarrow 18 says of it
def test_tables_are_not_unpickled(tmp_path: Path) -> None:
    """Old versions of pyarrow made objects of a pickle that stood in a table's schema."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    from skmars.cli._tables import read_table

    ran = tmp_path / "ran"
    told = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Bomb(ran)),
    }
    schema = pa.schema([pa.field("user_id", pa.int64(), metadata=told), ("item_id", pa.int64())])
    table = pa.table({"user_id": [1, 2], "item_id": [3, 4]}, schema=schema)
    parquet.write_table(table, tmp_path / "log.parquet")
    read_table(tmp_path / "log.parquet", {"user_id": None, "item_id": None})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(table)
    again = pa.ipc.open_stream(sink.getvalue()).read_all()
    with suppress(TypeError):  # pyarrow 18 has no hash of such a type
        skmars.Impressions.from_log(again)
    assert not ran.exists()


# --- the service and the store ------------------------------------------------------------------


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Any]:
    for package in ("fastapi", "httptools", "safetensors", "msgspec", "prometheus_client", "lmdb"):
        pytest.importorskip(package)
    pytest.importorskip("httpx2")
    pytest.importorskip("psutil")
    from .serving.service.test_service import run

    with run(tmp_path, "din") as served:
        yield served


def test_metrics_and_log_have_no_ids(service: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="skmars"):
        context = {"device": "a-private-device", "price": 1.5}
        user = {"user_id": "a-private-person", "item_ids": ["a-private-thing"], "context": context}
        assert service.score(user).status_code == 200
        event = {"user_id": "a-private-person", "item_id": "a-private-thing", "clicked": True}
        assert service.post("/events", events=[event | {"context": context}]).status_code == 200
        service.score({**user, "item_ids": []})
        service.client.get("/a-private-path")
    assert "private" not in service.client.get("/metrics").text
    assert "private" not in caplog.text


def test_no_route_takes_a_file_or_an_address(service: Any) -> None:
    told = service.client.get("/openapi.json").json()
    taking = {path: methods["post"] for path, methods in told["paths"].items() if "post" in methods}
    assert set(taking) == {"/score", "/recommend", "/events"}
    assert {tuple(told["requestBody"]["content"]) for told in taking.values()} == {
        ("application/json",)
    }
    fields = set(re.findall(r'"(\w+)": \{', json.dumps(told["components"]["schemas"])))
    assert not fields & {"file", "path", "url", "module", "callback", "model"}


def test_the_documentation_loads_scripts_from_elsewhere(service: Any) -> None:
    """The page warns of it: if that changes, so must the page."""
    found = service.client.get("/docs").text
    assert set(re.findall(r"https://([^/\"]+)", found)) <= {
        "cdn.jsdelivr.net",
        "fastapi.tiangolo.com",
    }


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_what_users_did_is_not_readable_for_everybody(tmp_path: Path) -> None:
    pytest.importorskip("lmdb")
    pytest.importorskip("msgspec")
    from skmars.serving import open_store
    from skmars.serving.service._score_log import ScoreLog

    umask = os.umask(0)
    try:
        open_store(f"lmdb:{tmp_path / 'store'}").close()
        ScoreLog(tmp_path / "scores.jsonl").close()
    finally:
        os.umask(umask)
    files = [*(tmp_path / "store").iterdir(), tmp_path / "scores.jsonl"]
    assert len(files) == 3
    assert not [path.name for path in files if stat.S_IMODE(path.stat().st_mode) & 0o007]


def test_a_password_needs_to_stand_neither_in_arguments_nor_in_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from skmars.cli._command_line import make_parser
    from skmars.serving import open_store

    url = "redis://:secret@localhost:6379/0"
    monkeypatch.setenv("SKMARS_STORE", url)
    for command in (["serve"], ["runner"]):
        assert make_parser().parse_args([*command, "--model", "shop"]).store == url
    with pytest.raises(ValueError, match="valkey://localhost") as caught:
        open_store("valkey://:secret@localhost:6379/0")
    assert "secret" not in str(caught.value)
