"""HTML views of impressions and catalogues, for notebooks."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from html import escape
from io import BytesIO
from numbers import Real
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skmars.data._attributes import Attribute
from skmars.data._content import is_absent
from skmars.data._images import UnusableContent, load_image
from skmars.data._sequences import Sequences
from skmars.utils._html import Markup, document, faint, number, table

N_ROWS = 5
N_ITEMS = 4  # of a history
TEXT_LENGTH = 100
THUMBNAIL = 48  # pixels, the longer side
MAX_PIXELS = 2**25  # of a picture that is worth decoding for a thumbnail
LOW_QUANTILE = 0.3  # up to which users are called low-active


class Catalog(Protocol):
    """The attributes of an `ItemCatalog` that its view needs."""

    @property
    def ids(self) -> NDArray[Any]: ...
    @property
    def content(self) -> Mapping[str, NDArray[Any]]: ...
    @property
    def attributes(self) -> Mapping[str, Attribute]: ...
    @property
    def features(self) -> Mapping[str, NDArray[np.float32]]: ...
    @property
    def missing(self) -> Mapping[str, NDArray[np.bool_]]: ...
    @property
    def embedding(self) -> NDArray[np.float32] | None: ...
    def title(self, code: int) -> str: ...
    def __len__(self) -> int: ...


class Rows(Protocol):
    """The attributes of `Impressions` that their view needs."""

    @property
    def catalog(self) -> Catalog: ...
    @property
    def users(self) -> NDArray[Any]: ...
    @property
    def user(self) -> NDArray[np.int32]: ...
    @property
    def target(self) -> NDArray[np.int32]: ...
    @property
    def history(self) -> Sequences: ...
    @property
    def borrowed(self) -> Sequences | None: ...
    @property
    def context(self) -> Mapping[str, NDArray[Any]]: ...
    @property
    def user_attributes(self) -> Mapping[str, Attribute]: ...
    def __len__(self) -> int: ...


def impressions_html(X: Rows) -> str:
    """Return the first rows as HTML with titles and pictures, and counts of all rows.

    Parameters
    ----------
    X : Rows
    """
    item = _item_maker(X.catalog)
    head = ["user", "shown", "history, oldest first"]
    if X.borrowed is not None:
        head.insert(2, "borrowed, with s")
    head += [*X.user_attributes, *X.context]
    known = [v[X.user[:N_ROWS]].to_list() for v in X.user_attributes.values()]
    rows = []
    for i in range(min(N_ROWS, len(X))):
        at = X.history[[i]].last(N_ITEMS).positions()
        liked = None if X.history.feedback is None else X.history.feedback[at]
        notes = [] if liked is None else ["liked" if value else "not liked" for value in liked]
        cells = [
            str(X.users[X.user[i]]),
            item(X.target[i], ""),
            _sequence(X.history.row(i), notes, item),
        ]
        if X.borrowed is not None:
            cells.insert(2, _borrowed(X, i, item))
        cells += [_entry(entries[i]) for entries in known]
        cells += [_entry(column[i]) for column in X.context.values()]
        rows.append(cells)
    facts = [_count(len(X), "row"), *_activity(X), _count(len(X.catalog), "item")]
    if X.borrowed is not None:
        facts.append(f"{np.count_nonzero(X.borrowed.length):,} rows borrowed")
    shown = table("First rows", head, rows)
    return _document("Impressions", facts, [_missing(X.catalog), shown, _further(len(X))])


def catalog_html(catalog: Catalog) -> str:
    """Return the first items as HTML, and the number of items that lack each modality.

    Parameters
    ----------
    catalog : Catalog
    """
    item = _item_maker(catalog)
    texts = [name for name in catalog.content if name not in ("title", "image")]
    shown = {k: v[:N_ROWS].to_list() for k, v in catalog.attributes.items()}
    rows = [
        [
            str(catalog.ids[i]),
            item(i, ""),
            *(_entry(entries[i]) for entries in shown.values()),
            *(_text(catalog.content[name][i]) for name in texts),
        ]
        for i in range(min(N_ROWS, len(catalog)))
    ]
    facts = [_count(len(catalog), "item")]
    facts += [f"{k} features {v.shape[1]}" for k, v in catalog.features.items()]
    if catalog.embedding is not None:
        facts.append(f"embedding {catalog.embedding.shape[1]}")
    first = table("First items", ["id", "item", *shown, *texts], rows)
    return _document("ItemCatalog", facts, [_missing(catalog), first, _further(len(catalog))])


def _document(name: str, facts: Iterable[str], parts: Iterable[str]) -> str:
    line = " · ".join(escape(fact) for fact in facts)
    return document(Markup(f"<p><b>{name}</b> {line}</p>"), *parts)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _activity(X: Rows) -> list[str]:
    """Describe the lengths of histories and the share of low-active users."""
    if len(X) == 0:
        return []
    longest = np.full(len(X.users), -1, dtype=np.int32)
    np.maximum.at(longest, X.user, X.history.length)
    longest = longest[longest >= 0]
    limit = int(np.quantile(longest, LOW_QUANTILE))
    low = np.count_nonzero(longest <= limit)
    length = X.history.length
    return [
        _count(len(longest), "user"),
        f"{low / len(longest):.0%} of them low-active (up to {limit} in their history)",
        f"histories of {length.min()} to {length.max()} items, median {np.median(length):g}",
    ]


def _missing(catalog: Catalog) -> str:
    """Return a line with the number of items that lack each modality's content or features."""
    n_missing = {
        name: sum(map(is_absent, column))
        for name, column in catalog.content.items()
        if name != "title"
    }
    n_missing |= {name: int(column.missing.sum()) for name, column in catalog.attributes.items()}
    n_missing |= {name: int(mask.sum()) for name, mask in catalog.missing.items()}
    if not n_missing or len(catalog) == 0:
        return ""
    parts = [
        f"{escape(name)} {n:,} ({n / len(catalog):.0%})" if n else f"{escape(name)} 0"
        for name, n in n_missing.items()
    ]
    return Markup(f'<p class="faint">items without: {", ".join(parts)}</p>')


