"""Why a fitted pipeline predicts what it predicts, in tables and in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions
from skmars.data._checks import require_impressions
from skmars.data._frames import in_zone, make_frame
from skmars.pipeline._steps import before_augmenter, classifier_in
from skmars.retrieval._explain import borrowed_columns, item_titles
from skmars.retrieval._reasons import BELOW_THETA, REASONS, find_reasons
from skmars.utils._html import Markup, document
from skmars.utils._values import as_dates

if TYPE_CHECKING:
    from skmars.data._frames import Frame
    from skmars.retrieval import SequenceRetrievalAugmenter

# So many rows, and items of a donor, are told in words.
SHOWN_ROWS, SHOWN_ITEMS = 10, 5


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """What `explain` returns; printed, it reads as sentences.

    Attributes
    ----------
    rows : pandas.DataFrame, polars.DataFrame or pyarrow.Table
        One line a row.
    borrowed : pandas.DataFrame, polars.DataFrame or pyarrow.Table
        One line a borrowed item.
    sentences : list of list of str
        The first ten rows in words.
    """

    rows: Any
    borrowed: Any
    sentences: list[list[str]] = field(default_factory=list)

    def __repr__(self) -> str:
        paragraphs = ["\n  ".join(lines) for lines in self.sentences]
        more = len(self.rows) - len(self.sentences)
        return "\n\n".join(paragraphs + [f"... and {more} more rows"] * (more > 0)) or "No rows."

    def _repr_html_(self) -> str:
        paragraphs = repr(self).split("\n\n")
        lines = (escape(text).replace("\n", "<br>") for text in paragraphs)
        return document(*(Markup(f"<p>{line}</p>") for line in lines))


def explain(model: Any, X: Impressions | Frame, *, frame: str | None = None) -> Explanation:
    """Tell of each row what it borrows and why, or why it borrows nothing.

    Parameters
    ----------
    model : Pipeline
        Fitted, with a `SequenceRetrievalAugmenter`, as `make_mars` makes it.
    X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table
        As for ``model.predict_proba``: rows that no step has transformed.
    frame : {"pandas", "polars", "pyarrow"}, default=None
        Kind of tables; None takes the first of these that is installed.

    Returns
    -------
    Explanation
        Printed, it tells the first ten rows in words. Its tables are

        ``rows``, one line a row:

        * `row` (number in `X`), `user_id`, `item_id`, `title`, `timestamp` and `probability`, where
          the rows have times and the model predicts probabilities;
        * `activity` ("low", "middle" or "high"), by the length of the history, `history`;
        * `n_borrowed`, and `reason`, why nothing is borrowed: "not low-active", "no room left",
          "no donors", "empty history", "no vector", "unknown time", "no other donor",
          "no earlier donor", "nothing reaches theta", or "" where something is;
        * `donor_id` and `donor_similarity`, lists of the donors whose items may be borrowed, the
          most similar first (none where donors are not searched);
        * `largest_similarity`, of the most relevant of the donors' items, where none reaches theta;
        * `users`, how many users had an event before the row, `users_touched`, how many of them
          touched the item, and `lookalikes_touched`, what these, other than the row's own user,
          count for if each is weighed by how like that user they are (one who is as alike as
          users are in the mean counts for one); and `users_liked` and `lookalikes_liked`, where
          histories carry feedback. These are behind the look-alike features, and missing where
          the augmenter makes none.

        ``borrowed``, one line a borrowed item: that of `SequenceRetrievalAugmenter.explain`. A
        `DINClassifier` whose ``uses_borrowed_`` is False ignores them.

        Times are datetimes in the zone that they came in; seconds since 1970 become datetimes of
        UTC.

    Raises
    ------
    ValueError
        If `model` has no `SequenceRetrievalAugmenter`.
    TypeError
        If `X` is no table of impressions.
    sklearn.exceptions.NotFittedError
        If `model` is not fitted.

    Examples
    --------
    >>> from skmars import explain, make_mars, make_multimodal_ctr
    >>> X, y = make_multimodal_ctr(n_users=60, n_items=40, random_state=0)
    >>> mars = make_mars(random_state=0, align__max_iter=1, ctr__max_iter=1).fit(X, y)
    >>> why = explain(mars, X[:20], frame="pandas")
    >>> why.rows[["user_id", "activity", "history", "reason"]].head(2)
       user_id activity  history                 reason
    0        0      low        0          empty history
    1        0      low        1  nothing reaches theta
    """
    given = require_impressions(X, estimator_name="explain")
    augmenter, prepared = before_augmenter(model, given)
    if augmenter is None:
        raise ValueError(
            "model has no SequenceRetrievalAugmenter, so that nothing is borrowed and there is "
            "nothing to explain. Pass a fitted pipeline with one, such as that of make_mars."
        )
    rows, own = augmenter._fitted_rows(prepared)
    augmented = augmenter.transform(rows)
    assert augmented.borrowed is not None
    plan = augmenter._plan(rows, own, augmenter.pool_)
    reasons = find_reasons(plan, augmented.borrowed)
    columns: dict[str, Any] = {
        "row": np.arange(len(rows)),
        "user_id": rows.user_ids,
        "item_id": rows.item_ids,
        "title": item_titles(rows.catalog, rows.target),
    }
    if rows.time is not None:
        columns["timestamp"] = as_dates(rows.time)
    if hasattr(model, "predict_proba"):
        proba = model.predict_proba(given) if len(given) else np.zeros((0, 2))
        columns["probability"] = proba[:, 1]
    donors = reasons.donors
    columns |= {
        "activity": reasons.activity,
        "history": rows.history.length,
        "n_borrowed": augmented.borrowed.length,
        "reason": reasons.reason,
        "donor_id": (donors.donors[donors.donor], donors.length),  # type: ignore[index]
        "donor_similarity": (donors.donor_similarity, donors.length),
        "largest_similarity": reasons.largest,
        **reasons.counts,
    }
    borrowed = borrowed_columns(augmented)
    uses_borrowed = getattr(classifier_in(model), "uses_borrowed_", True)
    return Explanation(
        in_zone(make_frame(columns, frame), "timestamp", rows._zone),
        in_zone(make_frame(borrowed, frame), "timestamp", rows._zone),
        [
            _told(i, columns, borrowed, augmenter, uses_borrowed, rows._zone)
            for i in range(min(len(rows), SHOWN_ROWS))
        ],
    )


def _told(
    i: int,
    rows: dict[str, Any],
    borrowed: dict[str, NDArray[Any]],
    augmenter: SequenceRetrievalAugmenter,
    uses_borrowed: bool,
    zone: str | None,
) -> list[str]:
    """Return the sentences about a row."""
    title = f"{rows['title'][i]!r}"
    when = ""
    if "timestamp" in rows:
        time = rows["timestamp"][i]
        if isinstance(time, np.datetime64):
            when = ", at an unknown time" if np.isnat(time) else f", {_date(time, zone)}"
        else:
            when = f", at {time:g}" if np.isfinite(time) else ", at an unknown time"
    lines = [
        f"Row {i}: user {rows['user_id'][i]} is shown {title} (item {rows['item_id'][i]}){when}."
    ]
    if "probability" in rows:
        lines.append(f"The probability of a click is {rows['probability'][i]:.3g}.")
    low, high = augmenter.low_threshold_, augmenter.high_threshold_
    n = rows["history"][i]
    lines.append(
        f"The history has {_counted(n, 'item')}, {_ACTIVITY[rows['activity'][i]]} (rows are "
        f"low-active up to {_counted(f'{low:g}', 'item')}, users high-active from {high:g})."
    )
    lines += _borrowing(i, rows, borrowed, augmenter.theta)
    if rows["n_borrowed"][i] and not uses_borrowed:
        lines.append("The classifier ignores borrowed items: its uses_borrowed_ is False.")
    if "users" in rows:
        n, touched, alike = (rows[name][i] for name in _COUNTS)
        lines.append(_interest(n, touched, alike, title))
        if "users_liked" in rows:
            mine, all_ = rows["lookalikes_liked"][i], rows["users_liked"][i]
            lines.append(f"{all_} of them liked it, which counts for {mine:.1f}.")
    return lines


_ACTIVITY = {
    "low": "which is low-active",
    "middle": "which is neither low- nor high-active",
    "high": "which is high-active",
}
_COUNTS = ("users", "users_touched", "lookalikes_touched")


def _borrowing(
    i: int, rows: dict[str, Any], borrowed: dict[str, NDArray[Any]], theta: float
) -> list[str]:
    reason = rows["reason"][i]
    if reason:
        best = rows["largest_similarity"][i]
        close = f": the best of them has {best:.3g}, theta is {theta:g}"
        told = REASONS[reason] + close * bool(reason == BELOW_THETA and np.isfinite(best))
        return [f"Nothing is borrowed, because {told}."]
    mine = np.flatnonzero(borrowed["row"] == i)
    # The most similar donor stands last.
    donors = list(dict.fromkeys(borrowed["donor_id"][mine][::-1].tolist()))
    lines = [f"Borrowed: {_counted(len(mine), 'item')} of {_counted(len(donors), 'donor')}."]
    for donor in donors:
        theirs = mine[borrowed["donor_id"][mine] == donor]
        order = theirs[np.argsort(-borrowed["similarity"][theirs], kind="stable")]
        items = [_item(borrowed, j) for j in order[:SHOWN_ITEMS]]
        items += [f"{len(order) - SHOWN_ITEMS} more"] * (len(order) > SHOWN_ITEMS)
        similarity = borrowed["donor_similarity"][theirs[0]]
        lines.append(f"  Of {donor} (similarity {similarity:.2f}): {', '.join(items)}.")
    return lines


def _item(borrowed: dict[str, NDArray[Any]], j: int) -> str:
    s = borrowed["similarity"][j]
    return f"{borrowed['title'][j]!r}" + (f" ({s:.2f})" if np.isfinite(s) else "")


def _interest(n: int, touched: int, alike: float, title: str) -> str:
    """Tell how many users touched an item, by the moment of the row, and how alike they are."""
    if touched == 0:
        return f"None of {_counted(n, 'user')} touched {title} before."
    return (
        f"{title} was touched by {touched} of {_counted(n, 'user')}; weighed by how like this user "
        f"they are, that counts for {alike:.1f}."
    )


def _counted(n: Any, what: str) -> str:
    return f"{n} {what}" + "s" * (str(n) != "1")


def _date(time: np.datetime64, zone: str | None) -> str:
    moment = time.astype("M8[s]").astype(datetime)
    if zone is None:
        return f"{moment} UTC"
    return f"{moment.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S} {zone}"
