"""A pool of donors: made of any rows, lent to a fitted augmenter, saved and mapped into memory."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import warnings
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline

import skmars
from skmars import Impressions, ItemCatalog, SequenceRetrievalAugmenter
from skmars.data._activity import UserActivity
from skmars.data._folds import OWN
from skmars.retrieval import DonorPool

from .worlds import HistoryEncoder, as_tuples, world

WORLDS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**6),
        "n_users": st.integers(2, 25),
        "n_events": st.integers(10, 150),
        "integers": st.booleans(),
        "timed": st.booleans(),
        "history": st.sampled_from(["all", "positive"]),
        "users": st.sampled_from(["encoder", None]),
        "strings": st.booleans(),
    }
)


def leaves(value: object, name: str = "") -> dict[str, object]:
    """Return all that an object consists of, by the way to it."""
    if isinstance(value, np.ndarray | int | float | str | None):
        return {name: value}
    if isinstance(value, dict):
        state = value
    elif isinstance(value, list | tuple):
        state = dict(enumerate(value))
    else:
        state = value.__getstate__()
    return {k: v for part in state for k, v in leaves(state[part], f"{name}.{part}").items()}


def assert_same(one: DonorPool, other: DonorPool) -> None:
    mine, theirs = leaves(one), leaves(other)
    assert mine.keys() == theirs.keys()
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


def assert_same_rows(one: Impressions, other: Impressions) -> None:
    assert as_tuples(one) == as_tuples(other)
    assert one.context.keys() == other.context.keys()
    for name in one.context:
        np.testing.assert_array_equal(one.context[name], other.context[name])
    np.testing.assert_array_equal(one.fold, other.fold)


@pytest.fixture(autouse=True)
def _worlds_may_be_too_small_to_borrow():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*will borrow nothing")
        yield


# --- build ----------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(WORLDS, st.sampled_from(["user", "row"]), st.data())
def test_a_pool_of_the_rows_of_fit_is_that_of_fit_in_any_order(how, activity, data):
    X = world(**how)
    augmenter = SequenceRetrievalAugmenter(activity=activity)
    fitted = clone(augmenter).fit(X)
    for one in (augmenter, fitted):
        assert_same(DonorPool.build(one, X), fitted.pool_)
    assert not hasattr(augmenter, "pool_")
    rows = data.draw(st.permutations(range(len(X))))
    assert_same(DonorPool.build(augmenter, X[np.array(rows)]), fitted.pool_)
    users = np.array(data.draw(st.permutations(range(len(X.users)))))
    shuffled = replace(X, users=X.users[users], user=np.argsort(users)[X.user].astype(np.int32))
    assert_same(DonorPool.build(augmenter, shuffled), fitted.pool_)
    # One row a user, where the thresholds are known.
    _, longest = UserActivity.of(X)
    known = fitted.low_threshold_, fitted.high_threshold_
    assert_same(DonorPool.build(augmenter, X[longest], thresholds=known), fitted.pool_)


def test_attributes_of_fit_are_those_of_the_pool(X):
    augmenter = SequenceRetrievalAugmenter().fit(X)
    pool = augmenter.pool_
    assert (augmenter.low_threshold_, augmenter.high_threshold_) == (
        pool.low_threshold,
        pool.high_threshold,
    )
    assert augmenter.n_donors_ == len(pool) == len(pool.ids)
    assert augmenter.donor_ids_ is pool.ids
    assert augmenter.donor_history_ is pool.history
    assert augmenter.donor_embedding_ is pool.units
    assert augmenter.user_center_ is pool.center
    assert augmenter.item_ids_ is pool.items.ids
    assert augmenter.item_center_ is pool.items.center
    with pytest.raises(AttributeError):
        _ = SequenceRetrievalAugmenter().n_donors_


def test_first_event_of_each_donor(X):
    pool = SequenceRetrievalAugmenter().fit(X).pool_
    first = [pool.history.time[pool.history.start[i]] for i in range(len(pool))]
    assert pool.first_event.tolist() == first
    assert SequenceRetrievalAugmenter().fit(world(3, timed=False)).pool_.first_event is None


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ((5, 2), "the lower one first, got \\(5, 2\\)"),
        ((-1, 2), "got \\(-1, 2\\)"),
        ((1, float("inf")), "got \\(1, inf\\)"),
        ((float("nan"), 2), "got \\(nan, 2\\)"),
        ((1, 2, 3), "must be two numbers, got \\(1, 2, 3\\)"),
        (3, "must be two numbers, got 3"),
        (("few", "many"), "must be two numbers"),
    ],
)
def test_bad_thresholds(X, thresholds, message):
    with pytest.raises(ValueError, match=message):
        DonorPool.build(SequenceRetrievalAugmenter(), X, thresholds=thresholds)


def test_bad_arguments_of_build(X):
    for wrong in (None, skmars.make_mars(), SequenceRetrievalAugmenter):
        with pytest.raises(TypeError, match="augmenter must be a SequenceRetrievalAugmenter"):
            DonorPool.build(wrong, X)
    with pytest.raises(ValueError, match="at least one row"):
        DonorPool.build(SequenceRetrievalAugmenter(), X[:0])
    with pytest.raises(ValueError, match="'theta' parameter"):
        DonorPool.build(SequenceRetrievalAugmenter(theta=7), X)
    with pytest.raises(TypeError, match="Impressions"):
        DonorPool.build(SequenceRetrievalAugmenter(), [1, 2])


# --- another pool ---------------------------------------------------------------------------------


@settings(max_examples=40)
@given(WORLDS, st.sampled_from(["filter", "most_similar", "dp"]))
def test_more_users_change_answers_through_these_donors_alone(how, strategy):
    X = world(**how)
    some = np.random.default_rng(how["seed"]).random(len(X.users)) < 0.6
    some[X.user[0]] = True
    augmenter = SequenceRetrievalAugmenter(strategy, center=False, theta=-1, n_lookalikes=0)
    few = augmenter.fit(X[some[X.user]])
    known = few.low_threshold_, few.high_threshold_
    many = few.with_pool(DonorPool.build(few, X, thresholds=known))
    assert set(few.donor_ids_.tolist()) <= set(many.donor_ids_.tolist())
    added = set(many.donor_ids_.tolist()) - set(few.donor_ids_.tolist())
    assert added <= set(X.users[~some].tolist())
    before, after = few.transform(X), many.transform(X)
    for mine, theirs, user in zip(as_tuples(before), as_tuples(after), X.user_ids):
        lenders = {donor for _, donor, *_ in theirs}
        assert user not in lenders
        assert theirs == mine or lenders & added
    # A row knows its own later events through a donor alone.
    length = dict(zip(many.donor_ids_.tolist(), many.donor_history_.length.tolist()))
    later = [n < length.get(u, 0) for u, n in zip(X.user_ids.tolist(), X.history.length.tolist())]
    found = np.zeros(len(X), bool) if after.fold is None else after.fold == OWN
    assert found.tolist() == later


@settings(max_examples=25)
@given(WORLDS)
def test_nobody_is_their_own_donor_whoever_they_are(how):
    """Users whom fit did not see are recognised among the donors, and don't count themselves."""
    X = world(**how)
    half = X.user % 2 == 0
    if not half.any() or half.all():
        return
    augmenter = SequenceRetrievalAugmenter("kth", n_neighbors=5).fit(X[half])
    lent = augmenter.with_pool(DonorPool.build(augmenter, X))
    assert_same_rows(lent.transform(X), SequenceRetrievalAugmenter(
        "kth", n_neighbors=5
    ).fit(X).transform(X))  # fmt: skip
    for user, borrowed in zip(X.user_ids, as_tuples(lent.transform(X))):
        assert user not in {donor for _, donor, *_ in borrowed}


