"""One impression as a strip of covers: what was borrowed, what is own, what is shown."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from textwrap import wrap
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._optional_dependencies import check_matplotlib_support

from skmars.data import Impressions
from skmars.data._checks import require_impressions
from skmars.data._images import UnusableContent, load_image
from skmars.plotting._figure import BLUE, GREEN, VERMILLION, Display, label_axes

CELL, WIDTH = 1.0, 0.88  # of a cover, without and with what is around it
TALLEST = 1.4  # a cover; what is taller is made narrower
GAP = 0.35  # between borrowed, own and shown
TITLE_LINES, CHARACTERS = 3, 14  # of a title, and in a line of one cover's width
LINE = 0.17  # height of a line
BAR = 0.32  # from a cover to the bar above it
INCHES = 1.0  # of a cell, in a figure of its own
COVERS_IN_ROW = 7  # if a group alone has no more
COVER_PIXELS = 256


@dataclass(frozen=True)
class Cover:
    """An item of the strip: title, picture (None if it has none) and what is said of it."""

    title: str
    image: NDArray[np.uint8] | None
    note: str = ""


@dataclass(frozen=True)
class Group:
    """Covers that belong together: borrowed of one donor, own, or shown."""

    kind: str
    label: str
    covers: list[Cover]


STYLES = {"borrowed": (VERMILLION, "--"), "own": (BLUE, "-"), "shown": (GREEN, "-")}


@dataclass(eq=False, repr=False)
class HistoryDisplay(Display):
    """One user's history as a strip of covers, the borrowed part marked.

    Borrowed items stand first, one group for each donor, with the relevance `s_i` (Eq. 16) of each
    and the similarity of the donor (Eq. 15); then the own history, oldest first; then the item
    that is shown. Long strips go on in a second row. It is recommended to use
    :meth:`from_estimator` or :meth:`from_impressions`.

    Parameters
    ----------
    groups : list of Group
        What to draw, in this order.
    title : str, default=""
        Title of the axes.

    Attributes
    ----------
    images_ : list of matplotlib AxesImage or None
        The covers; None where an item has no picture that can be read, and its title stands alone.
    frames_ : list of matplotlib Rectangle
        Their frames: dashed for what is borrowed.
    titles_, notes_, labels_ : list of matplotlib Text
        Titles and similarities of items, and what the groups are.
    ax_, figure_ : matplotlib Axes, Figure

    See Also
    --------
    SequenceRetrievalAugmenter.explain : The same as a table.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from skmars import Impressions, ItemCatalog, SequenceRetrievalAugmenter
    >>> from skmars.plotting import HistoryDisplay
    >>> catalog = ItemCatalog([1, 2, 3, 4], content={"title": ["Up", "Cars", "Heat", "Alien"]},
    ...     embedding=np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]]))
    >>> X = Impressions.from_frame(pd.DataFrame({
    ...     "user_id": ["ann", "bob", "cid"], "item_id": [3, 4, 2],
    ...     "history": [[1], [2, 1, 1], [4, 3, 3]]}), catalog)
    >>> augmenter = SequenceRetrievalAugmenter(relevance="user").fit(X)
    >>> display = HistoryDisplay.from_estimator(augmenter, X, row=0)
    >>> [text.get_text() for text in display.titles_]
    ['Cars', 'Up', 'Up', 'Up', 'Heat']
    >>> [text.get_text() for text in display.labels_]
    ['borrowed from user bob\\n(similarity 1.00)', 'own history', 'shown']
    """

    groups: list[Group]
    _: KW_ONLY
    title: str = ""

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        row: int = 0,
        max_borrowed: int = 6,
        max_own: int = 6,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Let an augmenter borrow for one row, and return the display, drawn.

        Parameters
        ----------
        estimator : fitted SequenceRetrievalAugmenter, or pipeline that ends in it
        X : Impressions or table of impressions
            What its `transform` takes.
        row, max_borrowed, max_own, ax, **kwargs
            As in `from_impressions`.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        X = _one_row(require_impressions(X, estimator_name=cls.__name__), row)
        X = estimator.transform(X)
        return cls.from_impressions(X, max_borrowed=max_borrowed, max_own=max_own, ax=ax, **kwargs)

    @classmethod
    def from_impressions(
        cls,
        X: Any,
        *,
        row: int = 0,
        max_borrowed: int = 6,
        max_own: int = 6,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw one row of impressions, and return the display.

        Parameters
        ----------
        X : Impressions or table of impressions
            With or without borrowed items.
        row : int, default=0
            Which row.
        max_borrowed, max_own : int, default=6
            How many borrowed and own items to draw at most: the last ones.
        ax, **kwargs
            As in `plot`.

        Raises
        ------
        IndexError
            If there is no such row.
        """
        X = _one_row(require_impressions(X, estimator_name=cls.__name__), row)
        catalog = X.catalog

        def covers(codes: NDArray[np.int32], notes: list[str]) -> list[Cover]:
            images = catalog.content.get("image")
            return [
                Cover(catalog.title(c), None if images is None else _picture(images[c]), note)
                for c, note in zip(codes, notes)
            ]

        groups = _borrowed_groups(X, max_borrowed, covers)
        own = X.history.row(0)
        shown = own[max(len(own) - max_own, 0) :]
        if len(shown):
            notes = [""] * len(shown)
            if X.history.feedback is not None:
                liked = X.history.feedback[X.history.positions()][-len(shown) :]
                notes = ["liked" if value else "not liked" for value in liked]
            label = "own history" + _cut(len(shown), len(own))
            groups.append(Group("own", label, covers(shown, notes)))
        groups.append(Group("shown", "shown", covers(X.target, [""])))
        return cls(groups, title=f"User {X.user_ids[0]}").plot(ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> Self:
        """Draw it, and return the display itself.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure of the size of the strip.
        **kwargs
            Passed to matplotlib's `text` of titles, similarities and labels.
        """
        covers = [cover for group in self.groups for cover in group.covers]
        ratios = [c.image.shape[0] / c.image.shape[1] for c in covers if c.image is not None]
        height = min(max(ratios, default=1.0) * WIDTH, TALLEST)
        rows = _rows(self.groups)
        width = max(_width(row) for row in rows)
        labels = [[_lines(g.label, CHARACTERS * len(g.covers)) for g in row] for row in rows]
        titles = [
            [_lines(c.title, CHARACTERS, TITLE_LINES) for g in row for c in g.covers]
            for row in rows
        ]
        above = [height + BAR + 0.12 + LINE * _most_lines(row) for row in labels]
        below = [0.12 + LINE * _most_lines(row) for row in titles]
        tall = sum(above) + sum(below)
        ax = self._axes(ax, figsize=(max(4.0, INCHES * (width + 0.2)), INCHES * tall + 0.4))
        from matplotlib.patches import Rectangle

        self.images_: list[Any] = []
        self.frames_, self.titles_, self.notes_, self.labels_ = [], [], [], []
        # Titles may have dollar signs, which are no mathematics.
        text = {"fontsize": "small", "ha": "center", "parse_math": False, **kwargs}
        floor = 0.0
        for row, row_labels, row_titles, up, down in zip(rows, labels, titles, above, below):
            x, floor = 0.0, floor - up
            unwritten = iter(row_titles)
            for group, label in zip(row, row_labels):
                color, dashes = STYLES[group.kind]
                begin = x
                for cover in group.covers:
                    center = x + WIDTH / 2
                    if cover.image is None:
                        self.images_.append(None)
                        middle = floor + height / 2
                        ax.text(center, middle, "no picture", va="center", alpha=0.7, **text)
                    else:
                        self.images_.append(_drawn(ax, cover.image, x, floor, height))
                    cell = (x, floor), WIDTH, height
                    frame = Rectangle(*cell, fill=False, ec=color, ls=dashes, lw=2)
                    self.frames_.append(ax.add_patch(frame))
                    title = ax.text(center, floor - 0.06, next(unwritten), va="top", **text)
                    self.titles_.append(title)
                    top = floor + height + 0.05
                    self.notes_.append(ax.text(center, top, cover.note, va="bottom", **text))
                    x += CELL
                end, top = x - CELL + WIDTH, floor + height + BAR
                ax.plot([begin, end], [top] * 2, color=color, linestyle=dashes, linewidth=3)
                bold = {**text, "va": "bottom", "fontweight": "bold"}
                self.labels_.append(ax.text((begin + end) / 2, top + 0.06, label, **bold))
                x += GAP
            floor -= down
        ax.set_xlim(-0.1, max(width, CELL) + 0.1)
        ax.set_ylim(floor, 0.0)
        ax.set_aspect("equal")
        ax.set_axis_off()
        label_axes(ax, title=self.title)
        return self


def _width(row: list[Group]) -> float:
    """Return how wide the covers of a row are, and the gaps between its groups."""
    return sum(len(group.covers) for group in row) * CELL + (len(row) - 1) * GAP


def _most_lines(texts: list[str]) -> int:
    return 1 + max(text.count("\n") for text in texts)


def _rows(groups: list[Group]) -> list[list[Group]]:
    """Put groups beside each other as long as there is room, and below each other then."""
    rows: list[list[Group]] = []
    for group in groups:
        if rows and sum(len(g.covers) for g in [*rows[-1], group]) <= COVERS_IN_ROW:
            rows[-1].append(group)
        else:
            rows.append([group])
    return rows


def _one_row(X: Impressions, row: int) -> Impressions:
    if not -len(X) <= row < len(X):
        raise IndexError(f"row={row} is out of range: X has {len(X)} rows.")
    return X[[row]]


def _borrowed_groups(X: Impressions, max_borrowed: int, covers: Any) -> list[Group]:
    """Return a group for each donor, in the order in which they stand."""
    borrowed = X.borrowed
    if borrowed is None or borrowed.length[0] == 0 or max_borrowed < 1:
        return []
    every = borrowed.positions()
    at = every[max(len(every) - max_borrowed, 0) :]
    lender = np.zeros_like(borrowed.items) if borrowed.donor is None else borrowed.donor
    groups = []
    for part in np.split(at, np.flatnonzero(np.diff(lender[at])) + 1):
        donor = lender[part[0]]
        label = "borrowed"
        if borrowed.donors is not None:
            label += f" from user {borrowed.donors[donor]}"
        if borrowed.donor_similarity is not None:
            label += f"\n(similarity {borrowed.donor_similarity[part[0]]:.2f})"
        label += _cut(len(part), int(np.count_nonzero(lender[every] == donor)))
        s = np.full(len(part), np.nan) if borrowed.similarity is None else borrowed.similarity[part]
        notes = ["" if np.isnan(value) else f"s = {value:.2f}" for value in s]
        groups.append(Group("borrowed", label, covers(borrowed.items[part], notes)))
    return groups


def _cut(n_shown: int, n: int) -> str:
    return f"\n(last {n_shown} of {n})" if n_shown < n else ""


def _picture(value: Any) -> NDArray[np.uint8] | None:
    """Return a small RGB array; None for an image that can't be read."""
    try:
        image = load_image(value)
    except UnusableContent:
        return None
    image.thumbnail((COVER_PIXELS, COVER_PIXELS))
    return np.asarray(image)


def _drawn(ax: Any, image: NDArray[np.uint8], x: float, y: float, cell_height: float) -> Any:
    """Draw an image into the cell at `x`, `y`, as large as it can be in its proportions."""
    height, width = image.shape[:2]
    scale = min(WIDTH / width, cell_height / height)
    left = x + (WIDTH - width * scale) / 2
    bottom = y + (cell_height - height * scale) / 2
    return ax.imshow(image, extent=(left, left + width * scale, bottom, bottom + height * scale))


def _lines(text: str, width: int, max_lines: int | None = None) -> str:
    """Return `text` in lines of at most so many characters; those it has are kept."""
    lines = [line for part in text.splitlines() for line in wrap(part, width) or [""]]
    if max_lines is not None and len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], lines[max_lines - 1] + " …"]
    return "\n".join(lines)
