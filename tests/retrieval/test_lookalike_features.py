"""Look-alike features: against a slow count, and where the answer is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skmars import (
    DINClassifier,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
    make_multimodal_ctr,
)
from skmars.data import Sequences
from skmars.data._columns import LIKED, TOUCHED
from skmars.retrieval._lookalike_features import (
    Interactions,
    count_lookalikes,
    lookalike_features,
)
from skmars.utils._units import unit
from tests.retrieval.worlds import world

SUPPORT, APPROVAL = TOUCHED[1], LIKED[1]
N_USERS, N_ITEMS = 7, 5


def histories(rng: np.random.Generator, timed: bool, feedback: bool) -> Sequences:
    length = rng.integers(1, 6, N_USERS).astype(np.int32)
    n = int(length.sum())
    time = [np.sort(rng.choice([1.0, 2.0, 3.0, np.inf], k)) for k in length]
    return Sequences(
        rng.integers(0, N_ITEMS, n).astype(np.int32),
        np.cumsum(length) - length,
        length,
        feedback=rng.integers(0, 2, n).astype(np.int8) if feedback else None,
        time=np.concatenate(time) if timed else None,
    )


def first_event(users: Sequences, user: int, item: int, before: float | None) -> int | None:
    """Where a user touched an item first, if that was before a moment."""
    at = [p for p in users[[user]].positions() if users.items[p] == item]
    if not at or (before is not None and not users.time[at[0]] < before):
        return None
    return at[0]


def who_touched(users: Sequences, item: int, before: float | None) -> list[int]:
    """The users who touched an item before a moment, the earliest first; equals by number."""
    at = {u: first_event(users, u, item, before) for u in range(N_USERS)}
    there = [u for u in at if at[u] is not None]
    time = np.zeros(len(users.items)) if users.time is None else users.time
    return sorted(there, key=lambda u: (time[at[u]], u))


def liked(users: Sequences, user: int, item: int) -> bool:
    return bool(users.feedback[first_event(users, user, item, None)] == 1)


def share_of_likes(users: Sequences) -> float:
    all_ = [liked(users, u, i) for i in range(N_ITEMS) for u in who_touched(users, i, None)]
    return (sum(all_) + 1) / (len(all_) + 2)


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    timed=st.booleans(),
    feedback=st.booleans(),
    shared=st.booleans(),
    most=st.sampled_from([1, 2, 100]),
)
def test_the_equations_by_a_loop(
    seed: int, timed: bool, feedback: bool, shared: bool, most: int
) -> None:
    rng = np.random.default_rng(seed)
    users, n = histories(rng, timed, feedback), 8
    vectors, mine = (unit(rng.normal(size=(k, 3))) for k in (N_USERS, n))
    mine[rng.random(n) < 0.2] = 0.0
    search = rng.integers(0, 3, n) if shared else np.arange(n)
    own = rng.integers(-1, N_USERS, n).astype(np.int32)
    target = rng.integers(-1, N_ITEMS + 1, n).astype(np.int32)  # two of which nobody knows
    before = rng.choice([-np.inf, 0.0, 2.0, 3.0, np.inf], n) if timed else None
    interactions = Interactions.of(users, N_ITEMS)
    wide = vectors.astype(float)
    counts = count_lookalikes(
        interactions, vectors, wide.T @ wide / N_USERS, mine, search, own, target, before, most
    )
    found = lookalike_features(counts, interactions.share_of_likes)
    r = share_of_likes(users) if feedback else 0.5
    for i in range(n):
        moment = None if before is None else before[i]
        touched = who_touched(users, target[i], moment)
        items = range(N_ITEMS)
        average = np.mean([len(who_touched(users, item, moment)) for item in items])
        assert found[0][i] == pytest.approx(np.log((len(touched) + 3) / (average + 3)))
        latest = [u for u in touched[-most:] if u != own[i]]
        others = len(touched) - (own[i] in touched[-most:])
        cosine = wide @ mine[search[i]].astype(float)
        weight = np.maximum(cosine, 0) ** 2 / (np.mean(cosine**2) / 2 or 1)
        c = others * np.mean(weight[latest]) if latest else 0.0
        if not mine[search[i]].any():
            c = others
        assert found[1][i] == pytest.approx(np.log((c + 0.5) / (others + 0.5)), abs=1e-4)
        if not feedback:
            assert not found[2:, i].any()
            continue
        likes = [liked(users, u, target[i]) for u in touched]
        q = (sum(likes) + 5 * r) / (len(likes) + 5)
        some = [u for u in touched if u not in touched[-most:] or u != own[i]]
        q_others = (sum(liked(users, u, target[i]) for u in some) + 5 * r) / (len(some) + 5)
        mine_liked = sum(weight[u] * liked(users, u, target[i]) for u in latest)
        share = (mine_liked + 5 * q_others) / (sum(weight[u] for u in latest) + 5)
        assert found[2][i] == pytest.approx(logit(q) - logit(r), abs=1e-9)
        assert found[3][i] == pytest.approx(logit(share) - logit(q_others), abs=1e-4)


def test_users_drawn_at_random_count_for_one_each() -> None:
    """So that support is 0 where look-alikes act as all users do."""
    rng = np.random.default_rng(0)
    vectors, mine = (unit(rng.normal(size=(n, 8))) for n in (4000, 50))
    wide = vectors.astype(float)
    n = np.zeros(4000, np.int64)
    touched = Sequences(n.astype(np.int32), np.arange(4000), n.astype(np.int32) + 1)
    rows = np.arange(50)
    counts = count_lookalikes(
        Interactions.of(touched, 1), vectors, wide.T @ wide / 4000, mine, rows,
        np.full(50, -1, np.int32), np.zeros(50, np.int32), None, 4000,
    )  # fmt: skip
    assert counts.lookalikes.mean() == pytest.approx(4000, rel=0.05)


def columns(X: Any) -> np.ndarray:
    return np.stack([X.context[name] for name in (SUPPORT, APPROVAL) if name in X.context])


def test_columns_are_there_where_there_are_look_alikes() -> None:
    X = world(1)
    augmenter = SequenceRetrievalAugmenter(n_lookalikes=3).fit(X)
    assert {SUPPORT, APPROVAL} <= set(augmenter.transform(X).context)
    assert {SUPPORT, APPROVAL} <= set(augmenter.get_feature_names_out())
    nobody = SequenceRetrievalAugmenter(n_lookalikes=0).fit(X)
    assert not {SUPPORT, APPROVAL} & set(nobody.transform(X).context)
    positive = world(2, n_users=30, n_events=300, history="positive")
    positive = SequenceRetrievalAugmenter(n_lookalikes=3).fit_transform(positive)
    assert SUPPORT in positive.context
    assert APPROVAL not in positive.context


def test_look_alikes_change_nothing_of_what_is_borrowed() -> None:
    X = world(2, n_users=30, n_events=300)
    a, b = (SequenceRetrievalAugmenter(n_lookalikes=n).fit_transform(X).borrowed for n in (0, 7))
    for name in ("items", "start", "length", "donor", "similarity"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("users", ["encoder", "rows", None])
def test_features_of_a_row_depend_on_it_alone(users: str | None) -> None:
    X = world(3, n_users=30, n_events=300, users=users)
    augmenter = SequenceRetrievalAugmenter(n_lookalikes=5).fit(X)
    together = columns(augmenter.transform(X))
    assert together.any(axis=1).all()
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_array_equal(columns(augmenter.transform(X[order])), together[:, order])
    for row in range(0, len(X), 50):
        np.testing.assert_array_equal(columns(augmenter.transform(X[[row]])), together[:, [row]])


def test_what_comes_later_does_not_count() -> None:
    X = world(4, n_users=30, n_events=300)
    early = replace(X, time=np.full(len(X), X.time.min()))
    augmenter = SequenceRetrievalAugmenter(n_lookalikes=5).fit(X)
    assert not columns(augmenter.transform(early)).any()
    timeless = SequenceRetrievalAugmenter(n_lookalikes=5, respect_time=False).fit(X)
    assert columns(timeless.transform(early)).any(axis=1).all()


def test_items_that_nobody_knows_have_no_support() -> None:
    X = world(5)
    augmenter = SequenceRetrievalAugmenter(n_lookalikes=3, respect_time=False).fit(X)
    more = X.catalog.extend(["new"] if X.catalog.ids.dtype == object else [10_000])
    new = np.full(len(X), len(more) - 1, dtype=np.int32)
    assert not columns(augmenter.transform(replace(X, catalog=more, target=new))).any()


def test_look_alikes_know_better_than_chance() -> None:
    X, y = make_multimodal_ctr(300, 100, history="all", random_state=0)
    aligned = MultimodalEncoder().fit_transform(X)
    aligner = SteinAligner(8, id_dim=8, max_iter=1, random_state=0)
    aligned = aligner.fit(aligned, y).transform(aligned)
    augmented = SequenceRetrievalAugmenter().fit_transform(aligned)
    supported, approved = columns(augmented)
    for column in (supported, approved):
        assert np.corrcoef(column, y)[0, 1] > 0.1
    din = DINClassifier(max_iter=1, random_state=0).fit(augmented, y)
    assert SUPPORT in din.feature_names_in_
