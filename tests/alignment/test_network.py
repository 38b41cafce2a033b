"""The network against its equations written down slowly: one pass is many, and none looks ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skmars import Impressions
from skmars.alignment import _packing as segments
from skmars.alignment._attention import make_buckets, window_attention, windowed_attention
from skmars.alignment._network import (
    OUT_OF_VOCABULARY,
    ItemBatch,
    impute_missing,
    prefix_means,
)
from skmars.data import Sequences

from .reference import MODALITIES, encode, random_encoder, user_embedding, user_embeddings, world

SEEDS = st.integers(0, 10_000)
HISTORIES = st.sampled_from(["all", "positive"])
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


# --- one pass ------------------------------------------------------------------------------------


@given(
    SEEDS,
    st.sampled_from(MODALITIES),
    HISTORIES,
    st.integers(1, 12),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["affinity", "network"]),
)
def test_one_pass_equals_encoding_every_history_anew(
    seed, modalities, history, max_length, residual, causal, own_copies, click_score
) -> None:
    X, _ = world(seed, history=history)
    encoder = random_encoder(
        X,
        modalities,
        seed=seed,
        residual=residual,
        causal=causal,
        max_length=max_length,
        click_score=click_score,
    )
    X = X[np.random.default_rng(seed).permutation(len(X))[:15]]
    if own_copies:
        X = replace(X, history=X.history.compact())
    np.testing.assert_allclose(encoder(X), user_embeddings(encoder, X), **CLOSE)


@pytest.mark.parametrize("modalities", MODALITIES, ids=len)
@pytest.mark.parametrize("max_length", [1, 3, 6])
def test_passes_over_very_long_histories_are_cut_without_a_trace(
    monkeypatch, modalities, max_length
) -> None:
    """A part brings along all that its rows depend on, through every layer."""
    monkeypatch.setattr(segments, "MAX_POSITIONS", 10)
    X, _ = world(0, n_users=1, n_events=60)
    encoder = random_encoder(X, modalities, max_length=max_length)
    np.testing.assert_allclose(encoder(X), user_embeddings(encoder, X), **CLOSE)


@given(SEEDS, HISTORIES, st.integers(1, 30), st.booleans())
def test_the_future_cannot_leak(seed, history, max_length, residual) -> None:
    X, _ = world(seed, n_users=2, history=history)
    encoder = random_encoder(X, seed=seed, residual=residual, max_length=max_length)
    h = X.history
    at = np.random.default_rng(seed).integers(len(h.items))
    items = h.items.copy()
    items[at:] = (items[at:] + 1) % len(X.catalog)
    feedback = None if h.feedback is None else h.feedback.copy()
    if feedback is not None:
        feedback[at:] ^= 1
    later = replace(X, history=replace(h, items=items, feedback=feedback))
    untouched = h.start + h.length <= at
    np.testing.assert_allclose(encoder(later)[untouched], encoder(X)[untouched], **CLOSE)


def test_causal_false_looks_both_ways() -> None:
    X, _ = world(0)
    codes = np.array([1, 2, 3, 4])
    other = np.array([1, 2, 3, 5])
    for causal in (True, False):
        encoder = random_encoder(X, causal=causal)
        rows = Impressions(
            X.catalog, X.users, np.zeros(2, np.int32), np.zeros(2, np.int32),
            Sequences(np.append(codes, other).astype(np.int32), np.array([0, 4]), np.array([4, 4])),
        )  # fmt: skip
        first = [encode(encoder, X.catalog, c)[0] for c in (codes, other)]
        assert torch.equal(*first) == causal
        # Without positions, order means something only to who can't look ahead.
        turned = replace(rows, history=replace(rows.history, items=rows.history.items[::-1].copy()))
        same = np.allclose(encoder(turned)[::-1], encoder(rows), **CLOSE)
        assert same == (not causal)
        np.testing.assert_allclose(encoder(rows), user_embeddings(encoder, rows), **CLOSE)


@pytest.mark.parametrize("modalities", MODALITIES, ids=len)
@pytest.mark.parametrize("causal", [True, False])
def test_how_far_back_a_user_embedding_reaches(modalities, causal) -> None:
    X, _ = world(0, n_users=1, n_events=40)
    encoder = random_encoder(X, modalities, causal=causal)
    reach, row = encoder.network.reach, int(np.argmax(X.history.length))
    end = X.history.start[row] + X.history.length[row]
    expected = encoder(X[[row]])
    for first, same in ((end - reach, True), (end - reach + 1, False)):
        items = X.history.items.copy()
        items[:first] = (items[:first] + 1) % len(X.catalog)
        other = encoder(replace(X, history=replace(X.history, items=items))[[row]])
        assert np.array_equal(other, expected) == same


@pytest.mark.parametrize("modalities", MODALITIES, ids=len)
@pytest.mark.parametrize("click_score", ["affinity", "network"])
def test_the_catalogue_holds_each_item_in_a_sequence_of_its_own(modalities, click_score) -> None:
    X, _ = world(0)
    encoder = random_encoder(X, modalities, click_score=click_score)
    embedding = encoder.embed_items(X.catalog)
    for code in range(len(X.catalog)):
        alone = encode(encoder, X.catalog, [code])[0]
        np.testing.assert_allclose(embedding[code], alone, **CLOSE)
    assert np.isfinite(embedding).all()
    # The user whose history is just this item stands where the item does.
    n = len(X.catalog)
    single = Sequences(np.arange(n, dtype=np.int32), np.arange(n), np.ones(n, np.int32))
    rows = Impressions(X.catalog, X.users, np.zeros(n, np.int32), single.items, single)
    np.testing.assert_allclose(encoder(rows), embedding, **CLOSE)


def test_empty_histories_are_zero_and_alone_no_problem() -> None:
    X, _ = world(0)
    encoder = random_encoder(X)
    assert not encoder(replace(X, history=Sequences.empty(len(X)))).any()
    assert encoder(X[:0]).shape == (0, 6)
    first = np.flatnonzero(X.history.length == 0)
    assert not encoder(X)[first].any()


def test_items_that_fit_never_saw_share_one_id() -> None:
    X, _ = world(0)
    encoder = random_encoder(X[:5])
    unknown = np.setdiff1d(X.catalog.ids, encoder.items.ids)
    assert len(unknown)
    np.testing.assert_allclose(encoder(X), user_embeddings(encoder, X), **CLOSE)
    ids = random_encoder(X[:5], ()).embed_items(X.catalog)[unknown]
    # Not to the bit: a matrix product may round its rows differently.
    np.testing.assert_allclose(ids, ids[[0]].repeat(len(ids), axis=0), **CLOSE)


# --- its parts -----------------------------------------------------------------------------------


@given(
    n=st.integers(1, 40),
    window=st.integers(1, 12),
    causal=st.booleans(),
    seed=st.integers(0, 100),
)
def test_attention_in_blocks_is_attention_under_a_mask(n, window, causal, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    qkv = torch.randn(3, 2, 2, n, 3, generator=generator, dtype=torch.float64)
    q, k, v = qkv.requires_grad_()
    length = torch.tensor([n, max(1, n // 2)])
    i, j = torch.arange(n)[:, None], torch.arange(n)
    valid = j < length[:, None]
    mask = valid[:, None, None].expand(2, 1, n, n)
    if causal:
        mask = mask & (j <= i) & (j > i - window)
    weight = (q @ k.mT / 3**0.5).masked_fill(~mask, -torch.inf).softmax(-1).nan_to_num()
    out = windowed_attention(q, k, v, valid, causal=causal, window=window)
    at = valid[:, None, :, None].expand_as(out)
    expected = weight @ v
    torch.testing.assert_close(out[at], expected[at])
    gradients = [torch.autograd.grad(x[at].sin().sum(), qkv)[0] for x in (out, expected)]
    torch.testing.assert_close(*gradients)


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.integers(1, 12),
    st.sampled_from([1, 2, 3]),
    st.integers(0, 100),
)
def test_attention_without_padding_is_that_of_each_sequence(lengths, window, n_heads, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(sum(lengths), 18, generator=generator, dtype=torch.float64)
    qkv = drawn.requires_grad_()
    out = window_attention(qkv[:, :6], qkv[:, 6:], lengths, n_heads, window)
    expected = []
    for x in qkv.split(lengths):
        q, k, v = x.view(1, len(x), 3, n_heads, -1).permute(2, 0, 3, 1, 4)
        valid = torch.ones(1, len(x), dtype=torch.bool)
        attended = windowed_attention(q, k, v, valid, causal=True, window=window)
        expected.append(attended.transpose(1, 2).flatten(2)[0])
    torch.testing.assert_close(out, torch.cat(expected))
    gradients = [torch.autograd.grad(x.sin().sum(), qkv)[0] for x in (out, torch.cat(expected))]
    torch.testing.assert_close(*gradients)


@given(arrays(np.int64, st.integers(0, 30), elements=st.integers(1, 50)))
def test_buckets_hold_every_position_once_and_little_padding(lengths) -> None:
    lengths = np.sort(lengths)
    buckets = make_buckets(lengths, torch.device("cpu"))
    assert sum(r.height for r in buckets) == len(lengths)
    assert sum(r.n_positions for r in buckets) == lengths.sum()
    for r in buckets:
        positions = torch.arange(r.n_positions)
        padded = positions if r.pad is None else positions[r.pad]
        there = padded if r.unpad is None else padded[r.unpad]
        assert torch.equal(there, positions)
        assert torch.equal(padded[r.valid.flatten()], positions)
        assert r.lengths == r.valid.sum(1).tolist()
        assert r.width <= 1.5 * int(r.valid.sum(1).min())


@given(SEEDS, st.integers(1, 300), st.integers(1, 40))
def test_running_means_are_means(seed, n, n_rows) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(loc=100, size=(n, 3)).astype(np.float32)
    end = rng.integers(0, n + 1, n_rows)
    length = rng.integers(0, end + 1)
    means = prefix_means(*map(torch.from_numpy, (x, end, length))).numpy()
    assert means.dtype == np.float32
    expected = [x[e - m : e].mean(0, dtype=np.float64) if m else np.zeros(3) for e, m in
                zip(end, length)]  # fmt: skip
    np.testing.assert_allclose(means, expected, rtol=1e-6)


def test_the_mean_of_what_an_item_has_stands_in_for_what_it_lacks() -> None:
    text, image = torch.randn(2, 3, 4)
    there, lacking = torch.tensor([True, True, False]), torch.tensor([True, False, False])
    items = ItemBatch([text, image], [there, lacking], torch.arange(3))
    text_in, image_in = impute_missing(items)
    torch.testing.assert_close(text_in, torch.stack([text[0], text[1], torch.zeros(4)]))
    torch.testing.assert_close(image_in, torch.stack([image[0], text[1], torch.zeros(4)]))


def test_a_new_id_starts_where_unknown_items_are() -> None:
    X, _ = world(0)
    network = random_encoder(X).network
    before = network.id_embedding.weight.detach().clone()
    network.extend_ids(2)
    after = network.id_embedding(torch.arange(len(before) + 2)).detach()
    torch.testing.assert_close(after[: len(before)], before)
    torch.testing.assert_close(after[len(before) :], before[OUT_OF_VOCABULARY].expand(2, -1))


def test_ids_hide_in_training_only() -> None:
    network = random_encoder(world(0)[0]).network
    network.dropout.p = 0.3
    ids = torch.arange(1, 2001)
    assert torch.equal(network.mask_ids(ids), ids)
    network.train()
    hidden = network.mask_ids(ids)
    assert 0.2 < (hidden == OUT_OF_VOCABULARY).float().mean() < 0.4
    assert torch.equal(hidden[hidden > 0], ids[hidden > 0])


def test_log_odds_are_a_scaled_product_and_two_biases() -> None:
    network = random_encoder(world(0)[0]).network
    user, item = torch.randn(2, 5, 6)
    expected = [
        network.scale * (u @ i) / 6
        + network.user_bias.weight[0] @ u
        + network.user_bias.bias[0]
        + network.item_bias.weight[0] @ i
        for u, i in zip(user, item)
    ]
    torch.testing.assert_close(network.affinity(user, item), torch.stack(expected))


@pytest.mark.parametrize("modalities", MODALITIES, ids=len)
@pytest.mark.parametrize("residual", [True, False])
def test_gradients_are_finite_and_reach_everything_that_is_used(modalities, residual) -> None:
    X, _ = world(0, n_events=40)
    encoder = random_encoder(X, modalities, residual=residual)
    network, device = encoder.network, torch.device("cpu")
    codes = np.arange(len(X.catalog))
    items = encoder.inputs(X.catalog).take(codes, network, device)
    states = network.item_states(items, network.id_embedding(items.ids), {})
    (part,) = segments.make_single_parts(len(codes), device)
    read = network.read_states(states, torch.from_numpy(codes), part.alone)
    network.encode(read, part, None, {}).square().sum().backward()
    reached = {name for name, p in network.named_parameters() if p.grad is not None}
    for name in reached:
        assert torch.isfinite(network.get_parameter(name).grad).all(), name
    expected = ["id_embedding", "id_fusion.out", "feed_forward"]
    if residual:  # without, an item by itself has nothing to choose from
        expected += [f"projections.{i}" for i in range(len(modalities))]
    assert all(any(name.startswith(e) for name in reached) for e in expected), reached


def test_a_row_of_reference_is_what_this_file_says() -> None:
    """The reference itself, where it is trivial: one item, no residual, no feedback."""
    X, _ = world(0, history="positive")
    encoder = random_encoder(X, (), residual=False)
    network = encoder.network
    row = int(np.flatnonzero(X.history.length == 1)[0])
    code = X.history.row(row)[0]
    e = network.id_embedding.weight[1 + encoder.items.ids.tolist().index(X.catalog.ids[code])]
    z = network.id_attention.out(network.id_attention.key_value(e)[4:])  # one key: its value
    x = network.feed_forward(network.id_fusion.out(network.id_fusion.key_value(z)[6:]))
    np.testing.assert_allclose(user_embedding(encoder, X, row), x.detach(), **CLOSE)
