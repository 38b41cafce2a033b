"""A batch part by part: the plain gradients, and the same bits on any number of threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from skmars import SteinAligner
from skmars.alignment import _packing, _passes
from skmars.alignment._clicks import ClickObjective
from skmars.alignment._learning import Sampling
from skmars.alignment._network import prefix_means
from skmars.alignment._stein import SteinObjective
from skmars.alignment._workers import in_turn, workers

from .reference import MODALITIES, random_encoder, world

CPU = torch.device("cpu")
SETTINGS = [
    {},
    {"residual": False},
    {"causal": False},
    {"max_length": 3},
    {"click_score": "network"},
    {"click_score": "network", "causal": False, "residual": False},
]


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(_packing, "PART_POSITIONS", 7)
    monkeypatch.setattr(_passes, "PART_POSITIONS", 7)


def objective(modalities, history="all", **settings) -> ClickObjective:
    X, y = world(2, n_events=40, history=history)
    encoder = random_encoder(X, modalities, **settings)
    sampling = Sampling(np.arange(len(X)), np.arange(0), 1000, np.random.RandomState(0), CPU)
    stein = SteinObjective(0.3, "maximize", 0.1)
    return ClickObjective(encoder, X, y.astype(np.float32), sampling, stein, beta=0.7)


def plain_loss(made: ClickObjective, batch) -> torch.Tensor:
    """The loss as one graph, which autograd takes back."""
    one, network = made._pass(batch), made.network
    items = one._items.projected(network, slice(None))
    states = network.item_states(items, network.id_embedding(one._items.ids), one._drawn)

    def encode(part):
        return one._encode(one._read(states, part), part)

    shown = None
    if one._target is not None:
        shown = torch.cat([encode(part) for part in one._sequences.singles])[one._target]
    loss = torch.zeros(())
    for part in one._sequences.parts:
        if shown is None:
            logit = network.score(encode(part), part)
        else:
            users = prefix_means(encode(part), part.end, part.length)
            logit = network.affinity(users, shown[part.row])
        y = torch.from_numpy(made._y[batch[1]][part.row])
        loss = loss + F.binary_cross_entropy_with_logits(logit, y, reduction="sum")
    loss = loss / len(batch[1])
    if items.projected:
        loss = loss + made._beta * made.stein(items.projected, items.present, made.generator)
    return loss


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("modalities", MODALITIES, ids=len)
@pytest.mark.parametrize("history", ["all", "positive"])
def test_gradients_are_those_of_one_graph(small_parts, modalities, history, settings) -> None:
    made = objective(modalities, history, **settings)
    made.network.train()
    (batch,) = made.batches(0)
    state = made.generator.get_state()
    made.network.dropout.p = 0.0
    found = made.loss(batch)
    found.backward()
    gradients = {name: p.grad for name, p in made.network.named_parameters()}
    made.network.zero_grad()
    made.generator.set_state(state)
    expected = plain_loss(made, batch)
    expected.backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for name, parameter in made.network.named_parameters():
        plain = parameter.grad
        if plain is None:
            assert gradients[name] is None or not gradients[name].any(), name
        else:
            torch.testing.assert_close(gradients[name], plain, rtol=1e-3, atol=2e-6, msg=name)


@pytest.mark.parametrize("settings", [{}, {"click_score": "network"}, {"early_stopping": True}])
def test_one_and_two_threads_give_the_same_bits(small_parts, settings) -> None:
    X, y = world(3, n_users=12, n_events=60)
    before, fits = torch.get_num_threads(), []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            aligner = SteinAligner(8, id_dim=4, max_iter=2, random_state=0, device="cpu")
            out = aligner.set_params(**settings).fit_transform(X, y)
            assert torch.get_num_threads() == n_threads
            state = aligner.encoder_.network.state_dict()
            fits.append((aligner.loss_curve_, out.user_embedding, out.catalog.embedding, state))
    finally:
        torch.set_num_threads(before)
    (losses, users, items, state), (losses_2, users_2, items_2, state_2) = fits
    assert losses == losses_2
    np.testing.assert_array_equal(users, users_2)
    np.testing.assert_array_equal(items, items_2)
    for name, value in state.items():
        assert torch.equal(value, state_2[name]), name


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_tasks_come_back_in_order_from_several_threads(two_threads) -> None:
    barrier = threading.Barrier(2, timeout=60)  # passed only if two threads are at it

    def task(k):
        if k < 2:
            barrier.wait()
        return k

    with workers(CPU) as run:
        assert run([lambda k=k: task(k) for k in range(9)]) == list(range(9))
        assert run([]) == []
        with ThreadPoolExecutor(1) as pool:  # whose thread computes alone, beside this one

            def alone():
                with workers(CPU) as inner:
                    return inner is in_turn

            assert pool.submit(alone).result()


def test_an_error_in_a_task_ends_the_run(two_threads) -> None:
    done = []

    def task(k):
        if k == 3:
            raise ZeroDivisionError
        done.append(k)

    with workers(CPU) as run:
        with pytest.raises(ZeroDivisionError):
            run([lambda k=k: task(k) for k in range(8)])
        assert run([lambda: 1, lambda: 2]) == [1, 2]  # and the next one goes well
    assert torch.get_num_threads() == 2
