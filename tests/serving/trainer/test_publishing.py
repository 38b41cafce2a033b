"""Which parameters become current, and with which pool and model."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
pytest.importorskip("safetensors")
import skmars
from skmars.serving import Runner, Snapshot, Trainer
from skmars.serving.scoring._parameters import Parameters
from skmars.serving.store._current import Current
from skmars.serving.trainer._validation import judged
from tests.serving.trainer.shop import (
    NOW,
    OPTIONS,
    assert_same,
    base_log,
    checkpoint,
    events_of,
    fresh,
    log_of,
    opened,
    run,
    saved,
    status,
)


@pytest.fixture
def store(store: Any) -> Any:
    """A store with the log of the fit, whose events arrive in one period each ten."""
    return opened(store, [100.0 * (i // 10) + i % 10 for i in range(10_000)])


def versions(folder: Path) -> set[str]:
    return {path.name for path in (folder / "params").iterdir()} - {"checkpoint"}


@pytest.mark.parametrize("store_kind", ["lmdb"])
def test_what_predicts_worse_is_not_published(store: Any) -> None:
    """The labels of some hour are the wrong way round."""
    folder, log = fresh("fast"), log_of(230, 1, NOW)
    log.loc[100:159, "clicked"] = 1 - log.clicked[100:160]
    options = {"worse_by": 0.01, "validate_on": 30}
    store.append(events_of(log))
    judged = [step.judgement for step in run(folder, store, **options) if step.judgement]
    wrong = len(base_log()) + 160  # then, it has learnt what is wrong, and is tried on what is not
    assert not next(found for found in judged if found.position == wrong).accepted
    assert {found.accepted for found in judged} == {True, False}
    for found in judged:
        best = min(found.current_log_loss, found.fit_log_loss)
        assert found.accepted == (found.log_loss <= best + 0.01)
    told, accepted = status(store), [found.position for found in judged if found.accepted]
    assert (told["n_accepted"], told["n_rejected"]) == (
        len(accepted),
        len(judged) - len(accepted),
    )
    assert Parameters.load(folder / Current.of(store).params).position == accepted[-1]
    assert checkpoint(folder).n_events == 200  # they are learnt all the same
    # Nothing is judged twice.
    assert not any(step.judgement for step in run(folder, store, **options))


@pytest.mark.parametrize("store_kind", ["lmdb"])
def test_scores_are_those_of_both_models_on_rows_that_neither_has_learnt(store: Any) -> None:
    from sklearn.metrics import log_loss, roc_auc_score

    folder, log = fresh(), log_of(30, 1, NOW)
    store.append(events_of(log))
    (found,) = [s.judgement for s in run(folder, store, sync_every=1e9) if s.judgement]
    rest = store.stream(found.position, 100)
    assert (len(rest), found.rows) == (6, 6)
    X, y = skmars.Impressions.from_log(
        __import__("pandas").concat([base_log(), log]),
        skmars.load(saved()).histories.catalog,
        label="clicked",
        context=["price"],
        duplicates="keep",
    )
    scores = [
        Snapshot.load_versions(folder, version).pipeline.predict_proba(X[-6:])[:, 1]
        for version in ("params/1", ".")
    ]
    assert [found.log_loss, found.current_log_loss] == [log_loss(y[-6:], p) for p in scores]
    assert [found.auc, found.current_auc] == [roc_auc_score(y[-6:], p) for p in scores]
    told = status(store)
    assert told["log_loss"] == found.log_loss
    assert told["version"] == "params/1"
    assert (told["position"], told["judged"], told["rows"]) == (found.position,) * 2 + (6,)


def test_old_versions_go(store: Any) -> None:
    folder = fresh()
    store.append(events_of(log_of(100, 1, NOW)))
    run(folder, store, keep=2)
    current = int(Path(Current.of(store).params).name)
    assert versions(folder) == {str(current), str(current - 1)}
    # Somebody goes back; what was learnt since stays in the checkpoint.
    store.publish("params", f"params/{current - 1}")
    run(folder, store, keep=2)
    assert Current.of(store).params == f"params/{current - 1}"
    store.append(events_of(log_of(20, 2, NOW + 2e5), 100))
    run(folder, store, keep=2)
    assert int(Path(Current.of(store).params).name) > current


def test_rows_borrow_from_one_pool_until_a_version_is_published(store: Any) -> None:
    """From the new one only where it can't know what became of them."""
    folder, log = fresh(), log_of(120, 1, NOW)
    store.append(events_of(log[:40]))
    runner = Runner(folder, store, keep=1)
    list(runner.passes())
    assert Current.of(store).pool == "pools/1"
    run(folder, store)
    state = checkpoint(folder)
    assert (state.pool, state.next_pool) == ("fit", "pools/1")
    assert state.next_from >= store.position
    held = store.pointer("pool/held")
    assert held == "pools/1"
    store.append(events_of(log[40:], 40))
    list(runner.passes())
    assert {p.name for p in (folder / "pools").iterdir()} == {"1", "1.activity", "2", "2.activity"}
    trainer = Trainer(folder, store, **OPTIONS)
    pools = []
    for step in trainer.steps(until_idle=True):
        state = trainer._training.state
        pools.append((state.pool, state.next_pool))
        if state.pool == "pools/1":
            assert step.position > len(base_log()) + 40
    changes = [pair for i, pair in enumerate(pools) if i == 0 or pair != pools[i - 1]]
    assert changes == [("fit", "pools/1"), ("pools/1", ""), ("pools/1", "pools/2")]
    run(folder, store)
    assert checkpoint(folder).pool == "pools/1"
    assert checkpoint(folder).next_pool == "pools/2"


