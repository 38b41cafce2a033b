"""Arithmetic on ragged rows, against loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skmars.utils import _ragged as ragged


@given(st.lists(st.tuples(st.lists(st.integers(0, 5), max_size=9), st.integers(-1, 7))))
def test_values_below_a_limit_are_counted_in_each_row(rows) -> None:
    values = np.array([v for row, _ in rows for v in sorted(row)], dtype=float)
    length = np.array([len(row) for row, _ in rows], dtype=np.int32)
    limit = np.array([limit for _, limit in rows], dtype=float)
    found = ragged.count_below(values, ragged.offsets(length)[:-1], length, limit)
    assert found.tolist() == [sum(v < limit for v in row) for row, limit in rows]
