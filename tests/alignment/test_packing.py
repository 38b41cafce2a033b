"""Segments and batches: every row is served once, by a pass over the events of its own user."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skmars import Impressions, ItemCatalog
from skmars.alignment import _packing as module
from skmars.alignment._packing import Segments, find_segments, make_batches
from skmars.data import Sequences

from .reference import world

SEEDS = st.integers(0, 10_000)
ENDLESS = 10**6


def impressions(histories: list[list[int]], users: list[int], feedback=None) -> Impressions:
    """Rows that hold a copy of their history each."""
    items = np.concatenate(histories).astype(np.int32)
    length = np.array([len(h) for h in histories], dtype=np.int32)
    start = np.cumsum(length) - length
    if feedback is not None:
        feedback = np.concatenate(feedback).astype(np.int8)
    user = np.array(users, dtype=np.int32)
    return Impressions(
        ItemCatalog(np.arange(9)), np.arange(9), user, np.zeros(len(user), np.int32),
        Sequences(items, start, length, feedback=feedback),
    )  # fmt: skip


def check_rows_find_their_history(X: Impressions, segments: Segments, reach: int) -> None:
    h = X.history
    for row in range(len(X)):
        s, prefix = segments.segment[row], segments.prefix[row]
        assert prefix <= segments.length[s]
        seen = slice(segments.start[s], segments.start[s] + prefix)
        own = slice(h.start[row], h.start[row] + h.length[row])
        n = min(reach, h.length[row])
        assert prefix >= n
        for values in (h.items, h.feedback):
            if values is not None and n:
                np.testing.assert_array_equal(values[seen][-n:], values[own][-n:])


@given(SEEDS, st.sampled_from(["all", "positive"]), st.booleans(), st.integers(1, 12))
def test_every_row_finds_its_history_in_its_segment(seed, history, causal, reach) -> None:
    X, _ = world(seed, history=history)
    X = X[np.random.default_rng(seed).permutation(len(X))[:15]]
    for rows in (X, replace(X, history=X.history.compact())):
        segments = find_segments(rows, causal=causal, reach=reach)
        check_rows_find_their_history(rows, segments, reach)
        # Numbered by their first row.
        _, first = np.unique(segments.segment, return_index=True)
        assert (np.diff(first) > 0).all()
        assert len(first) == len(segments)


@pytest.mark.parametrize("history", ["all", "positive"])
@pytest.mark.parametrize("own_copies", [False, True])
def test_one_segment_a_user_however_the_rows_came(history, own_copies) -> None:
    X, _ = world(3, n_events=60, history=history)
    if own_copies:
        X = replace(X, history=X.history.compact())
    segments = find_segments(X, causal=True, reach=ENDLESS)
    served = X.history.length > 0
    assert len(np.unique(segments.segment[served])) == len(np.unique(X.user[served]))
    assert segments.length.sum() == sum(X.history.length[X.user == u].max() for u in set(X.user))


def test_positive_only_histories_take_the_same_pass() -> None:
    """A staircase: a row sees the likes before it, some rows the same ones."""
    X, y = world(1, n_users=1, n_events=30, history="positive")
    segments = find_segments(X, causal=True, reach=ENDLESS)
    seen = segments.segment[X.history.length > 0]
    assert len(set(seen.tolist())) == 1
    np.testing.assert_array_equal(segments.prefix, np.cumsum(y) - y)


def test_a_history_that_is_no_prefix_is_passed_over_on_its_own() -> None:
    X = impressions([[1, 2, 3, 4], [1, 2], [1, 3], [2], [1, 5, 3], [1, 2]], [0, 0, 0, 0, 0, 1])
    segments = find_segments(X, causal=True, reach=ENDLESS)
    assert segments.segment.tolist() == [0, 0, 1, 2, 3, 4]
    feedback = [[1, 0, 1, 1], [1, 0], [1, 1]]
    X = impressions([[1, 2, 3, 4], [1, 2], [1, 2]], [0, 0, 0], feedback)
    assert find_segments(X, causal=True, reach=ENDLESS).segment.tolist() == [0, 0, 1]


def test_without_causality_each_distinct_history_is_passed_over() -> None:
    X, _ = world(0, n_events=40, history="positive")
    segments = find_segments(X, causal=False, reach=3)
    h = X.history.last(3)
    distinct = {(s, n) for s, n in zip(h.start.tolist(), h.length.tolist()) if n}
    assert len(segments) == len(distinct) + np.count_nonzero(h.length == 0)
    assert segments.length.max() == 3


@given(SEEDS, st.integers(1, 20), st.integers(4, 12))
def test_long_segments_are_cut_and_keep_their_context(seed, reach, longest) -> None:
    X, _ = world(seed, n_users=2, n_events=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_POSITIONS", longest)
        segments = find_segments(X, causal=True, reach=reach)
    check_rows_find_their_history(X, segments, reach)
    assert segments.length.max() < longest + reach


def test_no_rows() -> None:
    X, _ = world(0)
    for causal in (True, False):
        segments = find_segments(X[:0], causal=causal, reach=5)
        assert len(segments) == 0
        assert not list(make_batches(segments, np.arange(0), 4))


@given(SEEDS, st.integers(1, 70), st.booleans(), st.integers(2, 100))
def test_batches_hold_each_row_once_and_whole_segments(seed, batch_size, shuffle, longest) -> None:
    X, _ = world(seed, n_users=9, n_events=60)
    segments = find_segments(X, causal=True, reach=ENDLESS)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(X))[: rng.integers(1, len(X) + 1)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_POSITIONS", longest)
        found = list(make_batches(segments, rows, batch_size, np.random.RandomState(0)
                             if shuffle else None))  # fmt: skip
    used = np.concatenate([segment for segment, _ in found])
    assert sorted(used) == sorted(set(segments.segment[rows]))
    assert sorted(np.concatenate([row for _, row in found])) == rows.tolist()
    for segment, row in found:
        assert list(dict.fromkeys(segments.segment[row])) == segment.tolist()
    # As many as fit: what one segment more costs is the largest deviation.
    n_rows = np.bincount(segments.segment[rows], minlength=len(segments))
    cost = np.maximum(n_rows / batch_size, segments.length / longest)
    share = cost[used].sum() / max(1, round(cost[used].sum()))
    for segment, _ in found:
        assert cost[segment].sum() <= share + cost[used].max() + 1e-9


def test_shuffling_is_repeatable_and_without_it_rows_stand_in_order() -> None:
    X, _ = world(0, n_users=9, n_events=60)
    segments = find_segments(X, causal=True, reach=ENDLESS)
    rows = np.arange(len(X))
    orders = [
        np.concatenate([s for s, _ in make_batches(segments, rows, 10, rng)]).tolist()
        for rng in (None, np.random.RandomState(0), np.random.RandomState(0))
    ]
    assert orders[0] == sorted(orders[0])
    assert orders[1] == orders[2] != orders[0]
