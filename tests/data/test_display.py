"""How impressions and catalogues look in a notebook."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skmars import Impressions, ItemCatalog
from skmars.data import Sequences

VOID = {"br", "img"}


class Checker(HTMLParser):
    """Collects tags and text; fails where tags are not nested."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] != "style":
            self.text += data


def parsed(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return checker


def png(size: tuple[int, int]) -> bytes:
    file = BytesIO()
    Image.new("RGB", size, "red").save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def catalog() -> ItemCatalog:
    return ItemCatalog(
        [10, 20, 30, 40],
        content={
            "title": ["<script>alert(1)</script>", "Heat & Dust", None, "Up"],
            "text": ["x" * 5000, None, " ", "A <b>house</b> flies."],
            "image": [png((500, 750)), b"broken", None, "no/such/file.jpg"],
        },
    )


@pytest.fixture
def X(catalog: ItemCatalog) -> Impressions:
    log = pd.DataFrame(
        {
            "user_id": ["<i>ann</i>"] * 7 + ["bob", "cid"],
            "item_id": [10, 20, 30, 40, 10, 20, 30, 40, 10],
            "timestamp": range(9),
            "liked": [1, 0, 1, 1, 1, 1, 1, 1, 1],
            "hour": 7,
        }
    )
    return Impressions.from_log(log, catalog, label="liked", history="all", context=["hour"])[0]


def test_markup_is_nested_and_escaped(X: Impressions, catalog: ItemCatalog) -> None:
    for html in (X._repr_html_(), catalog._repr_html_(), X[:0]._repr_html_()):
        checker = parsed(html)
        assert not {"script", "i"} & set(checker.tags)
    assert "<script>alert(1)</script>" in parsed(catalog._repr_html_()).text
    assert "<i>ann</i>" in parsed(X._repr_html_()).text


def test_counts_share_of_low_active_users_and_missing_modalities(X: Impressions) -> None:
    text = parsed(X._repr_html_()).text
    assert "9 rows" in text
    assert "3 users" in text
    assert "67% of them low-active (up to 0 in their history)" in text
    assert "histories of 0 to 6 items, median 1" not in text  # of rows: 0..6, 0, 0
    assert "histories of 0 to 6 items, median 2" in text
    assert "4 items" in text
    assert "items without: text 2 (50%), image 1 (25%)" in text
    assert "and 4 more" in text


def test_masked_features_count_as_missing(catalog: ItemCatalog) -> None:
    encoded = catalog.with_features(
        {"image": np.zeros((4, 3))}, missing={"image": np.array([0, 1, 1, 1], dtype=bool)}
    )
    text = parsed(encoded._repr_html_()).text
    assert "image 3 (75%)" in text
    assert "image features 3" in text


def test_histories_in_titles_with_what_is_left_out_and_feedback(X: Impressions) -> None:
    text = parsed(X[[6]]._repr_html_()).text
    assert "… 2 earlier" in text
    history = text[text.index("earlier") :]
    titles = ["30", "Up", "<script>", "Heat & Dust"]
    assert [history.index(title) for title in titles] == sorted(map(history.index, titles))
    assert "liked" in text
    assert "hour" in text
    assert "not liked" in parsed(X[[2]]._repr_html_()).text
    assert "(empty)" in parsed(X[[0]]._repr_html_()).text


def test_borrowed_items_come_with_their_relevance(X: Impressions) -> None:
    borrowed = Sequences(
        np.array([3, 3], dtype=np.int32),
        np.array([0, 0]),
        np.array([2, 0], dtype=np.int32),
        similarity=np.array([0.25, 0.75], dtype=np.float32),
    )
    html = X[[7, 8]].with_borrowed(borrowed)._repr_html_()
    text = parsed(html).text
    assert "s = 0.25" in text
    assert "s = 0.75" in text
    assert "1 rows borrowed" in text
    assert html.count('class="borrowed"') == 1


def test_thumbnails_are_small_and_broken_pictures_are_named(
    X: Impressions, catalog: ItemCatalog
) -> None:
    html = catalog._repr_html_()
    (data,) = re.findall(r'src="data:image/jpeg;base64,([^"]*)"', html)
    assert Image.open(BytesIO(base64.b64decode(data))).size == (32, 48)
    assert parsed(html).text.count("(picture unreadable)") == 2
    assert len(html) < 10_000
    assert len(X._repr_html_()) < 100_000


def test_a_picture_is_read_once(monkeypatch: pytest.MonkeyPatch, X: Impressions) -> None:
    from skmars.data import _display as display

    reads: list[Any] = []
    load = display.load_image
    monkeypatch.setattr(display, "load_image", lambda *a: reads.append(a[0]) or load(*a))
    X._repr_html_()
    assert len(reads) == 3  # one item has no picture


def test_bare_ids_are_enough() -> None:
    X = Impressions.from_frame(pd.DataFrame({"user_id": [1], "item_id": [2], "history": [[3, 4]]}))
    assert "items without" not in X._repr_html_()
    text = parsed(X._repr_html_()).text
    assert "1 row " in text
    assert "34" in text.replace("\n", "")


def test_numbers_have_four_significant_digits() -> None:
    X = Impressions.from_frame(
        pd.DataFrame(
            {
                "user_id": [1, 2],
                "item_id": [2, 3],
                "history": [[3], [3]],
                "price": [12.3456789, np.nan],
                "seconds": [978300760.0, 1e-7],
                "clicks": [1234567, 0],
                "country": ["NL", None],
            }
        )
    )
    borrowed = Sequences(
        np.array([3], dtype=np.int32) * 0,
        np.array([0, 0]),
        np.array([1, 0], dtype=np.int32),
        similarity=np.array([0.123456], dtype=np.float32),
    )
    html = X.with_borrowed(borrowed)._repr_html_()
    text = parsed(html).text
    for written in ("12.35", "978300760", "1e-07", "1234567", "s = 0.1235", "(missing)", "NL"):
        assert written in text
    assert "12.345" not in text
    assert '<td class="number">12.35</td>' in html


def test_tables_scroll_in_a_box_that_takes_the_focus(X: Impressions, catalog: ItemCatalog) -> None:
    for view in (X, catalog):
        box = re.search(r'<div class="scroll"([^>]*)><table>', view._repr_html_())
        assert box is not None
        assert 'tabindex="0"' in box[1]
        assert "aria-label=" in box[1]


def test_no_colour_but_the_mark_of_what_is_borrowed(X: Impressions) -> None:
    """Text and background are those of the notebook, light or dark."""
    from skmars.utils._html import STYLE

    assert not re.search(r"(?<!-)(color|background):", STYLE)
    assert re.findall("#[0-9A-F]{6}", STYLE) == ["#D55E00"]
