"""Throw broken requests at the service: no crash, no hang, no status 500, and bounded memory.

    python -m benchmarks.serving.fuzz --n 10000 --seed 0

A small shop is served by `skmars serve`. For each route, `--n` bodies: random bytes, valid bodies
that were mutated (values of wrong types, huge numbers, deep nesting, long strings, duplicate keys,
NaN), cut or with bytes exchanged; whole, in chunks, and a few of them slowly. Printed are the
statuses of each route, and the memory of the server before and after.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

import skmars
from benchmarks.serving.load import server
from skmars import DINClassifier, Impressions
from skmars.persistence import Model

NOW = 1.7e9
VALID: dict[str, list[Any]] = {
    "/score": [
        {"users": [{"user_id": 1, "item_ids": [1, 2, 99], "context": {"device": "phone"}}]},
        {
            "users": [
                {
                    "user_id": 10**9,
                    "item_ids": [1, 2],
                    "time": NOW + 9,
                    "context": {"device": ["phone", "desk"]},
                }
            ]
            * 3,
            "explain": False,
        },
    ],
    "/recommend": [
        {"user_id": 1, "n": 3, "context": {"device": "phone"}},
        {
            "user_id": 2,
            "item_ids": [1, 2, 7],
            "include_seen": True,
            "time": NOW,
            "context": {"device": "desk"},
        },
    ],
    "/events": [
        {
            "events": [
                {
                    "user_id": 3,
                    "item_id": 4,
                    "clicked": True,
                    "time": NOW + 1,
                    "id": "a",
                    "context": {"device": "phone"},
                    "position": 0,
                }
            ]
        }
    ],
}
# Texts of JSON that take the place of values.
ODD = [
    *("null", "true", "-1", "0", "1.5", "1e308", "1e999", "-1e999", "NaN", "Infinity", "-0"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551616"),
    *("9" * 400, "9" * 5000, "0." + "1" * 5000, "1e-400", "5e-324", "-1e11", "99999999999"),
    *('""', '"a"', '"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"', '"' + "x" * 600 + '"'),
    *('"' + "é" * 300 + '"', '"' + "😀" * 200 + '"', '"' + "x" * 100_000 + '"', '"a" "b"'),
    *("[]", "{}", "[[]]", '{"a": 1}', "[1, [2]]", "[null]", "[true, 1]", '[1, "1"]'),
    *("[" * 50_000, "[" * 5_000 + "]" * 5_000, '{"a":' * 20_000, '{"a":' * 500 + "1" + "}" * 500),
    "[" + ",".join("1" * 2 for _ in range(20_000)) + "]",
    "{" + ",".join(f'"c{i}": {i}' for i in range(3_000)) + "}",
    *('{"device": NaN}', '{"device": [1, 2, 3]}', '{"device": {"a": []}}', '{"": 1}', "\x00", "//"),
]


def mutated(body: Any, rng: random.Random) -> bytes:
    """Return a valid body as bytes, with a few things about it wrong."""
    text = json.dumps(body)
    for _ in range(rng.randint(1, 3)):
        kind = rng.randrange(6)
        if kind <= 2:  # another value
            places = [i for i, c in enumerate(text) if c in ":[,"]
            at = rng.choice(places) + 1
            end = min((e for c in ",]}" if (e := text.find(c, at)) >= 0), default=len(text))
            text = text[:at] + rng.choice(ODD) + text[end:]
        elif kind == 3:  # a key twice, or another key
            at = text.find("{") + 1
            key = rng.choice(["user_id", "item_ids", "users", "events", "time", "n", "foreign"])
            text = f'{text[:at]}"{key}": {rng.choice(ODD)}, {text[at:]}'
        elif kind == 4:
            text = text[: rng.randrange(len(text) + 1)]
        else:
            at = rng.randrange(len(text) + 1)
            text = text[:at] + chr(rng.randrange(1, 0x3000)) + text[at + 1 :]
        if len(text) > 300_000 or not any(c in text for c in ":[,"):
            break
    return text.encode("utf-8", "surrogatepass")


def drawn(route: str, rng: random.Random) -> bytes:
    kind = rng.randrange(12)
    if kind == 0:
        return rng.randbytes(rng.randrange(300))
    if kind == 1:
        return rng.choice(ODD).encode("utf-8", "surrogatepass")
    if kind == 2:
        return json.dumps(rng.choice(VALID[route])).encode()
    if kind == 3 and rng.random() < 0.05:
        return b'{"users": [' + b" " * rng.randrange(2**19, 2**21)
    body = mutated(rng.choice(VALID[route]), rng)
    if kind == 4 and body:
        at = rng.randrange(len(body))
        return body[:at] + rng.randbytes(3) + body[at:]
    return body


class Client:
    """A connection, which is opened again when the server has closed it."""

    def __init__(self, port: int) -> None:
        self.port, self.socket, self.file = port, None, None

    def ask(self, head: bytes, parts: list[bytes], pause: float = 0.0) -> tuple[int, bytes]:
        """Return status and body of the answer; (0, b"") if the server closed the connection."""
        for _ in range(2):
            if self.socket is None:
                self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=60)
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.file = self.socket.makefile("rb")
            try:
                self.socket.sendall(head)
                for part in parts:
                    self.socket.sendall(part)
                    time.sleep(pause)
                return self._answer()
            except (ConnectionError, ValueError):
                self.close()
        return 0, b""

    def _answer(self) -> tuple[int, bytes]:
        assert self.file is not None
        status = int(self.file.readline().split()[1])
        length, close = 0, False
        while (line := self.file.readline().strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line.split()[1])
            close |= line == b"connection: close"
        body = self.file.read(length)
        if close:
            self.close()
        return status, body

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None


def throw(client: Client, route: str, body: bytes, rng: random.Random) -> tuple[int, bytes]:
    """Send a body whole or in chunks, with a header that is right or not."""
    head = f"POST {route} HTTP/1.1\r\nhost: a\r\n".encode()
    types = ["application/json"] * 20 + ["text/plain", "", "application/json; charset=x"]
    head += f"content-type: {rng.choice(types)}\r\n".encode()
    slow = 0.05 if rng.random() < 0.002 else 0.0
    if rng.random() < 0.2:
        cuts = sorted(rng.randrange(len(body) + 1) for _ in range(rng.randrange(6)))
        parts = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in parts if part]
        head += b"transfer-encoding: chunked\r\n\r\n"
        return client.ask(head, [*chunks, b"0\r\n\r\n"], slow)
    head += f"content-length: {len(body)}\r\n\r\n".encode()
    half = len(body) // 2
    return client.ask(head, [body[:half], body[half:]] if slow else [body], slow)


def shop(folder: Path) -> None:
    """Save a small model with context and times."""
    rng = np.random.default_rng(0)
    n = 400
    log = pd.DataFrame(
        {
            "user_id": rng.integers(30, size=n),
            "item_id": rng.integers(15, size=n),
            "timestamp": NOW - rng.random(n) * 1e6,
            "device": rng.choice(["phone", "desk"], n),
            "clicked": rng.integers(2, size=n),
        }
    )
    X, y = Impressions.from_log(log, label="clicked", context=["device"])
    din = DINClassifier(max_iter=1, hidden_units=(8,), random_state=0)
    skmars.save(Model.of(Pipeline([("ctr", din)]).fit(X, y), X), folder / "model")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--n", type=int, default=10_000, help="bodies a route")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        shop(Path(name))
        with server(Path(name)) as (port, process):
            for route in VALID:
                print(fuzz(route, port, process, options.n, options.seed), flush=True)


def fuzz(route: str, port: int, process: Any, n: int, seed: int) -> str:
    """Throw `n` bodies at a route; raise AssertionError if it does not stand them."""
    rng, client, statuses = random.Random(f"{route} {seed}"), Client(port), Counter[int]()
    before = process.memory_info().rss / 1e6
    for number in range(n):
        body = drawn(route, rng)
        status, answer = throw(client, route, body, rng)
        statuses[status] += 1
        told = f"{route}, number {number} of seed {seed}: {status} {answer[:300]!r} {body[:300]!r}"
        assert status in (200, 400, 413, 415, 422), told
        assert b"Traceback" not in answer, told
        told_json = json.loads(answer)
        assert status == 200 or {"code", "message", "field"} == set(told_json["error"]), told
    status, answer = client.ask(b"GET /ready HTTP/1.1\r\nhost: a\r\n\r\n", [])
    assert status == 200, answer
    client.close()
    after = process.memory_info().rss / 1e6
    found = ", ".join(f"{status}: {n}" for status, n in sorted(statuses.items()))
    return f"{route}: {found}; memory {before:.0f} MB, then {after:.0f} MB"


if __name__ == "__main__":
    main()
