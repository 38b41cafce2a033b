"""A whole refit: the model of a fit by hand, which takes over whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

import skmars
from skmars import ItemCatalog
from skmars.model_selection import sample_negatives
from skmars.persistence import Model
from skmars.pipeline._steps import augmenter_in
from skmars.retrieval import DonorPool

pytest.importorskip("lmdb")
pytest.importorskip("pyarrow")
pytest.importorskip("safetensors")

from skmars.serving import LeaseHeld, Runner, Snapshot, StoreError, Trial, open_store, refit
from skmars.serving.refits import _refit as module
from skmars.serving.refits._trial import _with_negatives
from skmars.serving.scoring._parameters import Parameters
from skmars.serving.store._current import Current
from skmars.serving.store._lmdb import LMDBStore
from skmars.serving.store._payload import encode
from skmars.serving.trainer._beginning import beginning
from skmars.utils._folder import checksum_of
from tests.serving.processes import Forked
from tests.serving.refits import shop

pytestmark = pytest.mark.filterwarnings("ignore:.* not in the catalogue")


NOW = [1.7e9]  # of the clock of the store


@pytest.fixture
def store(quick_folder: Path) -> Iterator[LMDBStore]:
    opened = LMDBStore(tempfile.mkdtemp(dir=quick_folder), clock=lambda: NOW[0])
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path: Path, store: LMDBStore) -> Path:
    """A deployment, whose store has its log and what came since."""
    shop.fill(store, shop.log(300))
    shop.fill(store, shop.log(80, seed=1, begin=100), streamed=True)
    return shop.deployment(tmp_path)


EVENTS = pd.concat([shop.log(300), shop.log(80, seed=1, begin=100)])


def by_hand(events: pd.DataFrame = EVENTS, items: ItemCatalog | None = None) -> Model:
    """Fit the pipeline to the exported events."""
    X, y = shop.read(events, shop.catalog() if items is None else items)
    return Model.of(clone(shop.model().pipeline).fit(X, y), X)


def predictions(model: Model) -> np.ndarray:
    X, _ = shop.read(EVENTS, model.histories.catalog)
    return model.pipeline.predict_proba(X)[:, 1]


def test_it_is_the_fit_to_the_exported_log(folder: Path, store: LMDBStore) -> None:
    done = refit(folder, store)
    assert (done.model, done.pool, done.position) == ("fits/1", "fits/1/pools/1", store.position)
    assert (done.n_rows, done.n_users, done.trial) == (380, 20, Trial())
    assert Current.of(store) == Current("fits/1", "fits/1", "fits/1/pools/1")
    assert store.pointer("fits/1/position") == "380"
    snapshot, expected = Snapshot.load(folder, store), by_hand()
    assert beginning("fits/1", snapshot.model, store) == 380  # where the trainer goes on
    assert snapshot.versions == {"params": "fits/1", "pool": "fits/1/pools/1"}
    assert snapshot.catalog.fingerprint == expected.histories.catalog.fingerprint
    np.testing.assert_array_equal(predictions(snapshot.model), predictions(expected))
    assert snapshot.columns == shop.model().columns
    ours, theirs = DonorPool.load(folder / done.pool), expected.pipeline["augment"].pool_
    assert ours.ids.tolist() == theirs.ids.tolist()
    np.testing.assert_array_equal(ours.history.items, theirs.history.items)
    # What was there first is not touched, and one can go back to it.
    store.publish("model", ".")
    np.testing.assert_array_equal(
        predictions(Snapshot.load(folder, store).model), predictions(shop.model())
    )


def test_what_comes_later_is_not_learnt_but_borrowed(
    folder: Path, store: LMDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that come while a model is fitted are in its pool, beyond its position."""
    late = shop.log(30, seed=2, begin=200).assign(user_id=77)
    tried = module.tried
    monkeypatch.setattr(
        module, "tried", lambda *given: shop.fill(store, late, streamed=True) and tried(*given)
    )
    done = refit(folder, store)
    assert (done.position, done.n_rows) == (380, 380)
    np.testing.assert_array_equal(
        predictions(skmars.load(folder / "fits/1")), predictions(by_hand())
    )
    assert DonorPool.load(folder / done.pool).ids.max() == 77


