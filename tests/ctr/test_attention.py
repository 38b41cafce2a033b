"""The activation unit: the published function, on ragged input, for less arithmetic."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from skmars.ctr._layers import (
    ACTIVATIONS,
    NORMALIZATIONS,
    AttentionPooling,
    LocalActivationUnit,
)
from skmars.utils._segments import segment_softmax, segment_sum

from .modules import randomized

DIM, UNITS = 5, (8, 4)


def ragged(lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys, row of each position, length of each row."""
    generator = torch.Generator().manual_seed(seed)
    length = torch.tensor(lengths)
    row = torch.repeat_interleave(torch.arange(len(lengths)), length)
    query = torch.randn(len(lengths), DIM, generator=generator, dtype=torch.float64)
    key = torch.randn(len(row), DIM, generator=generator, dtype=torch.float64)
    return query, key, row, length


def padded_reference(pooling: AttentionPooling, query: Tensor, key: Tensor, length: Tensor):
    """The obvious way, row by row: concatenate four, run the layers, mask, pool."""
    rows = []
    for target, history in zip(query, key.split(length.tolist())):
        n_padding = 7
        k = torch.cat([history, history.new_full((n_padding, DIM), 99.0)])
        q = target.expand_as(k)
        x = torch.cat([q, k, q - k, q * k], dim=1)
        unit = pooling.unit
        for layer, activation in zip(unit.layers, unit.activations):
            x = activation(layer(x))
        score = unit.output(x).squeeze(1)
        mask = torch.arange(len(k)) < len(k) - n_padding
        if pooling.normalization == "softmax":
            score = score.masked_fill(~mask, -torch.inf).softmax(0) if mask.any() else score
        score = score.masked_fill(~mask, 0.0)
        if pooling.normalization == "sqrt":
            score = score / max(int(mask.sum()), 1) ** 0.5
        rows.append((score[:, None] * k).sum(0))
    return torch.stack(rows)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_ragged_equals_padded(activation: str, normalization: str | None) -> None:
    pooling = randomized(AttentionPooling(DIM, UNITS, activation, normalization)).eval()
    query, key, row, length = ragged([3, 0, 1, 200, 2])
    torch.testing.assert_close(
        pooling(query, key, row, length), padded_reference(pooling, query, key, length)
    )


@pytest.mark.parametrize("units", [UNITS, ()])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_factored_first_layer_is_the_concatenation(activation: str, units: tuple) -> None:
    """Values and gradients of W [q, k, q - k, q * k], in training mode."""
    unit = randomized(LocalActivationUnit(DIM, units, activation)).train()
    query, key, row, _ = ragged([4, 2, 6])
    outcomes = []
    for naive in (False, True):
        q, k = query.clone().requires_grad_(), key.clone().requires_grad_()
        if naive:
            each = q[row]
            x = torch.cat([each, k, each - k, each * k], dim=1)
            score = super(LocalActivationUnit, unit).forward(x).squeeze(1)
        else:
            score = unit(q, k, row)
        unit.zero_grad()
        score.sin().sum().backward()
        outcomes.append([score, q.grad, k.grad, *(p.grad for p in unit.parameters())])
    for factored, concatenated in zip(*outcomes):
        torch.testing.assert_close(factored, concatenated)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("activation", ["dice", "sigmoid"])
def test_gradients_of_the_pooling(activation: str, normalization: str | None) -> None:
    pooling = randomized(AttentionPooling(DIM, (3,), activation, normalization)).train()
    query, key, row, length = ragged([2, 0, 4])
    assert torch.autograd.gradcheck(
        lambda q, k: pooling(q, k, row, length), (query.requires_grad_(), key.requires_grad_())
    )


