"""What the rows of a fit tell of the click rates of users and items, as of any moment."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions, ItemCatalog
from skmars.data._activity import UserActivity
from skmars.data._columns import RATES
from skmars.data._memo import Memo
from skmars.rates._counts import Counts, Events, Smoothing, out_of_fold
from skmars.utils._ids import Lookup
from skmars.utils._stacked import take_rows

Codes = NDArray[np.int32]
Columns = dict[str, NDArray[np.float64]]


class Rates:
    """Impressions and clicks of the users and items of some rows, and their smoothing.

    Parameters
    ----------
    X : Impressions
    clicked : ndarray of shape (n_rows,)
        0 and 1, both.
    smooth : float or "auto"
        See `Smoothing`.
    category : str or None
        Name of the attribute of items that holds their category.

    Attributes
    ----------
    timed : bool
        Whether moments are times, for users and items alike. Else those of users are the lengths
        of their histories, and items have none.
    smoothing : dict of str to Smoothing
        For "user", "item" and, if there is one, "category".
    activity : UserActivity
        Of the users.
    """

    def __init__(
        self, X: Impressions, clicked: NDArray[Any], smooth: float | str, category: str | None
    ) -> None:
        seen = np.flatnonzero(np.bincount(X.user, minlength=len(X.users)))
        self._users = Lookup(X.users[seen], "user_id of the rows of fit")
        self._items = Lookup(X.catalog.ids, "the catalogue of fit")
        self._category = category
        n_groups = {"user": len(self._users), "item": len(self._items)}
        if category is not None:
            found = X.catalog.take_attribute(category, np.arange(len(X.catalog)))
            self._categories = Lookup(found.categories, f"attribute {category!r} of fit")  # type: ignore[arg-type]
            self._category_of_item = np.append(found.values, np.int32(-1))
            n_groups["category"] = len(self._categories)
        self._item_codes: Memo[Codes] = Memo()
        self.timed = X.time is not None and bool(np.isfinite(X.time).any())

        codes = self._codes(X)
        self.smoothing = {
            of: Smoothing.of(code[code >= 0], clicked[code >= 0], float(clicked.mean()), smooth)
            for of, code in codes.items()
        }
        longest = np.full(len(self._users), -1, dtype=np.int32)
        np.maximum.at(longest, codes["user"], X.history.length)
        self.activity = UserActivity(self._users.ids, longest)
        # What happened at an unknown time may have happened later than any row.
        known = np.flatnonzero(self._time(X) > -np.inf)
        past, moments, clicked = X[known], self._moments(X[known]), clicked[known]
        self._events = {
            of: Events(code, moments[of], clicked, n_groups[of])
            for of, code in self._codes(past).items()
        }

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [name for name in RATES if name.split("_")[0] in self.smoothing]

    def counts(self, X: Impressions) -> dict[str, tuple[Counts, Counts]]:
        """Return the impressions and clicks of each row's user and item before the row."""
        codes, moments = self._codes(X), self._moments(X)
        counts = {of: self._events[of].before(code, moments[of]) for of, code in codes.items()}
        if not self.timed:
            for of in codes.keys() - {"user"}:
                counts[of] = self._events[of].in_all(codes[of])
        return counts

    def of(self, X: Impressions) -> Columns:
        """Return the columns of rows, made of all events before them."""
        return self._columns(self.counts(X))

    def out_of_fold(self, X: Impressions, clicked: NDArray[Any], fold: NDArray[np.int8]) -> Columns:
        """Return the columns of the rows of the fit, where there are no times.

        Events of an item (or category) are those of users of other folds than the row's.
        """
        counts = self.counts(X)
        # A fold has fewer events than all rows have, as which new rows are counted.
        n_others = len(X) - np.bincount(fold, minlength=128)[fold]
        share = np.maximum(n_others, 1) / len(X)
        found = {}
        for of, code in self._codes(X).items():
            if of != "user":
                counts[of] = out_of_fold(code, fold, clicked)
                found[f"{of}_log_impressions"] = np.log1p(counts[of][0] / share)
        columns = self._columns(counts) | found
        return columns

    def has_later_events(self, X: Impressions) -> NDArray[np.bool_]:
        """Return for each row whether its user has events that are not known to be before it."""
        user, length = self._codes(X)["user"], X.history.length
        longest = np.append(self.activity.longest, np.int32(-1))
        return length <= longest[user]

    def _columns(self, counts: dict[str, tuple[Counts, Counts]]) -> Columns:
        columns: Columns = {}
        for of, (n, clicks) in counts.items():
            columns[f"{of}_click_logit"] = self.smoothing[of].log_odds(n, clicks)
            columns[f"{of}_log_impressions"] = np.log1p(n)
        return columns

    def _codes(self, X: Impressions) -> dict[str, Codes]:
        """Return the user, item and category of each row as codes of the fit, -1 for unknown."""
        if len(X) < len(X.users):
            user = self._users(X.user_ids, "user_id of X")
        else:
            user = self._users(X.users, "user_id of X")[X.user]

        def look_up(part: ItemCatalog) -> Codes:
            return self._items(part.ids, "item_id of X")

        item_codes = [self._item_codes.get(part, look_up) for part in X.catalog.parts]
        codes = {"user": user, "item": take_rows(item_codes, X.target)}
        if self._category is not None:
            codes["category"] = self._category_codes(X, codes["item"])
        return codes

    def _category_codes(self, X: Impressions, item: Codes) -> Codes:
        """Return the category of each row: of items of the fit, and of others where `X` has it."""
        assert self._category is not None
        codes = self._category_of_item[item]
        new = np.flatnonzero(item < 0)
        if len(new) and self._category in X.catalog.parts[0].attributes:
            found = X.catalog.take_attribute(self._category, X.target[new])
            named = np.flatnonzero(~found.missing)  # what is missing everywhere is of any kind
            if len(named) and found.kind != "category":
                raise unsuitable(self._category, found.kind)
            if len(named):
                names = found.categories[found.values[named]]  # type: ignore[index]
                codes[new[named]] = self._categories(names, f"attribute {self._category!r} of X")
        return codes

    def _time(self, X: Impressions) -> NDArray[np.float64]:
        if not self.timed:
            return np.zeros(len(X))
        return np.full(len(X), np.inf) if X.time is None else X.time

    def _moments(self, X: Impressions) -> dict[str, NDArray[Any]]:
        time = self._time(X)
        # Complex numbers are ordered by the real part, and then by the imaginary one.
        of_user = np.empty(len(X), dtype=np.complex128)
        of_user.real, of_user.imag = time, X.history.length
        return {"user": of_user, "item": time, "category": time}


def category_of(catalog: ItemCatalog, category: str | None) -> str | None:
    """Resolve the parameter `category`: the attribute of items that is meant, None for none."""
    there = catalog.parts[0].attributes
    if category is None:
        return None
    if category == "auto":
        usual = there.get("category")
        return "category" if usual is not None and usual.kind == "category" else None
    if category not in there:
        raise ValueError(
            f"category={category!r} names no attribute of the items, which have "
            f"{list(there) or 'none'}. Add it with catalog.with_attributes, or set category=None."
        )
    if there[category].kind != "category":
        raise unsuitable(category, there[category].kind)
    return category


def unsuitable(category: str, kind: str) -> ValueError:
    """Return the error for an attribute that holds no single category."""
    what = "numbers" if kind == "number" else "lists"
    return ValueError(
        f"category={category!r} must hold one category an item, but this attribute holds {what}. "
        "Name another one, or make an attribute that does."
    )
