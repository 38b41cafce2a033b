"""A request through a fitted pipeline: its rows are independent, and it costs what it holds."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.pipeline import Pipeline

from skmars import Impressions, ItemCatalog, make_mars
from skmars.data import Sequences
from skmars.data._columns import LOOKALIKES
from skmars.data._user_histories import UserHistories

N_CANDIDATES = 100
# What numbers in float32 may differ by, where sums have another order.
CLOSE: dict[str, float] = {"rtol": 0, "atol": 1e-6}


def shop(n_items: int, n_users: int, seed: int = 0) -> UserHistories:
    """Draw users with 5 to 14 events, the first ten of them with 40."""
    rng = np.random.default_rng(seed)
    features = {"text": rng.normal(size=(n_items, 8)).astype(np.float32)}
    length = rng.integers(5, 15, n_users).astype(np.int32)
    length[:10] = 40
    n = int(length.sum())
    # Few items have all events, so that there are as many of them in a large catalogue.
    events = Sequences(
        rng.integers(0, 60, n).astype(np.int32),
        np.cumsum(length, dtype=np.int64) - length,
        length,
        feedback=rng.integers(0, 2, n).astype(np.int8),
        time=np.concatenate([np.sort(rng.uniform(0, 1e6, k)) for k in length]),
    )
    return UserHistories(ItemCatalog(np.arange(n_items), features=features), np.arange(n_users),
                         events, 2e6)  # fmt: skip


def fitted(histories: UserHistories) -> Pipeline:
    """Fit to several rows of the first users, and the last one of all; donors are ten of them."""
    rng = np.random.default_rng(1)
    users = np.append(np.repeat(np.arange(100), 6), histories.users)
    time = np.append(rng.uniform(5e5, 2e6, 600), np.full(len(histories.users), np.nan))
    X = histories.impressions(users, rng.integers(0, 60, len(users)), time)
    mars = make_mars(
        random_state=0,
        align__n_components=8,
        align__id_dim=4,
        align__n_factors=4,
        align__max_iter=1,
        augment__theta=-0.2,
        ctr__borrowed="separate",
        augment__high_quantile=1.0,
        augment__neighbors="exact",
        augment__n_lookalikes=20,
        ctr__max_iter=2,
    )
    mars.fit(X, rng.integers(0, 2, len(X)))
    assert mars.named_steps["augment"].n_donors_ == 10
    return mars


@pytest.fixture(scope="module")
def world() -> tuple[UserHistories, Pipeline]:
    histories = shop(200, 300)
    return histories, fitted(histories)


def request(histories: UserHistories, n_users: int = 1, **changes: Any) -> Impressions:
    rng = np.random.default_rng(2)
    users = np.repeat(50 + np.arange(n_users), N_CANDIDATES)
    items = np.concatenate([rng.permutation(200)[:N_CANDIDATES] for _ in range(n_users)])
    return histories.impressions(users, items, **changes)


def probability(mars: Pipeline, X: Any) -> np.ndarray:
    return mars.predict_proba(X)[:, 1]


@pytest.mark.parametrize("time", [None, 7e5])
def test_a_request_is_its_rows_one_by_one(world, time: float | None) -> None:
    histories, mars = world
    n = 3 * N_CANDIDATES
    X = request(histories, 3, time=None if time is None else np.full(n, time))
    together = probability(mars, X)
    assert together.std() > 1e-3
    augmented = mars[:-1].transform(X)
    assert augmented.borrowed.length.any()
    rng = np.random.default_rng(0)
    for rows in [[i] for i in range(0, n, 7)] + [rng.permutation(n), np.arange(0, n, 2)]:
        np.testing.assert_allclose(probability(mars, X[rows]), together[rows], **CLOSE)
        part = mars[:-1].transform(X[rows])
        for name in LOOKALIKES:
            np.testing.assert_array_equal(part.context[name], augmented.context[name][rows])
        a, b = part.borrowed, augmented.borrowed[rows]
        np.testing.assert_array_equal(a.length, b.length)
        for name in ("similarity", "donor_similarity", "donor"):
            mine, theirs = (getattr(s, name)[s.positions()] for s in (a, b))
            np.testing.assert_array_equal(mine, theirs, err_msg=name)


def catalogues(histories: UserHistories) -> dict[str, ItemCatalog]:
    catalog = histories.catalog
    rng = np.random.default_rng(0)
    return {
        "equal": ItemCatalog(catalog.ids.copy(), features=dict(catalog.features)),
        "unpickled": pickle.loads(pickle.dumps(catalog)),
        "extended": catalog.extend([10**6, 10**6 + 1]),
        "ids alone": ItemCatalog(rng.permutation(catalog.ids)),
        "ids alone, more": ItemCatalog(rng.permutation(catalog.ids)).extend([10**6]),
    }


@pytest.mark.parametrize("kind", ["equal", "unpickled", "extended", "ids alone", "ids alone, more"])
def test_other_catalogues_give_the_same(world, kind: str) -> None:
    histories, mars = world
    expected = probability(mars, request(histories, 2))
    other = histories.with_catalog(catalogues(histories)[kind])
    np.testing.assert_array_equal(probability(mars, request(other, 2)), expected)


def test_a_table_gives_the_same(world) -> None:
    histories, mars = world
    X = request(histories, 2)
    found = probability(mars, X.to_frame("pandas"))
    np.testing.assert_allclose(found, probability(mars, X), **CLOSE)


def test_an_unpickled_pipeline_gives_the_same(world) -> None:
    histories, mars = world
    X = request(histories, 2)
    again = pickle.loads(pickle.dumps(mars))
    np.testing.assert_array_equal(probability(again, X), probability(mars, X))


def test_items_of_which_nothing_is_known_are_alike(world) -> None:
    histories, mars = world
    users = np.full(4, 50)
    one = histories.impressions(users, np.array([10**6, 10**6 + 1, 10**6 + 2, 3]))
    other = histories.impressions(users, np.array([10**7, 10**7 + 1, 10**7 + 2, 3]))
    p = probability(mars, one)
    np.testing.assert_allclose(p[:3], p[0], **CLOSE)
    np.testing.assert_array_equal(probability(mars, other), p)


def allocated(call: Callable[[], Any]) -> int:
    """Return how many bytes a call holds at a time, beyond what was there before."""
    for _ in range(3):
        call()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def large() -> tuple[UserHistories, Pipeline]:
    """Far more items and users, and as many donors."""
    histories = shop(100_000, 10_000)
    return histories, fitted(histories)


@pytest.mark.parametrize("kind", ["same", "unknown item", "ids alone", "selected"])
def test_nothing_scales_with_the_catalogue_or_with_the_users(world, large, kind: str) -> None:
    """A copy of any array with an entry an item, a user or an event would be seen."""
    sizes: list[dict[str, int]] = []
    for histories, mars in (world, large):
        X = request(histories)
        if kind == "ids alone":
            other = ItemCatalog(histories.catalog.ids[::-1])
            X = request(histories.with_catalog(other))
        if kind == "unknown item":
            catalog = histories.catalog.extend([10**6])
            target = X.target.copy()
            target[0] = len(catalog) - 1
            X = replace(X, catalog=catalog, target=target)
        if kind == "selected":  # of rows that share the users of all
            every = Impressions(
                histories.catalog, histories.users, np.arange(len(histories.users)),
                np.zeros(len(histories.users), np.int32), histories.events,
                time=np.full(len(histories.users), 2e6),
            )  # fmt: skip
            X = every[np.arange(50, 150)]
        sizes.append(steps := {})
        for name, step in mars.steps:
            call = step.predict_proba if name == "ctr" else step.transform
            steps[name] = allocated(lambda call=call, X=X: call(X))
            X = X if name == "ctr" else step.transform(X)
    # Many histories in a small catalogue are counted in a table of it, in a large one sorted.
    allowed = 80_000 if kind == "selected" else 20_000
    for name, size in sizes[0].items():
        assert sizes[1][name] < size + allowed, (name, sizes)


def test_histories_are_made_of_the_rows_alone(world, large) -> None:
    sizes = [
        allocated(lambda histories=histories: request(histories)) for histories, _ in (world, large)
    ]
    assert sizes[1] < sizes[0] + 15_000, sizes
