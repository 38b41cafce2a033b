"""Damages and forges saved models, and sees that none is taken for what it is not.

    python -m benchmarks.fuzz.saved --n 10000 --seed 0

Damage: bits flip, bytes go missing, come twice, are inserted or overwritten, files are exchanged.
Whatever is not the very model must be refused by an error that names the folder. Forgery: nodes of
the manifest change, and the checksum with them, as somebody with bad intentions would do. That may
give an object, of known classes and of plain data, or a ValueError, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from sklearn.pipeline import Pipeline

import skmars
from benchmarks.fuzz.harness import fuzz
from skmars import DINClassifier, Impressions
from skmars.persistence import Model
from skmars.utils._folder._classes import known_names

Files = dict[str, bytes | None]  # those that differ from the whole ones; None where one lacks
MANIFEST, CHECKSUM = "manifest.json", "manifest.sha256"


def small_model() -> Model:
    """Return a model with all parts, of a network that is hardly trained."""
    log = pd.DataFrame({"user_id": [1, 1, 2] * 40, "item_id": range(120), "timestamp": range(120)})
    X, _ = Impressions.from_log(log)
    din = DINClassifier(hidden_units=(2,), attention_units=(2,), max_iter=1, random_state=0)
    return Model.of(Pipeline([("ctr", din)]).fit(X, np.arange(120) % 2), X)


@cache
def whole() -> dict[str, bytes]:
    """Return the files of a saved model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m"
        skmars.save(small_model(), path)
        return {file.name: file.read_bytes() for file in path.iterdir()}


@st.composite
def damages(draw: st.DrawFn) -> Files:
    """Draw the files of a model that something has happened to."""
    files: dict[str, Any] = dict(whole())
    name = draw(st.sampled_from(sorted(files)))
    data = files[name]
    places = st.integers(0, len(data) - 1) | st.integers(0, min(99, len(data) - 1))
    a, b = sorted([draw(places), draw(places)])
    some = st.binary(min_size=1, max_size=40)
    other = draw(st.sampled_from(sorted(files)))
    kind = draw(st.sampled_from(DAMAGES))
    if kind == "bits":
        damaged = bytearray(data)
        for place in draw(st.lists(places, min_size=1, max_size=4)):
            damaged[place] ^= 1 << draw(st.integers(0, 7))
        return {name: bytes(damaged)}
    if kind == "lost":
        files[name] = None
    elif kind == "renamed":
        files[draw(st.sampled_from(["x", ".x", name.upper(), f"{name}~"]))] = data
        files[name] = None
    elif kind == "exchanged":
        files[name], files[other] = files[other], data
    else:
        files[name] = {
            "cut": lambda: data[:a],
            "without": lambda: data[:a] + data[b:],
            "twice": lambda: data[:b] + data[a:],
            "insert": lambda: data[:a] + draw(some) + data[a:],
            "append": lambda: data + draw(some),
            "zeros": lambda: data[:a] + bytes(b - a) + data[b:],
            "foreign": lambda: draw(st.binary(max_size=300)),
        }[kind]()
    return {key: changed for key, changed in files.items() if changed != whole().get(key)}


DAMAGES = (
    *("bits", "lost", "renamed", "exchanged", "cut", "without"),
    *("twice", "insert", "append", "zeros", "foreign"),
)


def parts_of(value: Any) -> list[tuple[Any, Any]]:
    """Return all places in nested lists and mappings, as container and key."""
    found, waiting = [], [value]
    while waiting:
        container = waiting.pop()
        keys = container if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], list | dict):
                waiting.append(container[key])
    return found


@st.composite
def forgeries(draw: st.DrawFn) -> Files:
    """Draw the files of a model whose manifest somebody has changed."""
    told = json.loads(whole()[MANIFEST])
    names = sorted({*known_names(), "os.system", "builtins.eval"})
    for _ in range(draw(st.integers(1, 3))):
        nodes = told.get("nodes")
        places = parts_of(nodes if isinstance(nodes, list) and draw(st.integers(0, 9)) else told)
        if not places:
            break  # nothing is left to change
        container, key = places[draw(st.integers(0, len(places) - 1))]
        there = container[key]
        far = places[draw(st.integers(0, len(places) - 1))]
        new = draw(
            st.sampled_from([far[0][far[1]], names[draw(st.integers(0, len(names) - 1))], [there]])
            | st.sampled_from([None, True, -1, 0, 1, 2**31, 2**63, 1e308, "", "x", [], {}, [0]])
            | st.integers(0, 150).map(lambda i: [i])
        )
        if draw(st.integers(0, 9)) == 0:
            del container[key]
        else:
            container[key] = new
    text = json.dumps(told).encode()
    line = f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n".encode()
    return {MANIFEST: text, CHECKSUM: line}


def check(files: Files) -> str:
    """Put files in a folder, try to load it, and say what became of it."""
    forged = set(files) == {MANIFEST, CHECKSUM} and files[MANIFEST] != whole()[MANIFEST]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m"
        path.mkdir()
        for name, data in {**whole(), **files}.items():
            if data is not None:
                (path / name).write_bytes(data)
        try:
            with no_foreign_code():
                found = skmars.load(path)
        except (ValueError, OSError) as error:
            message = str(error)
            assert str(path) in message, f"names no folder: {message}"
            assert files.items() - whole().items(), f"refused, though it is whole: {message}"
            return f"{'forged' if forged else 'damaged'}: refused"
        if forged:
            return f"forged: {type(found).__name__} of other data"
        assert not files.items() - whole().items(), "loaded, though it is damaged"
        return "loaded: nothing was changed"


_watched = threading.local()


@contextmanager
def no_foreign_code() -> Iterator[None]:
    """Raise AssertionError if something is unpickled, or another program started."""
    _add_hook()
    _watched.events = []
    try:
        yield
    finally:
        events, _watched.events = _watched.events, None
    assert not events, f"code has run: {events}"


@cache
def _add_hook() -> None:
    def hook(event: str, _: Any) -> None:
        if getattr(_watched, "events", None) is not None and event.startswith(FOREIGN):
            _watched.events.append(event)

    sys.addaudithook(hook)


FOREIGN = ("pickle.", "os.system", "os.exec", "os.posix_spawn", "subprocess.", "socket.")


if __name__ == "__main__":
    fuzz(check, damages() | forgeries(), __doc__)
