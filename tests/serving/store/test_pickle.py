"""A pickle of a store is its address: another process opens it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np

from skmars.serving import Events

CODE = """
import pickle, sys
first, second = pickle.load(sys.stdin.buffer), pickle.load(sys.stdin.buffer)
assert first is second
print(first.position, first.item_ids())
"""


def test_another_process_sees_the_same_events(store: Any) -> None:
    store.append(Events(["ann", "bob"], [7, 8], np.array([1.0, 2.0]), np.ones(2, dtype=np.uint8)))
    pickled = b"".join(pickle.dumps(store) for _ in range(2))
    done = subprocess.run(
        [sys.executable, "-c", CODE], input=pickled, capture_output=True, check=False
    )
    assert done.stdout.decode().strip() == "2 [7, 8]", done.stderr.decode()
