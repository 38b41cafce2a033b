"""From events to the rows that a classifier learns, and one step of learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions
from skmars.data._folds import OWN
from skmars.model_selection import sample_negatives
from skmars.persistence import Model
from skmars.pipeline._steps import before_classifier, classifier_in
from skmars.serving.scoring._histories import ItemNumbers
from skmars.serving.store._store import Store, Streamed
from skmars.serving.trainer._training_rows import training_rows
from skmars.utils._ids import as_ids

# What is raised where data can't be used; all else is no fault of the events.
BAD_DATA = (TypeError, ValueError, ArithmeticError)


def check_trainable(model: Model) -> None:
    """Raise ValueError or TypeError if a model can't learn from a stream."""
    classifier = classifier_in(model.pipeline)
    if not hasattr(classifier, "partial_fit"):
        raise TypeError(
            f"the pipeline of the model ends in {type(classifier).__name__}, which can't go on "
            "learning: it has no partial_fit. Fit a model that ends in DINClassifier."
        )
    if model.columns.clicks_alone and not model.negatives:
        raise ValueError(
            "the model was fitted to a log of clicks alone, and does not tell how many negatives "
            "were drawn for each: of clicks alone nothing can be learnt. Fit it with --negatives, "
            "or pass negatives= to Model.of."
        )


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows as they come to the classifier.

    Attributes
    ----------
    X : Impressions of n_rows rows
    y : ndarray of shape (n_rows,), of 0 and 1
    n_events : int
        How many events can be used.
    reason : str
        Why others can't, as far as it is known here.
    """

    X: Impressions
    y: NDArray[np.int64]
    n_events: int
    reason: str = ""


def made_rows(
    model: Model, numbers: ItemNumbers, store: Store, events: Sequence[Streamed], n_items: int
) -> Rows:
    """Return the rows of some events as the steps before the classifier make them.

    Of a model that was fitted to clicks alone, other events make no rows, and negatives are drawn:
    of all items that the store had by then, the first `n_items` or more, with a seed that is the
    position of the last event. Rows whose features may know their click are left out, as `update`
    does.
    """
    X, y = training_rows(model, numbers, events, store)
    n_events = len(y)
    if model.negatives:
        X, y = X[y == 1], y[y == 1]
        if len(y):
            n_items = max(n_items, items_by_then(numbers, events))
            X = X.with_catalog(X.catalog.extend(numbers.all_ids()[:n_items]))
            X, y = sample_negatives(
                X,
                n_negatives=model.negatives,
                exclude="before",
                random_state=events[-1].position % 2**32,
            )
    if len(y) == 0:
        return Rows(X, y, n_events)
    _, X = before_classifier(model.pipeline, X)
    late = np.zeros(len(y), dtype=bool) if X.fold is None else X.fold == OWN
    if not late.any():
        return Rows(X, y, n_events)
    n_late = int(np.count_nonzero(late & (y == 1) if model.negatives else late))
    reason = "came late: the fit knows what their users did since, and may know their click"
    return Rows(X[~late], y[~late], n_events - n_late, reason)


def items_by_then(numbers: ItemNumbers, events: Sequence[Streamed]) -> int:
    """Return how many items a store has numbered up to the newest item of some events."""
    numbers.read(2**32)
    items = as_ids([event.item_id for event in events], "the items of events")
    return int(numbers.numbers(items, "the items of events").max()) + 1


def usable_rows(
    make: Callable[[Sequence[Streamed]], Rows], events: Sequence[Streamed], *, singly: bool = False
) -> tuple[Rows | None, str]:
    """Return the rows of those events that rows can be made of, and why others are left out.

    Parameters
    ----------
    make : callable
        Makes rows of events, or raises one of `BAD_DATA`.
    events : sequence of Streamed
    singly : bool, default=False
        Whether to try each event at once, not all together first.
    """
    reason = ""
    if not singly:
        try:
            return make(events), reason
        except BAD_DATA as error:
            reason = _told(events[0], error) if len(events) == 1 else ""
    good = []
    for event in events:
        try:
            make([event])
            good.append(event)
        except BAD_DATA as error:
            reason = reason or _told(event, error)
    try:
        return (make(good) if good else None), reason
    except BAD_DATA as error:
        return None, reason or _told(good[0], error)


def _told(event: Streamed, error: Exception) -> str:
    return f"at position {event.position}: {type(error).__name__}: {' '.join(str(error).split())}"


def learnt(classifier: Any, make: Any, events: Sequence[Streamed], seed: int) -> tuple[int, str]:
    """Let a classifier learn some events by its `partial_fit`.

    Parameters
    ----------
    classifier : estimator
        Fitted; learns in place.
    make : callable
        Makes rows of events.
    events : sequence of Streamed
    seed : int
        Stands in where the classifier has no random state of its own.

    Returns
    -------
    n_events : int
        How many events were learnt.
    reason : str
        Why others were left out; "" if none was.
    """

    def tried(some: Sequence[Streamed]) -> Rows:
        rows = make(some)
        if len(rows.y):
            classifier.predict_proba(rows.X)
        return rows

    reason = ""
    for singly in (False, True):
        rows, why = usable_rows(tried if singly else make, events, singly=singly)
        reason = reason or why or ("" if rows is None else rows.reason)
        if rows is None or len(rows.y) == 0:
            return (0 if rows is None else rows.n_events), reason
        try:
            with _seeded(classifier, seed):
                classifier.partial_fit(rows.X, np.asarray(classifier.classes_)[rows.y])
            return rows.n_events, reason
        except BAD_DATA as error:
            if singly:
                reason = _told(events[0], error)
    return 0, reason


@contextmanager
def _seeded(classifier: Any, seed: int) -> Any:
    """Give a seed to each random state that is None, so that the same is drawn after a kill."""
    names = [
        name
        for name, value in classifier.get_params(deep=True).items()
        if value is None and name.rpartition("__")[2] == "random_state"
    ]
    classifier.set_params(**dict.fromkeys(names, seed % 2**32))
    try:
        yield
    finally:
        classifier.set_params(**dict.fromkeys(names))
