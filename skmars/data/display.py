"""How impressions look in a notebook."""

from __future__ import annotations

from html import escape
from typing import Any

N_ROWS = 5
N_ITEMS = 4


def impressions_html(X: Any) -> str:
    """Return an HTML table with the first rows, titles instead of codes."""
    titles = X.catalog.titles
    head = ["user", "shown", "history"] + (["borrowed"] if X.borrowed is not None else [])
    rows = []
    for i in range(min(N_ROWS, len(X))):
        cells = [str(X.user_ids[i]), titles[X.target[i]], _items(X.history.row(i), titles)]
        if X.borrowed is not None:
            cells.append(_items(X.borrowed.row(i), titles))
        rows.append("".join(f"<td>{escape(cell)}</td>" for cell in cells))
    header = "".join(f"<th>{name}</th>" for name in head)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f"<div><p><b>{escape(repr(X))}</b></p>"
        f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _items(codes: Any, titles: list[str]) -> str:
    """The last few titles of a history, and how many stand before them."""
    shown = ", ".join(titles[c] for c in codes[-N_ITEMS:])
    hidden = len(codes) - N_ITEMS
    return f"… {hidden} more, {shown}" if hidden > 0 else shown or "(empty)"
