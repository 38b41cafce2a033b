"""Tables, numbers and folded parts, as Markdown."""

from __future__ import annotations

import numpy as np

from benchmarks.paper.statistics import Difference, interval

Rows = list[list[str]]
NOT_MEASURED = "not measured"


def table(head: list[str], rows: Rows) -> str:
    """Write a table."""
    lines = ["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines) + "\n"


def folded(summary: str, *parts: str) -> str:
    """Write what is seen once the reader opens it; nothing where there is nothing to fold."""
    text = "\n".join(part for part in parts if part)
    return f"<details>\n<summary>{summary}</summary>\n\n{text}\n</details>\n" if text else ""


def number(value: float | None, digits: int = 4, sign: bool = False) -> str:
    """Write a number; nothing where there is none.

    Examples
    --------
    >>> number(0.5, 2, sign=True), number(None)
    ('+0.50', '')
    """
    if value is None or np.isnan(value):
        return ""
    return f"{value:{'+' if sign else ''}.{digits}f}"


def mean_and_interval(values: np.ndarray) -> str:
    """Write a mean over seeds and half of its 95 % interval."""
    if len(values) == 0:
        return NOT_MEASURED
    mean, half = interval(values)
    return number(mean) + (f"\u00a0±\u00a0{half:.4f}" if not np.isnan(half) else "")


def with_interval(found: Difference | None) -> str:
    """Write a difference with its interval."""
    if found is None:
        return NOT_MEASURED
    ends = f" [{number(found.low, sign=True)},\u00a0{number(found.high, sign=True)}]"
    return number(found.value, sign=True) + ("" if np.isnan(found.low) else ends)
