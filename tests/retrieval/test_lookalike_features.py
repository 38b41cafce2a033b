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
from skmars.retrieval import _lookalike_features
from skmars.retrieval._lookalike_features import DonorInteractions, lookalike_features
from tests.retrieval.worlds import world

SUPPORT, APPROVAL = TOUCHED[1], LIKED[1]
N_DONORS, N_ITEMS = 6, 5


def histories(rng: np.random.Generator, timed: bool, feedback: bool) -> Sequences:
    length = rng.integers(0, 6, N_DONORS).astype(np.int32)
    n = int(length.sum())
    time = [np.sort(rng.choice([1.0, 2.0, 3.0, np.inf], k)) for k in length]
    return Sequences(
        rng.integers(0, N_ITEMS, n).astype(np.int32),
        np.cumsum(length) - length,
        length,
        feedback=rng.integers(0, 2, n).astype(np.int8) if feedback else None,
        time=np.concatenate(time) if timed else None,
    )


def counted(
    donors: Sequences, who: dict[int, float], item: int, before: float | None
) -> tuple[float, float, float]:
    """How many of `who` touched an item before a moment; and liked it, disliked it."""
    touched = liked = disliked = 0.0
    for d, weight in who.items():
        at = [p for p in donors[[d]].positions() if donors.items[p] == item]
        if not at or (before is not None and not donors.time[at[0]] < before):
            continue
        touched += weight
        if donors.feedback is not None:
            liked += weight * (donors.feedback[at[0]] == 1)
            disliked += weight * (donors.feedback[at[0]] == 0)
    return touched, liked, disliked


def share_of_likes(donors: Sequences) -> float:
    who = dict.fromkeys(range(N_DONORS), 1.0)
    everyone = [counted(donors, who, item, None) for item in range(N_ITEMS)]
    _, liked, disliked = np.sum(everyone, axis=0)
    return (liked + 1) / (liked + disliked + 2)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    timed=st.booleans(),
    feedback=st.booleans(),
    shared=st.booleans(),
    cheaper=st.sampled_from([0, 10**9]),
)
def test_the_equations_by_a_loop(
    seed: int, timed: bool, feedback: bool, shared: bool, cheaper: int
) -> None:
    """By a search for each row, or one that several share, and by both ways to find pairs."""
    rng = np.random.default_rng(seed)
    donors = histories(rng, timed, feedback)
    n = 8
    search = rng.integers(0, 3, n) if shared else np.arange(n)
    lookalikes = np.array([rng.permutation(N_DONORS)[:3] for _ in range(n)], dtype=np.int32)
    lookalikes[rng.random(lookalikes.shape) < 0.2] = -1
    similarity = -np.sort(-rng.uniform(-1, 1, lookalikes.shape))
    target = rng.integers(-1, N_ITEMS + 1, n).astype(np.int32)  # two of which no donor knows
    before = rng.choice([-np.inf, 0.0, 2.0, 3.0, np.inf], n) if timed else None
    interactions = DonorInteractions.of(donors, N_ITEMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_lookalike_features, "_CHEAPER", cheaper)
        found = lookalike_features(interactions, lookalikes, similarity, search, target, before)
    lookalikes, similarity = lookalikes[search], similarity[search]
    for i in range(n):
        moment = None if before is None else before[i]
        everyone = dict.fromkeys(range(N_DONORS), 1.0)
        fading = np.exp((similarity[i] - similarity[i, 0]) / 0.1)
        who = {d: w for d, w in zip(lookalikes[i], fading) if d >= 0}
        c, liked, disliked = counted(donors, who, target[i], moment)
        of_all, all_liked, all_disliked = counted(donors, everyone, target[i], moment)
        # Donors who have done anything by then.
        begun = [min(donors.time[donors[[d]].positions()], default=np.inf) if timed else 0.0
                 for d in range(N_DONORS) if donors.length[d]]  # fmt: skip
        n_donors = sum(1 for t in begun if moment is None or t < moment)
        k, p = sum(who.values()), of_all / max(1, n_donors)
        items = range(N_ITEMS)
        average = np.mean([counted(donors, everyone, item, moment)[0] for item in items])
        assert found[0][i] == pytest.approx(np.log((of_all + 3) / (average + 3)))
        assert found[1][i] == pytest.approx(np.log((c + 3) / (k * p + 3)))
        q = (all_liked + 5 * share_of_likes(donors)) / (all_liked + all_disliked + 5)
        share = (liked + 5 * q) / (liked + disliked + 5)
        logit = np.log(share / (1 - share)) - np.log(q / (1 - q))
        assert found[3][i] == pytest.approx(logit, abs=1e-9)
        r = share_of_likes(donors)
        assert found[2][i] == pytest.approx(np.log(q / (1 - q)) - np.log(r / (1 - r)), abs=1e-9)


@given(seed=st.integers(0, 10_000), n_searches=st.integers(1, 4))
def test_both_ways_to_find_pairs_are_equal(seed: int, n_searches: int) -> None:
    """To the bit, as which way is taken depends on the other rows."""
    rng = np.random.default_rng(seed)
    interactions = DonorInteractions.of(histories(rng, True, True), N_ITEMS)
    n = 12
    donor = np.array([rng.permutation(N_DONORS)[:4] for _ in range(n_searches)], dtype=np.int32)
    donor[rng.random(donor.shape) < 0.2] = -1
    weight, search = rng.random(donor.shape), rng.integers(0, n_searches, n)
    item, until = (rng.integers(low, 5, n).astype(np.int32) for low in (-1, 0))
    found = []
    for cheaper in (0, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_lookalike_features, "_CHEAPER", cheaper)
            found.append(interactions.count(donor, weight, search, item, until))
    for one, other in zip(*found):
        np.testing.assert_array_equal(one, other)


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
