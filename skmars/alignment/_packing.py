"""Group the rows that one causal pass can serve, make batches of such groups, and pack a batch.

Rows of one user see growing prefixes of one array of events. With a causal network a single
pass over that array, a *segment*, serves all of them: row t reads the running mean at its own
prefix (a staircase). That makes an epoch cost O(n^2) of a user's n events, not O(n^3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skmars.alignment._attention import Bucket, make_buckets
from skmars.data import Impressions, Sequences
from skmars.utils import _ragged as ragged

# A pass over more positions than this is split: it bounds the memory of a batch.
MAX_POSITIONS = 16_384
# A thread takes about so many positions of a batch through the network at a time (on the CPU): what
# it computes then stays in the cache.
PART_POSITIONS = 512

Batch = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Segments:
    """Segments, which are slices of the flat history arrays, and where in them each row ends.

    Segments are numbered by their first row, whatever the flat arrays look like: the same rows
    make the same batches.
    """

    start: NDArray[np.int64]  # of each segment
    length: NDArray[np.int64]  # of each segment
    segment: NDArray[np.int64]  # of each row
    prefix: NDArray[np.int64]  # how many of the segment's items each row sees

    def __len__(self) -> int:
        return len(self.start)


def find_segments(X: Impressions, *, causal: bool, reach: int) -> Segments:
    """Group rows whose histories are prefixes of one another.

    Not `causal`, every distinct history is a segment of its own. Its user embedding depends on the
    last `reach` items of a history.
    """
    start = X.history.start.astype(np.int64)
    prefix = X.history.length.astype(np.int64)
    if not causal:
        start, prefix = start + np.maximum(prefix - reach, 0), np.minimum(prefix, reach)
        return _number(start, prefix, part=prefix)
    start = _shared_start(X.history, start, prefix, X.user)
    # Of very long segments each part is passed over on its own, with all context that it needs.
    part = prefix // MAX_POSITIONS
    skipped = np.maximum(part * MAX_POSITIONS - reach, 0)
    return _number(start + skipped, prefix - skipped, part=part)


def segment_of_each_row(X: Impressions, *, context: int) -> Segments:
    """Make a segment of each row: the last `context` items of its history."""
    whole = X.history.length.astype(np.int64)
    length = np.minimum(whole, context)
    return Segments(X.history.start + whole - length, length, np.arange(len(X)), length)


def _number(
    start: NDArray[np.int64], prefix: NDArray[np.int64], *, part: NDArray[np.int64]
) -> Segments:
    """Make one segment of all rows with equal start and part; empty histories stay apart."""
    key = start * (part.max(initial=0) + 1) + part
    key = np.where(prefix > 0, key, -1 - np.arange(len(key)))
    _, first, segment = np.unique(key, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    segment = rank[segment]
    length = np.zeros(len(order), dtype=np.int64)
    np.maximum.at(length, segment, prefix)
    return Segments(start[first[order]], length, segment, prefix)


def _shared_start(
    history: Sequences,
    start: NDArray[np.int64],
    length: NDArray[np.int64],
    user: NDArray[np.int32],
) -> NDArray[np.int64]:
    """Let rows start where their user's longest history starts, if that begins with theirs.

    Impressions made from a log share their events already. Rows read from a frame hold a
    copy of the history each, which this makes one segment again.
    """
    if not len(start):
        return start
    row = ragged.longest(user, length)
    longest_of_user = np.empty(int(user.max()) + 1, dtype=np.int64)
    longest_of_user[user[row]] = row
    longest = longest_of_user[user]
    apart = np.flatnonzero((start != start[longest]) & (length > 0))
    for end in (np.zeros_like(length), length - 1):  # these two items rule out most
        own, other = start[apart] + end[apart], start[longest[apart]] + end[apart]
        apart = apart[history.items[own] == history.items[other]]
    own = ragged.ranges(start[apart], length[apart])
    other = ragged.ranges(start[longest[apart]], length[apart])
    equal = history.items[own] == history.items[other]
    if history.feedback is not None:
        equal &= history.feedback[own] == history.feedback[other]
    differing = np.add.reduceat(np.append(~equal, False), ragged.offsets(length[apart])[:-1]) > 0
    shared = start.copy()
    shared[apart[~differing]] = start[longest[apart[~differing]]]
    return shared


def make_batches(
    segments: Segments,
    rows: NDArray[np.int64],
    batch_size: int,
    rng: np.random.RandomState | None = None,
) -> Iterator[Batch]:
    """Group the segments that serve these rows, whole, into batches of about `batch_size` rows.

    A segment is never divided, and a batch is closed early when its segments together have
    `MAX_POSITIONS` positions. `rng` shuffles the segments.

    Yields
    ------
    segment, row : ndarray of int64
        The segments of the batch, and its rows, segment after segment.
    """
    of_row = segments.segment[rows]
    n_rows = np.bincount(of_row, minlength=len(segments))
    used = np.flatnonzero(n_rows)
    if rng is not None:
        used = rng.permutation(used)
    # A batch is full at cost 1; equal shares leave no small remainder at the end.
    cost = np.cumsum(np.maximum(n_rows[used] / batch_size, segments.length[used] / MAX_POSITIONS))
    if not len(used):
        return
    n_batches = max(1, round(cost[-1]))
    batch = np.minimum((cost * n_batches / cost[-1] - 1e-9).astype(np.int64), n_batches - 1)
    position = np.empty(len(segments), dtype=np.int64)
    position[used] = np.arange(len(used))
    by_segment = rows[np.argsort(position[of_row], kind="stable")]
    ends = ragged.offsets(n_rows[used])
    bounds = np.flatnonzero(np.diff(batch, prepend=-1, append=n_batches))
    for begin, end in zip(bounds[:-1], bounds[1:]):
        if end > begin:
            yield used[begin:end], by_segment[ends[begin] : ends[end]]


@dataclass(frozen=True)
class Part:
    """Some of a batch's sequences, and the rows that read their user embedding in them.

    A row's user embedding is the mean of the `length` positions before `end`.
    """

    positions: slice  # of the batch
    buckets: list[Bucket]
    row: NDArray[np.int64]  # among those of the batch
    end: Tensor  # of each row, from the first position of the part
    length: Tensor  # of each row

    @property
    def alone(self) -> bool:
        """Whether each of its sequences is one position."""
        return all(bucket.width == 1 for bucket in self.buckets)


@dataclass(frozen=True)
class PackedSequences:
    """Sequences that go through the network together, and where rows read their user embedding.

    Single items (each a sequence of its own) stand first, then the segments, shortest first.
    """

    codes: NDArray[np.int32]  # of the distinct items, ascending
    item: Tensor  # which of them stands at each position
    feedback: Tensor | None  # of each position: 0 unknown, 1 not liked, 2 liked
    singles: list[Part]  # no rows
    parts: list[Part]  # of the segments
    n_rows: int

    @property
    def n_singles(self) -> int:
        return self.singles[-1].positions.stop if self.singles else 0


def make_parts(
    lengths: NDArray[np.int64],
    first: int,
    device: torch.device,
    sequence: NDArray[np.int64],
    prefix: NDArray[np.int64],
    length: NDArray[np.int64],
) -> list[Part]:
    """Divide sequences, sorted from short to long, into parts that do not depend on the threads.

    `lengths` are those of the sequences, which stand behind the position `first`; `sequence` is
    that of each row, which reads the mean of `length` positions up to the `prefix` of it.
    """
    begin = ragged.offsets(lengths)
    size = PART_POSITIONS if device.type == "cpu" else max(int(begin[-1]), 1)
    part = begin[:-1] // size
    bounds = np.append(np.flatnonzero(np.diff(part, prepend=-1)), len(lengths))
    of_row = np.searchsorted(bounds, sequence, side="right") - 1
    by_part = np.argsort(of_row, kind="stable")
    rows = np.split(by_part, np.searchsorted(of_row[by_part], np.arange(1, len(bounds) - 1)))
    result = []
    for low, high, row in zip(bounds[:-1], bounds[1:], rows):
        inside = lengths[low:high]
        result.append(
            Part(
                slice(first + int(begin[low]), first + int(begin[high])),
                make_buckets(inside[inside > 0], device),
                row,
                torch.from_numpy(begin[sequence[row]] - begin[low] + prefix[row]).to(device),
                torch.from_numpy(length[row]).to(device),
            )
        )
    return result


def make_single_parts(n_singles: int, device: torch.device) -> list[Part]:
    """Divide single items, each a sequence of its own, into parts."""
    nothing = np.empty(0, dtype=np.int64)
    return make_parts(np.ones(n_singles, dtype=np.int64), 0, device, nothing, nothing, nothing)


def pack_batch(
    history: Sequences,
    segments: Segments,
    batch: Batch,
    *,
    max_length: int,
    device: torch.device,
    singles: NDArray[np.int32],
) -> PackedSequences:
    """Pack single items and the segments of a batch, and find the end of each row in them."""
    segment, row = batch
    order = segment[np.argsort(segments.length[segment], kind="stable")]
    length = segments.length[order]
    positions = ragged.ranges(segments.start[order], length)
    code = np.concatenate([singles, history.items[positions]])
    codes = np.unique(code)
    feedback = None
    if history.feedback is not None:
        unknown = np.zeros(len(singles), dtype=np.int64)
        feedback = np.concatenate([unknown, 1 + history.feedback[positions].astype(np.int64)])
    rank = np.empty(len(segments), dtype=np.int64)
    rank[order] = np.arange(len(order))
    prefix = segments.prefix[row]
    rows = rank[segments.segment[row]], prefix, np.minimum(prefix, max_length)

    def tensor(array: NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(array).to(device)

    return PackedSequences(
        codes=codes,
        item=tensor(np.searchsorted(codes, code)),
        feedback=None if feedback is None else tensor(feedback),
        singles=make_single_parts(len(singles), device),
        parts=make_parts(length, len(singles), device, *rows),
        n_rows=len(row),
    )


def pack_targets(
    X: Impressions, segments: Segments, batch: Batch, *, device: torch.device
) -> PackedSequences:
    """Pack the rows of a batch (each a segment), every history followed by the row's target.

    Feedback on the target is the answer: it is unknown here.
    """
    row = batch[1]
    order = np.argsort(segments.length[row], kind="stable")
    by_length = row[order]
    n_before = segments.length[by_length]
    ends = ragged.offsets(n_before + 1)[1:]
    before = np.ones(n_before.sum() + len(row), dtype=bool)
    before[ends - 1] = False
    positions = ragged.ranges(segments.start[by_length], n_before)
    code = np.empty(len(before), dtype=np.int32)
    code[before], code[~before] = X.history.items[positions], X.target[by_length]
    feedback = None
    if X.history.feedback is not None:
        feedback = np.zeros(len(before), dtype=np.int64)
        feedback[before] = 1 + X.history.feedback[positions].astype(np.int64)
    codes = np.unique(code)
    sequence = np.empty_like(order)
    sequence[order] = np.arange(len(order))
    rows = sequence, segments.length[row] + 1, segments.length[row]

    def tensor(array: NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(array).to(device)

    return PackedSequences(
        codes=codes,
        item=tensor(np.searchsorted(codes, code)),
        feedback=None if feedback is None else tensor(feedback),
        singles=[],
        parts=make_parts(n_before + 1, 0, device, *rows),
        n_rows=len(row),
    )


def pack_items(codes: NDArray[np.int32], device: torch.device) -> PackedSequences:
    """Pack items, each as a sequence of its own, and no rows."""
    nothing = np.empty(0, dtype=np.int64)
    nobody = Segments(nothing, nothing, nothing, nothing)
    history, batch = Sequences.empty(0), (nothing, nothing)
    return pack_batch(history, nobody, batch, max_length=1, device=device, singles=codes)
