"""The k-core of a log: against plain loops, on all kinds of tables, and the paper's Beauty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skmars.data import k_core
from skmars.data._frames import make_frame

BEAUTY = Path(__file__).parents[3] / "shared/data/amazon-2014/beauty.txt"


def remaining(events, k, items_k):
    """Leave out one user or item at a time, until all have enough events."""
    events = dict(enumerate(events))
    while True:
        for which, least in enumerate((k, items_k)):
            ids = [event[which] for event in events.values()]
            few = next((i for i in ids if ids.count(i) < least), None)
            if few is not None:
                events = {row: event for row, event in events.items() if event[which] != few}
                break
        else:
            return list(events)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40),
    st.integers(1, 4),
    st.integers(1, 4) | st.none(),
)
def test_against_leaving_out_one_at_a_time(events, k, items_k):
    users, items = map(list, zip(*events))
    log = pd.DataFrame({"user_id": users, "item_id": items, "row": range(len(events))})
    expected = remaining(events, k, items_k or k)
    if not expected:
        with pytest.raises(ValueError, match="nothing remains of log: .* Lower k or items_k"):
            k_core(log, k, items_k=items_k)
        return
    core = k_core(log, k, items_k=items_k)
    assert core["row"].tolist() == expected
    pd.testing.assert_frame_equal(k_core(core, k, items_k=items_k), core)


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_the_kind_of_table_all_columns_and_the_order_stay(kind):
    columns = {
        "who": np.array(["v", "u", "w", "v", "u"], dtype=object),
        "what": np.array([2**62 + 1, 7, 3, 7, 2**62 + 1]),
        "stars": np.array([5.0, 4.0, 3.0, 2.0, np.nan]),
    }
    log = make_frame(columns, kind)
    core = k_core(log, 2, user="who", item="what")
    assert type(core) is type(log)
    pandas = core if kind == "pandas" else core.to_pandas()
    assert list(pandas) == list(columns)
    assert pandas["who"].tolist() == ["v", "u", "v", "u"]
    assert pandas["what"].tolist() == [2**62 + 1, 7, 7, 2**62 + 1]
    assert pandas["stars"].iloc[:3].tolist() == [5.0, 4.0, 2.0]
    assert k_core(core, 2, user="who", item="what") is core


def test_the_index_of_pandas_stays():
    log = pd.DataFrame({"user_id": [1, 2, 2], "item_id": [1, 1, 1]}, index=list("abc"))
    assert k_core(log, 2).index.tolist() == ["b", "c"]


def test_bad_input_is_refused():
    log = pd.DataFrame({"user_id": [1, 2], "item_id": [1, None]})
    with pytest.raises(ValueError, match="column 'item_id' of log holds 1 missing ids"):
        k_core(log, 1)
    with pytest.raises(ValueError, match="log has no column 'user'"):
        k_core(log, 1, user="user")
    with pytest.raises(TypeError, match="log must be a pandas, polars or pyarrow table"):
        k_core([(1, 2)], 1)
    for k in (0, 1.5, True, None):
        with pytest.raises(ValueError, match="The 'k' parameter of k_core"):
            k_core(log, k)
    with pytest.raises(ValueError, match="The 'items_k' parameter of k_core"):
        k_core(log, 1, items_k=0)
    with pytest.raises(ValueError, match="nothing remains of log"):
        k_core(log.head(0), 1)


@pytest.mark.skipif(not BEAUTY.exists(), reason="the data are not here")
def test_the_seven_core_of_beauty_is_the_papers():
    lines = [line.split() for line in BEAUTY.read_text().splitlines()]
    pairs = [(int(line[0]), int(item)) for line in lines for item in line[1:]]
    core = k_core(pd.DataFrame(pairs, columns=["user_id", "item_id"]), 7)
    assert (core.user_id.nunique(), core.item_id.nunique(), len(core)) == (4_322, 2_423, 60_276)