def test_items_bring_content(folder: Path, store: LMDBStore) -> None:
    """Of new items, of those that only the store knew, and of those that have changed."""
    anew = shop.catalog(N := shop.N_ITEMS + 4, word="other")
    told = ItemCatalog(
        anew.ids[2:], content={"text": anew.content["text"][2:]}, attributes={"price": [9.0] * 10}
    )
    refit(folder, store, items=told)
    catalog = skmars.load(folder / "fits/1").histories.catalog
    old = shop.catalog()
    assert catalog.ids.tolist() == list(range(N))
    assert catalog.content["text"].tolist() == [*old.content["text"][:2], *anew.content["text"][2:]]
    assert catalog.attributes["price"].to_list() == [0.5, 1.5, *[9.0] * 10]
    kinds = [f"c{i % 3}" for i in range(shop.N_ITEMS)] + [None] * 4
    assert catalog.attributes["category"].to_list() == kinds
    with pytest.raises(ValueError, match=r"items tells nothing .* \(text, category, price\)"):
        refit(folder, store, items=[ItemCatalog([1], content={"title": ["one"]})])
    wrong = ItemCatalog([1], attributes={"price": ["dear"]})
    with pytest.raises(TypeError, match="'price' of items holds one category an item, and one num"):
        refit(folder, store, items=wrong)


def test_attributes_of_users_are_completed(folder: Path, store: LMDBStore) -> None:
    refit(folder, store, users=pd.DataFrame({"user_id": [2, 77], "country": ["pt", "de"]}))
    known = skmars.load(folder / "fits/1").histories.known
    country = dict(zip(known.ids.tolist(), known.attributes["country"].to_list()))
    assert [country[user] for user in (0, 2, 6, 77)] == ["fr", "pt", None, "de"]
    with pytest.raises(ValueError, match="users has the attributes age, and the model country"):
        refit(folder, store, users=pd.DataFrame({"user_id": [2], "age": [7]}))


def test_negatives_are_drawn_as_in_the_fit(tmp_path: Path, store: LMDBStore) -> None:
    shop.fill(store, EVENTS)
    folder = shop.deployment(tmp_path, borrows=False, negatives=2)
    done = refit(folder, store, random_state=3)
    assert done.pool is None
    model = skmars.load(folder / "fits/1")
    assert model.negatives == 2
    X, y = shop.read(EVENTS, shop.catalog())
    X = X.with_catalog(model.histories.catalog)
    rows = sample_negatives(X[y == 1], n_negatives=2, random_state=3)
    expected = clone(model.pipeline).fit(*rows)
    np.testing.assert_array_equal(model.pipeline.predict_proba(X), expected.predict_proba(X))


def test_context_can_not_be_refitted(tmp_path: Path, store: LMDBStore) -> None:
    shop.fill(store, EVENTS)
    folder = shop.deployment(tmp_path, borrows=False, context=True)
    with pytest.raises(ValueError, match=r"context columns .hour.* `skmars refit --fitted NEW"):
        refit(folder, store)
    assert Current.of(store) == Current()


def test_nothing_to_fit_to(tmp_path: Path, store: LMDBStore) -> None:
    folder = shop.deployment(tmp_path)
    with pytest.raises(ValueError, match="no events to fit to"):
        refit(folder, store)
    shop.fill(store, EVENTS[EVENTS.clicked == 1])
    with pytest.raises(ValueError, match="all .* events of the store are of one class"):
        refit(folder, store)


def test_pictures_must_be_there(tmp_path: Path, store: LMDBStore) -> None:
    shop.fill(store, EVENTS)
    model = shop.model(borrows=False)
    ids = model.histories.catalog.ids
    gone = ItemCatalog(ids, content={"image": [str(tmp_path / f"{i}.png") for i in ids]})
    skmars.save(replace(model, histories=replace(model.histories, catalog=gone)), tmp_path / "shop")
    with pytest.raises(FileNotFoundError, match="none of the 10 pictures"):
        refit(tmp_path / "shop", store)


def test_old_fits_are_removed_but_never_the_current_one(folder: Path, store: LMDBStore) -> None:
    def fits() -> list[str]:
        return sorted(path.name for path in (folder / "fits").iterdir())

    for _ in range(3):
        refit(folder, store)
    assert fits() == ["2", "3"]
    store.publish("model", "fits/2")
    assert refit(folder, store, keep=1).model == "fits/4"
    assert fits() == ["4"]
    with pytest.raises(ValueError, match="keep must be at least 1"):
        refit(folder, store, keep=0)