def test_with_pool_leaves_the_original_alone_and_can_be_fitted_on(X):
    augmenter = SequenceRetrievalAugmenter().fit(X[X.user % 2 == 0])
    before, pool = augmenter.transform(X), augmenter.pool_
    other = augmenter.with_pool(DonorPool.build(augmenter, X))
    assert augmenter.pool_ is pool
    assert_same_rows(augmenter.transform(X), before)
    assert other.get_params() == augmenter.get_params()
    assert_same_rows(other.with_pool(pool).transform(X), before)
    assert other.n_donors_ != augmenter.n_donors_
    assert_same(other.updated(X).pool_, SequenceRetrievalAugmenter().fit(X).pool_)
    assert len(other.explain(X)) != len(augmenter.explain(X))
    whole = pickle.loads(pickle.dumps(other))
    assert_same_rows(whole.transform(X), other.transform(X))


def test_transform_asks_the_pool_alone(X):
    """No array of the size of all users of fit is looked at."""
    augmenter = SequenceRetrievalAugmenter().fit(X)
    before = augmenter.transform(X[:20])
    augmenter._activity = None
    assert_same_rows(augmenter.transform(X[:20]), before)


def refused(augmenter: SequenceRetrievalAugmenter, pool: DonorPool, message: str) -> None:
    before = augmenter.pool_
    with pytest.raises(ValueError, match=message) as error:
        augmenter.with_pool(pool)
    assert "DonorPool.build" in str(error.value)
    assert augmenter.pool_ is before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"center": False}, "center is False in the pool and True in the fit"),
        ({"low_quantile": 0.2}, "low_quantile is 0.2 in the pool and 0.3 in the fit"),
        ({"high_quantile": 0.8}, "high_quantile is 0.8"),
        ({"activity": "user"}, "activity is 'user' in the pool and 'row' in the fit"),
        ({"user_representation": "embedding"}, "compared by is 'embedding' .* and 'units'"),
        ({"item_representation": "embedding"}, "item_representation is 'embedding'"),
    ],
)
def test_a_pool_of_other_parameters_is_refused(X, change, message):
    augmenter = SequenceRetrievalAugmenter().fit(X)
    refused(augmenter, DonorPool.build(clone(augmenter).set_params(**change), X), message)


