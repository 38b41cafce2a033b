"""Raw content of items: is there any, and what identifies it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np


def is_absent(value: Any) -> bool:
    """Say whether there is nothing: None, NaN, pandas.NA or blank text."""
    if isinstance(value, str):
        return not value.strip()
    return (
        value is None
        or (isinstance(value, float) and value != value)
        or type(value).__name__ in ("NAType", "NaTType")
    )


def content_key(value: Any) -> str:
    """Return a digest of one raw content: text, a path and its state, bytes, an image, an array.

    A path is named by its size and time of change, not read: hashing a catalogue of pictures
    must not cost what encoding it costs.
    """
    if value is None:
        return "none"
    if isinstance(value, str) or hasattr(value, "__fspath__"):
        import os

        text = os.fspath(value)
        # Only what can be a path is looked up: a plot of 3,000 characters is not one.
        if len(text) < 1024 and "\n" not in text and os.path.isfile(text):
            state = os.stat(text)
            return f"file:{os.path.abspath(text)}:{state.st_size}:{state.st_mtime_ns}"
        return "text:" + hashlib.sha256(text.encode()).hexdigest()
    if isinstance(value, bytes | bytearray):
        return "bytes:" + hashlib.sha256(value).hexdigest()
    array = np.ascontiguousarray(value)
    if array.dtype.kind == "O":
        return "repr:" + hashlib.sha256(repr(value).encode()).hexdigest()
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    return f"array:{array.dtype.str}:{array.shape}:{digest}"
