"""Views into flat arrays: what rows share, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skmars import Impressions, ItemCatalog
from skmars.data import Sequences
from skmars.data._catalog import distinct_codes


def same_rows(a: Sequences, b: Sequences) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(getattr(a, name)[a[[i]].positions()], getattr(b, name)[b[[i]].positions()])
        for i in range(len(a))
        for name in ("items", "time")
    )


@st.composite
def sequences(draw: st.DrawFn) -> Sequences:
    n_values = draw(st.integers(0, 30))
    values = st.lists(st.integers(0, 2), min_size=n_values, max_size=n_values)
    items, time = np.array(draw(values), np.int32), np.array(draw(values), np.float64)
    ends = draw(st.lists(st.tuples(*[st.integers(0, n_values)] * 2), max_size=6))
    start = np.array([min(pair) for pair in ends], dtype=np.int64)
    length = np.array([abs(a - b) for a, b in ends], dtype=np.int32)
    return Sequences(items, start, length, time=time)


@given(sequences())
def test_trimmed_rows_are_the_same(s: Sequences) -> None:
    trimmed = s.trimmed()
    assert same_rows(s, trimmed)
    used = len(np.unique(s.positions()))
    assert len(trimmed.items) <= max(2 * used, 0) or trimmed is s
    if 2 * used < len(s.items):
        assert len(trimmed.items) == used
    # Rows that share values still do: equal views before are equal views after.
    views = list(zip(s.start.tolist(), s.length.tolist()))
    after = list(zip(trimmed.start.tolist(), trimmed.length.tolist()))
    for i in range(len(s)):
        for j in range(i):
            if s.length[i]:
                assert (views[i] == views[j]) == (after[i] == after[j])


@given(sequences(), st.lists(st.integers(0, 1), min_size=6, max_size=6))
def test_equal_neighbours_share_one_view(s: Sequences, groups: list[int]) -> None:
    group = np.array(groups[: len(s)])
    shared = s.sharing(group)
    assert same_rows(s, shared)
    for i in range(1, len(s)):
        equal = group[i] == group[i - 1] and same_rows(s[[i]], s[[i - 1]])
        if equal:
            assert shared.start[i] == shared.start[i - 1]


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=3),
    st.sampled_from([10, 10**7, 2**62]),
)
def test_distinct_codes_by_table_and_by_sorting(lists: list[list[int]], n_codes: int) -> None:
    arrays = [np.array(codes, dtype=np.int32) for codes in lists]
    distinct, places = distinct_codes(arrays, n_codes)
    assert distinct.tolist() == sorted({code for codes in lists for code in codes})
    for array, place in zip(arrays, places):
        assert np.array_equal(distinct[place], array)


@pytest.mark.parametrize("ids", [np.arange(8), np.array([*"abcdefgh"], dtype=object)])
def test_another_catalogue_costs_what_the_rows_hold(ids) -> None:
    """And it may lack what no row has."""
    s = Sequences(np.arange(8, dtype=np.int32), np.array([0, 0, 5]), np.array([2, 1, 0]))
    X = Impressions(ItemCatalog(ids), np.array([7, 9]), np.array([0, 0, 1]), np.array([2, 0, 1]), s)
    other = ItemCatalog(ids[[2, 0, 1]])
    Z = X.with_catalog(other)
    assert len(Z.history.items) == 2
    assert Z.item_ids.tolist() == X.item_ids.tolist()
    for i in range(3):
        assert other.ids[Z.history.row(i)].tolist() == ids[X.history.row(i)].tolist()
    with pytest.raises(ValueError, match="catalog lacks 1 items of X"):
        X.with_catalog(ItemCatalog(ids[[2, 0]]))


def test_all_rows_of_a_log_keep_the_last_events_of_users() -> None:
    """They are in no row's history, but `latest` reads them."""
    pd = pytest.importorskip("pandas")
    log = pd.DataFrame({"user_id": [1, 2, 3, 4], "item_id": [5, 6, 7, 8]})
    X = Impressions.from_log(log)[0].with_catalog(ItemCatalog([8, 7, 6, 5]))
    assert X.latest().history.length.tolist() == [1, 1, 1, 1]
    assert X.catalog.ids[X.latest().history.items].tolist() == [5, 6, 7, 8]


def test_a_table_shares_what_it_repeats() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "user_id": [1, 1, 1, 2, 2],
            "item_id": [5, 6, 7, 5, 6],
            "history": [[5, 6], [5, 6], [6, 5], [6, 5], [6, 5]],
        }
    )
    X = Impressions.from_frame(frame)
    assert X.history.start.tolist() == [0, 0, 4, 6, 6]
    assert X.to_frame("pandas").equals(frame)
