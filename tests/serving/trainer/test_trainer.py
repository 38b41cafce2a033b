"""The trainer learns what the library would, once, wherever it is killed, and publishes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from skmars.serving.scoring._snapshot import Snapshot
from skmars.serving.store._current import Current

pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
pytest.importorskip("safetensors")
from tests.serving.trainer.shop import (
    NOW,
    OPTIONS,
    as_state,
    assert_same,
    base_log,
    batches_of,
    checkpoint,
    events_of,
    fresh,
    learnt_by_the_library,
    log_of,
    opened,
    run,
    status,
)

ARRIVALS = [*np.linspace(0, 90, 20), *np.linspace(110, 190, 5), *np.linspace(210, 280, 15)]


@pytest.mark.parametrize("kind", ["mars", "din", "unseeded", "state", "clicks"])
def test_equals_partial_fit_in_one_process(store: Any, kind: str) -> None:
    folder, log = fresh(kind), log_of(40, 1, NOW)
    if kind == "clicks":
        log = log.assign(clicked=1)
    store = opened(store, ARRIVALS, kind)
    if kind == "din":  # without times, what is there when it begins counts as known
        run(folder, store)
    events = events_of(log, timed=kind != "din")
    store.append(replace(events, payload=None) if kind == "clicks" else events)
    steps = run(folder, store)
    end, found = len(log) - OPTIONS["validate_on"], checkpoint(folder)
    assert found.position == len(base_log(kind)) + end
    assert (found.n_events, found.n_skipped) == (end, 0)
    seed = (lambda position: position) if kind == "unseeded" else (lambda position: None)
    expected = learnt_by_the_library(log, batches_of(ARRIVALS, end), kind, seed)
    assert_same(found, as_state(expected, found))
    names = [f"params/{n}" for n in (1, 2, 3)]
    assert [step.version for step in steps if step.version] == names
    assert Current.of(store).params == names[-1]
    assert Snapshot.load(folder, store).versions["params"] == names[-1]
    assert status(store)["n_accepted"] == 3
