"""The pools of the runner: equal to those of the library, however the events come."""

from __future__ import annotations

import errno
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.pipeline import Pipeline

import skmars
from skmars import (
    DINClassifier,
    Impressions,
    ItemCatalog,
    SequenceRetrievalAugmenter,
    SteinAligner,
    make_mars,
)
from skmars.persistence import Model
from skmars.retrieval import DonorPool
from skmars.serving import Events, LeaseHeld, Pass, Runner, StaleLease, StoreError
from skmars.serving.runner import _runner
from skmars.serving.runner._loading import load_log
from skmars.serving.runner._model_pools import ModelPools
from skmars.serving.scoring._rows import log_format
from tests.serving.fake_store import FakeStore

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
pytest.importorskip("safetensors")

N_ITEMS = 6
pytestmark = pytest.mark.filterwarnings(
    "ignore:.* have no time", "ignore:.* will borrow nothing", "ignore:.* not in the catalogue"
)


def log_of(events: list[tuple], ids: type = int) -> pd.DataFrame:
    log = pd.DataFrame(events, columns=["user_id", "item_id", "timestamp", "clicked"])
    log = log.astype({"timestamp": float, "user_id": int, "item_id": int})
    return (
        log.astype({"user_id": object, "item_id": object})
        if ids is not str
        else log.assign(
            user_id=[f"u{u}" for u in log["user_id"]], item_id=[f"i{i}" for i in log["item_id"]]
        )
    )


@cache
def deployment(
    history: str, timed: bool, ids: type, activity: str, duplicates: str, aligned: bool
) -> Path:
    """Return the folder of a model that was fitted to a small log of known items."""
    rng = np.random.default_rng(0)
    n = 200
    events = zip(
        rng.integers(0, 30, n), rng.integers(0, N_ITEMS, n), np.arange(n), rng.integers(0, 2, n)
    )
    log = log_of(list(events), ids)
    features = {"text": rng.normal(size=(N_ITEMS, 3)).astype(np.float32)}
    items = [f"i{i}" for i in range(N_ITEMS)] if ids is str else np.arange(N_ITEMS)
    X, y = Impressions.from_log(
        log.infer_objects(),
        ItemCatalog(items, features=features),
        label="clicked",
        history=history,
        time="timestamp" if timed else None,
        duplicates=duplicates,
    )
    steps: list[tuple[str, Any]] = [
        ("augment", SequenceRetrievalAugmenter(activity=activity, low_quantile=0.2)),
        ("ctr", DINClassifier(max_iter=1, early_stopping=False, random_state=0)),
    ]
    if aligned:
        aligner = SteinAligner(n_components=4, max_iter=1, n_factors=2, random_state=0)
        steps.insert(0, ("align", aligner))
        steps[1][1].set_params(user_representation="embedding")
    with warnings.catch_warnings(action="ignore"):
        model = Model.of(Pipeline(steps).fit(X, y), X, label="clicked")
    folder = Path(tempfile.mkdtemp(), "model")
    skmars.save(model, folder)
    return folder


class File:
    """A file of a log in memory, of which there may be more rows later."""

    def __init__(self, log: pd.DataFrame, name: str = "log", batch: int = 4) -> None:
        self.log, self.name, self.batch, self.size = log, name, batch, len(log)

    @property
    def n_rows(self) -> int:
        return len(self.log)

    def mark(self, rows: int, size: int) -> str:
        return repr(self.log[:rows].values.tolist())

    def batches(self, begin: int) -> Iterator[Events]:
        for at in range(begin, len(self.log), self.batch):
            yield events_of(self.log[at : at + self.batch])


def events_of(log: pd.DataFrame, timed: bool = True) -> Events:
    return Events(
        log["user_id"].tolist(),
        log["item_id"].tolist(),
        log["timestamp"].to_numpy(np.float64) if timed else np.full(len(log), np.nan),
        log["clicked"].to_numpy(np.uint8),
    )


