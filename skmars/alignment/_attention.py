"""Multi-head attention over concatenated sequences of different lengths.

All sequences of a batch lie in flat tensors of shape (n_positions, ...). Attention pads them bucket
by bucket, a bucket being sequences of similar length; nothing else ever sees padding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from skmars.utils import _ragged as ragged

# Sequences share a bucket if the longest is at most this much longer than the shortest.
PADDING = 1.5
BLOCKS_PER_WINDOW = 4
# Up to this window, the weights of attention in blocks are kept from the forward pass (on the CPU).
LARGEST_KEPT_WINDOW = 512


@dataclass(frozen=True)
class Bucket:
    """Sequences of similar length, to be padded to a common one."""

    n_positions: int  # of the sequences together
    height: int  # number of sequences
    width: int  # their common length
    pad: Tensor | None  # which position stands where, shape (height * width,); None if all are full
    unpad: Tensor | None  # the way back, shape (n_positions,)
    valid: Tensor  # what is real, shape (height, width)
    lengths: list[int]  # of the sequences


def make_buckets(lengths: NDArray[np.int64], device: torch.device) -> list[Bucket]:
    """Divide concatenated sequences, sorted from short to long, into buckets."""
    result = []
    begin = 0
    while begin < len(lengths):
        end = int(np.searchsorted(lengths, PADDING * lengths[begin], side="right"))
        length, width = lengths[begin:end, None], int(lengths[end - 1])
        valid = np.arange(width) < length
        starts = ragged.offsets(length[:, 0])
        pad = np.where(valid, starts[:-1, None] + np.arange(width), 0).ravel()
        pads = (None, None) if valid.all() else (pad, np.flatnonzero(valid))
        index = [None if p is None else torch.from_numpy(p).to(device) for p in pads]
        mask = torch.from_numpy(valid).to(device)
        bucket = Bucket(
            int(starts[-1]), end - begin, width, index[0], index[1], mask, length[:, 0].tolist()
        )
        result.append(bucket)
        begin = end
    return result


class RaggedAttention(nn.Module):
    """Multi-head attention over ragged sequences, queries and keys at the same positions."""

    def __init__(
        self, query_dim: int, memory_dim: int, dim: int, n_heads: int, *, causal: bool, window: int
    ) -> None:
        super().__init__()
        self.query = nn.Linear(query_dim, dim)
        self.key_value = nn.Linear(memory_dim, 2 * dim)
        self.out = nn.Linear(dim, query_dim)
        self.n_heads, self.causal, self.window = n_heads, causal, window

    def forward(self, query: Tensor, memory: Tensor, buckets: list[Bucket]) -> Tensor:
        """Return the attended values, shape (n_positions, query_dim)."""
        return self.out(self.attend(self.query(query), self.key_value(memory), buckets))

    def values(self, memory: Tensor) -> Tensor:
        """Return the values alone: all that matters to sequences of one position."""
        width = self.query.out_features
        return F.linear(memory, self.key_value.weight[width:], self.key_value.bias[width:])

    def attend(self, query: Tensor, key_value: Tensor, buckets: list[Bucket]) -> Tensor:
        """Return what queries gather from keys and values, without the output projection."""
        if len(buckets) == 1:
            return self._attend(query, key_value, buckets[0])
        if not buckets:
            return query
        sizes = [bucket.n_positions for bucket in buckets]
        parts = zip(query.split(sizes), key_value.split(sizes), buckets)
        return torch.cat([self._attend(*part) for part in parts])

    def _attend(self, query: Tensor, key_value: Tensor, bucket: Bucket) -> Tensor:
        if bucket.width == 1:
            return key_value[:, query.shape[1] :]
        kept = self.window <= LARGEST_KEPT_WINDOW and query.device.type == "cpu"
        if self.causal and bucket.width > self.window and kept:
            return window_attention(query, key_value, bucket.lengths, self.n_heads, self.window)
        if bucket.pad is not None:
            query = query.index_select(0, bucket.pad)
            key_value = key_value.index_select(0, bucket.pad)
        shape = (bucket.height, bucket.width, -1, self.n_heads, query.shape[1] // self.n_heads)
        (q,) = query.view(shape).permute(2, 0, 3, 1, 4)
        k, v = key_value.view(shape).permute(2, 0, 3, 1, 4)
        out = windowed_attention(q, k, v, bucket.valid, causal=self.causal, window=self.window)
        out = out.transpose(1, 2).flatten(2).flatten(0, 1)
        return out if bucket.unpad is None else out.index_select(0, bucket.unpad)


def windowed_attention(
    query: Tensor, key: Tensor, value: Tensor, valid: Tensor, *, causal: bool, window: int
) -> Tensor:
    """Attend within padded sequences; all tensors have shape (batch, heads, n, head size).

    Causal attention of position i sees positions i - window + 1 to i. Padding stands at the
    right, so a causal mask hides it already.
    """
    if not causal:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=valid[:, None, None])
    if query.shape[2] <= window:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    return _blocked_attention(query, key, value, window)


def _blocked_attention(query: Tensor, key: Tensor, value: Tensor, window: int) -> Tensor:
    """Causal attention in a sliding window: a block of positions sees itself and those before.

    A block is a quarter of the window, so that it sees 5/4 of what it needs; a mask over all
    pairs of positions would cost n^2.
    """
    batch, heads, n, width = query.shape
    size = -(-window // BLOCKS_PER_WINDOW)
    n_blocks = -(-n // size)
    past = BLOCKS_PER_WINDOW * size

    def padded(tensor: Tensor, n_before: int) -> Tensor:
        return F.pad(tensor, (0, 0, n_before, n_blocks * size - n)).flatten(0, 1)

    def with_past(tensor: Tensor) -> Tensor:
        return padded(tensor, past).unfold(1, past + size, size).transpose(2, 3)

    block, i, j = torch.meshgrid(
        *(torch.arange(m, device=query.device) for m in (n_blocks, size, past + size)),
        indexing="ij",
    )
    # Position i of a block stands at `past + i` among what the block sees.
    mask = (j <= past + i) & (j > past + i - window) & (block * size + j >= past)
    out = F.scaled_dot_product_attention(
        padded(query, 0).unflatten(1, (n_blocks, size)),
        with_past(key),
        with_past(value),
        attn_mask=mask[None],
    )
    return out.reshape(batch, heads, n_blocks * size, width)[:, :, :n]


def window_attention(
    query: Tensor, key_value: Tensor, lengths: Sequence[int], n_heads: int, window: int
) -> Tensor:
    """Causal attention in a sliding window over concatenated sequences, without padding.

    The same as `windowed_attention`, where sequences are long and the window is short: products of
    blocks of queries with what they see of the keys, which are not copied for that.

    Parameters
    ----------
    query : Tensor of shape (n_positions, dim)
    key_value : Tensor of shape (n_positions, 2 * dim)
        Keys, then values.
    lengths : sequence of int
        Of the sequences.
    n_heads, window : int
        Position i sees positions i - window + 1 to i of its sequence.

    Returns
    -------
    Tensor of shape (n_positions, dim)
    """
    return _WindowAttention.apply(query, key_value, lengths, n_heads, window)


@lru_cache(maxsize=8)
def _window_masks(window: int, size: int, dtype: torch.dtype) -> Tensor:
    """Return 0 where a block sees a key and -inf elsewhere, for the first blocks and later ones."""
    past = BLOCKS_PER_WINDOW * size
    block, i, j = torch.meshgrid(
        *(torch.arange(m) for m in (BLOCKS_PER_WINDOW + 1, size, past + size)), indexing="ij"
    )
    seen = (j <= past + i) & (j > past + i - window) & (block * size + j >= past)
    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, -torch.inf)


class _Blocks:
    """Queries, keys and values of one sequence in blocks, and what each block sees: all views."""

    def __init__(self, query: Tensor, key_value: Tensor, n_heads: int, window: int) -> None:
        n, width = query.shape
        self.n, self.size = n, -(-window // BLOCKS_PER_WINDOW)
        self.n_blocks = -(-n // self.size)
        self.n_padded = self.n_blocks * self.size
        self.past = BLOCKS_PER_WINDOW * self.size
        self.head = width // n_heads
        self.query = self.padded(query)
        self.key_value = F.pad(key_value, (0, 0, self.past, self.n_padded - n))

    def padded(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, self.n_padded - self.n)) if self.n_padded > self.n else x

    def blocks(self, x: Tensor, head: int) -> Tensor:
        """Return a head's columns, shape (n_blocks, size, head size)."""
        columns = x[:, head * self.head : (head + 1) * self.head]
        return columns.unflatten(0, (-1, self.size))

    def seen(self, head: int) -> Tensor:
        """Return what each block sees of a head of `key_value`, a view that overlaps."""
        row = self.key_value.stride(0)
        return self.key_value.as_strided(
            (self.n_blocks, self.past + self.size, self.head),
            (self.size * row, row, 1),
            self.key_value.storage_offset() + head * self.head,
        )


