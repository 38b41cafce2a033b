"""A pickle of a store is its address: another process opens it."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np

from skmars.serving import Events
from tests.serving.processes import Forked


def look(pickles: list[bytes]) -> None:
    first, second = map(pickle.loads, pickles)
    assert first is second
    print(first.position, first.item_ids(), file=sys.stderr)


def test_another_process_sees_the_same_events(store: Any, tmp_path: Path) -> None:
    store.append(Events(["ann", "bob"], [7, 8], np.array([1.0, 2.0]), np.ones(2, dtype=np.uint8)))
    other = Forked(tmp_path, "other", look, [pickle.dumps(store) for _ in range(2)])
    assert other.wait() == 0, other.told
    assert other.told.strip() == "2 [7, 8]"
