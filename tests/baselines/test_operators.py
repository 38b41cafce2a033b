"""Every operator gives the rows that its recipe allows, and each as often as the recipe says."""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from skmars.baselines import _operators as operators
from skmars.utils import _ragged as ragged

from . import reference

NAMES = ["crop", "mask", "reorder", "substitute", "insert"]
SHARES = st.sampled_from([0.0, 0.1, 0.2, 0.4, 0.5, 0.7, 1.0]) | st.floats(0, 1)


def operator(name, share):
    return partial(getattr(operators, name), share=share)


def rows_after(edit, items):
    """The new rows, with marks where an item is masked or a similar one stands."""
    marks = {
        operators.KEPT: lambda x: x,
        operators.SIMILAR: reference.similar,
        operators.MASKED: lambda _: reference.MASK,
    }
    values = [marks[c](items[s]) for s, c in zip(edit.source, edit.change)]
    ends = ragged.offsets(edit.length)
    return [values[a:b] for a, b in zip(ends[:-1], ends[1:])]


def rows_before(length):
    """Rows of distinct values."""
    values = np.arange(int(np.sum(length))).tolist()
    ends = ragged.offsets(length)
    return values, [values[a:b] for a, b in zip(ends[:-1], ends[1:])]


lengths = st.lists(st.integers(0, 6), max_size=8).map(lambda x: np.array(x, dtype=np.int64))


@pytest.mark.parametrize("name", NAMES)
@given(length=lengths, share=SHARES, seed=st.integers(0, 99))
def test_each_row_becomes_one_that_the_recipe_allows(name, length, share, seed):
    items, before = rows_before(length)
    edit = operator(name, share)(length, random_state=np.random.RandomState(seed))
    for old, new in zip(before, rows_after(edit, items), strict=True):
        assert new in (getattr(reference, name)(old, share) if old else [[]])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("n", "share"), [(1, 0.2), (3, 0.5), (4, 0.7), (5, 0.2), (5, 0.6)])
def test_allowed_rows_are_equally_likely(name, n, share):
    row = list(range(n))
    allowed = Counter(map(tuple, getattr(reference, name)(row, share)))
    n_rows = 100 * sum(allowed.values())
    length = np.full(n_rows, n)
    items, _ = rows_before(length)
    edit = operator(name, share)(length, random_state=np.random.RandomState(0))
    found = Counter(tuple(r) for r in rows_after(edit, [i % n for i in items]))
    assert set(found) == set(allowed)
    # reorder may reach a row in several ways: from several windows.
    expected = [100 * allowed[r] for r in allowed]
    assert chisquare([found[r] for r in allowed], expected).pvalue > 1e-4 or len(allowed) == 1


@given(length=lengths, data=st.data(), seed=st.integers(0, 99))
def test_each_row_is_changed_by_the_operator_chosen_for_it(length, data, seed):
    items, before = rows_before(length)
    choice = data.draw(st.lists(st.integers(0, 5), min_size=len(length), max_size=len(length)))
    ways = [operator(name, 0.4) for name in NAMES]
    edit = operators.one_of(
        [*ways, operators.keep], np.array(choice), length, np.random.RandomState(seed)
    )
    for old, new, way in zip(before, rows_after(edit, items), choice, strict=True):
        allowed = getattr(reference, NAMES[way])(old, 0.4) if way < 5 and old else [old]
        assert new in allowed


@given(length=lengths, rate=SHARES, seed=st.integers(0, 99), n=st.integers(1, 5))
def test_deleting_what_is_masked_and_cutting(length, rate, seed, n):
    items, _ = rows_before(length)
    edit = operators.mask(length, rate, np.random.RandomState(seed))
    expected = [[x for x in row if x != reference.MASK] for row in rows_after(edit, items)]
    assert rows_after(edit.without_masked(), items) == expected
    assert rows_after(edit.without_masked().last(n), items) == [row[-n:] for row in expected]


def test_shares_may_differ_by_row():
    length = np.array([4, 4])
    edit = operators.mask(length, np.array([0.25, 0.75]), np.random.RandomState(0))
    assert (edit.change == operators.MASKED).reshape(2, 4).sum(axis=1).tolist() == [1, 3]


def test_items_without_a_similar_one_are_replaced_at_random():
    n = 3000
    edit = operators.Edit(np.array([n]), np.zeros(n, dtype=int), np.full(n, operators.SIMILAR))
    new = operators.changed_items(
        np.array([0]),
        edit,
        np.random.RandomState(0),
        similar=np.array([-1, 0]),
        vocabulary=np.array([3, 5, 8]),
    )
    assert chisquare([np.sum(new == v) for v in (3, 5, 8)]).pvalue > 1e-4
    assert set(new) == {3, 5, 8}


@given(length=lengths, size=st.integers(0, 4), seed=st.integers(0, 99))
def test_chosen_positions_are_as_many_as_asked_for(length, size, seed):
    found = operators.chosen(length, size, np.random.RandomState(seed))
    ends = ragged.offsets(length)
    counts = [found[a:b].sum() for a, b in zip(ends[:-1], ends[1:])]
    assert counts == [min(n, size) for n in length]
