"""Multi-head attention over concatenated sequences of different lengths.

All sequences of a batch lie in flat tensors of shape (n_positions, ...). Attention pads them bucket
by bucket, a bucket being sequences of similar length; nothing else ever sees padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from skmars.utils import _ragged as ragged

# Sequences share a bucket if the longest is at most this much longer than the shortest.
PADDING = 1.5
BLOCKS_PER_WINDOW = 4


@dataclass(frozen=True)
class Bucket:
    """Sequences of similar length, to be padded to a common one."""

    n_positions: int  # of the sequences together
    height: int  # number of sequences
    width: int  # their common length
    pad: Tensor | None  # which position stands where, shape (height * width,); None if all are full
    unpad: Tensor | None  # the way back, shape (n_positions,)
    valid: Tensor  # what is real, shape (height, width)


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
        result.append(Bucket(int(starts[-1]), end - begin, width, index[0], index[1], mask))
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
        projected = torch.cat([self.query(query), self.key_value(memory)], dim=1)
        parts = projected.split([bucket.n_positions for bucket in buckets])
        attended = [self._attend(part, bucket) for part, bucket in zip(parts, buckets)]
        return self.out(torch.cat(attended) if attended else projected[:, : query.shape[1]])

    def _attend(self, projected: Tensor, bucket: Bucket) -> Tensor:
        if bucket.pad is not None:
            projected = projected.index_select(0, bucket.pad)
        shape = (bucket.height, bucket.width, 3, self.n_heads, -1)
        q, k, v = projected.view(shape).permute(2, 0, 3, 1, 4)
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
