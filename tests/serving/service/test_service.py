"""The routes: what they answer, what they refuse, and what becomes of faults."""

from __future__ import annotations

import errno
import json
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi")
pytest.importorskip("httptools")
pytest.importorskip("psutil")
pytest.importorskip("safetensors")
pytest.importorskip("msgspec")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx2")
pytest.importorskip("lmdb")

import uvicorn
from sklearn.pipeline import Pipeline
from starlette.testclient import TestClient

from benchmarks.serving import fuzz
from skmars.serving import StoreError
from skmars.serving.scoring._request import Request
from skmars.serving.scoring._scorer import Scorer
from skmars.serving.scoring._snapshot import Snapshot
from skmars.serving.service import _app as app_module
from skmars.serving.service import _schemas as schemas
from skmars.serving.service import _service as service_module
from skmars.serving.service._app import make_app
from skmars.serving.service._metrics import Metrics
from skmars.serving.service._protocol import BoundedProtocol
from skmars.serving.service._service import Service
from skmars.serving.service._trainer_status import TrainerWatch
from skmars.serving.store._lmdb import LMDBStore
from skmars.serving.store._payload import decode
from tests.serving.fake_store import FakeStore
from tests.serving.served import NOW, FaultyStore, Loads, model, wait_until


class Served:
    """A client of the service, and what stands behind it."""

    def __init__(self, client, store, loads, service):
        self.client, self.store, self.loads, self.service = client, store, loads, service

    def post(self, route, **body):
        return self.client.post(route, json=body)

    def score(self, *users, **further):
        return self.post("/score", users=list(users), **further)

    def click(self, user, item, time=NOW + 10, **further):
        event = {"user_id": user, "item_id": item, "clicked": True, "time": time, **further}
        return self.post("/events", events=[event])

    def metric(self, name):
        """Return the value of a metric, by its name with labels."""
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return 0.0


@contextmanager
def run(folder, kind="mars", token=None, loads=None, **settings):
    store = FaultyStore(LMDBStore(folder / f"{kind}.store"))
    metrics = Metrics()
    loads = loads or Loads(kind)
    service = Service(store, loads, metrics, **{"interval": 0.01, "deadline": 5.0, **settings})
    app = make_app(service, metrics, token)
    with TestClient(app, raise_server_exceptions=False) as client:
        if kind is not None:
            wait_until(lambda: service._versions.current is not None or loads.bad)
        yield Served(client, store, loads, service)
        store.may_read.set()
        store.may_write.set()


@pytest.fixture
def served(tmp_path):
    with run(tmp_path) as served:
        yield served


@pytest.fixture
def din(tmp_path):
    with run(tmp_path, "din") as served:
        yield served


def error(answer):
    """Return code and field of a refusal."""
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()["error"]
    assert set(told) == {"code", "message", "field"}
    assert told["message"]
    return told["code"], told["field"]


# --- answers ----------------------------------------------------------------------------------


def test_scores_are_those_of_the_scorer(served):
    for item in (3, 4, 5):
        served.click(7, item)
    users = [
        {"user_id": 7, "item_ids": [1, 2, 3]},
        {"user_id": 8, "item_ids": [5], "time": NOW - 5e5},
        {"user_id": 7, "item_ids": [1], "time": NOW + 5},
    ]
    answer = served.score(*users).json()
    snapshot = served.service._versions.current
    requests = [Request(u["user_id"], u["item_ids"], u.get("time")) for u in users]
    expected = Scorer(served.store).score(snapshot, requests)
    for got, wanted, user in zip(answer["users"], expected, users, strict=True):
        np.testing.assert_array_equal(got["probabilities"], wanted.probability)
        assert got["user_id"] == user["user_id"]
        assert (got["history"], got["position"]) == ("current", 3)
    assert answer["versions"] == {"params": ".", "pool": "fit"}
    first, _, earlier = answer["users"]
    assert first["probabilities"][0] != earlier["probabilities"][0]  # the clicks came later


