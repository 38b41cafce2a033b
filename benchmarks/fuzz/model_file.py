"""Damages a model file, and sees that none of it is opened.

    python -m benchmarks.fuzz.model_file --n 10000 --seed 0

Bits flip, bytes go missing, come twice, are inserted or overwritten; the head line is rewritten.
Whatever is not the very file must be refused by a ValueError that names the file, before a byte is
unpickled.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from unittest.mock import patch

import joblib
import pandas as pd
from hypothesis import strategies as st
from sklearn.pipeline import Pipeline

from benchmarks.fuzz.harness import fuzz
from skmars import DINClassifier, Impressions
from skmars.data._user_histories import UserHistories
from skmars.persistence import Columns, Model, load_model, save_model

Damage = Callable[[bytes], bytes]


def small_model() -> Model:
    """Return a model with all parts, which nothing was learnt for."""
    log = pd.DataFrame({"user_id": [1, 1, 2] * 40, "item_id": range(120), "timestamp": range(120)})
    X, _ = Impressions.from_log(log)
    return Model(Pipeline([("ctr", DINClassifier())]), Columns(), UserHistories.of(X), "none")


@cache
def whole() -> bytes:
    """Return the bytes of a model file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.skmars"
        save_model(small_model(), path)
        return path.read_bytes()


def places() -> st.SearchStrategy[int]:
    """Draw a place in the file, as often in the head line or near an end as anywhere."""
    n = len(whole())
    head = whole().index(b"\n") + 1
    return st.one_of(st.integers(0, n - 1), st.integers(0, head + 3), st.integers(n - 9, n - 1))


@st.composite
def damages(draw: st.DrawFn) -> bytes:
    """Draw the contents of a file."""
    data, a, b = whole(), draw(places()), draw(places())
    a, b = min(a, b), max(a, b)
    some = st.binary(min_size=1, max_size=40)
    kind = draw(st.sampled_from(KINDS))
    if kind == "bits":
        damaged = bytearray(data)
        for place in draw(st.lists(places(), min_size=1, max_size=4)):
            damaged[place] ^= 1 << draw(st.integers(0, 7))
        return bytes(damaged)
    if kind == "head":
        words = data[: data.index(b"\n")].split(b" ")
        words[draw(st.integers(0, len(words) - 1))] = draw(
            st.one_of(some, st.sampled_from(words), st.integers(-1, 2**70).map(lambda i: b"%d" % i))
        )
        return b" ".join(words) + data[data.index(b"\n") :]
    return {
        "cut": lambda: data[:a],
        "without": lambda: data[:a] + data[b:],
        "twice": lambda: data[:b] + data[a:],
        "insert": lambda: data[:a] + draw(some) + data[a:],
        "append": lambda: data + draw(some),
        "zeros": lambda: data[:a] + bytes(b - a) + data[b:],
        "foreign": lambda: draw(st.binary(max_size=300)),
        "payload": lambda: data[: data.index(b"\n") + 1] + draw(st.binary(max_size=300)),
    }[kind]()


KINDS = (
    *("bits", "head", "cut", "without", "twice"),
    *("insert", "append", "zeros", "foreign", "payload"),
)


def check(data: bytes) -> str:
    """Put `data` in a file, try to open it, and say what became of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.skmars"
        path.write_bytes(data)
        refusal = ""
        with patch.object(joblib, "load", return_value="opened") as load:
            try:
                opened = load_model(path)
            except ValueError as error:
                refusal = str(error)
        if refusal:
            assert str(path) in refusal, f"names no file: {refusal}"
            assert data != whole(), f"refused, though it is whole: {refusal}"
            assert not load.called, "refused, but unpickled before"
            return "refused: " + " ".join(refusal.replace(str(path), "").split()[:3])
        assert opened == "opened"
        assert data == whole(), "opened, though it is damaged"
        return "opened: nothing was changed"


if __name__ == "__main__":
    fuzz(check, damages(), __doc__)
