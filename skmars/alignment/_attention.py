"""Multi-head attention over concatenated sequences of different lengths.

All sequences of a batch lie in flat tensors of shape (n_positions, ...). Attention pads them bucket
by bucket, a bucket being sequences of similar length; nothing else ever sees padding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

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


class _Span(NamedTuple):
    """Products of one form: `batch` blocks of rows, each with a block of keys, as strided views.

    The blocks are those of all heads at one place, or of one head at places `step` rows apart.
    """

    batch: int
    step: int | None  # None: of all heads
    head: int  # the first one
    first_row: int
    n_rows: int  # of a block
    first_key: int
    n_keys: int  # of a block

    def rows(self, x: Tensor, first: int, width: int, part: int = 0) -> Tensor:
        """Return blocks of rows of `x`, of one head's `width` columns; of one of its `part`s."""
        return self._view(x, first + self.first_row, self.n_rows, width, part)

    def keys(self, x: Tensor, first: int, width: int, part: int = 0) -> Tensor:
        """Return blocks of keys, which may overlap."""
        return self._view(x, first + self.first_key, self.n_keys, width, part)

    def _view(self, x: Tensor, first: int, n: int, width: int, part: int) -> Tensor:
        row = x.stride(0)
        between = width if self.step is None else self.step * row
        offset = x.storage_offset() + first * row + part + self.head * width
        return x.as_strided((self.batch, n, width), (between, row, 1), offset)

    def mask(self, window: int, dtype: torch.dtype) -> Tensor:
        return _window_mask(
            self.n_rows, self.n_keys, self.first_row - self.first_key, window, dtype
        )

    def add_to_keys(self, x: Tensor, first: int, width: int, part: int, values: Tensor) -> None:
        """Add numbers of each block of keys to `x`, where blocks overlap, too."""
        if self.step is None:
            self.keys(x, first, width, part).add_(values)
            return
        for at in range(0, self.n_keys, self.step):
            to = self._replace(first_key=self.first_key + at, n_keys=self.step)
            to.keys(x, first, width, part).add_(values[:, at : at + self.step])


@lru_cache(maxsize=64)
def _window_mask(n_rows: int, n_keys: int, ahead: int, window: int, dtype: torch.dtype) -> Tensor:
    """Return 0 where row i, at the position `ahead + i`, sees a key and -inf elsewhere."""
    behind = ahead + torch.arange(n_rows)[:, None] - torch.arange(n_keys)
    seen = (behind >= 0) & (behind < window)
    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, -torch.inf)


def _spans(n: int, n_heads: int, window: int) -> list[_Span]:
    """Cover what the positions of a sequence see with few blocks that hold little else."""
    size = -(-window // BLOCKS_PER_WINDOW)
    past, spans = BLOCKS_PER_WINDOW * size, []
    for low, high in ((0, past // 2), (past // 2, past)):  # sees all that is before it
        if low < min(high, n):
            end = min(high, n)
            spans.append(_Span(n_heads, None, 0, low, end - low, 0, end))
    full = n // size - BLOCKS_PER_WINDOW
    if full > 0:
        spans += [_Span(full, size, h, past, size, 0, past + size) for h in range(n_heads)]
    last = past + max(full, 0) * size
    if last < n:
        spans.append(_Span(n_heads, None, 0, last, n - last, last - past, n - last + past))
    return spans


class _WindowAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key_value, lengths, n_heads, window):  # type: ignore[no-untyped-def, override]
        width = query.shape[1]
        head, out, weights, first = width // n_heads, query.new_empty(query.shape), [], 0
        for n in lengths:
            for span in _spans(n, n_heads, window):
                q, k = span.rows(query, first, head), span.keys(key_value, first, head)
                mask = span.mask(window, query.dtype)
                weight = torch.baddbmm(mask, q, k.mT, alpha=1 / math.sqrt(head))
                torch.softmax(weight, -1, out=weight)
                values = span.keys(key_value, first, head, width)
                torch.bmm(weight, values, out=span.rows(out, first, head))
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
        width, first, d_out = query.shape[1], 0, d_out.contiguous()
        head = width // n_heads
        scale = 1 / math.sqrt(head)
        d_query, d_both = query.new_empty(query.shape), key_value.new_zeros(key_value.shape)
        # Through the softmax: w (dw - sum_j w_j dw_j), the sum being that of `out * d_out`.
        drift = (out * d_out).unflatten(1, (n_heads, head)).sum(2)
        kept = iter(weights)
        for n in lengths:
            for span in _spans(n, n_heads, window):
                weight, d = next(kept), span.rows(d_out, first, head)
                span.add_to_keys(d_both, first, head, width, torch.bmm(weight.mT, d))
                d_weight = torch.bmm(d, span.keys(key_value, first, head, width).mT)
                d_weight.sub_(span.rows(drift, first, 1)).mul_(weight)
                to = span.rows(d_query, first, head)
                k = span.keys(key_value, first, head)
                torch.baddbmm(to, d_weight, k, beta=0, alpha=scale, out=to)
                d_keys = torch.bmm(d_weight.mT, span.rows(query, first, head)).mul_(scale)
                span.add_to_keys(d_both, first, head, 0, d_keys)
            first += n
        return d_query, d_both, None, None, None