def test_the_next_score_sees_an_event(served):
    one = {"user_id": 1, "item_ids": [1, 2, 3]}
    before = served.score(one).json()["users"][0]
    answer = served.click(1, 2)
    assert answer.json() == {"position": 1, "new": 1}
    after = served.score(one).json()["users"][0]
    assert after["position"] == 1
    assert after["probabilities"] != before["probabilities"]


def test_an_event_counts_once(served):
    assert served.click(1, 2).json() == {"position": 1, "new": 1}
    assert served.click(1, 2).json() == {"position": 1, "new": 0}
    assert served.click(1, 2, id="x").json() == {"position": 2, "new": 1}
    assert served.click(1, 3, id="x").json() == {"position": 2, "new": 0}
    assert served.metric('skmars_events_total{state="new"}') == 2
    assert served.metric('skmars_events_total{state="known"}') == 2


CONTEXT = {"device": "x", "price": 3}


def test_events_keep_their_context_and_order(din):
    events = [
        {"user_id": "a", "item_id": str(i), "clicked": i % 2 == 0, "context": CONTEXT}
        for i in range(5)
    ]
    assert din.post("/events", events=events).json() == {"position": 5, "new": 5}
    kept = din.store.stream(0, 10)
    assert [(e.user_id, e.item_id, e.clicked) for e in kept] == [
        ("a", str(i), i % 2 == 0) for i in range(5)
    ]
    assert all(decode(e.payload) == (CONTEXT, None) for e in kept)
    assert all(np.isnan(e.time) for e in kept)


def test_events_are_refused_whose_context_nothing_can_be_learnt_of(din):
    event = {"user_id": "a", "item_id": "1", "clicked": True}
    wrong = [{"devise": "x", "price": 3}, {"price": 3}, {"device": "x", "price": "much"}, {"a": 1}]
    for context in wrong:
        answer = din.post("/events", events=[event, {**event, "context": context}])
        assert (answer.status_code, error(answer)) == (422, ("wrong_value", "events[1].context"))
    assert din.store.position == 0
    for context in (None, {}, {**CONTEXT, "further": 1}):
        assert din.post("/events", events=[{**event, "context": context}]).status_code == 200


def test_events_keep_the_position_of_the_answer_that_was_shown(served):
    served.click(1, 2)
    told = served.score({"user_id": 1, "item_ids": [3]}).json()["users"][0]["position"]
    served.click(1, 4)
    assert served.click(1, 3, position=told).status_code == 200
    assert served.click(1, 5, position=0).status_code == 200
    assert served.click(1, 6, position=None).status_code == 200
    positions = [decode(e.payload)[1] for e in served.store.stream(0, 10)]
    assert positions == [None, None, 1, 0, None]


@pytest.mark.parametrize("position", [-1, 1.5, "1", True, 2**63, [1]])
def test_a_position_is_a_whole_number(served, position):
    answer = served.click(1, 2, position=position)
    assert (answer.status_code, error(answer)) == (422, ("invalid", "events[0].position"))
    assert served.store.position == 0


def test_a_position_beyond_the_end_of_the_store_is_refused(served):
    """It is that of another service; nothing of the request is kept."""
    served.click(1, 2)
    event = {"user_id": 1, "clicked": True, "time": NOW}
    answer = served.post(
        "/events",
        events=[{**event, "item_id": 3, "position": 1}, {**event, "item_id": 4, "position": 2}],
    )
    assert (answer.status_code, error(answer)) == (422, ("wrong_value", "events[1].position"))
    assert "the store ends at 1" in answer.json()["error"]["message"]
    assert served.store.position == 1


def test_unknown_users_and_items_are_answered(served, din):
    answer = served.score({"user_id": 10**12, "item_ids": [10**12, 1, -5]})
    assert answer.status_code == 200
    assert all(0 < p < 1 for p in answer.json()["users"][0]["probabilities"])
    context = {"device": "toaster", "price": 3}
    answer = din.score({"user_id": "nobody", "item_ids": ["nothing", "1"], "context": context})
    assert answer.status_code == 200


