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
from skmars.plotting._figure import BLUE, GREEN, VERMILLION, Display

CELL, WIDTH = 1.0, 0.88  # of a cover, without and with what is around it
TALLEST = 1.4  # a cover; what is taller is made narrower
GAP = 0.35  # between borrowed, own and shown
TITLE_LINES, CHARACTERS = 3, 14  # of a title, and in a line of one cover's width
LINE = 0.15  # height of a line
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

    Borrowed items stand left, one group for each donor, with the relevance `s_i` (Eq. 16) of each
    and the similarity of the donor (Eq. 15); then the own history, oldest first; then the item
    that is shown. It is recommended to use :meth:`from_estimator` or :meth:`from_impressions`.

    Parameters
    ----------
    groups : list of Group
        What to draw, from left to right.
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
            Where to draw; None makes a figure as wide as the strip.
        **kwargs
            Passed to matplotlib's `text` of titles, similarities and labels.
        """
        covers = [cover for group in self.groups for cover in group.covers]
        width = len(covers) * CELL + (len(self.groups) - 1) * GAP
        ratios = [c.image.shape[0] / c.image.shape[1] for c in covers if c.image is not None]
        height = min(max(ratios, default=1.0) * WIDTH, TALLEST)
        labels = [_lines(g.label, CHARACTERS * len(g.covers)) for g in self.groups]
        n_lines = 1 + max(label.count("\n") for label in labels)
        low, high = -0.6, height + 0.45 + LINE * n_lines
        size = max(4.0, 1.15 * width), 1.15 * (high - low) + 0.4
        ax = self._axes(ax, figsize=size, layout="constrained")
        from matplotlib.patches import Rectangle

        self.images_: list[Any] = []
        self.frames_, self.titles_, self.notes_, self.labels_ = [], [], [], []
        # Titles may have dollar signs, which are no mathematics.
        text = {"fontsize": "small", "ha": "center", "parse_math": False, **kwargs}
        x = 0.0
        for group, label in zip(self.groups, labels):
            color, dashes = STYLES[group.kind]
            begin = x
            for cover in group.covers:
                center = x + WIDTH / 2
                if cover.image is None:
                    self.images_.append(None)
                    ax.text(center, height / 2, "no picture", va="center", alpha=0.7, **text)
                else:
                    self.images_.append(_drawn(ax, cover.image, x, height))
                frame = Rectangle((x, 0), WIDTH, height, fill=False, ec=color, ls=dashes, lw=2)
                self.frames_.append(ax.add_patch(frame))
                title = _lines(cover.title, CHARACTERS, TITLE_LINES)
                self.titles_.append(ax.text(center, -0.06, title, va="top", **text))
                self.notes_.append(ax.text(center, height + 0.05, cover.note, va="bottom", **text))
                x += CELL
            end = x - CELL + WIDTH
            ax.plot([begin, end], [height + 0.32] * 2, color=color, linestyle=dashes, linewidth=3)
            middle, bold = (begin + end) / 2, {**text, "fontweight": "bold"}
            self.labels_.append(ax.text(middle, height + 0.38, label, va="bottom", **bold))
            x += GAP
        ax.set_xlim(-0.1, x - GAP)
        ax.set_ylim(low, high)
        ax.set_aspect("equal")
        ax.set_axis_off()
        ax.set_title(self.title, parse_math=False)
        return self


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


def _drawn(ax: Any, image: NDArray[np.uint8], x: float, cell_height: float) -> Any:
    """Draw an image into the cell at `x`, as large as it can be in its proportions."""
    height, width = image.shape[:2]
    scale = min(WIDTH / width, cell_height / height)
    left = x + (WIDTH - width * scale) / 2
    bottom = (cell_height - height * scale) / 2
    return ax.imshow(image, extent=(left, left + width * scale, bottom, bottom + height * scale))


def _lines(text: str, width: int, max_lines: int | None = None) -> str:
    """Return `text` in lines of at most so many characters; those it has are kept."""
    lines = [line for part in text.splitlines() for line in wrap(part, width) or [""]]
    if max_lines is not None and len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], lines[max_lines - 1] + " …"]
    return "\n".join(lines)