@pytest.mark.parametrize("seed", range(5))
def test_training_starts_from_the_sum_of_the_history(seed: int) -> None:
    torch.manual_seed(seed)
    pooling = AttentionPooling(DIM, (80, 40), "dice").eval()
    query, key, row, length = ragged([2, 1, 9], seed)
    pooled = pooling.double()(1e-3 * query, 1e-3 * key, row, length)
    total = torch.stack([part.sum(dim=0) for part in key.split(length.tolist())])
    assert (torch.cosine_similarity(pooled, total) > 0.99).all()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_rows_without_history_pool_to_zero(normalization: str | None) -> None:
    pooling = AttentionPooling(DIM, UNITS, "dice", normalization).double()
    for lengths in ([0, 0], [0, 3, 0]):
        query, key, row, length = ragged(lengths)
        pooled = pooling(query, key, row, length)
        assert (pooled[length == 0] == 0).all()
        pooled.sum().backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in pooling.parameters())


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=8), seed=st.integers(0, 2**16))
def test_rows_are_independent_and_order_does_not_matter(
    normalization: str | None, lengths: list[int], seed: int
) -> None:
    pooling = randomized(AttentionPooling(DIM, UNITS, "dice", normalization)).eval()
    query, key, row, length = ragged(lengths, seed)
    whole = pooling(query, key, row, length)
    shuffle = np.random.default_rng(seed).permutation
    for i, keys in enumerate(key.split(lengths)):
        alone = pooling(
            query[[i]],
            keys[shuffle(len(keys))],
            torch.zeros(len(keys), dtype=torch.long),
            length[[i]],
        )
        torch.testing.assert_close(alone[0], whole[i])


def test_repeating_a_history() -> None:
    """RepPad does nothing under softmax, and scales the interest otherwise."""
    query, key, row, length = ragged([4])
    factor = {None: 3.0, "sqrt": 3**0.5, "softmax": 1.0}
    for normalization in NORMALIZATIONS:
        pooling = randomized(AttentionPooling(DIM, UNITS, "dice", normalization)).eval()
        once = pooling(query, key, row, length)
        thrice = pooling(query, key.repeat(3, 1), row.repeat(3), 3 * length)
        torch.testing.assert_close(thrice, factor[normalization] * once)


def test_segment_functions() -> None:
    length, row = torch.tensor([2, 0, 1]), torch.tensor([0, 0, 2])
    x = torch.tensor([1.0, 2.0, 1000.0])
    assert segment_sum(x, length).tolist() == [3.0, 0.0, 1000.0]
    torch.testing.assert_close(
        segment_softmax(x, row, length), torch.tensor([*torch.tensor([1.0, 2.0]).softmax(0), 1.0])
    )


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_half_precision_is_the_same_function(normalization: str | None) -> None:
    """Values and gradients in bfloat16, as far as its eight bits of mantissa reach."""
    torch.manual_seed(0)
    length = torch.tensor([0, 1, 200, 3])
    row = torch.repeat_interleave(torch.arange(len(length)), length)
    query, key = torch.randn(len(length), DIM), torch.randn(len(row), DIM)
    pooling = AttentionPooling(DIM, (80, 40), "dice", normalization).train()
    outcomes = []
    for dtype in (torch.float32, torch.bfloat16):
        q, k = (x.detach().to(dtype, copy=True).requires_grad_() for x in (query, key))
        out = copy.deepcopy(pooling).to(dtype)(q, k, row, length)
        assert out.dtype == dtype
        out.square().sum().backward()
        outcomes.append([x.float() for x in (out, q.grad, k.grad)])
    for exact, half in zip(*outcomes):
        assert (exact - half).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("units", [(), UNITS])
def test_a_shared_history_is_scored_as_if_each_row_had_its_own(
    normalization: str | None, activation: str, units: tuple[int, ...]
) -> None:
    pooling = randomized(AttentionPooling(DIM, units, activation, normalization)).eval()
    n_rows, length = torch.tensor([3, 1, 2]), torch.tensor([4, 0, 2])
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(6, DIM, generator=generator, dtype=torch.float64)
    key = torch.randn(6, DIM, generator=generator, dtype=torch.float64)
    found = pooling.shared(query, key, n_rows, length)
    of_rows = torch.repeat_interleave(torch.arange(3), n_rows)
    keys = torch.cat([key.split(length.tolist())[h] for h in of_rows.tolist()])
    row = torch.repeat_interleave(torch.arange(6), length[of_rows])
    expected = pooling(query, keys, row, length[of_rows])
    torch.testing.assert_close(found, expected)
