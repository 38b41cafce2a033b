"""The network as a function of a batch: regulariser, unknown items, provenance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skmars.ctr._embeddings import add_items, fill_unseen, penalty, used_rows
from skmars.ctr._network import DINNetwork, to_tensors
from skmars.ctr._optimizer import NetworkOptimizer
from skmars.ctr._row_encoder import EncodedRows, TableRows
from skmars.data import Sequences

N_ITEMS = 6


def make_rows(*, borrowed: bool = False, merge: bool = False, n: int = 5) -> EncodedRows:
    rng = np.random.default_rng(0)

    def part() -> Sequences:
        length = rng.integers(0, 4, n).astype(np.int32)
        length[0] = 0
        return Sequences(
            rng.integers(0, N_ITEMS, 9).astype(np.int32),
            rng.integers(0, 5, n),
            length,
            feedback=rng.integers(0, 2, 9).astype(np.int8),
            similarity=rng.uniform(size=9).astype(np.float32),
        )

    history = part()
    return EncodedRows(
        rng.normal(size=(n, 2)),
        rng.integers(0, 4, (n, 1)),
        table_rows=TableRows([np.arange(1, N_ITEMS + 1)]),
        target=rng.integers(0, N_ITEMS, n),
        length=history.length,
        history=history,
        borrowed=part() if borrowed else None,
        merge=merge,
    )


# Counts of the rows of the tables, of which the first is never trained.
NEVER = [np.array([0, 1]), np.array([0, 1])]


def make_network(**parameters: object) -> DINNetwork:
    torch.manual_seed(0)
    options: dict = {"n_dense": 2, "n_linear": 1, "n_categories": [3], "n_items": N_ITEMS}
    options["embedding_dim"] = 4
    network = DINNetwork(**{**options, "feedback": True, "activity_feature": True, **parameters})
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(0.5 * torch.randn_like(p))
    return network.double()


def batch_of(rows: EncodedRows, which: slice = slice(None)):
    return to_tensors(rows.batch(which), torch.device("cpu"), torch.float64)


def test_mini_batch_aware_regularisation() -> None:
    """Its gradient is w_j / n_j for the ids in the batch, and nothing elsewhere (Eq. 6)."""
    network, batch = make_network(), batch_of(make_rows(), slice(0, 2))
    count = torch.arange(N_ITEMS + 1, dtype=torch.float64) * 3
    categories = torch.tensor([0.0, 5.0, 7.0, 1.0], dtype=torch.float64)
    penalty(network, used_rows(network, batch), [count, categories]).backward()
    for table, ids, n in (
        (network.items, batch.items, count),
        (network.categories[0], batch.categorical.unique(), categories),
    ):
        expected = torch.zeros_like(table.weight)
        expected[ids] = table.weight.detach()[ids] / n[ids].clamp(min=1)[:, None]
        torch.testing.assert_close(table.weight.grad.to_dense(), expected)
    assert len(batch.items) < N_ITEMS


def test_a_step_leaves_absent_embeddings_alone() -> None:
    network, rows = make_network(), make_rows()
    optimizer = NetworkOptimizer(network, 0.1)
    before = network.items.weight.detach().clone()
    for which in (slice(None), slice(0, 1)):
        seen = network.items.weight.detach().clone()
        batch = batch_of(rows, which)
        optimizer.zero_grad()
        network(batch).sum().backward()
        optimizer.step()
    absent = np.setdiff1d(np.arange(N_ITEMS + 1), batch.items.numpy())
    assert len(absent)
    assert torch.equal(network.items.weight[absent], seen[absent])
    assert not torch.equal(network.items.weight, before)


def test_optimizer_state_survives_new_items() -> None:
    network, rows = make_network(), make_rows()
    optimizer = NetworkOptimizer(network, 0.1)
    network(batch_of(rows)).sum().backward()
    optimizer.step()
    add_items(network, 2)
    fresh = NetworkOptimizer(network, 0.1)
    fresh.restore(optimizer.state())
    # Of the embedding tables, the items stand last.
    old, new = optimizer.state()[1][1], fresh.state()[1][1]
    assert new["step"] == 1
    torch.testing.assert_close(new["exp_avg"][: N_ITEMS + 1], old["exp_avg"])
    assert not new["exp_avg"][N_ITEMS + 1 :].any()
    network(batch_of(rows)).sum().backward()
    fresh.step()


def test_new_and_unknown_items_are_the_mean() -> None:
    network = make_network()
    fill_unseen(network, NEVER, [0, 0, 0])
    mean = network.items.weight[1:].mean(dim=0)
    torch.testing.assert_close(network.items.weight[0], mean)
    add_items(network, 2)
    torch.testing.assert_close(network.items.weight[-2:], mean.expand(2, -1))


def test_unknown_feedback_is_the_mean_of_the_known_only_where_it_was_never_seen() -> None:
    network = make_network()
    before = network.feedback.detach().clone()
    fill_unseen(network, NEVER, [1, 3, 2])
    torch.testing.assert_close(network.feedback.detach(), before)
    fill_unseen(network, NEVER, [1, 3, 0])
    torch.testing.assert_close(network.feedback[2], 0.25 * before[0] + 0.75 * before[1])


@pytest.mark.parametrize("borrowed", ["separate", "marked"])
def test_gradients_reach_every_parameter(borrowed: str) -> None:
    network = make_network(borrowed=borrowed, item_features={"text": 3})
    features = torch.randn(N_ITEMS, 3, dtype=torch.float64)
    batch = batch_of(make_rows(borrowed=True, merge=borrowed == "marked"))
    network(batch, lambda name, codes: features[codes]).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.to_dense().any(), name


def test_gradcheck_of_the_whole() -> None:
    network = make_network(borrowed="separate", activation="dice").train()
    batch = batch_of(make_rows(borrowed=True))
    parameters = dict(network.named_parameters())
    # A few of each kind are enough, and quick.
    names = ["feedback", "interest.unit.output.weight", "head.activations.0.alpha"]

    def forward(*values: torch.Tensor) -> torch.Tensor:
        chosen = dict(zip(names, values))
        return torch.func.functional_call(network, chosen, (batch,)).sum()

    leaves = [parameters[n].detach().clone().requires_grad_() for n in names]
    assert torch.autograd.gradcheck(forward, leaves)


def test_marks_and_feedback_change_the_prediction_and_position_does_not() -> None:
    rows = make_rows(borrowed=True, merge=True)
    network = make_network(borrowed="marked").eval()
    batch = batch_of(rows)
    score = network(batch)
    for name in ("feedback", "borrowed"):
        changed = batch.history.__class__(
            **{**batch.history.__dict__, name: 1 - batch.history.__dict__[name].clamp(max=1)}
        )
        other = network(batch.__class__(**{**batch.__dict__, "history": changed}))
        touched = batch.history.length > 0
        assert (score != other)[touched].all()
        torch.testing.assert_close(score[~touched], other[~touched])
