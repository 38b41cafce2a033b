"""One arithmetic thread in each thread of our own."""

from __future__ import annotations

import multiprocessing
import os
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


def test_each_thread_gets_its_threads_back_in_whatever_order_they_end():
    """Torch counts for each thread apart: nobody can give them back to another one."""
    ready, first_ended = threading.Event(), threading.Event()
    inside, found = threading.Event(), []

    def work():
        before = torch.get_num_threads()
        ready.set()
        inside.wait(10)
        with one_thread_each() as n_threads:
            found.append((before, n_threads, torch.get_num_threads()))
            ready.set()
            first_ended.wait(10)
        found.append(torch.get_num_threads())

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait(10)
    with one_thread_each():
        ready.clear()
        inside.set()
        ready.wait(10)
    assert torch.get_num_threads() == 2
    first_ended.set()
    thread.join()
    assert found == [(2, 1, 1), 2]
    with one_thread_each() as n_threads:
        assert n_threads == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_has_none_of_the_blocks_of_other_threads():
    inside, ended = threading.Event(), threading.Event()

    def work():
        with one_thread_each():
            inside.set()
            ended.wait(60)

    def child(pipe):
        with one_thread_each() as n_threads:
            pipe.send(n_threads)
        pipe.send(torch.get_num_threads())

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(10)
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(there,))
    process.start()
    try:
        assert here.poll(60)
        assert (here.recv(), here.recv()) == (2, 2)
    finally:
        ended.set()
        thread.join()
        process.join()
