"""What a store has to do: durable events, item numbers, version pointers and leases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

UserId = int | str
ItemId = int | str

# An event of a user as it is kept: 32 bytes, little-endian, in the order of arrival.
EVENT = np.dtype(
    [
        ("id", "<u8"),  # a hash of the event's id: what repeats it is left out
        ("position", "<u8"),  # place in the stream of the whole store, from 1, ascending
        ("time", "<f8"),  # seconds; NaN where it is unknown
        ("item", "<u4"),  # store-wide number of the item
        ("clicked", "u1"),
        ("streamed", "u1"),  # 1 where it came as an event, 0 where a log was loaded
        ("reserved", "<u2"),
    ]
)


@dataclass(frozen=True)
class Events:
    """Events to be appended, column by column.

    Attributes
    ----------
    user_ids, item_ids : sequence of int or of str, of length n
    time : ndarray of shape (n,), float64
        Seconds; NaN where it is unknown.
    clicked : ndarray of shape (n,), uint8
    ids : sequence of str or None, of length n, or None
        Ids of the events. Where it is None, it is made of user, item, time and click, so that the
        same click at an unknown time counts once.
    payload : sequence of bytes of length n, or None
        What the stream keeps beside: the context of each event, say. Empty if there is none.
    """

    user_ids: Sequence[UserId]
    item_ids: Sequence[ItemId]
    time: NDArray[np.float64]
    clicked: NDArray[np.uint8]
    ids: Sequence[str | None] | None = None
    payload: Sequence[bytes] | None = None

    def __len__(self) -> int:
        return len(self.user_ids)


@dataclass(frozen=True)
class Streamed:
    """An event as the stream of the store keeps it."""

    position: int
    id: int  # the hash that `EVENT` has, too
    user_id: UserId
    item_id: ItemId
    time: float
    clicked: int
    arrival: float  # seconds since 1970, by the clock of the store's writer
    payload: bytes


@dataclass(frozen=True)
class Lease:
    """The right to do what only one process at a time may do."""

    name: str
    holder: str
    token: int  # larger than that of every earlier lease of this name
    until: float  # seconds since 1970


class StoreError(OSError):
    """The store can't do it now: the message says what happened, and what to do about it.

    Its `errno` is ``errno.ENOSPC`` where the disk is full. Whatever was acknowledged is kept.
    """


class StreamTrimmed(LookupError):
    """Entries of the stream that were asked for have been trimmed: the message says up to where.

    Parameters
    ----------
    message : str
    begin : int
        The stream has all that was streamed from this position on.
    """

    def __init__(self, message: str, begin: int) -> None:
        super().__init__(message)
        self.begin = begin


class LeaseHeld(RuntimeError):
    """Somebody else holds the lease: the message says who, and until when."""


class StaleLease(RuntimeError):
    """The lease was given back, or taken again since."""


class Store(Protocol):
    """Events of users, item numbers, version pointers and leases, kept by LMDB or Redis.

    Every method can be called from several threads and processes at once. Ids are integers of 64
    bits (with sign) or strings of at most 500 bytes of UTF-8; a store whose users (or items) are
    integers refuses strings with a TypeError, and the other way round. What the disk, the network
    or the server prevents is a StoreError.
    """

    def append(self, events: Events, *, streamed: bool = True) -> int:
        """Keep events durably, each once, and return the position of the last event of all.

        An event whose id its user already has is left out, however old. When this returns, a crash
        loses nothing of them, and `histories` shows them. When it raises StoreError, some may be
        kept; the same call again keeps the others. Up to 10,000 events are kept all or none;
        more in several such steps.
        """
        ...

    def append_counted(self, events: Events, *, streamed: bool = True) -> tuple[int, int]:
        """Do as `append`, and also return how many events were new.

        Where the connection broke and the call was repeated, those that were kept at first may
        count as known.
        """
        ...

    def histories(self, user_ids: Sequence[UserId]) -> tuple[list[NDArray[Any]], int]:
        """Return the events of each user (dtype `EVENT`, in order of arrival), and the position.

        All are of one moment: no event up to the position lacks, none beyond it is there. Unknown
        users have none. The arrays are read-only.
        """
        ...

    def users(self) -> Iterator[tuple[list[UserId], list[NDArray[Any]]]]:
        """Yield all users with their events, in blocks, in ascending order of their ids.

        Each block is of a moment of its own. Who needs one moment for all asks for `position`
        first, and leaves events beyond it out.
        """
        ...

    def touched(self, since: int) -> list[UserId]:
        """Return the users who have an event beyond a position, in order of their last event.

        StoreError if the store ends before that position: it isn't the one that was read before.
        """
        ...

    def stream(self, since: int, limit: int) -> list[Streamed]:
        """Return at most `limit` streamed events beyond a position, in order.

        StreamTrimmed if some of them may have been trimmed; StoreError if the store ends before
        that position: it isn't the one that was read before.
        """
        ...

    def trim(self, before: int) -> None:
        """Remove what lies before a position from the stream. Histories keep all their events."""
        ...

    def item_ids(self, since: int = 0) -> list[ItemId]:
        """Return the ids of the items with the numbers `since`, `since` + 1, ... ."""
        ...

    @property
    def position(self) -> int:
        """Position of the last event, 0 if there is none."""
        ...

    def pointer(self, name: str) -> str | None:
        """Return what a name points to (the current version of something), None if nothing."""
        ...

    def publish(self, name: str, value: str, lease: Lease | None = None) -> None:
        """Let a name point to something else, durably; StaleLease if the lease was lost."""
        ...

    def acquire(self, name: str, holder: str, seconds: float) -> Lease:
        """Take a lease, or renew one's own; LeaseHeld if somebody else holds it.

        Each gets a token of its own, and only the newest is valid.
        """
        ...

    def release(self, lease: Lease) -> None:
        """Give a lease back, if it is still held."""
        ...

    def close(self) -> None:
        """Free what is held; the store can't be used any longer."""
        ...
