"""Blocks on threads of our own: results in order, errors, and BLAS as it was."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from skmars.utils import _blocks
from skmars.utils._blocks import in_threads


def blas_threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def numbers(function: Any, blocks: Any, n_jobs: int | None) -> list[Any]:
    with in_threads(function, blocks, n_jobs) as found:
        return list(found)


@pytest.mark.parametrize("n_jobs", [None, 1, 2, 5])
@pytest.mark.parametrize("n", [0, 1, 2, 40])
def test_results_come_in_order(n_jobs: int | None, n: int) -> None:
    def slow_first(i: int) -> int:
        time.sleep(0.01 * (i == 0))
        return i * i

    assert numbers(slow_first, iter(range(n)), n_jobs) == [i * i for i in range(n)]


def test_the_caller_makes_the_blocks_and_few_ahead() -> None:
    made: list[int] = []
    makers = set()

    def blocks() -> Iterator[int]:
        for i in range(50):
            made.append(i)
            makers.add(threading.get_ident())
            yield i

    with in_threads(lambda i: i, blocks(), 2) as found:
        assert next(found) == 0
        assert len(made) < 10
        assert list(found) == list(range(1, 50))
    assert makers == {threading.get_ident()}


def test_blas_has_one_thread_meanwhile_and_its_own_afterwards() -> None:
    numbers(abs, range(4), 1)  # from then on it is known which BLAS there is
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        inside = numbers(lambda i: max(blas_threads()), range(4), 2)
        assert set(inside) == {1}
        assert blas_threads() == before
        with pytest.raises(ZeroDivisionError):
            numbers(lambda i: 1 // i, range(4), 2)
        assert blas_threads() == before
        with in_threads(lambda i: i, range(40), 2) as found:
            next(found)  # and the others are left
        assert blas_threads() == before


def test_a_call_within_a_block_has_no_threads_of_its_own() -> None:
    def threads_of(_: int) -> set[int]:
        return set(numbers(lambda j: threading.get_ident(), range(8), 4))

    for inner in numbers(threads_of, range(4), 2):
        assert len(inner) == 1


def test_one_block_leaves_threads_to_a_call_within(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blocks, "cpu_count", lambda: 2)
    barrier = threading.Barrier(2, timeout=30)
    assert numbers(lambda _: numbers(lambda j: barrier.wait() >= 0, range(2), 2), [0], 2) == [
        [True, True]
    ]


def test_threads_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blocks, "cpu_count", lambda: 2)
    barrier = threading.Barrier(2, timeout=30)
    assert len(numbers(lambda i: barrier.wait(), range(6), 2)) == 6


def test_products_are_those_of_one_thread() -> None:
    a = np.random.default_rng(0).normal(size=(40, 16, 16))
    one, two = (numbers(lambda i: a[i] @ a[i], range(40), n) for n in (1, 2))
    np.testing.assert_array_equal(one, two)