def expected_pool(folder: Path, log: pd.DataFrame) -> DonorPool:
    """Return the pool that the library collects from the whole log."""
    model = skmars.load(folder)
    form = log_format(model)
    if form.time is None:
        log = log.drop(columns="timestamp")
    X, _ = Impressions.from_log(
        log.infer_objects(),
        model.histories.catalog,
        time=form.time,
        label=form.label,
        history=form.history,
        duplicates=form.duplicates,
    )
    for _, step in model.pipeline.steps[:-2]:
        X = step.transform(X)
    return clone(model.pipeline.named_steps["augment"]).fit(X).pool_


def arrays(value: Any) -> dict[str, Any]:
    """Return all arrays and numbers of an object by the way to them."""
    if value is None or isinstance(value, np.ndarray | int | float | str | bool):
        return {"": value}
    if hasattr(value, "__dataclass_fields__"):
        parts = {f.name: getattr(value, f.name) for f in fields(value)}
    else:
        parts = {"ids": value.ids, "vectors": value.vectors, "center": value.center}
    return {f"{k}.{way}": v for k, part in parts.items() for way, v in arrays(part).items()}


def assert_same_pool(found: DonorPool, expected: DonorPool) -> None:
    ours, theirs = arrays(found), arrays(expected)
    assert ours.keys() == theirs.keys()
    for way, value in theirs.items():
        np.testing.assert_array_equal(
            ours[way], value, err_msg=way, strict=isinstance(value, np.ndarray)
        )


def fresh(folder: Path) -> Path:
    """Return a copy of a deployment without pools."""
    return Path(shutil.copytree(folder, Path(tempfile.mkdtemp(), "deployment")))


def run(folder: Path, store: Any, *files: File, **options: Any) -> Pass:
    (done,) = Runner(folder, store, lambda _: files, **options).passes()
    return done


def current(folder: Path, store: Any, pointer: str = "pool") -> DonorPool:
    return DonorPool.load(folder / store.pointer(pointer))


events = st.lists(
    st.tuples(
        st.integers(0, 7),
        st.integers(0, N_ITEMS + 2),  # some are unknown to the model
        st.one_of(st.none(), st.integers(0, 6)),
        st.booleans(),
    ),
    min_size=3,
    max_size=40,
).filter(lambda events: any(event[2] is not None for event in events))
worlds = st.tuples(
    st.sampled_from(["positive", "all"]),
    st.booleans(),
    st.sampled_from([int, str]),
    st.sampled_from(["row", "user"]),
    st.sampled_from(["keep", "drop"]),
    st.booleans(),
)


# Each example takes long, so that shrinking would take minutes.
@settings(max_examples=15, phases=[phase for phase in Phase if phase is not Phase.shrink])
@given(events, worlds, st.data())
def test_increments_equal_the_library(events: list, world: tuple, data: Any) -> None:
    """Also a rebuild; events come late, repeat, through the service, and runners begin anew."""
    timed, ids = world[1], world[2]
    model, log = deployment(*world), log_of(events, ids)
    store, folder = FakeStore(), fresh(model)
    files: dict[str, File] = {}
    runner = Runner(folder, store, lambda _: list(files.values()))
    cuts = data.draw(st.lists(st.integers(0, len(log)), max_size=4).map(sorted))
    parts = [log[a:b] for a, b in zip([0, *cuts], [*cuts, len(log)])]
    came: list[pd.DataFrame] = []
    for i, part in enumerate(parts):
        how = data.draw(st.sampled_from(["file", "grown", "streamed", "anew"]))
        if how == "streamed" and not (part.duplicated().any() or came):
            store.append(events_of(part, timed))
            came.append(part)
            list(runner.passes())
            continue
        if how == "grown" and files:
            last = list(files)[-1]
            files[last] = File(pd.concat([files[last].log, part]), last)
        else:
            files[str(i)] = File(part if timed else part.assign(timestamp=np.nan), str(i))
        came.append(part)
        if how == "anew":
            runner = Runner(folder, store, lambda _: list(files.values()))
        list(runner.passes())
    whole = pd.concat(came) if timed else pd.concat(came).assign(timestamp=np.nan)
    assert store.position == len(whole)
    found = current(folder, store)
    assert_same_pool(found, expected_pool(model, whole))

    again, other = FakeStore(), fresh(model)
    run(other, again, File(whole))
    assert_same_pool(current(other, again), found)


