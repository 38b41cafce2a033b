"""Connections of clients who are slow, endless, broken or too many."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress
from itertools import chain, repeat

import pytest

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("httptools")

from skmars.serving.service import _protocol as protocol  # noqa: E402


async def hello(scope, receive, send):
    """Answer with the length of the body, which is read only where the path says so."""
    body = b""
    if scope["path"] == "/read":
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
    answer = str(len(body)).encode()
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


@pytest.fixture
def port(monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 5)
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        hello, http=protocol.BoundedProtocol, ws="none", lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(10)


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def answer(connection):
    """Return status and body of what comes until the server closes the connection."""
    received = b""
    while True:
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            part = b""
        if not part:
            break
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else None, body


def send_on(connection, parts, pause=0.0):
    for part in parts:
        connection.sendall(part)
        time.sleep(pause)


def next_body(connection):
    """Return the body of the next answer, which has one digit."""
    received = b""
    while not received.partition(b"\r\n\r\n")[2]:
        part = connection.recv(65536)
        assert part
        received += part
    return received.partition(b"\r\n\r\n")[2]


def error_code(body):
    return json.loads(body)["error"]["code"]


GET = b"GET / HTTP/1.1\r\nhost: a\r\n"


def test_requests_on_one_connection_are_answered(port):
    with connect(port) as c:
        for _ in range(3):
            c.sendall(GET + b"\r\n")
            assert next_body(c) == b"0"
        c.sendall(b"POST /read HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello")
        assert next_body(c) == b"5"


@pytest.mark.parametrize("sent", [b"", b"GET", GET, GET + b"x: "])
def test_who_does_not_finish_the_headers_is_sent_away(port, sent):
    with connect(port) as c:
        c.sendall(sent)
        status, body = answer(c)
    assert (status, error_code(body)) == (408, "too_slow")


def test_who_drips_headers_is_sent_away(port):
    with connect(port) as c:
        c.sendall(GET)
        c.settimeout(0.02)
        for i in range(500):
            c.sendall(b"x-%d: 1\r\n" % i)
            with suppress(TimeoutError):
                received = c.recv(65536)
                break
    assert received.startswith(b"HTTP/1.1 408")


def test_who_drips_the_headers_of_a_further_request_is_sent_away(port):
    with connect(port) as c:
        c.sendall(GET + b"\r\n")
        assert next_body(c) == b"0"
        c.sendall(GET)
        status, _ = answer(c)
    assert status == 408


def test_who_drips_a_body_that_nobody_reads_is_sent_away(port):
    with connect(port) as c:
        c.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n")
        assert next_body(c) == b"0"
        with pytest.raises(ConnectionError):
            send_on(c, [b"x"] * 500, pause=0.02)


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"GET /",
        GET + b"x: ",
        GET,
        b"POST /read HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ",
        b"POST /read HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;",
    ],
)
def test_endless_headers_lines_and_trailers_take_no_memory(port, begin):
    part = b"x: y\r\n" * 1000 if begin == GET else b"\r\n" * 3000 if not begin else b"a" * 6000
    with connect(port) as c, pytest.raises(ConnectionError):
        send_on(c, chain([begin], repeat(part, 10_000)))


@pytest.mark.parametrize(
    "sent", [b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET / HTTP/9\r\n\r\n"]
)
def test_what_is_no_http_is_refused_as_json(port, sent):
    with connect(port) as c:
        c.sendall(sent)
        status, body = answer(c)
    assert (status, error_code(body)) == (400, "no_http")


def test_too_many_connections_are_refused_and_others_stay(port):
    held = [connect(port) for _ in range(5)]
    for c in held:
        c.sendall(GET + b"\r\n")
        assert next_body(c) == b"0"
    with connect(port) as c:
        status, body = answer(c)
    assert (status, error_code(body)) == (503, "too_many_connections")
    held[0].sendall(GET + b"\r\n")
    assert next_body(held[0]) == b"0"
    for c in held:
        c.close()
    time.sleep(0.1)
    with connect(port) as c:
        c.sendall(GET + b"connection: close\r\n\r\n")
        assert answer(c) == (200, b"0")


def test_pipelined_requests_are_answered_in_order(port):
    with connect(port) as c:
        lengths = [3, 0, 7]
        for n in lengths[:-1]:
            c.sendall(b"POST /read HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (n, b"x" * n))
        c.sendall(b"POST /read HTTP/1.1\r\nconnection: close\r\ncontent-length: 7\r\n\r\n1234567")
        received = b""
        while part := c.recv(65536):
            received += part
    bodies = [part.rpartition(b"\r\n\r\n")[2] for part in received.split(b"HTTP/1.1")[1:]]
    assert bodies == [b"3", b"0", b"7"]
