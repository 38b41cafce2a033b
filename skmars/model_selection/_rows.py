"""What splits, scorers and samplers ask of the rows: times, moments, and that no step saw them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions
from skmars.data._columns import MADE


def known_times(X: Impressions, name: str, instead: str) -> NDArray[np.float64]:
    """Return the time of each row in seconds; ValueError if one is unknown.

    Parameters
    ----------
    X : Impressions
    name : str
        What needs the times, for messages.
    instead : str
        What does without them, for messages: "leave_last_out(X)".
    """
    if X.time is None:
        raise ValueError(
            f"{name} needs times, but X has none. Read the log with the column of its times "
            f"(Impressions.from_log(log, time=...)), or take {instead}, which does without."
        )
    unknown = ~np.isfinite(X.time)
    if unknown.any():
        raise ValueError(
            f"{name} needs the time of every row, but {np.count_nonzero(unknown)} rows of X have "
            f"none (first: row {int(np.argmax(unknown))}). Leave them out first, with "
            f"X[np.isfinite(X.time)] and the same rows of y, or take {instead}."
        )
    return X.time


def moment_codes(user: NDArray[Any], time: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return a code for the user and time of each row: rows of one page have one."""
    rank = np.unique(time, return_inverse=True)[1].astype(np.int64)
    return user.astype(np.int64) * (rank.max(initial=0) + 1) + rank


def check_raw(X: Impressions, name: str) -> None:
    """Raise ValueError if a step of a pipeline has added columns that belong to rows as they were.

    Parameters
    ----------
    X : Impressions
    name : str
        What changes the rows, for messages.
    """
    found: list[Any] = [column for column in MADE if column in X.context]
    found += ["borrowed"] if X.borrowed is not None else []
    found += ["user_embedding"] if X._embedding is not None else []
    if found:
        raise ValueError(
            f"X has a column {found[0]!r}, which a step of a pipeline made for the rows as they "
            f"are. Call {name} on the impressions that go into the pipeline."
        )