@pytest.mark.parametrize("store_kind", ["lmdb"])
@pytest.mark.parametrize("borrows", [True, False])
def test_a_pool_that_is_gone(store: Any, borrows: bool) -> None:
    """What takes its place knows nothing of the events to come, as the current pool does."""
    folder, log, lines, pools = fresh(), log_of(160, 1, NOW), [], []
    store.append(events_of(log[:40]))
    list(Runner(folder, store).passes())
    run(folder, store)
    if borrows:
        store.append(events_of(log[40:80], 40))
        run(folder, store)
    state, told = checkpoint(folder), status(store)
    assert (state.pool if borrows else state.next_pool) == "pools/1"
    store.append(events_of(log[80:], 80))
    list(Runner(folder, store).passes())
    known = store.position
    shutil.rmtree(folder / "pools/1")
    trainer = Trainer(folder, store, **OPTIONS, told=lines.append)
    for step in trainer.steps(until_idle=True):
        state = trainer._training.state
        assert step.position <= known
        pools.append(state.pool)
    assert set(pools) == {"fit"}
    assert any("the pool pools/1 can't be used" in line for line in lines)
    assert (state.next_pool, state.next_from) == ("pools/2", known)
    assert status(store)["n_accepted"] > told["n_accepted"]


@pytest.mark.parametrize("store_kind", ["lmdb"])
def test_the_current_pool_is_gone(store: Any) -> None:
    """It learns on, and publishes nothing that could not be served."""
    folder, log, lines = fresh(), log_of(80, 1, NOW), []
    store.append(events_of(log))
    list(Runner(folder, store).passes())
    shutil.rmtree(folder / "pools/1")
    run(folder, store, told=lines.append)
    assert checkpoint(folder).position == store.position - OPTIONS["validate_on"]
    assert Current.of(store).params == "."
    assert any("pools/1" in line for line in lines)


def test_a_new_model_is_followed_from_where_its_fit_ended(store: Any) -> None:
    folder, log = fresh(), log_of(120, 1, NOW)
    store.append(events_of(log[:60]))
    steps = Trainer(folder, store, **OPTIONS).steps(every=0.001)
    for step in steps:
        if step.position >= len(base_log()) + 40:
            break
    old = step.position
    shutil.copytree(saved("state"), folder / "fits/1")
    position = len(base_log()) + 30
    store.publish("fits/1/position", str(position))
    store.publish("model", "fits/1")
    step = next(steps)
    assert position < step.position <= position + OPTIONS["batch"]
    steps.close()
    assert checkpoint(folder).position == old
    run(folder, store)
    found = checkpoint(folder / "fits/1")
    assert found.n_events == found.position - position
    assert Current.of(store).params.startswith("fits/1/params/")
    assert Snapshot.load(folder, store).versions["params"] == Current.of(store).params
    # Back to the first: it goes on where it was.
    store.publish("model", ".")
    run(folder, store)
    assert checkpoint(folder).n_events == checkpoint(folder).position - len(base_log())
    assert status(store)["model"] == "."


@pytest.mark.parametrize("store_kind", ["lmdb"])
def test_a_model_that_was_replaced_begins_anew(store: Any) -> None:
    folder = fresh()
    store.append(events_of(log_of(60, 1, NOW)))
    run(folder, store)
    other = fresh("state")
    for file in other.iterdir():
        file.replace(folder / file.name)
    found = run(folder, store)
    assert found[0].position < len(base_log()) + 60
    assert Snapshot.load(folder, store).versions["params"] == Current.of(store).params