class _WindowAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key_value, lengths, n_heads, window):  # type: ignore[no-untyped-def, override]
        out, weights, first = torch.empty_like(query), [], 0
        for n in lengths:
            here = slice(first, first + n)
            part = _Blocks(query[here], key_value[here], n_heads, window)
            masks = _window_masks(window, part.size, query.dtype)
            weight = query.new_empty((n_heads, part.n_blocks, part.size, part.past + part.size))
            to = query.new_empty((part.n_padded, query.shape[1]))
            early = min(part.n_blocks, BLOCKS_PER_WINDOW)
            for head in range(n_heads):
                w, q, k = weight[head], part.blocks(part.query, head), part.seen(head).mT
                scale = 1 / math.sqrt(part.head)
                torch.baddbmm(masks[:early], q[:early], k[:early], alpha=scale, out=w[:early])
                if part.n_blocks > early:
                    late = slice(early, None)
                    torch.baddbmm(masks[-1:], q[late], k[late], alpha=scale, out=w[late])
                torch.softmax(w, -1, out=w)
                torch.bmm(w, part.seen(n_heads + head), out=part.blocks(to, head))
            out[here] = to[:n]
            weights.append(weight)
            first += n
        ctx.save_for_backward(query, key_value, out, *weights)
        ctx.constants = lengths, n_heads, window
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_out: Tensor):  # type: ignore[no-untyped-def, override]
        query, key_value, out, *weights = ctx.saved_tensors
        lengths, n_heads, window = ctx.constants
        d_query, d_key_value = torch.empty_like(query), torch.empty_like(key_value)
        inner, first = d_out * out, 0
        for n, weight in zip(lengths, weights):
            here = slice(first, first + n)
            part = _Blocks(query[here], key_value[here], n_heads, window)
            scale = 1 / math.sqrt(part.head)
            d, drift = part.padded(d_out[here]), part.padded(inner[here])
            to_query = query.new_empty((part.n_padded, query.shape[1]))
            to_both = torch.zeros_like(part.key_value)
            for head in range(n_heads):
                w, q, g = weight[head], part.blocks(part.query, head), part.blocks(d, head)
                _add_to_seen(part, to_both, n_heads + head, torch.bmm(w.mT, g))
                # Through the softmax: w (dw - sum_j w dw), the sum being that of `out * d_out`.
                d_w = torch.bmm(g, part.seen(n_heads + head).mT)
                d_w.sub_(part.blocks(drift, head).sum(2, keepdim=True)).mul_(w).mul_(scale)
                torch.bmm(d_w, part.seen(head), out=part.blocks(to_query, head))
                _add_to_seen(part, to_both, head, torch.bmm(d_w.mT, q))
            d_query[here], d_key_value[here] = to_query[:n], to_both[part.past :][:n]
            first += n
        return d_query, d_key_value, None, None, None


def _add_to_seen(part: _Blocks, to: Tensor, head: int, of_blocks: Tensor) -> None:
    """Add, for each block, the gradients at what it sees."""
    blocks = part.blocks(to, head)
    for k, piece in enumerate(of_blocks.unflatten(1, (-1, part.size)).unbind(1)):
        blocks[k : k + part.n_blocks] += piece