def test_context_is_one_value_or_one_a_candidate(din):
    items = ["1", "2", "3"]
    of_all = {"device": "phone", "price": 0.5}
    of_each = {"device": ["phone"] * 3, "price": [0.5, 0.5, 0.5]}
    one = din.score({"user_id": "1", "item_ids": items, "context": of_all}).json()
    each = din.score({"user_id": "1", "item_ids": items, "context": of_each}).json()
    assert one == each
    assert error(din.score({"user_id": "1", "item_ids": items})) == (
        "wrong_value",
        "users[0].context",
    )
    wrong = [
        {"device": "phone"},
        {**of_all, "hour": 3},
        {"device": "phone", "price": "cheap"},
        {"device": "phone", "price": [0.5]},
    ]
    good = {"user_id": "1", "item_ids": items, "context": of_all}
    for context in wrong:
        answer = din.score(good, {"user_id": "1", "item_ids": items, "context": context})
        assert (answer.status_code, error(answer)) == (422, ("wrong_value", "users[1].context"))


def test_recommendations_are_the_best_items(served):
    answer = served.post("/recommend", user_id=3, n=5).json()
    found = [(item["item_id"], item["probability"]) for item in answer["items"]]
    assert len(found) == 5
    everything = list(range(20))
    scores = served.score({"user_id": 3, "item_ids": everything}).json()["users"][0]
    expected = sorted(zip(scores["probabilities"], everything), reverse=True)[:5]
    assert [p for _, p in found] == pytest.approx([p for p, _ in expected], abs=1e-6)
    assert answer["items"][0]["title"] == f"thing {found[0][0]}"
    served.click(3, found[0][0])
    again = served.post("/recommend", user_id=3, n=20).json()["items"]
    assert found[0][0] not in {item["item_id"] for item in again}
    seen = served.post("/recommend", user_id=3, n=20, include_seen=True).json()["items"]
    assert found[0][0] in {item["item_id"] for item in seen}
    few = served.post("/recommend", user_id=3, n=20, item_ids=[1, 2, 999], include_seen=True)
    assert {item["item_id"] for item in few.json()["items"]} <= {1, 2, 999}


def test_an_explanation_tells_what_is_borrowed(served, din):
    served.click(7, 3)
    answer = served.score({"user_id": 7, "item_ids": [1, 2]}, explain=True)
    (scores,) = answer.json()["users"]
    rows = scores["explanation"]["rows"]
    assert [row["item_id"] for row in rows] == [1, 2]
    assert [row["probability"] for row in rows] == pytest.approx(scores["probabilities"], abs=1e-6)
    assert sum(row["n_borrowed"] for row in rows) == len(scores["explanation"]["borrowed"]) > 0
    user = {"user_id": "7", "item_ids": ["1"], "context": {"device": "phone", "price": 1}}
    assert error(din.score(user, explain=True)) == ("no_explanation", "explain")
    assert din.score(user).status_code == 200


def test_what_borrows_is_explained_whatever_its_step_is_named(tmp_path):
    known = model()
    steps = [(f"step {i}", step) for i, (_, step) in enumerate(known.pipeline.steps)]
    other = replace(known, pipeline=Pipeline([("all", Pipeline(steps))]))
    with run(tmp_path, loads=lambda wanted, current: Snapshot.of(other)) as served:
        served.click(7, 3)
        answer = served.score({"user_id": 7, "item_ids": [1]}, explain=True)
        assert answer.json()["users"][0]["explanation"]["rows"][0]["n_borrowed"] > 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: m, "store is empty: the 40 users"),
        (lambda m: replace(m, columns=replace(m.columns, absolute=False)), "no time zone"),
        (lambda m: replace(m, histories=replace(m.histories, now=NOW * 1e3)), "no seconds"),
    ],
)
def test_what_may_surprise_is_told_once(tmp_path, caplog, change, told):
    changed = change(model())
    names = iter(range(10**9))

    def load(wanted, current):
        return Snapshot.of(changed, versions={"pool": f"pools/{next(names)}"})

    with run(tmp_path, loads=load) as served:
        for number in ("1", "2"):
            before = served.client.get("/ready").json()["versions"]
            served.store.publish("pool", number)
            wait_until(lambda b=before: served.client.get("/ready").json()["versions"] != b)
    assert len([r for r in caplog.records if told in r.getMessage()]) == 1


