"""The queue before the scoring thread: bounded, in batches, and fair to what waits."""

from __future__ import annotations

import asyncio
import threading

import pytest

from skmars.serving.service._queue import BatchQueue, QueueFull


class Slow:
    """Work that waits until it may go on, and remembers its batches."""

    def __init__(self):
        self.may_go, self.begun = threading.Event(), threading.Event()
        self.batches = []

    def __call__(self, jobs):
        self.batches.append(list(jobs))
        self.begun.set()
        self.may_go.wait(10)
        if any(job == "bad" for job in jobs):
            raise ValueError("bad job")
        return [f"{job}!" for job in jobs]


def queue(work, **limits):
    defaults = {"capacity": 100, "max_batch": 16, "max_size": 1000, "name": "test"}
    return BatchQueue(work, **{**defaults, **limits})


def test_a_batch_is_what_waits_and_never_waits_for_more():
    async def run():
        work = Slow()
        jobs = queue(work, max_batch=4)
        first = jobs.submit("a")
        await asyncio.to_thread(work.begun.wait, 10)
        others = [jobs.submit(job) for job in "bcdefg"]
        work.may_go.set()
        answers = await asyncio.gather(first, *others)
        jobs.close()
        return work.batches, answers

    batches, answers = asyncio.run(run())
    assert answers == [f"{job}!" for job in "abcdefg"]
    assert batches == [["a"], ["b", "c", "d", "e"], ["f", "g"]]


def test_a_batch_stops_at_the_size_of_its_jobs():
    async def run():
        work = Slow()
        jobs = queue(work, max_size=10)
        first = jobs.submit("a")
        await asyncio.to_thread(work.begun.wait, 10)
        others = [jobs.submit(job, size) for job, size in [("b", 6), ("c", 6), ("d", 1)]]
        work.may_go.set()
        await asyncio.gather(first, *others)
        jobs.close()
        return work.batches

    assert asyncio.run(run()) == [["a"], ["b", "c"], ["d"]]


def test_a_full_queue_refuses_and_recovers():
    async def run():
        work = Slow()
        jobs = queue(work, capacity=2)
        first = jobs.submit("a")
        await asyncio.to_thread(work.begun.wait, 10)
        waiting = [jobs.submit("b"), jobs.submit("c")]
        with pytest.raises(QueueFull):
            jobs.submit("d")
        work.may_go.set()
        await asyncio.gather(first, *waiting)
        assert await jobs.submit("d") == "d!"
        jobs.close()

    asyncio.run(run())


def test_a_bad_job_fails_alone():
    async def run():
        work = Slow()
        jobs = queue(work)
        first = jobs.submit("a")
        await asyncio.to_thread(work.begun.wait, 10)
        others = [jobs.submit(job) for job in ("b", "bad", "c")]
        work.may_go.set()
        answers = await asyncio.gather(first, *others, return_exceptions=True)
        jobs.close()
        return answers

    a, b, bad, c = asyncio.run(run())
    assert (a, b, c) == ("a!", "b!", "c!")
    assert isinstance(bad, ValueError)


def test_closing_finishes_what_waits_and_refuses_more():
    async def run():
        work = Slow()
        jobs = queue(work)
        waiting = [jobs.submit(job) for job in "abc"]
        work.may_go.set()
        await asyncio.to_thread(jobs.close)
        with pytest.raises(QueueFull):
            jobs.submit("d")
        return await asyncio.gather(*waiting)

    assert asyncio.run(run()) == ["a!", "b!", "c!"]


def test_who_gave_up_costs_nothing():
    async def run():
        work = Slow()
        jobs = queue(work)
        first = jobs.submit("a")
        await asyncio.to_thread(work.begun.wait, 10)
        gone, stays = jobs.submit("b"), jobs.submit("c")
        gone.cancel()
        work.may_go.set()
        await asyncio.gather(first, stays)
        jobs.close()
        return work.batches

    assert asyncio.run(run()) == [["a"], ["c"]]