def test_one_at_a_time(folder: Path, store: LMDBStore) -> None:
    store.acquire("refit", "another", 60)
    with pytest.raises(LeaseHeld, match="another"):
        refit(folder, store)


# --- the trial ------------------------------------------------------------------------------


def comes(monkeypatch: pytest.MonkeyPatch, store: Any, events: pd.DataFrame) -> None:
    """Let events come while the model is fitted."""
    fit = module._fitted_anew

    def fitted(*given: Any) -> Any:
        found = fit(*given)
        shop.fill(store, events, streamed=True)
        return found

    monkeypatch.setattr(module, "_fitted_anew", fitted)


def test_the_trial_is_on_what_came_since(
    folder: Path, store: LMDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.metrics import log_loss, roc_auc_score

    since = shop.log(60, seed=5, begin=200)
    comes(monkeypatch, store, since)
    trial = refit(folder, store).trial
    assert trial.rows == 60
    for model, loss, auc in (
        (by_hand(), trial.log_loss, trial.auc),
        (shop.model(), trial.current_log_loss, trial.current_auc),
    ):
        X, y = shop.read(pd.concat([EVENTS, since]), model.histories.catalog)
        p = model.pipeline.predict_proba(X[-60:])[:, 1]
        assert loss == pytest.approx(log_loss(y[-60:], p), abs=1e-6)
        assert auc == pytest.approx(roc_auc_score(y[-60:], p))


def test_a_much_worse_model_is_refused(
    folder: Path, store: LMDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    comes(monkeypatch, store, shop.log(60, seed=5, begin=200))
    shop.fill(
        store, shop.log(300, seed=8, begin=100).assign(clicked=lambda log: log.item_id % 2 == 0)
    )
    done = refit(folder, store, worse_by=0.0)
    assert done.model is None
    assert done.trial.log_loss > done.trial.current_log_loss
    assert Current.of(store) == Current()
    assert not list((folder / "fits").iterdir())
    comes(monkeypatch, store, shop.log(60, seed=6, begin=300))
    assert refit(folder, store, worse_by=None).model == "fits/1"


def test_negatives_of_the_trial_are_the_same_for_both(
    tmp_path: Path, store: LMDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.fill(store, EVENTS)
    folder = shop.deployment(tmp_path, borrows=False, negatives=2)
    since = shop.log(200, seed=5, begin=200)
    comes(monkeypatch, store, since)
    clicks = len(since[since.clicked == 1])
    assert refit(folder, store).trial.rows == 3 * clicks
    X, y = shop.read(since, shop.catalog())
    other = X.with_catalog(ItemCatalog(np.arange(shop.N_ITEMS + 1, -1, -1)))
    (ours, y), (theirs, same) = _with_negatives([(X, y), (other, y)], 2)
    np.testing.assert_array_equal(y, same)
    pd.testing.assert_frame_equal(ours.to_frame(), theirs.to_frame())


@pytest.mark.parametrize("worse_by", [-1.0, float("nan")])
def test_worse_by_is_checked(folder: Path, store: LMDBStore, worse_by: float) -> None:
    with pytest.raises(ValueError, match="worse_by must be at least 0"):
        refit(folder, store, worse_by=worse_by)


# --- a model that was fitted elsewhere ---------------------------------------------------------


def elsewhere(tmp_path: Path, model: Model) -> Path:
    skmars.save(model, tmp_path / "elsewhere")
    return tmp_path / "elsewhere"


def test_a_model_that_was_fitted_elsewhere_takes_over(
    folder: Path, store: LMDBStore, tmp_path: Path
) -> None:
    """It knows the streamed events that are earlier than the end of its log."""
    model = by_hand(EVENTS[EVENTS.timestamp < 150])
    done = refit(folder, store, fitted=elsewhere(tmp_path, model))
    n = int((shop.log(80, seed=1, begin=100).timestamp < 150).sum())
    assert 0 < n < 80
    assert (done.model, done.pool, done.n_rows) == ("fits/1", "fits/1/pools/1", 0)
    assert done.position == 300 + n
    assert store.pointer("fits/1/position") == str(300 + n)
    np.testing.assert_array_equal(predictions(skmars.load(folder / "fits/1")), predictions(model))
    assert len(DonorPool.load(folder / done.pool).ids) > 0
    with pytest.raises(ValueError, match="items and users would change nothing"):
        refit(folder, store, fitted=tmp_path / "elsewhere", items=shop.catalog())


@pytest.mark.parametrize("learnt", [None, 460])
def test_the_trial_of_a_model_from_elsewhere(
    folder: Path, store: LMDBStore, tmp_path: Path, learnt: int | None
) -> None:
    """It is on what neither its log nor the current parameters knew."""
    since = shop.log(150, seed=5, begin=200)
    shop.fill(store, since, streamed=True)
    if learnt is not None:
        (folder / "params").mkdir()
        digest = (checksum_of(folder) or b"").hex()
        nothing = np.zeros(0, dtype=np.uint64)
        din = shop.model().pipeline[-1]
        Parameters(din, digest, learnt, nothing, "fit").save(folder / "params/1")
        store.publish("params", "params/1")
    done = refit(folder, store, fitted=elsewhere(tmp_path, by_hand()), worse_by=None)
    assert done.position == 380
    assert done.trial.rows == 530 - (learnt or 380)


@pytest.mark.parametrize("gone", [False, True])
def test_in_the_trial_of_a_model_from_elsewhere_no_pool_knows_the_answers(
    folder: Path, store: LMDBStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """The current model borrows from the pool that its parameters were to learn on with."""
    list(Runner(folder, store).passes())
    shop.fill(store, shop.log(150, seed=5, begin=200), streamed=True)
    list(Runner(folder, store).passes())
    (folder / "params").mkdir()
    digest = (checksum_of(folder) or b"").hex()
    state = Parameters(shop.model().pipeline[-1], digest, 460, np.zeros(0, np.uint64), "pools/1")
    state.save(folder / "params/1")
    store.publish("params", "params/1")
    if gone:
        shutil.rmtree(folder / "pools/1")
    seen = []
    tried = module.tried

    def spied(new: Model, current: Model, *rest: Any) -> Any:
        seen.append(augmenter_in(current.pipeline).pool_)
        return tried(new, current, *rest)

    monkeypatch.setattr(module, "tried", spied)
    refit(folder, store, fitted=elsewhere(tmp_path, by_hand()), worse_by=None)
    pool = augmenter_in(shop.model().pipeline).pool_
    expected = pool if gone else DonorPool.load(folder / "pools/1")
    assert expected.ids.tolist() == seen[0].ids.tolist()
    np.testing.assert_array_equal(expected.history.items, seen[0].history.items)


def test_context_is_that_of_the_payload(tmp_path: Path, store: LMDBStore) -> None:
    shop.fill(store, EVENTS)
    folder = shop.deployment(tmp_path, borrows=False, context=True)
    late = shop.log(60, seed=5, begin=200)
    shop.fill(store, late, streamed=True, payload=[encode({"hour": float(i)}) for i in range(60)])
    skmars.save(shop.model(borrows=False, context=True), tmp_path / "same")
    done = refit(folder, store, fitted=tmp_path / "same")
    assert (done.model, done.trial.rows) == ("fits/1", 60)
    assert done.trial.log_loss == done.trial.current_log_loss


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"label": "liked"}, "reads logs with label='liked', and the current one with label='cli"),
        ({"item": "sku"}, "item='sku'"),
        ({"context": {"hour": "numbers"}}, r"takes the context hour \(numbers\), and the current"),
        ({"order": "place"}, "orders events by the column 'place'"),
    ],
)
def test_a_model_of_other_columns_is_refused(
    folder: Path, store: LMDBStore, tmp_path: Path, given: Any, message: str
) -> None:
    model = shop.model()
    other = replace(model, columns=replace(model.columns, **given))
    with pytest.raises(ValueError, match=message):
        refit(folder, store, fitted=elsewhere(tmp_path, other))
    assert Current.of(store) == Current()


