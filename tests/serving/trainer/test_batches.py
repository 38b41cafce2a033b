"""Batches are told by the stream alone, and lie in one period each."""

from __future__ import annotations

from dataclasses import replace
from math import floor

from hypothesis import given
from hypothesis import strategies as st

from skmars.serving import Streamed
from skmars.serving.trainer._batches import batch_length, begins_period

EVENT = Streamed(1, 1, "ann", 1, 0.0, 1, 0.0, b"")
SECONDS = 10.0
arrivals = st.lists(st.floats(0, 100) | st.sampled_from([1e6, 1e12]), min_size=1, max_size=40)


def stream(arrivals: list[float]) -> list[Streamed]:
    return [replace(EVENT, position=i, arrival=at) for i, at in enumerate(arrivals)]


def cut(events: list[Streamed], looks: list[int], size: int) -> list[int]:
    """Return where batches end, for a trainer that sees so many events when it looks."""
    ends, begin, began = [], 0, None
    for seen in [*looks, len(events)]:
        while begin < seen:
            some = events[begin : min(seen, begin + size + 1)]
            if began is None or begins_period(began, some[0].arrival, SECONDS):
                began = some[0].arrival
            n = batch_length(some, began, size, SECONDS, whole=False)
            if n == 0:
                break
            begin += n
            ends.append(begin)
    return ends


@given(arrivals, st.lists(st.integers(0, 40), max_size=5), st.integers(1, 7))
def test_it_does_not_matter_when_the_trainer_looks(
    arrivals: list[float], looks: list[int], size: int
) -> None:
    events = stream(arrivals)
    looks = [min(look, len(events)) for look in sorted(looks)]
    assert cut(events, looks, size) == cut(events, [], size)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40).map(sorted), st.integers(1, 7))
def test_a_batch_is_full_or_ends_with_its_period(arrivals: list[float], size: int) -> None:
    ends = cut(stream(arrivals), [], size)
    for begin, end in zip([0, *ends], ends):
        periods = {floor(at / SECONDS) for at in arrivals[begin:end]}
        assert len(periods) == 1
        assert end - begin == size or floor(arrivals[end] / SECONDS) not in periods
    # Only what may go on is left.
    left = arrivals[ends[-1] if ends else 0 :]
    assert len(left) < size
    assert len({floor(at / SECONDS) for at in left}) <= 1


def test_clocks_of_several_machines() -> None:
    # A bit late: of the period that has begun already. Much earlier: a clock was set back.
    assert [begins_period(25.0, at, SECONDS) for at in (29.0, 19.0, 9.0, 30.0)] == [
        False,
        False,
        True,
        True,
    ]
    alternating = stream([9.0, 10.1, 9.9, 10.2, 9.8, 10.3])
    assert cut(alternating, [], 10) == [1]
    jump = stream([9.0, 1e9, 1e9, 9.1, 9.2, 21.0])
    assert cut(jump, [], 10) == [1, 3, 5]


def test_the_rest_is_a_batch_where_nothing_is_waited_for() -> None:
    events = stream([1.0, 2.0, 3.0])
    assert batch_length(events, 1.0, 5, SECONDS, whole=False) == 0
    assert batch_length(events, 1.0, 5, SECONDS, whole=True) == 3
    assert batch_length(events, 1.0, 2, SECONDS, whole=True) == 2