WORLD = ("positive", True, int, "row", "keep", False)


def shop(n: int = 120, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return log_of(
        list(
            zip(
                rng.integers(0, 12, n),
                rng.integers(0, N_ITEMS + 2, n),
                rng.integers(0, 50, n),
                rng.integers(0, 2, n),
            )
        )
    )


class Killed(BaseException):
    pass


class Mortal:
    """A store whose process is killed before or after a certain call."""

    def __init__(self, store: FakeStore, at: int, after: bool) -> None:
        self._store, self._left, self._after = store, at, after

    @property
    def position(self) -> int:
        return self._call(lambda: self._store.position)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        return lambda *args, **options: self._call(lambda: method(*args, **options))

    def _call(self, method: Any) -> Any:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Killed
        result = method()
        if self._left == 0:
            raise Killed
        return result


def test_killed_at_any_call_and_begun_again_is_as_undisturbed() -> None:
    # What a file repeats of itself counts again.
    model, log = deployment(*WORLD), shop().drop_duplicates()
    files = [File(log[:50], "a", batch=20), File(pd.concat([log[50:], log[50:59]]), "b", batch=20)]
    expected = expected_pool(model, pd.concat([file.log for file in files]))
    folder, n_killed = fresh(model), 0
    for after in (False, True):
        for at in range(1 + after, 60, 3):
            store = FakeStore()
            shutil.rmtree(folder / "pools", ignore_errors=True)
            try:
                run(folder, Mortal(store, at, after), *files)
            except Killed:
                n_killed += 1
            store.leases.clear()  # it has run out
            run(folder, store, *files)
            assert store.position == len(log) + 9
            assert_same_pool(current(folder, store), expected)
            left = {path.name for path in (folder / "pools").iterdir()}
            name = Path(store.pointer("pool")).name
            assert left == {name, f"{name}.activity"}
    assert n_killed > 15


@pytest.mark.parametrize("step", ["save", "load"])
def test_killed_or_full_while_it_writes_a_pool(monkeypatch: Any, step: str) -> None:
    model, log = deployment(*WORLD), shop()
    folder, store = fresh(model), FakeStore()
    run(folder, store, File(log[:60]))
    before = current(folder, store)

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(DonorPool, step, fail)
        with pytest.raises((OSError, ValueError), match="No space left"):
            run(folder, store, File(log))
    assert store.pointer("pool") == "pools/1"
    assert_same_pool(current(folder, store), before)
    assert {path.name for path in (folder / "pools").iterdir()} == {"1", "1.activity"}
    run(folder, store, File(log))
    assert_same_pool(current(folder, store), expected_pool(model, log))


def test_with_each_engine(store: Any) -> None:
    model, log = deployment(*WORLD), shop().drop_duplicates()
    folder, again = fresh(model), log[50:59]
    run(folder, store, File(log[:50]))
    run(folder, store, File(log[:50]), File(pd.concat([log[50:], again]), "b", batch=50))
    assert store.position == len(log) + len(again)
    assert_same_pool(current(folder, store), expected_pool(model, pd.concat([log, again])))
    first = Runner(folder, store).passes(every=3600)
    next(first)
    with pytest.raises(LeaseHeld, match="process"):
        run(folder, store)
    first.close()


def test_one_of_two_works() -> None:
    model, log = deployment(*WORLD), shop()
    folder, store = fresh(model), FakeStore()
    first = Runner(folder, store, lambda _: [File(log)]).passes(every=3600)
    assert next(first).pool == "pools/1"
    with pytest.raises(LeaseHeld, match="process"):
        run(folder, store)
    first.close()  # gives the lease back
    assert run(folder, store).pool is None  # nothing is new


def test_a_lease_is_renewed_in_time() -> None:
    folder, store = fresh(deployment(*WORLD)), FakeStore()
    first = Runner(folder, store, lambda _: [File(shop())], lease=0.3).passes(every=0.01)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        next(first)
        with pytest.raises(LeaseHeld):
            store.acquire("runner", "another", 1)
    first.close()


def test_a_stale_lease_publishes_nothing(monkeypatch: Any) -> None:
    model, log = deployment(*WORLD), shop()
    folder, store = fresh(model), FakeStore()
    run(folder, store, File(log[:60]))
    build = DonorPool.build

    def slow(*args: Any, **options: Any) -> DonorPool:
        held = store.leases["runner"]
        store.leases["runner"] = replace(held, until=0.0)  # the process stood still
        store.acquire("runner", "another", 60)
        return build(*args, **options)

    monkeypatch.setattr(DonorPool, "build", slow)
    with pytest.raises(StaleLease):
        run(folder, store, File(log))
    assert store.pointer("pool") == "pools/1"
    assert store.leases["runner"].holder == "another"


class Failing:
    """A store that does not answer while it is away."""

    def __init__(self, store: FakeStore, left: int = 0) -> None:
        self.store, self.left = store, left  # calls that are answered still, before the others fail
        self.away = False

    def _ask(self) -> FakeStore:
        self.left -= 1
        if self.away and self.left < 0:
            raise StoreError("the store does not answer")
        return self.store

    @property
    def position(self) -> int:
        return self._ask().position

    def __getattr__(self, name: str) -> Any:
        def ask(*args: Any, **options: Any) -> Any:
            return getattr(self._ask(), name)(*args, **options)

        return ask


@pytest.mark.parametrize("answered", [0, 5, 10])
@pytest.mark.parametrize("lease", [60, 0.5])
def test_a_store_that_is_away_for_a_while(answered: int, lease: float) -> None:
    """With a lease that lasts, and with one that runs out meanwhile."""
    lost, away, log = "the lease was lost, and is taken again", "the store does not answer", shop()
    folder, store, files = fresh(deployment(*WORLD)), FakeStore(), [File(log[:60])]
    failing = Failing(store)
    passes = Runner(folder, failing, lambda _: files, lease=lease).passes(every=0.02)
    while next(passes).pool is None:
        pass
    files[0] = File(log)
    failing.left, failing.away = answered, True
    failed: set[str] = set()
    while not failed >= ({away, lost} if lease < 1 else {away}):
        failed.add(next(passes).failed)
    failing.away = False
    while (done := next(passes)).failed:
        pass
    passes.close()
    assert failed - {""} == ({away, lost} if lease < 1 else {away})
    assert done.position == store.position == len(log)
    assert store.leases == {}
    assert_same_pool(current(folder, store), expected_pool(folder, log))


def test_a_store_that_is_away_at_first_is_told() -> None:
    failing = Failing(FakeStore())
    runner = Runner(fresh(deployment(*WORLD)), failing)
    failing.away = True
    with pytest.raises(StoreError, match="does not answer"):
        next(runner.passes(every=0.01))


def test_a_lease_that_ran_out_between_passes(monkeypatch: Any) -> None:
    """It is taken again, unless another one has it."""
    folder, store = fresh(deployment(*WORLD)), FakeStore()
    acquire, others = store.acquire, [False, True]

    def away(*_: Any) -> Any:
        raise StoreError("the store does not answer")

    def sleep(_: float) -> None:
        store.acquire = away  # type: ignore[method-assign]
        time.sleep(0.8)
        store.acquire = acquire  # type: ignore[method-assign]
        if others.pop(0):
            acquire("runner", "another", 60)

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=sleep)
    monkeypatch.setattr(_runner, "time", clock)
    passes = Runner(folder, store, lambda _: [File(shop())], lease=0.6).passes(every=1)
    next(passes)
    assert "taken again" in next(passes).failed
    assert not next(passes).failed
    assert "taken again" in next(passes).failed
    with pytest.raises(LeaseHeld, match="another"):
        next(passes)
    assert store.leases["runner"].holder == "another"