def test_a_pool_of_another_space_is_refused(X):
    augmenter, items = SequenceRetrievalAugmenter().fit(X), X.catalog.embedding

    def pool_over(catalog: ItemCatalog) -> DonorPool:
        return DonorPool.build(augmenter, X.with_user_embedding(None).with_catalog(catalog))

    moved = items.copy()
    moved[3] = -moved[3]
    refused(augmenter, pool_over(X.catalog.with_embedding(moved)), "1 of 25 items have changed")
    wider = np.column_stack([items, items])
    refused(augmenter, pool_over(X.catalog.with_embedding(wider)), "vectors is 10 .* and 5 in")
    featured = X.catalog.with_features({"text": items})
    refused(augmenter, pool_over(featured), "what items are compared by is 'features'")
    # Features are compared here, but later steps use the embedding.
    X2 = X.with_user_embedding(None).with_catalog(featured)
    with_features = SequenceRetrievalAugmenter().fit(X2)
    other = X2.with_catalog(featured.with_embedding(moved))
    refused(with_features, DonorPool.build(augmenter, other), "1 of 25 items have changed")


def test_a_pool_of_other_users_or_columns_is_refused():
    how = {"n_users": 30, "n_events": 300, "width": 5, "users": None}
    X = world(1, **how)
    augmenter = SequenceRetrievalAugmenter().fit(X)
    refused(augmenter, DonorPool.build(augmenter, world(1, **how, timed=False)), "times is False")
    others = world(1, **how, history="positive")
    refused(augmenter, DonorPool.build(augmenter, others), "having feedback is False")
    others = world(1, **how, strings=True)
    refused(augmenter, DonorPool.build(augmenter, others), "user ids is 'strings'.*item ids is")
    by_user = SequenceRetrievalAugmenter(user_representation="embedding")
    rng = np.random.default_rng(0)
    narrow, wide = (X.with_user_embedding(rng.normal(size=(len(X), n))) for n in (3, 4))
    message = "length of user vectors is 4 in the pool and 3 in the fit"
    refused(by_user.fit(narrow), DonorPool.build(by_user, wide), message)