def test_a_model_of_other_ids_or_without_times_is_refused(
    folder: Path, store: LMDBStore, tmp_path: Path
) -> None:
    texts = EVENTS.astype({"user_id": str})
    X, y = skmars.Impressions.from_log(texts, shop.catalog(), label="clicked")
    pipeline = clone(shop.model(borrows=False).pipeline)
    skmars.save(Model.of(pipeline.fit(X, y), X), tmp_path / "texts")
    with pytest.raises(TypeError, match="users of the store"):
        refit(folder, store, fitted=tmp_path / "texts")
    X, y = skmars.Impressions.from_log(EVENTS, shop.catalog(), label="clicked", time=None)
    untimed = Model.of(clone(pipeline).fit(X, y), X, time="timestamp", absolute=True)
    skmars.save(untimed, tmp_path / "untimed")
    with pytest.raises(ValueError, match="has times, and the other has none"):
        refit(folder, store, fitted=tmp_path / "untimed")


# --- faults -----------------------------------------------------------------------------------


class Failing:
    """A store that is away from the n-th call of something on."""

    def __init__(self, store: Any, n: int) -> None:
        self.store, self.left = store, n

    def __getattr__(self, name: str) -> Any:
        value = getattr(type(self.store), name, None)
        if isinstance(value, property):
            self.count()
            return getattr(self.store, name)
        found = getattr(self.store, name)

        def call(*given: Any, **options: Any) -> Any:
            self.count()
            return found(*given, **options)

        return call if callable(found) else found

    def count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise StoreError(errno.ENOSPC, "the disk is full")