def test_a_pass_that_fails_is_tried_again(monkeypatch: Any) -> None:
    """A current model that is not there, a full disk, and a log that has changed."""
    log = shop()
    folder, store, files = fresh(deployment(*WORLD)), FakeStore(), [File(log[:60])]
    passes = Runner(folder, store, lambda _: files).passes(every=0.01)
    assert next(passes).pool == "pools/1"
    before = current(folder, store)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store.publish("model", "fits/7")
    assert "fits/7" in next(passes).failed
    store.publish("model", "../other")
    assert "must be a folder below" in next(passes).failed
    store.publish("model", ".")
    files[0] = File(log[:50])
    assert "log has changed: the first 60 rows" in next(passes).failed
    files[0] = File(log)
    with monkeypatch.context() as broken:
        broken.setattr(DonorPool, "save", full)
        assert "No space left" in next(passes).failed
        assert "No space left" in next(passes).failed
    assert store.pointer("pool") == "pools/1"
    assert_same_pool(current(folder, store), before)
    done = next(passes)
    assert not done.failed
    assert done.pool is not None
    assert_same_pool(current(folder, store), expected_pool(folder, log))
    passes.close()


def test_old_pools_go_and_the_current_one_stays() -> None:
    model, log = deployment(*WORLD), shop()
    folder, store = fresh(model), FakeStore()
    for n in range(20, 120, 20):
        run(folder, store, File(log[:n]), keep=2)
    left = {path.name for path in (folder / "pools").iterdir()}
    assert left == {"4", "4.activity", "5", "5.activity"}
    store.publish("pool", "pools/4")  # somebody goes back
    (folder / "pools" / ".3").mkdir()
    (folder / "pools" / "notes").mkdir()  # not ours
    run(folder, FakeStore())  # a new store, by mistake, has given none of these numbers
    run(folder, store, File(log), keep=1)
    assert store.pointer("pool") == "pools/6"
    left = {path.name for path in (folder / "pools").iterdir()}
    assert left == {"6", "6.activity", "notes"}
    assert_same_pool(current(folder, store), expected_pool(model, log))