def test_more_items_are_welcome(X):
    augmenter = SequenceRetrievalAugmenter("most_similar").fit(X)
    later = X.with_user_embedding(None).with_catalog(X.catalog.extend([10**6]))
    more = np.vstack([X.catalog.embedding, np.ones((1, 5), np.float32)])
    later = later.with_catalog(later.catalog.with_embedding(more))
    lent = augmenter.with_pool(DonorPool.build(augmenter, later))
    assert len(lent.item_ids_) == len(augmenter.item_ids_) + 1
    assert any(as_tuples(lent.transform(X)))


def test_what_with_pool_does_not_take(X):
    with pytest.raises(NotFittedError):
        SequenceRetrievalAugmenter().with_pool(SequenceRetrievalAugmenter().fit(X).pool_)
    for wrong in (None, "pools/3", SequenceRetrievalAugmenter().fit(X)):
        with pytest.raises(TypeError, match="pool must be a DonorPool.*DonorPool.load"):
            SequenceRetrievalAugmenter().fit(X).with_pool(wrong)


# --- empty ----------------------------------------------------------------------------------------


def test_an_empty_pool_is_the_identity(X, tmp_path):
    pytest.importorskip("safetensors")
    augmenter = SequenceRetrievalAugmenter().fit(X)
    longest = int(X.history.length.max())
    with pytest.warns(UserWarning, match="borrow nothing: there is no donor") as caught:
        empty = DonorPool.build(augmenter, X, thresholds=(longest, longest + 1))
    assert caught[0].filename == __file__
    assert len(empty) == 0
    empty.save(tmp_path / "empty")
    for pool in (empty, DonorPool.load(tmp_path / "empty")):
        lent = augmenter.with_pool(pool)
        out = lent.transform(X)
        assert out.columns == augmenter.transform(X).columns
        assert not out.borrowed.length.any()
        assert len(lent.explain(X)) == 0
        assert lent.n_donors_ == 0
        # And from an empty one to one that is not.
        assert_same_rows(lent.with_pool(augmenter.pool_).transform(X), augmenter.transform(X))


def test_the_warning_of_fit_names_the_line_of_the_caller(X):
    with pytest.warns(UserWarning, match="borrow nothing") as caught:
        SequenceRetrievalAugmenter(low_quantile=1.0, high_quantile=1.0).fit(X)
    assert caught[0].filename == __file__


# --- saved ----------------------------------------------------------------------------------------


def digest_of(X: Impressions) -> str:
    told = [sorted((k, v.tobytes()) for k, v in X.context.items()), as_tuples(X)]
    return hashlib.sha256(repr(told).encode()).hexdigest()


@settings(max_examples=25, deadline=None)
@given(WORLDS, st.sampled_from(["exact", "hnsw"]))
def test_saved_and_loaded_gives_the_same_bits(tmp_path_factory, how, neighbors):
    pytest.importorskip("safetensors")
    pytest.importorskip("faiss")
    X = world(**how)
    augmenter = SequenceRetrievalAugmenter(neighbors=neighbors, n_neighbors=2).fit(X)
    path = tmp_path_factory.mktemp("pools") / "1"
    augmenter.pool_.save(path)
    pool = DonorPool.load(path)
    assert_same(pool, augmenter.pool_)
    assert_same_rows(augmenter.with_pool(pool).transform(X), augmenter.transform(X))
    assert repr(pool) == repr(augmenter.pool_)


@pytest.mark.parametrize("neighbors", ["exact", "hnsw"])
def test_saved_here_and_loaded_in_another_process(tmp_path, neighbors):
    pytest.importorskip("safetensors")
    pytest.importorskip("faiss")
    how = {"n_users": 60, "n_items": 40, "n_events": 900, "width": 6, "users": None}
    X = world(5, **how)
    augmenter = SequenceRetrievalAugmenter(neighbors=neighbors).fit(X[X.user % 2 == 0])
    pool = DonorPool.build(augmenter, X)
    pool.save(tmp_path / "7")
    code = f"""
from tests.retrieval.test_pool import *
X = world(5, **{how!r})
augmenter = SequenceRetrievalAugmenter(neighbors={neighbors!r}).fit(X[X.user % 2 == 0])
print(digest_of(augmenter.with_pool(DonorPool.load({str(tmp_path / "7")!r})).transform(X)))
"""
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": root}
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=env, capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == [digest_of(augmenter.with_pool(pool).transform(X))]


