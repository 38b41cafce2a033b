"""Events as a store keeps them: keys, hashes, records, entries of the stream."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.serving.store._store import EVENT, Events, StoreError, Streamed, StreamTrimmed, UserId
from skmars.utils._ids import as_ids

FORMAT = "skmars store 1 little-endian"  # another layout gets another number
BLOCK = 10_000  # events that are kept in one step
MAX_ID_BYTES = 500
MAX_ITEMS = 2**32

NO_EVENTS = np.zeros(0, dtype=EVENT)
NO_EVENTS.flags.writeable = False

KINDS = {b"i": "integers", b"s": "strings"}
_ZERO = 2**63  # added to integers, so that their bytes sort as they do
_TAIL = struct.Struct("<dHH")  # of an entry of the stream: arrival, bytes of the user and item key


def id_keys(values: Sequence[Any], name: str) -> list[bytes]:
    """Return a key of each id: a byte for its kind, then its value. Keys sort as ids do.

    Raises
    ------
    TypeError, ValueError
        If an id is no integer of 64 bits, or no string of 1 to 500 bytes. `name` says of what.
    """
    types = set(map(type, values)) if isinstance(values, list | tuple) else None
    if types not in ({str}, {int}):
        values = as_ids(values, name).tolist()
        types = set(map(type, values))
    if types == {int}:
        try:
            return [b"i" + (value + _ZERO).to_bytes(8, "big") for value in values]
        except OverflowError:
            largest = max(values, key=abs)
            raise ValueError(
                f"{name} holds {largest}, which 64 bits with a sign can't hold. Convert all ids "
                "to strings."
            ) from None
    try:
        keys = [b"s" + value.encode() for value in values]
    except UnicodeEncodeError:
        as_ids(values, name)  # says which
        raise
    lengths = [len(key) for key in keys]
    if lengths and min(lengths) == 1:
        raise ValueError(f"{name} holds an empty string (at {lengths.index(1)}). Give it an id.")
    if lengths and max(lengths) > MAX_ID_BYTES + 1:
        at = int(np.argmax(lengths))
        raise ValueError(
            f"{name} holds a string of {lengths[at] - 1} bytes (at {at}), and a store keeps at "
            f"most {MAX_ID_BYTES}. Shorten it, for example to a hash."
        )
    return keys


def id_of(key: bytes) -> UserId:
    """Return the id that a key was made of."""
    if key[:1] == b"i":
        return int.from_bytes(key[1:], "big") - _ZERO
    return key[1:].decode()


def check_kind(keys: Sequence[bytes], kept: bytes | None, name: str) -> None:
    """Raise TypeError if keys are of another kind than those that are kept."""
    if kept and keys and keys[0][:1] != kept:
        target = "int" if kept == b"i" else "str"
        raise TypeError(
            f"{name} holds {KINDS[keys[0][:1]]}, but the store keeps {KINDS[kept]}, so that "
            f"nothing would match. Convert each with {target}(...)."
        )


def check_position(value: int, name: str) -> None:
    """Raise ValueError if a number can't be a position or count."""
    if not 0 <= value < 2**63:
        raise ValueError(f"{name} must be 0 or a larger integer, got {value!r}.")


def check_since(since: int, last: int) -> None:
    """Raise StoreError if a store ends before the position up to which its reader has read."""
    if since > last:
        raise StoreError(
            f"The store ends with position {last}, but was asked for what follows {since}: it is "
            "another one, or an older copy of it was restored. Whoever has read further must start "
            "again from the histories; going on would leave events out."
        )


def check_trimmed(since: int, before: int) -> None:
    """Raise StreamTrimmed if the stream was trimmed beyond the position that is asked for."""
    if since + 1 < before:
        raise StreamTrimmed(
            f"The stream was trimmed: it begins with position {before}, and was asked for what "
            f"follows {since}. Read the histories of the users, then the stream since "
            f"{before - 1}.",
            before,
        )


def history(value: bytes | None) -> NDArray[Any]:
    """Return a kept history as an array of dtype `EVENT`."""
    return NO_EVENTS if value is None else np.frombuffer(value, dtype=EVENT)


@dataclass(frozen=True)
class Batch:
    """Events that are kept in one step, no two of a user with the same id.

    Attributes
    ----------
    users, items : list of bytes
        Distinct keys.
    user, item : ndarray of shape (n,), uint32
        User and item of each event: codes into these.
    records : ndarray of shape (n,), dtype `EVENT`
        Without position and item, which the store numbers.
    tails : list of bytes of length n, or None
        What an entry of the stream holds behind the record; None if the events are not streamed.
    """

    users: list[bytes]
    items: list[bytes]
    user: NDArray[np.uint32]
    item: NDArray[np.uint32]
    records: NDArray[Any]
    tails: list[bytes] | None

    def __len__(self) -> int:
        return len(self.records)