def test_damaged_activity_is_made_anew() -> None:
    model, log = deployment(*WORLD), shop()
    folder, store = fresh(model), FakeStore()
    run(folder, store, File(log[:60]))
    shutil.rmtree(folder / "pools" / "1.activity")
    run(folder, store, File(log))
    assert_same_pool(current(folder, store), expected_pool(model, log))


def test_rows_that_were_loaded_may_not_change() -> None:
    folder, store, log = fresh(deployment(*WORLD)), FakeStore(), shop()
    run(folder, store, File(log))
    for changed in (log[:50], log[::-1]):
        with pytest.raises(ValueError, match="log has changed: the first 120 rows"):
            run(folder, store, File(changed))


def test_events_that_arrive_meanwhile_wait_for_the_next_pass() -> None:
    model, log = deployment(*WORLD), shop()
    folder, store = fresh(model), FakeStore()
    store.append(events_of(log[:60]))
    runner, touched = Runner(folder, store), store.touched

    def later(since: int) -> list[Any]:
        store.append(events_of(log[60:]))
        return touched(since)

    store.touched = later  # type: ignore[method-assign]
    assert next(iter(runner.passes())).position == len(log[:60].drop_duplicates())
    assert_same_pool(current(folder, store), expected_pool(model, log[:60].drop_duplicates()))
    list(runner.passes())
    assert_same_pool(current(folder, store), expected_pool(model, log.drop_duplicates()))