def _further(n: int) -> str:
    return Markup(f'<p class="faint">and {n - N_ROWS:,} more</p>') if n > N_ROWS else ""


def _item_maker(catalog: Catalog) -> Callable[[int, str], Markup]:
    """Return a function that writes an item with its picture; each picture is read once."""
    images = catalog.content.get("image")

    @cache
    def picture(code: int) -> str:
        return "" if images is None else _thumbnail(images[code])

    def item(code: int, note: str) -> Markup:
        line = f"<br>{faint(note)}" if note else ""
        title = escape(catalog.title(code))
        return Markup(f'<span class="item">{picture(int(code))}{title}{line}</span>')

    return item


def _sequence(
    codes: NDArray[np.int32], notes: list[str], item: Callable[[int, str], Markup]
) -> Markup:
    """Write the last few items of a history, and how many stand before them."""
    if len(codes) == 0:
        return faint("(empty)")
    shown = codes[-N_ITEMS:]
    hidden = len(codes) - len(shown)
    before = faint(f"… {hidden:,} earlier ") if hidden else ""
    items = "".join(item(c, n) for c, n in zip(shown, notes or [""] * len(shown)))
    return Markup(f'<div class="items">{before}{items}</div>')


def _borrowed(X: Rows, i: int, item: Callable[[int, str], Markup]) -> str:
    """Write what a row borrowed, with the relevance of each item."""
    assert X.borrowed is not None
    codes = X.borrowed.row(i)
    if len(codes) == 0:
        return ""
    at = X.borrowed[[i]].last(N_ITEMS).positions()
    s = X.borrowed.similarity
    notes = [] if s is None else [f"s = {number(value)}" for value in s[at]]
    return Markup(f'<div class="borrowed">{_sequence(codes, notes, item)}</div>')


def _entry(value: Any) -> Any:
    """Return an entry of an attribute or of the context as a cell."""
    if isinstance(value, list):
        value = ", ".join(value) or None
    return value if isinstance(value, Real | np.bool_) else _text(value)


def _text(value: Any) -> Markup:
    if is_absent(value):
        return faint("(missing)")
    text = str(value) if isinstance(value, str) else f"{type(value).__name__}"
    return Markup(escape(text if len(text) <= TEXT_LENGTH else text[:TEXT_LENGTH] + " …"))


def _thumbnail(value: Any) -> str:
    """Return an image as an inline element of a few kilobytes, or a note if it is unreadable."""
    if is_absent(value):
        return ""
    try:
        image = load_image(value, MAX_PIXELS)
    except UnusableContent:
        return faint("(picture unreadable) ")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = BytesIO()
    image.save(file, "JPEG", quality=80)
    data = base64.b64encode(file.getvalue()).decode()
    size = f'width="{image.width}" height="{image.height}"'
    return f'<img alt="" {size} src="data:image/jpeg;base64,{data}">'