def batches(events: Events, streamed: bool, arrival: float) -> Iterator[Batch]:
    """Check all events, then yield them in steps.

    Raises
    ------
    TypeError, ValueError
        If a column of the events holds what can't be kept.
    """
    n = len(events)
    users = id_keys(events.user_ids, "user_ids")
    items = id_keys(events.item_ids, "item_ids")
    time = _times(events.time)
    clicked = _clicks(events.clicked)
    payload = [b""] * n if events.payload is None else list(events.payload)
    columns: dict[str, Any] = {
        "item_ids": items,
        "time": time,
        "clicked": clicked,
        "payload": payload,
    }
    if events.ids is not None:
        columns["ids"] = events.ids
    for name, column in columns.items():
        if len(column) != n:
            raise ValueError(
                f"{name} has {len(column)} values and user_ids {n}. Pass one for each event."
            )
    _refuse_types(payload, bytes, "payload")
    ids = [None] * n if events.ids is None else events.ids
    _refuse_types(["made" if given is None else given for given in ids], str, "ids")
    made = zip(ids, users, items, time.tolist(), clicked.tolist())
    hashes = b"".join(
        _hash_of_event(*event) if given is None else _hash_of_id(given) for given, *event in made
    )
    records = np.zeros(n, dtype=EVENT)
    records["id"] = np.frombuffer(hashes, dtype="<u8")
    records["time"], records["clicked"], records["streamed"] = time, clicked, streamed
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK)
        yield _batch(users[part], items[part], records[part], streamed, arrival, payload[part])


def _batch(
    users: list[bytes],
    items: list[bytes],
    records: NDArray[Any],
    streamed: bool,
    arrival: float,
    payload: list[bytes],
) -> Batch:
    first: dict[tuple[bytes, int], int] = {}
    for at, event in enumerate(zip(users, records["id"].tolist())):
        first.setdefault(event, at)
    kept = list(first.values())
    users, items = [users[at] for at in kept], [items[at] for at in kept]
    tails = None
    if streamed:
        tails = [
            _TAIL.pack(arrival, len(user), len(item)) + user + item + payload[at]
            for at, user, item in zip(kept, users, items)
        ]
    distinct_users, user = _codes(users)
    distinct_items, item = _codes(items)
    return Batch(distinct_users, distinct_items, user, item, records[kept], tails)


def _codes(keys: list[bytes]) -> tuple[list[bytes], NDArray[np.uint32]]:
    code: dict[bytes, int] = {}
    codes = [code.setdefault(key, len(code)) for key in keys]
    return list(code), np.array(codes, dtype="<u4")


def _times(values: Any) -> NDArray[np.float64]:
    time = np.asarray(values)
    if time.ndim != 1 or time.dtype.kind not in "fiu":
        raise TypeError(
            f"time must be a one-dimensional array of seconds, got shape {time.shape} and dtype "
            f"{time.dtype}. Convert moments to seconds, and unknown ones to NaN."
        )
    time = time.astype(np.float64)
    if np.isinf(time).any():
        raise ValueError("time holds an infinite value. Write NaN where a time is unknown.")
    # One way to write each: 0.0 is -0.0, and NaN has many bit patterns.
    return np.where(np.isnan(time), np.nan, time + 0.0)


def _clicks(values: Any) -> NDArray[np.uint8]:
    clicked = np.asarray(values)
    if clicked.ndim != 1 or not np.isin(clicked, (0, 1)).all():
        raise ValueError(
            "clicked must be a one-dimensional array of 0 and 1, got "
            f"{np.array2string(clicked, threshold=5)}."
        )
    return clicked.astype(np.uint8)


def _refuse_types(values: Sequence[Any], type_: type, name: str) -> None:
    for at, value in enumerate(values):
        if not isinstance(value, type_):
            raise TypeError(
                f"{name} must be {type_.__name__}, got a {type(value).__name__} (at {at})."
            )


def _hash_of_id(given: str) -> bytes:
    if not given:
        raise ValueError("ids holds an empty string. Leave ids out, or give each event one.")
    return blake2b(given.encode(errors="surrogatepass"), digest_size=8).digest()


def _hash_of_event(user: bytes, item: bytes, time: float, clicked: int) -> bytes:
    head = struct.pack("<HdB", len(user), time, clicked)
    return blake2b(head + user + item, digest_size=8, person=b"made").digest()


def streamed_event(entry: bytes) -> Streamed:
    """Return an entry of the stream as its fields."""
    record = np.frombuffer(entry, dtype=EVENT, count=1)[0]
    arrival, n_user, n_item = _TAIL.unpack_from(entry, EVENT.itemsize)
    user = EVENT.itemsize + _TAIL.size
    item = user + n_user
    return Streamed(
        position=int(record["position"]),
        id=int(record["id"]),
        user_id=id_of(entry[user:item]),
        item_id=id_of(entry[item : item + n_item]),
        time=float(record["time"]),
        clicked=int(record["clicked"]),
        arrival=arrival,
        payload=entry[item + n_item :],
    )