def test_context_and_attributes_do_not_matter(tmp_path: Path) -> None:
    """A pool holds neither, but the steps before it ask for the columns of the fit."""
    log = shop(200)
    log = log.assign(hour=log["timestamp"] % 24, device=np.where(log["clicked"], "tv", "phone"))
    users = pd.DataFrame(
        {"user_id": range(9), "age": range(20, 29), "country": ["fr", "it", ""] * 3}
    )
    items = ItemCatalog(
        range(N_ITEMS), features={"text": np.random.default_rng(0).normal(size=(N_ITEMS, 3))}
    )
    X, y = Impressions.from_log(
        log, items, label="clicked", context=["hour", "device"], users=users, duplicates="keep"
    )
    fast = {"align__max_iter": 1, "align__n_factors": 2, "ctr__max_iter": 1}
    mars = make_mars(random_state=0, encode="passthrough", **fast).fit(X, y)
    skmars.save(Model.of(mars, X), tmp_path / "model")
    store = FakeStore()
    run(tmp_path / "model", store, File(log, batch=50))
    rows = mars.named_steps["align"].transform(X)
    assert_same_pool(current(tmp_path / "model", store), mars[2].updated(rows).pool_)


def test_the_augmenter_is_found_wherever_it_is(tmp_path: Path) -> None:
    model = skmars.load(deployment(*WORLD))
    (_, augmenter), ctr = model.pipeline.steps
    nested = Pipeline([("both", Pipeline([("lend", augmenter), ctr]))])
    skmars.save(replace(model, pipeline=nested), tmp_path / "model")
    pools = []
    for folder in (tmp_path / "model", fresh(deployment(*WORLD))):
        store = FakeStore()
        run(folder, store, File(log_of([(u, i, i, 1) for u in range(9) for i in range(u)])))
        pools.append(current(folder, store))
    assert_same_pool(*pools)


@pytest.mark.parametrize("pointer", ["fit", "nonsense", "", "other/1"])
def test_whoever_points_elsewhere_does_not_stop_the_runner(pointer: str) -> None:
    folder, store = fresh(deployment(*WORLD)), FakeStore()
    log = log_of([(u, i, i, 1) for u in range(9) for i in range(u)])
    run(folder, store, File(log))
    first = current(folder, store)
    store.publish("pool", pointer)
    assert run(folder, store, File(log)).pool == "pools/2"
    assert_same_pool(current(folder, store), first)


def test_a_model_that_was_replaced_gets_its_pool() -> None:
    folder, store = fresh(deployment(*WORLD)), FakeStore()
    files = [File(log_of([(u, i, i, 1) for u in range(9) for i in range(u)]))]
    passes = Runner(folder, store, lambda _: files).passes(every=0.01)
    next(passes)
    other = fresh(deployment("all", *WORLD[1:]))
    for file in other.iterdir():
        file.replace(folder / file.name)
    assert next(passes).pool == "pools/2"
    assert next(passes).pool is None
    passes.close()
    again = fresh(deployment("all", *WORLD[1:]))
    assert run(again, FakeStore(), *files).pool == "pools/1"
    assert_same_pool(current(folder, store), DonorPool.load(again / "pools/1"))


def refitted(folder: Path, name: str, history: str = "all") -> Path:
    """Put a model that was fitted anew below a deployment, and return its folder."""
    return Path(shutil.copytree(deployment(history, *WORLD[1:]), folder / name))


