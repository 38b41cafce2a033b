"""Go on with new events: bring the steps of a fitted pipeline forward, in the right order."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from copy import copy, deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted, column_or_1d

from skmars.alignment import LinearAligner, SteinAligner
from skmars.data import Impressions
from skmars.data._activity import UserActivity
from skmars.data._checks import require_impressions
from skmars.data._folds import OWN
from skmars.encoding import MultimodalEncoder
from skmars.retrieval import SequenceRetrievalAugmenter

if TYPE_CHECKING:
    from narwhals.typing import IntoDataFrame

Steps = list[tuple[str, Any]]

# Steps that learn of items and not of what users do, and stay as they are.
OF_ITEMS = (MultimodalEncoder, LinearAligner)


def update(pipeline: Pipeline, X: Impressions | IntoDataFrame, y: ArrayLike, new: Any) -> Pipeline:
    """Learn from new rows, and return the pipeline that knows them.

    For the days between two fits. The classifier goes once through the new rows, and what the
    other steps know of users and items (item factors, donors) is brought up to date. The order
    matters: the new rows are made by the steps as they were *before* these rows, as they
    were when the rows were shown, so that no feature knows the click that it helps to predict.

    1. The present steps transform the new rows.
    2. The classifier's `partial_fit` learns from them.
    3. Each step that has a method `updated` is brought forward with all rows, from the first to
       the last. :meth:`SteinAligner.updated` gives item factors of all rows in the same basis,
       :meth:`SequenceRetrievalAugmenter.updated` thresholds and donors of all rows,
       :meth:`ClickRateEncoder.updated` the click rates of all rows.

    The network of the aligner is not trained, as every step of it would move the space in which
    all others work. Fit the whole pipeline again from time to time (see the user guide).

    Parameters
    ----------
    pipeline : sklearn.pipeline.Pipeline
        Fitted. Its last step has `partial_fit`; every other is a :class:`MultimodalEncoder` or
        `LinearAligner`, ``"passthrough"``, or has a method ``updated(X, y)`` that returns a
        fitted copy.
    X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table
        All rows: those that the pipeline has learnt from, and the new ones, as
        :meth:`Impressions.append` returns them.
    y : array-like of shape (n_rows,)
        The clicks of all rows.
    new : int array, mask or slice
        Which rows are new. At least one.

    Returns
    -------
    sklearn.pipeline.Pipeline
        A new one. The given pipeline stays as it is, whatever happens, and can go on answering.

    Raises
    ------
    TypeError
        If `pipeline` is no `Pipeline`, or has a step that can't be brought forward.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If `y` has not one entry a row, `new` selects no row or rows that the pipeline has learnt
        already, `X` lacks earlier rows of a user, or a column of the fit.
    IndexError
        If `new` has rows that `X` does not have.

    Warns
    -----
    UserWarning
        If some of the new rows came late, so that the pipeline knows what their users did after
        them. The classifier does not learn from these, as their features may tell the click.

    See Also
    --------
    Impressions.append : Makes impressions of new events.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from skmars import Impressions, make_mars, update
    >>> rng = np.random.default_rng(0)
    >>> log = pd.DataFrame({
    ...     "user_id": rng.integers(0, 40, 600),
    ...     "item_id": rng.integers(0, 30, 600),
    ...     "timestamp": np.arange(600),
    ...     "clicked": rng.integers(0, 2, 600),
    ... })
    >>> yesterday, today = log[:500], log[500:]
    >>> X, y = Impressions.from_log(yesterday, label="clicked")
    >>> fast = {"align__modalities": (), "align__max_iter": 1, "ctr__max_iter": 1}
    >>> mars = make_mars(random_state=0, encode="passthrough", **fast).fit(X, y)
    >>> X, y = X.append(today)
    >>> mars = update(mars, X, y, new=slice(500, None))
    >>> mars.predict_proba(X[-3:]).shape
    (3, 2)
    """
    steps, (name, classifier) = _checked(pipeline)
    rows = require_impressions(X, estimator_name="update")
    labels: NDArray[Any] = np.asarray(column_or_1d(y))
    if len(labels) != len(rows):
        raise ValueError(
            f"y must have the click of every row of X: X has {len(rows)} rows, y has "
            f"{len(labels)} entries. Pass X and y as X.append(log) returns them."
        )
    if np.ndim(new) == 0 and not isinstance(new, slice):
        raise TypeError(
            f"new must be an int array, a mask or a slice of rows, got {new!r}. The rows from "
            "the n-th on are slice(n, None)."
        )
    chosen = np.unique(np.arange(len(rows))[new])  # a row that is named twice is learnt once
    fresh = rows[chosen]
    for _, step in steps:
        fresh = step.transform(fresh)
    learnt = _not_known(fresh, [activity for _, step in steps for activity in _activity(step)])
    classifier = deepcopy(classifier).partial_fit(fresh[learnt], labels[chosen[learnt]])
    result = copy(pipeline)
    result.steps = [*_brought_forward(pipeline, rows, labels), (name, classifier)]
    return result


def _checked(pipeline: Any) -> tuple[Steps, tuple[str, Any]]:
    """Return the transformers and the classifier; raise if one can't be brought forward."""
    if not isinstance(pipeline, Pipeline):
        searched = "Pass its best_estimator_."
        alone = "A classifier alone learns from further rows with its partial_fit."
        raise TypeError(
            f"pipeline must be a scikit-learn Pipeline, got {type(pipeline).__name__}. "
            f"{searched if hasattr(pipeline, 'best_estimator_') else alone}"
        )
    *steps, (name, classifier) = pipeline.steps
    steps = [(n, step) for n, step in steps if not _passes(step)]
    for n, step in steps:
        if not isinstance(step, OF_ITEMS) and not hasattr(step, "updated"):
            raise TypeError(
                f"the step {n!r} ({type(step).__name__}) can't be brought forward: it has no "
                "method updated(X, y). Fit the pipeline again on all rows, or give it one that "
                "returns a fitted copy."
            )
    if not hasattr(classifier, "partial_fit"):
        raise TypeError(
            f"the step {name!r} ({type(classifier).__name__}) has no partial_fit, so that it can't "
            "learn from the new rows alone. Fit the pipeline again on all rows."
        )
    check_is_fitted(pipeline)
    return steps, (name, classifier)