def test_nothing_is_computed_or_copied_when_a_pool_is_loaded(X, tmp_path):
    pytest.importorskip("safetensors")
    pytest.importorskip("faiss")
    pool = SequenceRetrievalAugmenter(neighbors="hnsw").fit(X).pool_
    assert pool.index.vectors_ is pool.units
    pool.save(tmp_path / "pool")
    loaded = DonorPool.load(tmp_path / "pool")
    kept = {f.name for f in fields(DonorPool)}
    assert set(vars(loaded)) == kept == set(vars(pool)) - {"_lookup"}
    # The vectors are stored once, for the search and for the exact cosines.
    assert np.shares_memory(loaded.index.vectors_, loaded.units)


def test_a_flipped_bit_is_refused(X, tmp_path):
    pytest.importorskip("safetensors")
    SequenceRetrievalAugmenter().fit(X).pool_.save(tmp_path / "pool")
    rng = np.random.default_rng(0)
    for file in sorted((tmp_path / "pool").iterdir()):
        whole = file.read_bytes()
        for at in rng.integers(len(whole), size=5).tolist():
            broken = bytearray(whole)
            broken[at] ^= 1 << int(rng.integers(8))
            file.write_bytes(broken)
            with pytest.raises(ValueError, match="pool"):
                DonorPool.load(tmp_path / "pool")
        file.write_bytes(whole)
    DonorPool.load(tmp_path / "pool")


def test_what_is_no_pool_is_refused(X, tmp_path):
    pytest.importorskip("safetensors")
    with pytest.raises(FileNotFoundError, match="none does not exist"):
        DonorPool.load(tmp_path / "none")
    pool = SequenceRetrievalAugmenter(neighbors=NearestNeighbors()).fit(X).pool_
    with pytest.raises(TypeError, match="DonorPool.index"):
        pool.save(tmp_path / "pool")
    assert not list(tmp_path.iterdir())


def test_a_pipeline_with_the_pool_of_another_process(tmp_path):
    pytest.importorskip("safetensors")
    X, y = skmars.make_multimodal_ctr(n_users=60, n_items=40, random_state=0)
    quick = {"align__max_iter": 1, "ctr__max_iter": 1, "align__n_components": 8}
    some = X.user % 3 > 0
    mars, again = (
        skmars.make_mars(random_state=seed, **quick).fit(X[some], y[some]) for seed in (0, 1)
    )
    augmenter, classifier = mars[-2:]

    def pool_after(steps):
        return DonorPool.build(augmenter, steps[:-2].transform(X))

    pool_after(mars).save(tmp_path / "1")
    lent = augmenter.with_pool(DonorPool.load(tmp_path / "1"))
    assert lent.n_donors_ > augmenter.n_donors_
    pipeline = make_pipeline(*mars[:-2], lent, classifier)
    expected = make_pipeline(*mars[:-2], augmenter.with_pool(pool_after(mars)), classifier)
    whole = pipeline.predict_proba(X)
    np.testing.assert_array_equal(whole, expected.predict_proba(X))
    assert (whole != mars.predict_proba(X)).any()
    assert len(skmars.explain(pipeline, X[:5]).sentences) == 5
    assert len(skmars.recommend(pipeline, X.latest(), n=2, candidates=10)) == 2 * len(X.users)
    # Another fit of the aligner moves the space in which later steps work.
    refused(augmenter, pool_after(again), "items have changed \\(the aligner or encoder was fitted")


def test_rows_have_user_embeddings_of_a_pool_by_embedding(X, tmp_path):
    pytest.importorskip("safetensors")
    vectors = np.random.default_rng(0).normal(size=(25, 5)).astype(np.float32)
    rows = X.with_user_encoder(HistoryEncoder(vectors))
    augmenter = SequenceRetrievalAugmenter(user_representation="embedding").fit(rows)
    augmenter.pool_.save(tmp_path / "pool")
    lent = augmenter.with_pool(DonorPool.load(tmp_path / "pool"))
    assert_same_rows(lent.transform(rows), augmenter.transform(rows))