def test_health_readiness_and_documentation(served):
    assert served.client.get("/health").json() == {"status": "alive"}
    ready = served.client.get("/ready")
    assert ready.json() == {"status": "ready", "versions": {"params": ".", "pool": "fit"}}
    document = served.client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        *("/score", "/recommend", "/events", "/health", "/ready", "/metrics")
    }
    known = document["components"]["schemas"]

    def references(part):
        if isinstance(part, dict):
            yield from [part["$ref"]] if "$ref" in part else []
            part = list(part.values())
        if isinstance(part, list):
            for inner in part:
                yield from references(inner)

    found = set(references(document))
    assert len(found) > 10
    assert all(name.removeprefix("#/components/schemas/") in known for name in found)
    assert served.client.get("/docs").status_code == 200


# --- refusals ---------------------------------------------------------------------------------


def test_ids_of_another_kind_are_refused(served, din):
    answer = served.score({"user_id": 1, "item_ids": [1]}, {"user_id": "1", "item_ids": [1]})
    assert (answer.status_code, error(answer)) == (422, ("wrong_kind", "users[1].user_id"))
    answer = served.score({"user_id": 1, "item_ids": [1, 2, "3"]})
    assert error(answer) == ("wrong_kind", "users[0].item_ids[2]")
    assert error(served.post("/recommend", user_id="1")) == ("wrong_kind", "user_id")
    assert error(served.post("/recommend", user_id=1, item_ids=["a"])) == (
        "wrong_kind",
        "item_ids[0]",
    )
    assert error(served.click("a", 1)) == ("wrong_kind", "events[0].user_id")
    assert error(served.click(1, "a")) == ("wrong_kind", "events[0].item_id")
    assert error(din.click("a", 1)) == ("wrong_kind", "events[0].item_id")
    assert served.store.position == 0


def test_ids_have_at_most_500_bytes(din):
    context = {"device": "phone", "price": 1}
    fits, long = "é" * 250, "é" * 251
    assert din.score({"user_id": fits, "item_ids": [fits], "context": context}).status_code == 200
    answer = din.score({"user_id": "a", "item_ids": ["b", long], "context": context})
    assert error(answer) == ("id_too_long", "users[0].item_ids[1]")
    assert error(din.click(long, "a")) == ("id_too_long", "events[0].user_id")


@pytest.mark.parametrize("time", [None, 1.7e12, 1.7e10 * 100])
def test_times_of_events_are_seconds(served, time):
    answer = served.click(1, 2, time=time)
    assert answer.status_code == 422
    assert error(answer)[1].endswith(".time")
    assert served.store.position == 0


def test_a_model_without_times_knows_no_moments(din):
    user = {"user_id": "1", "item_ids": ["1"], "context": {"device": "phone", "price": 1}}
    assert error(din.score({**user, "time": NOW})) == ("wrong_value", "users[0].time")
    assert din.score(user).status_code == 200


def test_all_or_no_events_have_ids(served):
    event = {"user_id": 1, "item_id": 2, "clicked": True, "time": NOW}
    answer = served.post("/events", events=[{**event, "id": "a"}, event])
    assert error(answer) == ("wrong_value", "events[1].id")


def test_requests_have_limits(served):
    answer = served.score(*[{"user_id": 1, "item_ids": list(range(1000))}] * 11)
    assert (answer.status_code, error(answer)) == (422, ("too_many_candidates", "users"))
    assert served.score({"user_id": 1, "item_ids": list(range(1001))}).status_code == 422
    assert served.score().status_code == 422
    assert served.post("/recommend", user_id=1, n=0).status_code == 422


@pytest.mark.parametrize("route", ["/score", "/recommend", "/events"])
def test_bodies_are_json_of_limited_size(served, route):
    post = served.client.post
    json_type = {"content-type": "application/json"}
    answer = post(route, content=b"{}", headers={"content-type": "text/plain"})
    assert (answer.status_code, error(answer)) == (415, ("no_json_type", None))
    assert post(route, content=b"{}").status_code == 415
    answer = post(route, content=b"{]", headers=json_type)
    assert (answer.status_code, error(answer)) == (400, ("no_json", None))
    answer = post(route, content=b" " * (schemas.MAX_BODY + 1), headers=json_type)
    assert (answer.status_code, error(answer)) == (413, ("too_large", None))
    answer = post(route, content=b"{}", headers={"content-type": "Application/JSON; charset=utf-8"})
    assert answer.status_code == 422