def _passes(step: Any) -> bool:
    return step is None or isinstance(step, str)


def _activity(step: Any) -> Iterator[UserActivity]:
    """Yield what a step knows of the users of its fit."""
    if isinstance(step, SteinAligner) and step.encoder_.factors is not None:
        yield step.encoder_.factors.users
    if isinstance(step, SequenceRetrievalAugmenter):
        yield step._activity


def _not_known(fresh: Impressions, activities: list[UserActivity]) -> NDArray[np.int64]:
    """Return the rows to learn from: later than what the steps know of their users."""
    if len(fresh) == 0:
        raise ValueError("new selects no row of X; pass the rows of the new events.")
    known = np.zeros(len(fresh), dtype=bool) if fresh.fold is None else fresh.fold == OWN
    for activity in activities:
        known |= activity.has_seen(fresh)
    n_known = np.count_nonzero(known)
    if n_known == len(fresh):
        raise ValueError(
            f"new selects {n_known} rows, but the pipeline has learnt what their users did at the "
            "time of all of them, or later. Select the rows of new events alone, each of them once."
        )
    if n_known:
        warnings.warn(
            f"{n_known} of {len(fresh)} new rows are not later than rows of their users that the "
            "pipeline has learnt already. The classifier does not learn from them, since their "
            "features may tell their click. Select rows of new events alone; events that came late "
            "are learnt when the pipeline is fitted again.",
            UserWarning,
            stacklevel=3,
        )
    return np.flatnonzero(~known)


def _brought_forward(pipeline: Pipeline, X: Impressions, y: NDArray[Any]) -> Steps:
    """Return the transformers of a pipeline as they are with all rows up to now."""
    forward: Steps = []
    for name, step in pipeline.steps[:-1]:
        later = step.updated(X, y) if hasattr(step, "updated") else step
        forward.append((name, later))
        if not _passes(step) and len(forward) < len(pipeline.steps) - 1:
            X = later.transform(X)
    return forward
