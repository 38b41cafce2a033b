"""Which events of the stream are learnt together: told by the stream alone, not by any clock.

The arrivals of events, as the stream has them, fall into periods of some minutes. A batch lies in
one period, and between two periods the parameters may be published. So a trainer that was killed,
or looks late, learns the same batches as one that was never disturbed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

from skmars.serving.store._store import Streamed


def begins_period(began: float, arrival: float, seconds: float) -> bool:
    """Return whether an event begins a new period.

    Parameters
    ----------
    began, arrival : float
        Arrivals of the first event of the period so far, and of the event.
    seconds : float
        Length of a period.

    Notes
    -----
    Arrivals go by the clocks of several machines. An event that seems to belong to the period
    before is one of those that are slow; one that seems to be older still shows that a clock was
    set back, and counts as the first of a new period.
    """
    step = floor(arrival / seconds) - floor(began / seconds)
    return step > 0 or step < -1


def batch_length(
    events: Sequence[Streamed], began: float, size: int, seconds: float, *, whole: bool
) -> int:
    """Return how many of some events are the next batch; 0 if more may belong to it.

    Parameters
    ----------
    events : sequence of Streamed
        What follows in the stream, more than `size` where there are so many.
    began : float
        Arrival of the first event of the period that the first of them belongs to.
    size : int
        The batch has so many at most.
    seconds : float
        Length of a period.
    whole : bool
        Whether no further events are waited for.
    """
    for n, event in enumerate(events[:size]):
        if begins_period(began, event.arrival, seconds):
            return n
    return min(len(events), size) if whole or len(events) >= size else 0
