"""What the stream of a store keeps beside an event: its context, and when the item was shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def encode(context: Mapping[str, Any], position: int | None = None) -> bytes:
    """Return the payload of an event.

    Parameters
    ----------
    context : mapping of str to str, float, int, bool or None
        The context columns of the row that the user was shown.
    position : int, default=None
        The position of the store that the answer was made with; None where it is not known.

    Returns
    -------
    bytes
        JSON; empty where there is nothing to keep.

    Examples
    --------
    >>> encode({"device": "phone"}, 7)
    b'{"context":{"device":"phone"},"position":7}'
    >>> encode({})
    b''
    """
    kept: dict[str, Any] = {}
    if context:
        kept["context"] = dict(context)
    if position is not None:
        kept["position"] = int(position)
    if not kept:
        return b""
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode()


def decode(payload: bytes) -> tuple[dict[str, Any], int | None]:
    """Return context and position of what `encode` returned.

    Raises
    ------
    ValueError
        If it is something else.

    Examples
    --------
    >>> decode(encode({"device": "phone"}, 7))
    ({'device': 'phone'}, 7)
    >>> decode(b"")
    ({}, None)
    """
    if not payload:
        return {}, None
    try:
        kept = json.loads(payload)
    except ValueError:
        kept = None
    if isinstance(kept, dict) and kept.keys() <= {"context", "position"}:
        context, position = kept.get("context", {}), kept.get("position")
        is_place = position is None or (type(position) is int and position >= 0)
        if isinstance(context, dict) and is_place:
            return context, position
    raise ValueError(
        f"the payload of an event must be JSON of its 'context' and 'position', got {payload!r}. "
        "Let skmars.serving write the events."
    )