def test_routes_and_methods_that_there_are_not(served):
    answer = served.client.get("/nothing")
    assert (answer.status_code, error(answer)) == (404, ("not_found", None))
    answer = served.client.get("/score")
    assert (answer.status_code, error(answer)) == (405, ("wrong_method", None))
    assert "POST" in answer.headers["allow"]
    assert served.client.get("/score/").status_code == 404


def test_without_the_token_only_health_answers(tmp_path):
    with run(tmp_path, token="secret") as served:
        assert served.client.get("/health").status_code == 200
        for header in (
            None,
            "secret",
            "Bearer secre",
            "Bearer secret2",
            "Basic secret",
            "Bearer é",
        ):
            headers = {} if header is None else {"authorization": header.encode()}
            for route in ("/ready", "/metrics", "/docs", "/openapi.json", "/nothing"):
                answer = served.client.get(route, headers=headers)
                assert (answer.status_code, error(answer)) == (401, ("no_token", None))
                assert answer.headers["www-authenticate"] == "Bearer"
            for route in ("/score", "/recommend", "/events"):
                assert served.client.post(route, json={}, headers=headers).status_code == 401
        known = {"authorization": "Bearer secret"}
        assert served.client.get("/ready", headers=known).status_code == 200
        assert served.client.post("/score", json={}, headers=known).status_code == 422


def test_no_trace_of_a_failure_leaves(served, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(served.service._scorer, "answer", fail)
    answer = served.score({"user_id": 1, "item_ids": [1]})
    assert (answer.status_code, error(answer)) == (500, ("internal", None))
    assert "hunter2" not in answer.text
    assert "Traceback" not in answer.text
    assert served.metric('skmars_requests_total{route="/score",status="500"}') == 1


def test_a_bug_is_not_blamed_on_the_request(served, monkeypatch):
    def fail(*_, **__):
        raise ValueError("shapes (3,) and (4,) not aligned")

    monkeypatch.setattr(served.service._scorer, "answer", fail)
    assert served.score({"user_id": 1, "item_ids": [1]}).status_code == 500


@pytest.mark.parametrize("route", list(fuzz.VALID))
def test_no_body_breaks_the_service(tmp_path, route):
    with run(tmp_path, "din") as served:

        @settings(max_examples=60)
        @given(rng=st.randoms(use_true_random=False))
        def throw(rng):
            body = fuzz.drawn(route, rng)
            answer = served.client.post(
                route, content=body, headers={"content-type": "application/json"}
            )
            assert answer.status_code in (200, 400, 413, 422)
            if answer.status_code != 200:
                error(answer)

        throw()
        assert served.client.get("/ready").status_code == 200


@contextmanager
def listening(served, monkeypatch):
    """Serve by uvicorn, too; yield a socket that is connected to it."""
    monkeypatch.setattr(app_module, "BODY_SECONDS", 0.3)
    door = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        served.client.app, http=BoundedProtocol, ws="none", lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
    thread.start()
    with socket.create_connection(door.getsockname(), timeout=20) as connection:
        yield connection
    server.should_exit = True
    thread.join(20)


HEAD = b"POST /score HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"


def status_and_code(connection):
    received = b""
    while not received.endswith(b"}}"):
        part = connection.recv(65536)
        assert part
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["code"]


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"content-length: 100\r\n\r\n",
        HEAD + b"content-length: 100\r\n\r\n{",
        HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
)
def test_a_body_that_does_not_come_is_not_waited_for(served, monkeypatch, sent):
    with listening(served, monkeypatch) as connection:
        connection.sendall(sent)
        assert status_and_code(connection) == (408, "too_slow")
        assert connection.recv(1) == b""


