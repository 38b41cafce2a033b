"""The ragged gathers against the obvious loop."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skmars.ctr._batches import UNKNOWN_FEEDBACK
from skmars.ctr._row_encoder import EncodedRows, TableRows, cut
from skmars.ctr._vocabulary import count_items
from skmars.data import Sequences
from skmars.utils._ragged import ranges

N_ITEMS = 7


@st.composite
def sequences(draw: st.DrawFn, n_rows: int, feedback: bool) -> Sequences:
    """Overlapping views into one array."""
    items = draw(st.lists(st.integers(0, N_ITEMS - 1), max_size=12))
    n = len(items)
    start = draw(st.lists(st.integers(0, n), min_size=n_rows, max_size=n_rows))
    length = [draw(st.integers(0, n - s)) for s in start]
    liked = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    return Sequences(
        np.array(items, dtype=np.int32),
        np.array(start, dtype=np.int64),
        np.array(length, dtype=np.int32),
        feedback=np.array(liked, dtype=np.int8) if feedback else None,
    )


@st.composite
def tables(draw: st.DrawFn) -> EncodedRows:
    n_rows = draw(st.integers(1, 5))
    history = draw(sequences(n_rows, draw(st.booleans())))
    borrowed = draw(st.none() | sequences(n_rows, draw(st.booleans())))
    length = history.length
    history, borrowed = cut(history, borrowed, draw(st.integers(1, 6)))
    target = draw(st.lists(st.integers(0, N_ITEMS - 1), min_size=n_rows, max_size=n_rows))
    return EncodedRows(
        np.arange(n_rows, dtype=np.float32)[:, None],
        np.zeros((n_rows, 0), dtype=np.int64),
        table_rows=TableRows(np.split(np.array(draw(st.permutations(range(N_ITEMS)))), [3])),
        target=np.array(target),
        length=length,
        history=history,
        borrowed=borrowed,
        merge=draw(st.booleans()),
    )


def row_of(part: Sequences, i: int, is_borrowed: int) -> list[tuple[int, int, int]]:
    """(item, feedback, borrowed) of row `i`, one position after the other."""
    at = range(int(part.start[i]), int(part.start[i] + part.length[i]))
    known = part.feedback is not None
    return [
        (int(part.items[j]), int(part.feedback[j]) if known else UNKNOWN_FEEDBACK, is_borrowed)
        for j in at
    ]


@given(rows=tables(), data=st.data())
def test_a_batch_holds_what_the_rows_hold(rows: EncodedRows, data: st.DataObject) -> None:
    n = len(rows)
    chosen = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=6)))
    batch = rows.batch(chosen)
    assert np.array_equal(batch.codes, np.unique(batch.codes))
    assert np.array_equal(batch.items, rows.table_rows.all()[batch.codes])
    assert np.array_equal(batch.codes[batch.target], rows.target[chosen])
    assert np.array_equal(batch.length, rows.length[chosen])
    assert np.array_equal(batch.dense[:, 0], chosen)
    for place, i in enumerate(chosen):
        own = row_of(rows.history, i, 0)
        lent = [] if rows.borrowed is None else row_of(rows.borrowed, i, 1)
        expected = [lent + own] if rows.merge else [own, lent]
        pools = [batch.history, batch.borrowed]
        for pool, positions in zip(pools, expected):
            if pool is None:
                assert not positions
                continue
            mine = pool.row == place
            assert pool.length[place] == len(positions) == mine.sum()
            found = zip(batch.codes[pool.item[mine]], pool.feedback[mine], pool.borrowed[mine])
            assert list(found) == positions


@given(rows=tables(), data=st.data())
def test_rows_that_share_a_history_have_it_once(rows: EncodedRows, data: st.DataObject) -> None:
    n, some = len(rows), st.integers(1, 12)
    chosen = np.repeat(np.arange(n), data.draw(st.lists(some, min_size=n, max_size=n)))
    alone, shared = rows.batch(chosen), rows.batch(chosen, sharing=True)
    for name in ("items", "codes", "target", "length", "dense"):
        assert np.array_equal(getattr(alone, name), getattr(shared, name))
    if shared.n_sharing is None:
        return
    assert shared.n_sharing.sum() == len(chosen) >= 8 * len(shared.n_sharing)
    of_row = np.repeat(np.arange(len(shared.n_sharing)), shared.n_sharing)
    begin = np.cumsum(shared.history.length) - shared.history.length
    at = ranges(begin[of_row], shared.history.length[of_row])
    assert np.array_equal(alone.history.length, shared.history.length[of_row])
    for name in ("item", "feedback", "borrowed"):
        assert np.array_equal(getattr(alone.history, name), getattr(shared.history, name)[at])


@given(rows=tables())
def test_counting_views_without_walking_through_them(rows: EncodedRows) -> None:
    codes, n_each = count_items(N_ITEMS, rows.target, rows.history, rows.borrowed)
    counted = np.zeros(N_ITEMS, dtype=np.int64)
    counted[codes] = n_each
    assert (n_each > 0).all()
    expected = np.bincount(rows.target, minlength=N_ITEMS)
    for part in (rows.history, rows.borrowed):
        if part is not None:
            expected += np.bincount(part.items[ranges(part.start, part.length)], minlength=N_ITEMS)
    assert np.array_equal(counted, expected)


@given(history=sequences(4, False), borrowed=sequences(4, False), n=st.integers(1, 9))
def test_own_items_are_cut_last(history: Sequences, borrowed: Sequences, n: int) -> None:
    own, lent = cut(history, borrowed, n)
    assert lent is not None
    for i in range(4):
        both = np.concatenate([borrowed.row(i), history.row(i)])[-n:]
        kept = [part.items[part.start[i] :][: part.length[i]] for part in (lent, own)]
        assert np.array_equal(np.concatenate(kept), both)


@given(rows=tables())
def test_blocks_cover_the_rows_once(rows: EncodedRows) -> None:
    found = np.concatenate([np.arange(len(rows))[block] for block in rows.blocks()])
    assert np.array_equal(found, np.arange(len(rows)))


def test_a_block_has_bounded_work() -> None:
    n = 2000
    history = Sequences(np.zeros(200, dtype=np.int32), np.zeros(n, dtype=np.int64), np.full(n, 200))
    empty = np.zeros((n, 0))
    rows = EncodedRows(empty, empty.astype(np.int64), history=history)
    sizes = [block.stop - block.start for block in rows.blocks()]
    assert sum(sizes) == n
    assert max(sizes) * 200 <= 1 << 16