def assert_stands(folder: Path, store: Any, pointers: Current) -> None:
    assert Current.of(store) == pointers
    Snapshot.load(folder, store).check()


def test_a_store_that_goes_away_changes_nothing(
    folder: Path, store: LMDBStore, tmp_path: Path
) -> None:
    """At any of its calls."""
    model = elsewhere(tmp_path, shop.model())
    calls, before = 0, Current.of(store)
    while True:
        try:
            refit(folder, Failing(store, calls), fitted=model)
        except StoreError:
            if Current.of(store) != before:  # it failed behind the switch
                break
            assert_stands(folder, store, before)
            calls += 1
            NOW[0] += 100  # until the lease has run out
        else:
            break
    assert calls > 15
    assert Current.of(store).model.startswith("fits/")
    assert_stands(folder, store, Current.of(store))
    NOW[0] += 100
    refit(folder, store, fitted=model, keep=1)
    assert len(list((folder / "fits").iterdir())) == 1


@pytest.mark.parametrize("place", ["save", "ModelPools", "Snapshot"])
def test_what_fails_leaves_nothing(
    folder: Path, store: LMDBStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    """The disk is full while the model or its pool is written; or the model can't score."""
    model = elsewhere(tmp_path, shop.model())

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        if place == "save":
            broken.setattr(module, "save", fail)
        else:
            name = {"ModelPools": "update", "Snapshot": "check"}[place]
            broken.setattr(getattr(module, place), name, fail)
        with pytest.raises(OSError, match="No space left"):
            refit(folder, store, fitted=model)
    assert not list((folder / "fits").iterdir())
    assert_stands(folder, store, Current())
    assert refit(folder, store, fitted=model).model == "fits/2"


def refit_until(folder: str, url: str, place: str) -> None:
    """Refit, and end at once where something is called."""
    owner, _, name = place.rpartition(".")
    setattr(getattr(module, owner) if owner else module, name, lambda *given: os._exit(9))
    refit(folder, open_store(url), fitted=folder)


@pytest.mark.parametrize("place", ["save", "NumberedFolder.publish"])
def test_killed_anywhere(tmp_path: Path, place: str) -> None:
    """While it writes the model, or about to switch."""
    folder, path = shop.deployment(tmp_path, borrows=place != "save"), tmp_path / "store"
    store = LMDBStore(path)
    shop.fill(store, EVENTS)
    store.close()
    killed = Forked(tmp_path, "refit", refit_until, str(folder), f"lmdb:{path}", place)
    assert killed.wait() == 9, killed.told
    store = LMDBStore(path, clock=lambda: time.time() + 1000)
    try:
        assert_stands(folder, store, Current())
        assert len(list((folder / "fits").iterdir())) == 1
        done = refit(folder, store, fitted=folder)
        assert done.model == "fits/2"
        assert [p.name for p in (folder / "fits").iterdir()] == ["2"]
        assert_stands(folder, store, Current.of(store))
    finally:
        store.close()