def test_a_body_is_refused_while_it_comes(served, monkeypatch):
    with listening(served, monkeypatch) as connection:
        connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(schemas.MAX_BODY // 65536 + 1):  # and no end
            connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        assert status_and_code(connection) == (413, "too_large")


def test_a_body_that_is_declared_too_large_is_refused_before_it_comes(served, monkeypatch):
    with listening(served, monkeypatch) as connection:
        connection.sendall(HEAD + b"content-length: 99999999999\r\n\r\n")
        assert status_and_code(connection) == (413, "too_large")


# --- faults -----------------------------------------------------------------------------------


def test_a_slow_store_gets_what_was_known(tmp_path):
    with run(tmp_path, deadline=0.05) as served:
        served.click(1, 2)
        one, other = {"user_id": 1, "item_ids": [1]}, {"user_id": 2, "item_ids": [1]}
        known = served.score(one).json()["users"][0]
        assert known["history"] == "current"
        served.click(1, 3)
        served.store.may_read.clear()
        stale, missing = served.score(one, other).json()["users"]
        assert {**known, "history": "stale"} == stale
        assert (missing["history"], missing["position"]) == ("missing", None)
        assert served.metric('skmars_store_misses_total{reason="late"}') == 1
        assert served.metric('skmars_histories_total{state="stale"}') == 1
        assert served.metric('skmars_histories_total{state="missing"}') == 1
        assert served.client.get("/ready").status_code == 503
        served.store.may_read.set()
        wait_until(lambda: served.client.get("/ready").status_code == 200)
        assert served.score(one).json()["users"][0]["history"] == "current"


def test_a_dead_store_refuses_events_and_scoring_goes_on(served):
    served.click(1, 2)
    served.score({"user_id": 1, "item_ids": [1]})
    served.store.read_error = served.store.write_error = StoreError("no connection to 10.0.0.7")
    answer = served.click(1, 3)
    assert (answer.status_code, error(answer)) == (503, ("store_failed", None))
    assert "retry-after" in answer.headers
    assert "10.0.0.7" not in answer.text
    assert served.score({"user_id": 1, "item_ids": [1]}).json()["users"][0]["history"] == "stale"
    best = served.post("/recommend", user_id=2, n=1).json()
    assert (best["history"], best["position"]) == ("missing", None)
    answer = served.client.get("/ready")
    assert (answer.status_code, error(answer)) == (503, ("store_silent", None))
    assert served.client.get("/health").status_code == 200
    served.store.read_error = served.store.write_error = None
    assert served.click(1, 3).json() == {"position": 2, "new": 1}


def test_a_full_disk_is_told_and_scoring_goes_on(served):
    served.store.write_error = StoreError(errno.ENOSPC, "No space left on device")
    answer = served.click(1, 2)
    assert (answer.status_code, error(answer)) == (507, ("disk_full", None))
    assert served.score({"user_id": 1, "item_ids": [1]}).status_code == 200


def test_events_do_not_wait_for_a_hanging_store_forever(served, monkeypatch):
    monkeypatch.setattr(service_module, "WRITE_SECONDS", 0.05)
    monkeypatch.setattr(service_module, "MAX_WRITES", 3)
    served.store.may_write.clear()
    for _ in range(3):
        answer = served.click(1, 2)
        assert (answer.status_code, error(answer)) == (503, ("store_late", None))
    answer = served.click(1, 2)
    assert (answer.status_code, error(answer)) == (429, ("queue_full", None))
    assert served.score({"user_id": 1, "item_ids": [1]}).status_code == 200
    served.store.may_write.set()
    wait_until(lambda: served.click(1, 2).status_code == 200)
    assert served.store.position == 1  # what was late came once


def clients(n, ask):
    """Let `n` clients ask at once, and return their answers."""
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(ask())) for _ in range(n)]
    for thread in threads:
        thread.start()
    return threads, answers


