"""Fit simple and complex models on the same rows, and compare them on the same test rows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state

from skmars.alignment import SteinAligner
from skmars.ctr import DINClassifier
from skmars.data import Impressions
from skmars.data._checks import check_target, require_impressions
from skmars.data._frames import check_frame
from skmars.metrics._significance import OPEN_SHARE
from skmars.model_selection import LeaveLastOut
from skmars.model_selection._scorer import low_active_rows
from skmars.pipeline._comparison import Comparison, TestedRows, compared
from skmars.pipeline._mars import make_mars
from skmars.rates import ClickRateClassifier, PopularityClassifier
from skmars.utils._parameters import check_number
from skmars.utils._progress import report

Rows = NDArray[np.int64]

# Which test users are called low-active: those with the shortest histories.
LOW_QUANTILE = 0.3


def compare(
    X: Any,
    y: ArrayLike,
    *,
    models: Mapping[str, Any] | None = None,
    cv: Any = None,
    random_state: int | np.random.RandomState | None = None,
    confidence_level: float = 0.95,
    frame: str | None = None,
    verbose: int = 0,
) -> Comparison:
    """Compare simple models, DIN and MARS on your data, and say which one to use.

    All models are fitted to the same training rows and tested on the same test rows. Recommended
    is a simple one, unless a more complex one is significantly better.

    Parameters
    ----------
    X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table
    y : array-like of shape (n_rows,)
        Two classes, of which the second is a click.
    models : dict of str to estimator, default=None
        Classifiers to add, after the default ones (the later, the more complex), or to put in
        place of the default one of this name; None in its place leaves it out. From the simple to
        the complex, the defaults are "popularity" (`PopularityClassifier`), "click rates"
        (`ClickRateClassifier`), "DIN" (`DINClassifier`), "DIN + factors" (with item factors) and
        "MARS" (`make_mars`; of items without text, image or features, by item factors alone).
    cv : splitter, iterable of (train, test) or int, default=None
        Which rows to train and to test on. None tests on the last moment of each user,
        ``LeaveLastOut(unit="moment")``; one pair of row numbers is ``[(train, test)]``. Where there
        are several splits, models are fitted once a split, and all test rows are scored together.
    random_state : int, RandomState instance or None, default=None
        Of the default models, and of the bootstrap.
    confidence_level : float, default=0.95
        Of the intervals. A model is significantly better if a paired test says so at this level,
        for all more complex models together.
    frame : {"pandas", "polars", "pyarrow"}, default=None
        Kind of the table; None takes the first of these that is installed.
    verbose : int, default=0
        1 prints a line a model.

    Returns
    -------
    Comparison
        `table` and `recommendation`, which printing shows.

    Raises
    ------
    TypeError
        If `X` is neither impressions nor a table of them, or a model is no classifier.
    ValueError
        If training or test rows lack a class or rows, a row is both trained and tested on, or a
        parameter is out of range. Errors of a model carry a note that names it.

    See Also
    --------
    skmars.metrics.delong_test : The paired test of AUCs.

    Notes
    -----
    *Tests*: AUCs are compared by DeLong's test, in which rows of a user need not be independent;
    GAUCs by a bootstrap over users. The choice begins with the better one of "popularity" and
    "click rates", which cost next to nothing. A more complex model takes its place if its AUC is
    significantly higher (the simplest of several), and so on. Holm's correction is for all models
    that are compared with the present choice.

    *Intervals* are about the test rows: they say nothing of other random states, nor of another
    month.

    *Low-active users* are the 30 % with the shortest histories in the test rows.

    Examples
    --------
    >>> from skmars import compare, make_small_shop
    >>> X, y = make_small_shop(n_users=200, random_state=0)
    >>> without = dict.fromkeys(["DIN", "DIN + factors", "MARS"])
    >>> result = compare(X, y, models=without, random_state=0)
    >>> result.table["model"].tolist()
    ['popularity', 'click rates']
    >>> result.recommended
    'click rates'
    """
    rows = require_impressions(X, estimator_name="compare")
    clicked, _ = check_target(y, len(rows), estimator_name="compare")
    check_random_state(random_state)
    check_number(confidence_level, OPEN_SHARE, "confidence_level", "compare")
    check_frame(frame)
    chosen = _chosen_models(rows, models, random_state)
    splits = _splits(rows, np.asarray(y), clicked, cv)
    test = np.concatenate([part for _, part in splits])
    tested = rows[test]
    about = TestedRows(
        clicked[test].astype(np.int64),
        tested.user_ids,
        low_active_rows(tested, LOW_QUANTILE),
    )
    probability: dict[str, NDArray[np.float64]] = {}
    fitted, seconds = {}, {}
    for name, model in chosen.items():
        began = time.perf_counter()
        try:
            fitted[name], probability[name] = _tested(model, rows, np.asarray(y), splits)
        except Exception as error:
            error.add_note(
                f"This is about the model {name!r} of compare; models={{{name!r}: None}} leaves it "
                "out."
            )
            raise
        seconds[name] = time.perf_counter() - began
        auc = roc_auc_score(about.clicked, probability[name])
        report(f"[compare] {name}: AUC {auc:.4f} in {seconds[name]:.1f} s", verbose)
    return compared(
        fitted,
        probability,
        seconds,
        test,
        about,
        confidence_level=confidence_level,
        random_state=random_state,
        frame=frame,
    )


def _default_models(
    X: Impressions, random_state: int | np.random.RandomState | None
) -> dict[str, Any]:
    """Return the models from the simple to the complex, for items of such a catalogue."""
    mars = make_mars(random_state=random_state)
    if not {"text", "image"} & set(X.catalog.content):
        mars.set_params(encode="passthrough")
        if not X.catalog.widths:
            mars.set_params(align__modalities=())
    # Only for the item factors, so it is small.
    factors = SteinAligner(8, id_dim=8, modalities=(), max_iter=1, random_state=random_state)
    din = DINClassifier(random_state=random_state)
    return {
        "popularity": PopularityClassifier(),
        "click rates": ClickRateClassifier(),
        "DIN": din,
        "DIN + factors": Pipeline([("factors", factors), ("ctr", clone(din))]),
        "MARS": mars,
    }


def _chosen_models(
    X: Impressions,
    models: Mapping[str, Any] | None,
    random_state: int | np.random.RandomState | None,
) -> dict[str, Any]:
    if models is not None and not isinstance(models, Mapping):
        raise TypeError(
            f"models must be a dict of names and estimators, got {type(models).__name__}."
        )
    chosen = {**_default_models(X, random_state), **(models or {})}
    for name, model in chosen.items():
        if not isinstance(name, str):
            raise TypeError(f"models has the name {name!r}, but names must be strings.")
        able = hasattr(model, "fit") and hasattr(model, "predict_proba")
        if model is not None and (not able or isinstance(model, type)):
            raise TypeError(
                f"models[{name!r}] must be a classifier with fit and predict_proba, got {model!r}."
            )
    chosen = {name: model for name, model in chosen.items() if model is not None}
    if not chosen:
        raise ValueError("models leaves out all models; compare needs at least one.")
    return chosen


def _splits(
    X: Impressions, y: NDArray[Any], clicked: NDArray[Any], cv: Any
) -> list[tuple[Rows, Rows]]:
    """Return training and test rows of each split; errors name what they lack."""
    if isinstance(cv, Iterable) and not hasattr(cv, "split"):
        cv = list(cv)
        if any(not isinstance(pair, tuple | list) or len(pair) != 2 for pair in cv):
            raise ValueError(
                "cv must be a splitter or pairs of training and test rows; one pair is passed as "
                "cv=[(train, test)]."
            )
    last = LeaveLastOut(unit="moment")
    splitter = last if cv is None else check_cv(cv, y, classifier=True)
    everything = np.arange(len(X))
    splits = [(everything[train], everything[test]) for train, test in splitter.split(X, y)]
    for train, test in splits:
        both = np.intersect1d(train, test)
        if len(both):
            raise ValueError(
                f"cv has {len(both)} rows in both the training and the test part (first: row "
                f"{both[0]}). Test on rows that the models have not seen."
            )
        if len(np.unique(clicked[train])) < 2:
            raise ValueError(
                f"compare can't fit: the {len(train)} training rows are of fewer than two classes. "
                "Pass more rows, or another cv."
            )
    test = np.concatenate([np.zeros(0, dtype=np.int64), *(part for _, part in splits)])
    if len(np.unique(test)) < len(test):
        raise ValueError("cv tests some rows more than once. Pass splits with separate test rows.")
    n_clicked = int(clicked[test].sum())
    if min(n_clicked, len(test) - n_clicked) < 2:
        raise ValueError(
            f"compare needs at least two test rows of each class, got {n_clicked} that were "
            f"clicked and {len(test) - n_clicked} that were not. Pass more rows, or another cv."
        )
    if len(np.unique(X.user[test])) < 2:
        raise ValueError("compare needs test rows of at least two users, got one user.")
    return splits


def _tested(
    model: Any, X: Impressions, y: NDArray[Any], splits: list[tuple[Rows, Rows]]
) -> tuple[Any, NDArray[np.float64]]:
    """Fit once a split; return the last fitted model, and the probabilities of all test rows."""
    parts = []
    for train, test in splits:
        fitted = clone(model).fit(X[train], y[train])
        parts.append(np.asarray(fitted.predict_proba(X[test]), dtype=np.float64)[:, 1])
    return fitted, np.concatenate(parts)
