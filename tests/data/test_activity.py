"""Thresholds of activity, against NumPy's quantiles."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skmars.data._activity import thresholds, thresholds_of_counts

shares = st.one_of(st.sampled_from([0.0, 0.3, 0.7, 1.0]), st.floats(0, 1))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), shares, shares)
def test_thresholds_are_quantiles_to_the_bit(activity: list[int], low: float, high: float) -> None:
    expected = np.quantile(np.array(activity, dtype=np.int32), [low, high])
    assert thresholds(np.array(activity, dtype=np.int32), low, high) == tuple(expected)
    count = np.append(np.bincount(activity), [0, 0])
    assert thresholds_of_counts(count, low, high) == tuple(expected)