def test_a_full_queue_refuses_and_recovers(tmp_path):
    with run(tmp_path, deadline=20.0, capacity=4) as served:
        served.store.may_read.clear()

        def ask():
            return served.score({"user_id": 1, "item_ids": [1]})

        first, _ = clients(1, ask)
        wait_until(lambda: served.service._histories._free._value < 4)  # it is being scored
        threads, answers = clients(20, ask)
        wait_until(lambda: len(answers) == 16)
        for answer in answers:
            assert (answer.status_code, error(answer)) == (429, ("queue_full", None))
            assert answer.headers["retry-after"] == "1"
        served.store.may_read.set()
        for thread in first + threads:
            thread.join(20)
        assert [a.status_code for a in answers[16:]] == [200] * 4
        assert ask().status_code == 200
        assert served.metric('skmars_refusals_total{reason="queue_full"}') == 16
        assert served.metric("skmars_queue_requests") == 0


def test_a_bad_request_of_a_batch_fails_alone(tmp_path):
    with run(tmp_path, "din", deadline=20.0) as served:
        served.store.may_read.clear()
        context = {"device": "phone", "price": 1}
        bodies = [{"user_id": "1", "item_ids": ["1"], "context": context} for _ in range(8)]
        bodies[3]["context"] = {}
        bodies[5]["time"] = NOW
        answers = {}

        def ask(at):
            answers[at] = served.score(bodies[at])

        threads = [threading.Thread(target=ask, args=(at,)) for at in range(8)]
        threads[0].start()
        wait_until(lambda: served.service._histories._free._value < 4)  # it is being scored
        for thread in threads[1:]:
            thread.start()
        wait_until(lambda: len(served.service._queue) == 7)
        served.store.may_read.set()
        for thread in threads:
            thread.join(20)
        assert [answers[at].status_code for at in range(8)] == [
            422 if at in (3, 5) else 200 for at in range(8)
        ]


def test_clients_notice_no_switch_of_versions(served):
    failed, versions, end = [], set(), threading.Event()

    def ask():
        while not end.is_set():
            answer = served.score({"user_id": 1, "item_ids": [1, 2, 3]})
            if answer.status_code == 200:
                versions.add(answer.json()["versions"]["pool"])
            else:
                failed.append(answer)

    threads, _ = clients(4, ask)
    served.loads.bad.add("pools/3")
    for number in range(1, 8):
        served.store.publish("pool", f"pools/{number}")
        if number == 3:
            wait_until(lambda: "pools/3" in served.loads.loaded)
        else:
            wait_until(lambda number=number: f"pools/{number}" in versions)
    end.set()
    for thread in threads:
        thread.join(20)
    assert not failed
    assert "pools/3" not in versions
    assert served.metric("skmars_failed_loads_total") >= 1
    assert served.metric('skmars_version_number{name="pool"}') == 7
    assert served.metric('skmars_version_info{params=".",pool="pools/7"}') == 1


def test_full_names_of_versions_are_told(tmp_path):
    with run(tmp_path) as served:
        for name, value in (
            ("fits/2/pool", "pools/7"),
            ("fits/2/params", "params/5"),
            ("model", "fits/2"),
        ):
            served.store.publish(name, value)
        versions = {"params": "fits/2/params/5", "pool": "fits/2/pools/7"}
        wait_until(lambda: served.client.get("/ready").json()["versions"] == versions)
        assert served.score({"user_id": 1, "item_ids": [1]}).json()["versions"] == versions
        for name, number in (("model", 2), ("params", 5), ("pool", 7)):
            assert served.metric(f'skmars_version_number{{name="{name}"}}') == number
        served.store.publish("fits/2/params", ".")
        wait_until(lambda: served.metric('skmars_version_number{name="params"}') == 0)
        assert served.metric('skmars_version_number{name="model"}') == 2


STATUS = {
    **{"version": "params/3", "position": 2, "log_loss": 0.5, "current_log_loss": 0.6},
    **{"auc": 0.7, "current_auc": None, "rows": 100, "accepted": True, "n_accepted": 3},
    **{"n_rejected": 1, "n_events": 1234, "n_skipped": 2, "time": 1.7e9},
}


def trainer_metrics(served):
    """Return all that the service shows of the trainer, but ages."""
    lines = served.client.get("/metrics").text.splitlines()
    shown = [line.rpartition(" ") for line in lines if line.startswith("skmars_trainer_")]
    return {
        name.removeprefix("skmars_trainer_"): float(value)
        for name, _, value in shown
        if "age" not in name
    }