@pytest.mark.parametrize("store_kind", ["lmdb"])
@pytest.mark.parametrize("step", ["save", "load"])
def test_a_full_disk_or_damage_keeps_the_current_version(
    store: Any, monkeypatch: Any, step: str
) -> None:
    folder, log, lines = fresh(), log_of(60, 1, NOW), []
    store.append(events_of(log[:40]))
    run(folder, store)
    before = Current.of(store).params
    store.append(events_of(log[40:], 40))
    real, left = getattr(Parameters, step), [3]

    def fail(*args: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)

    trainer = Trainer(folder, store, **OPTIONS, checkpoint_every=0, told=lines.append)
    monkeypatch.setattr(trainer._stopped, "wait", lambda seconds: None)
    with monkeypatch.context() as broken:
        if step == "save":
            broken.setattr(Parameters, step, fail)
        else:
            broken.setattr(Parameters, step, staticmethod(fail))
        steps = trainer.steps()
        failed = next(step for step in steps if step.failed)
        assert "No space left" in failed.failed
        assert Current.of(store).params == before
        for done in steps:
            if done.version:
                break
        steps.close()
    assert "No space left on device (It is tried again.)" in lines[0]
    run(folder, store)
    assert checkpoint(folder).n_events == 60 - OPTIONS["validate_on"]


@pytest.mark.parametrize("store_kind", ["lmdb"])
def test_a_version_that_does_not_work_is_removed(store: Any, monkeypatch: Any) -> None:
    folder, lines = fresh(), []
    store.append(events_of(log_of(40, 1, NOW)))

    def bad(_: Any) -> None:
        raise ValueError("version params can't score: it is bad")

    with monkeypatch.context() as broken:
        broken.setattr(Snapshot, "check", bad)
        run(folder, store, told=lines.append)
    assert Current.of(store).params == "."
    assert versions(folder) == set()
    assert "it is bad" in lines[0]
    assert status(store)["n_rejected"] > 0
    assert checkpoint(folder).n_events == 34


def test_the_classifier_of_the_fit_is_left_alone(store: Any) -> None:
    folder = fresh()
    store.append(events_of(log_of(40, 1, NOW)))
    trainer = Trainer(folder, store, **OPTIONS)
    list(trainer.steps(until_idle=True))
    fitted = skmars.load(saved()).pipeline[-1]
    assert_same(
        replace(checkpoint(folder), classifier=trainer._training.snapshot.pipeline[-1]),
        replace(checkpoint(folder), classifier=fitted),
    )


def test_refuses_what_can_not_learn(tmp_path: Path, store: Any) -> None:
    model = skmars.load(saved())
    constant = skmars.PopularityClassifier() if hasattr(skmars, "PopularityClassifier") else None
    if constant is not None:
        X = model.histories.impressions(np.arange(4), np.arange(4), context={"price": np.ones(4)})
        pipeline = skmars.make_mars(variant="default").__class__([("ctr", constant)])
        pipeline = pipeline.fit(X, [0, 1, 0, 1])
        skmars.save(replace(model, pipeline=pipeline), tmp_path / "constant")
        with pytest.raises(TypeError, match="PopularityClassifier, which can't go on"):
            Trainer(tmp_path / "constant", store)
    clicks = skmars.load(saved("clicks"))
    skmars.save(replace(clicks, negatives=0), tmp_path / "clicks")
    with pytest.raises(ValueError, match="of clicks alone"):
        Trainer(tmp_path / "clicks", store)
    with pytest.raises(OSError, match="nowhere"):
        Trainer(tmp_path / "nowhere", store)
    for name, value in {"batch": 0, "keep": 0, "sync_every": 0.0, "worse_by": -1.0}.items():
        with pytest.raises(ValueError, match=name):
            Trainer(saved(), store, **{name: value})


class Sure:
    """Predicts the same for all rows."""

    def __init__(self, p: float) -> None:
        self.p = p

    def predict_proba(self, X: Any) -> Any:
        return np.column_stack([np.full(len(X), 1 - self.p), np.full(len(X), self.p)])


@pytest.mark.parametrize(
    ("candidate", "current", "fitted", "accepted"),
    [(0.5, 0.5, 0.5, True), (0.6, 0.5, 0.5, False), (0.6, 0.6, 0.5, False), (0.6, 0.6, 0.6, True)],
)
def test_small_losses_do_not_add_up(
    candidate: float, current: float, fitted: float, accepted: bool
) -> None:
    X, y = np.zeros((10, 1)), np.array([0, 1] * 5)
    found, _ = judged(0, X, y, Sure(candidate), Sure(current), Sure(fitted), 0.01)
    assert found.accepted is accepted
    assert found.fit_log_loss == pytest.approx(-np.log(fitted * (1 - fitted)) / 2)
