"""What holds of all fits: in threads, and with any learning rate."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import torch


def check_repeatable_in_threads(fitted: Callable[[], Any]) -> None:
    """Check that a fit neither minds other threads nor torch's global generator.

    Parameters
    ----------
    fitted : callable
        Fits an estimator with an int as `random_state`, and returns an array of what it gives.
    """
    torch.manual_seed(0)
    state = torch.get_rng_state()
    expected = fitted()
    assert torch.equal(torch.get_rng_state(), state)

    over = Event()

    def draw() -> None:
        while not over.wait(0.001):
            torch.rand(10)

    other = Thread(target=draw)
    other.start()
    try:
        with ThreadPoolExecutor(3) as pool:
            results = [task.result() for task in [pool.submit(fitted) for _ in range(3)]]
    finally:
        over.set()
        other.join()
    for result in results:
        np.testing.assert_array_equal(result, expected)


def check_finite_or_named(fitted: Callable[[], Any], learning_rate: float) -> None:
    """Check that a fit gives finite numbers, or an error that names the learning rate."""
    try:
        result = fitted()
    except FloatingPointError as error:
        if f"learning_rate={learning_rate:g}" not in str(error):
            pytest.fail(f"The message does not name the learning rate: {error}")
    else:
        assert np.isfinite(result).all()
