"""Parts of the HTML views for notebooks: one style, tables, and numbers."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from numbers import Integral, Real
from typing import Any

import numpy as np

# Colours come from the notebook; what is added is legible on light and on dark. A table is as wide
# as its cells need, and scrolls in a box of its own, where notebooks would squeeze its columns.
STYLE = """<style>
.skmars { font-size: 0.9em; }
.skmars p { margin: 0.3em 0; }
.skmars .scroll { overflow-x: auto; max-width: 100%; }
.skmars table { border-collapse: collapse; margin: 0.4em 0; table-layout: auto; width: auto; }
.skmars th, .skmars td { text-align: left; vertical-align: top; padding: 0.3em 0.6em;
  border-bottom: 1px solid rgba(128, 128, 128, 0.4); overflow-wrap: break-word;
  word-break: normal; max-width: 20em; }
.skmars th { white-space: nowrap; }
.skmars .number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.skmars td:has(.items) { max-width: none; }
.skmars .items { display: flex; gap: 0.4em; align-items: flex-start; }
.skmars .item { display: inline-block; width: 7em; flex: none; vertical-align: top; }
.skmars .item img { display: block; margin: 0 0 0.1em 0; max-width: none; }
.skmars .borrowed { border-left: 3px dashed #D55E00; padding-left: 0.4em; }
.skmars .faint { opacity: 0.75; }
</style>"""
DIGITS = 4


class Markup(str):
    """Text that is HTML already; other text is escaped."""


def document(*parts: str) -> Markup:
    """Return a view that has the style of all views.

    Examples
    --------
    >>> document(Markup("<p>one</p>"), "2 < 3").removeprefix(f'<div class="skmars">{STYLE}')
    '<p>one</p>2 &lt; 3</div>'
    """
    return Markup(f'<div class="skmars">{STYLE}{"".join(map(_markup, parts))}</div>')


def table(name: str, head: Iterable[str], rows: Iterable[Iterable[Any]]) -> Markup:
    """Return a table that scrolls by itself; numbers stand right, with four significant digits.

    Parameters
    ----------
    name : str
        What it holds, for who can't see it.
    head : iterable of str
        Names of the columns.
    rows : iterable of iterables
        Cells: text, numbers, or `Markup`.
    """
    header = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    body = "".join(f"<tr>{''.join(map(_cell, cells))}</tr>" for cells in rows)
    # Who has no mouse scrolls with the arrow keys: the box takes the focus.
    box = f'class="scroll" tabindex="0" role="region" aria-label="{escape(name)}"'
    return Markup(
        f"<div {box}><table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def number(value: Any) -> str:
    """Write a number with at most four significant digits; whole numbers are written in full.

    Examples
    --------
    >>> number(0.123456), number(123456.7), number(12), number(1e-9)
    ('0.1235', '123457', '12', '1e-09')
    """
    if isinstance(value, Integral) or not np.isfinite(value):
        return str(value)
    if 10**DIGITS <= abs(value) < 1e15:
        return f"{value:.0f}"
    return f"{value:.{DIGITS}g}"


def faint(text: str) -> Markup:
    """Return text that stands back."""
    return Markup(f'<span class="faint">{escape(text)}</span>')


def unbroken(text: str) -> Markup:
    """Return text that stays on one line, such as a number with its interval."""
    return Markup(f'<span class="number">{escape(text)}</span>')


def _cell(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return f"<td>{value}</td>"
    if isinstance(value, Real):
        missing = value != value
        written = faint("(missing)") if missing else escape(number(value))
        return f'<td class="number">{written}</td>'
    return f"<td>{_markup(value)}</td>"


def _markup(value: Any) -> str:
    return value if isinstance(value, Markup) else escape(str(value))
