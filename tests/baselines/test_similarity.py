"""Similarity of items against loops over users and pairs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from skmars import Impressions
from skmars.baselines import _similarity as similarity
from skmars.baselines._similarity import hybrid_nearest, item_cf_iuf, nearest, user_sequences
from skmars.data import Sequences
from skmars.utils import _ragged as ragged

from . import reference

N_ITEMS = 6
ROWS = st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=7), max_size=8)


def sequences(rows):
    length = np.array([len(row) for row in rows], dtype=np.int32)
    items = np.array([x for row in rows for x in row], dtype=np.int32)
    return Sequences(items, ragged.offsets(length)[:-1], length)


@given(rows=ROWS)
def test_item_cf_iuf_against_a_loop(rows):
    found = item_cf_iuf(sequences(rows), N_ITEMS)
    np.testing.assert_allclose(found.toarray(), reference.item_cf_iuf(rows, N_ITEMS), atol=1e-9)


@given(rows=ROWS)
def test_nearest_are_the_first_of_all_sorted(rows):
    matrix = item_cf_iuf(sequences(rows), N_ITEMS)
    items, scores = nearest(matrix)
    dense = matrix.toarray()
    for i in range(N_ITEMS):
        ranked = [(-dense[i, j], j) for j in range(N_ITEMS) if dense[i, j] > 0]
        score, item = min(ranked, default=(np.inf, -1))
        assert (items[i], scores[i]) == (item, -score)


@given(rows=ROWS, seed=st.integers(0, 99))
def test_similarity_does_not_depend_on_the_order_of_users_and_events(rows, seed):
    rng = np.random.default_rng(seed)
    shuffled = [list(rng.permutation(rows[i])) for i in rng.permutation(len(rows))]
    found = item_cf_iuf(sequences(shuffled), N_ITEMS).toarray()
    assert np.array_equal(found, item_cf_iuf(sequences(rows), N_ITEMS).toarray())


@given(rows=ROWS, seed=st.integers(0, 99), n=st.integers(2, N_ITEMS))
def test_hybrid_against_a_loop(rows, seed, n):
    matrix = item_cf_iuf(sequences([[x % n for x in row] for row in rows]), n)
    vectors = np.random.default_rng(seed).normal(size=(n, 3))
    found = hybrid_nearest(matrix, vectors, np.arange(n))
    assert found.tolist() == reference.hybrid(matrix.toarray(), vectors)


def test_hybrid_in_blocks_and_on_a_part_of_the_items(monkeypatch):
    rng = np.random.default_rng(0)
    vocabulary = np.array([1, 2, 4, 5, 7])
    vectors = rng.normal(size=(5, 3))
    nothing = csr_array((9, 9))
    expected = hybrid_nearest(nothing, vectors, vocabulary)
    product = vectors @ vectors.T
    np.fill_diagonal(product, -np.inf)
    assert expected[vocabulary].tolist() == vocabulary[product.argmax(axis=1)].tolist()
    assert (expected[[0, 3, 6, 8]] == -1).all()
    monkeypatch.setattr(similarity, "BLOCK_ITEMS", 2)
    assert hybrid_nearest(nothing, vectors, vocabulary).tolist() == expected.tolist()


def test_a_single_item_is_like_no_other():
    assert hybrid_nearest(csr_array((1, 1)), np.ones((1, 2)), np.arange(1)).tolist() == [-1]


def test_one_sequence_a_user_the_longest():
    X = Impressions.from_frame(
        pd.DataFrame(
            {
                "user_id": ["a", "b", "a"],
                "item_id": [1, 1, 1],
                "history": [[1], [2, 3], [1, 2]],
            }
        )
    )
    found = user_sequences(X)
    assert sorted(X.catalog.ids[found.row(i)].tolist() for i in range(2)) == [[1, 2], [2, 3]]
