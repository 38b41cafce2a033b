"""One arithmetic thread in each thread of our own."""

from __future__ import annotations

import threading

import pytest
import torch

from skmars.utils._threads import one_thread_each


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_gives_the_threads_that_torch_had_and_gives_them_back():
    with one_thread_each() as n_threads:
        assert (n_threads, torch.get_num_threads()) == (2, 1)
        with one_thread_each() as n_inner:  # of the same thread: it shares out the same work
            assert n_inner == 2
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_other_threads_compute_alone_meanwhile():
    found = []

    def work():
        with one_thread_each() as n_threads:
            found.append((n_threads, torch.get_num_threads()))

    with one_thread_each():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found == [(1, 1)]


def test_threads_are_given_back_after_an_error():
    with pytest.raises(ZeroDivisionError), one_thread_each():
        raise ZeroDivisionError
    assert torch.get_num_threads() == 2