def test_the_runner_follows_the_current_model() -> None:
    """Each model has pools of its own; what is loaded of the log is so for all of them."""
    folder, store, log = fresh(deployment(*WORLD)), FakeStore(), shop().drop_duplicates()
    fit, files = refitted(folder, "fits/1"), [File(log[:60])]
    passes = Runner(folder, store, lambda _: files).passes(every=0.01)
    assert next(passes).pool == "pools/1"
    # The new one is made ready before it is switched to.
    made = ModelPools(folder, store, "fits/1").update(store.position, store.publish)
    assert made is not None
    assert made.name == "fits/1/pools/1"
    assert (store.pointer("pool"), store.pointer("fits/1/pool")) == ("pools/1", "pools/1")
    assert next(passes).pool is None
    store.publish("model", "fits/1")
    assert next(passes).pool is None
    assert_same_pool(current(fit, store, "fits/1/pool"), expected_pool(fit, log[:60]))
    files[0] = File(log)
    done = next(passes)
    assert (done.pool, done.loaded.rows) == ("fits/1/pools/2", len(log) - 60)
    assert_same_pool(current(fit, store, "fits/1/pool"), expected_pool(fit, log))
    assert store.pointer("pool") == "pools/1"
    store.publish("model", ".")  # somebody goes back
    assert next(passes).pool == "pools/2"
    assert_same_pool(current(folder, store), expected_pool(folder, log))
    passes.close()
    assert run(folder, store, File(log)).pool is None  # a new runner finds it all


@pytest.mark.parametrize(
    ("model", "error", "told"),
    [
        ("../other", ValueError, "must be a folder below"),
        ("/etc", ValueError, "must be a folder below"),
        ("fits/7", OSError, "fits/7"),
    ],
)
def test_a_current_model_that_is_none_is_told(model: str, error: type, told: str) -> None:
    folder, store = fresh(deployment(*WORLD)), FakeStore()
    store.publish("model", model)
    with pytest.raises(error, match=told):
        run(folder, store, File(shop()))
    assert store.pointers == {"model": model}


def test_a_file_under_another_name_counts_once() -> None:
    """Renamed, converted or overlapping; what a file itself repeats counts as often as it says."""
    day = pd.DataFrame(
        [["ann", 1, 10.0, 1], ["ann", 1, 10.0, 1], ["bob", 2, 20.0, 0]],
        columns=["user_id", "item_id", "timestamp", "clicked"],
    )
    store = FakeStore()
    done = load_log([File(day, "monday")], store, store.publish)
    assert (done.rows, done.repeated, done.kept) == (3, 1, 3)
    longer = pd.concat([day, day.assign(timestamp=30.0)[:1]])
    done = load_log([File(longer, "renamed")], store, store.publish)
    assert (done.rows, done.kept) == (4, 1)
    assert [len(e) for e in store.histories(["ann", "bob"])[0]] == [3, 1]


def test_events_of_unknown_time_count_in_each_file() -> None:
    day = pd.DataFrame({"user_id": ["ann"], "item_id": [1], "timestamp": [np.nan], "clicked": [1]})
    store = FakeStore()
    done = [load_log([File(day, name)], store, store.publish).kept for name in ("a", "b")]
    assert done == [1, 1]


def test_nothing_to_build() -> None:
    folder, store = fresh(deployment(*WORLD)), FakeStore()
    before = threading.active_count()
    done = run(folder, store)
    assert (done.pool, done.position) == (None, 0)
    assert threading.active_count() == before


def test_refuses_models_that_it_can_not_serve(tmp_path: Path) -> None:
    model = skmars.load(deployment(*WORLD))
    base = replace(model, pipeline=Pipeline(model.pipeline.steps[-1:]))
    skmars.save(base, tmp_path / "base")
    with pytest.raises(ValueError, match="no SequenceRetrievalAugmenter"):
        Runner(tmp_path / "base", FakeStore())
    ordered = replace(model, columns=replace(model.columns, order="place"))
    skmars.save(ordered, tmp_path / "ordered")
    with pytest.raises(ValueError, match="orders events by the column 'place'"):
        Runner(tmp_path / "ordered", FakeStore())
    skmars.save(model.pipeline, tmp_path / "pipeline")
    with pytest.raises(ValueError, match="Model.of"):
        Runner(tmp_path / "pipeline", FakeStore())
    with pytest.raises(OSError, match="nowhere"):
        Runner(tmp_path / "nowhere", FakeStore())
    with pytest.raises(ValueError, match="keep must be at least 1"):
        Runner(deployment(*WORLD), FakeStore(), keep=0)