def test_the_metrics_show_the_trainer(served):
    assert trainer_metrics(served) == {}
    for item in range(5):
        served.click(1, item)
    served.store.publish("trainer/status", json.dumps(STATUS))
    wait_until(lambda: trainer_metrics(served))
    shown = {
        "events_total": 1234,
        "skipped_events_total": 2,
        "position": 2,
        "positions_behind": 3,
        'log_loss{of="candidate"}': 0.5,
        'log_loss{of="current"}': 0.6,
        'auc{of="candidate"}': 0.7,
        "validation_rows": 100,
        'candidates_total{state="accepted"}': 3,
        'candidates_total{state="rejected"}': 1,
    }
    assert trainer_metrics(served) == shown
    assert served.metric("skmars_trainer_status_age_seconds") > 1e7
    served.click(1, 9)
    wait_until(lambda: trainer_metrics(served) == {**shown, "positions_behind": 4})
    few = {name: STATUS[name] for name in ("position", "n_events", "time")}
    served.store.publish("trainer/status", json.dumps({**few, "position": 99}))
    wait_until(lambda: trainer_metrics(served).get("position") == 99)
    assert trainer_metrics(served) == {
        "events_total": 1234,
        "position": 99,
        "positions_behind": 0,
    }


@pytest.mark.parametrize(
    "broken",
    ["{", "7", "[]", "null", "{}", "[" * 100_000, "9" * 5000]
    + [
        json.dumps({**STATUS, **wrong})
        for wrong in (
            {"position": None},
            {"position": -1},
            {"position": 10**400},
            {"n_events": "many"},
            {"time": None},
            {"auc": "good"},
            {"n_accepted": 1.5},
        )
    ],
)
def test_a_broken_status_is_ignored_and_told_once(tmp_path, caplog, broken):
    store = FakeStore()
    watch = TrainerWatch(store)
    store.publish("trainer/status", json.dumps(STATUS))
    watch.look()
    good = watch.status
    assert good is not None
    store.publish("trainer/status", broken)
    for _ in range(3):
        watch.look()
    assert watch.status == good
    assert len(caplog.records) == 1
    store.publish("trainer/status", json.dumps({**STATUS, "log_loss": float("nan"), "later": []}))
    watch.look()
    assert np.isnan(watch.status.log_loss)


def test_the_ages_of_versions_are_told(tmp_path):
    known = model()
    written = {"params": 1.0, "pool": 2.0}

    def loads(wanted, current):
        return Snapshot(known, {"params": ".", "pool": "fit"}, None, written)

    with run(tmp_path, loads=loads) as served:
        ages = [served.metric(f'skmars_version_age_seconds{{name="{n}"}}') for n in written]
        assert 0.9 < ages[0] - ages[1] < 1.1
        assert ages[0] > 1e9


def test_without_a_model_events_are_kept_and_scores_refused(tmp_path):
    loads = Loads()
    loads.bad.add("fit")
    with run(tmp_path, loads=loads) as served:
        wait_until(lambda: loads.loaded)
        answer = served.score({"user_id": 1, "item_ids": [1]})
        assert (answer.status_code, error(answer)) == (503, ("no_model", None))
        assert served.client.get("/ready").status_code == 503
        assert served.click(1, 2).status_code == 200


def test_requests_are_counted_and_timed(served):
    served.score({"user_id": 1, "item_ids": [1]})
    served.score({"user_id": 1, "item_ids": []})
    served.client.get("/nothing")
    served.client.get("/" + "x" * 50)
    assert served.metric('skmars_requests_total{route="/score",status="200"}') == 1
    assert served.metric('skmars_requests_total{route="/score",status="422"}') == 1
    assert served.metric('skmars_requests_total{route="other",status="404"}') == 2
    assert served.metric('skmars_request_seconds_count{route="/score"}') == 2
    assert served.metric('skmars_refusals_total{reason="invalid"}') == 1
    assert served.metric("skmars_batch_requests_count") == 1


def test_the_model_of_the_tests_is_what_it_should_be():
    assert model().histories.now is not None
    assert model("din").histories.now is None
