"""The trainer learns what the library would, once, wherever it is killed, and publishes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skmars import DINClassifier
from skmars.serving import LeaseHeld, Trainer
from skmars.serving.scoring._parameters import Parameters
from skmars.serving.scoring._snapshot import Snapshot
from skmars.serving.store._current import Current
from skmars.utils._folder import _atomic, _folder

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
    new_folder,
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


class Killed(BaseException):
    """The process ends without doing anything further."""


class Mortal:
    """A store whose process is killed before or after a certain call."""

    def __init__(self, store: Any, at: int, after: bool) -> None:
        self._store, self.left, self._after = store, at, after

    @property
    def position(self) -> int:
        return self._call(lambda: self._store.position)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name in ("acquire", "release"):
            return method
        return lambda *args, **options: self._call(lambda: method(*args, **options))

    def _call(self, method: Any) -> Any:
        self.left -= 1
        if self.left == 0 and not self._after:
            raise Killed
        result = method()
        if self.left == 0:
            raise Killed
        return result


def lmdb_store() -> Any:
    lmdb = pytest.importorskip("skmars.serving.store._lmdb", reason="lmdb is not installed")
    return lmdb.LMDBStore(new_folder())


@pytest.fixture
def shop() -> Iterator[Callable[[], tuple[Path, Any]]]:
    """Makes a deployment, and a store whose stream is to be learnt."""
    stores = []

    def make(kind: str = "mars", n: int = len(ARRIVALS), seed: int = 1) -> tuple[Path, Any]:
        stores.append(lmdb_store())
        store = opened(stores[-1], ARRIVALS, kind)
        store.append(events_of(log_of(n, seed, NOW)))
        return fresh(kind), store

    yield make
    for store in stores:
        store.close()


def version(folder: Path, store: Any) -> Parameters:
    return Parameters.load(folder / Current.of(store).params)


@pytest.fixture(scope="module")
def undisturbed() -> tuple[Parameters, Parameters, int]:
    """Checkpoint and version of a trainer that nothing disturbed, and its calls of the store."""
    engine = lmdb_store()
    store, folder = opened(engine, ARRIVALS), fresh()
    store.append(events_of(log_of(len(ARRIVALS), 1, NOW)))
    calls = Mortal(store, 10**9, False)
    run(folder, calls, checkpoint_every=0)
    found = checkpoint(folder), version(folder, store), 10**9 - calls.left
    engine.close()
    return found


def test_killed_at_any_call_of_the_store(shop: Any, undisturbed: Any) -> None:
    expected, published, n_calls = undisturbed
    n_killed = 0
    for at in range(1, n_calls, n_calls // 8):
        folder, store = shop()
        for k in (at, 23):
            try:
                run(folder, Mortal(store, k, k % 2 == 0), checkpoint_every=0 if at % 2 else 1e9)
            except Killed:
                n_killed += 1
        run(folder, store)
        assert_same(checkpoint(folder), expected)
        assert_same(version(folder, store), published)
    assert n_killed > 8


def test_what_is_compared_tells_one_batch_from_another(shop: Any, undisturbed: Any) -> None:
    folder, store = shop()
    run(folder, store, batch=7)
    found = replace(checkpoint(folder), learnt=undisturbed[0].learnt)
    with pytest.raises(AssertionError):
        assert_same(found, undisturbed[0])


STEPS = {
    "learn": (DINClassifier, "partial_fit"),
    "predict": (DINClassifier, "predict_proba"),
    "check": (Snapshot, "check"),
    "write": (_folder, "write_manifest"),
    "replace": (_atomic, "_put"),
    "save": (Parameters, "save"),
    "read": (Parameters, "load"),
    "rename": (Path, "rename"),
}


@pytest.mark.parametrize("name", STEPS)
def test_killed_in_any_step(shop: Any, undisturbed: Any, monkeypatch: Any, name: str) -> None:
    expected, published, _ = undisturbed
    owner, attribute = STEPS[name]
    for at, after in ((1, True), (4, False), (5, True)):
        folder, store = shop()
        step = type("Step", (), {attribute: staticmethod(getattr(owner, attribute))})
        with monkeypatch.context() as broken:
            mortal = getattr(Mortal(step, at, after), attribute)
            broken.setattr(owner, attribute, lambda *args, do=mortal: do(*args))
            with suppress(Killed):
                run(folder, store, checkpoint_every=0)
        run(folder, store)
        assert_same(checkpoint(folder), expected)
        assert_same(version(folder, store), published)


def test_two_trainers(shop: Any, undisturbed: Any) -> None:
    folder, store = shop()
    first = Trainer(folder, store, **OPTIONS).steps()
    next(first)
    with pytest.raises(LeaseHeld, match="process"):
        run(folder, store)
    first.close()
    position = checkpoint(folder).position
    assert position > len(base_log())
    run(folder, store)
    assert_same(checkpoint(folder), undisturbed[0])


def test_whenever_it_looks(shop: Any, undisturbed: Any) -> None:
    """Events that come while it works are learnt as if they had been there before."""
    folder, store = shop(n=0)
    steps, log = Trainer(folder, store, **OPTIONS).steps(every=0.001), log_of(40, 1, NOW)
    for i in range(len(log)):
        store.append(replace(events_of(log[i : i + 1], i)))
        while next(steps).learnt:
            pass
    for _ in range(10):
        next(steps)
    steps.close()
    run(folder, store)
    assert_same(checkpoint(folder), undisturbed[0])
    assert_same(version(folder, store), undisturbed[1])


@pytest.mark.parametrize("store_kind", ["lmdb"])
@pytest.mark.parametrize("kind", ["mars", "clicks"])
def test_items_that_nobody_knows_yet_do_not_matter(new_store: Any, kind: str) -> None:
    """Those of events that came before the trainer looked, but after the batch."""
    log, rng = log_of(72, 1, NOW), np.random.default_rng(0)
    log["item_id"] = np.where(rng.random(72) < 0.4, rng.integers(50, 70, size=72), log.item_id)
    if kind == "clicks":
        log["clicked"] = 1
    found = []
    for n in (72, 8):
        store, folder = opened(new_store(), 0.1 * np.arange(72), kind), fresh(kind)
        for begin in range(0, 72, n):
            events = events_of(log[begin : begin + n], begin)
            store.append(replace(events, payload=None) if kind == "clicks" else events)
            steps = Trainer(folder, store, **OPTIONS).steps(every=0.001)
            while next(steps).learnt:
                pass
            steps.close()
        found.append(checkpoint(folder))
    assert found[0].n_events == 72
    assert_same(*found)
