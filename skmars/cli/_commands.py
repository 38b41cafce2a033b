"""Fit a model to files; predict, recommend, explain and evaluate, with a table as result."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline

from skmars.cli._inputs import read_labelled, read_log, read_rows, read_training
from skmars.cli._source import Source
from skmars.cli._tables import PROBABILITY, arrow
from skmars.cli._users import read_candidates, read_users
from skmars.ctr import DINClassifier
from skmars.metrics import gauc_score
from skmars.model_selection import leave_last_out
from skmars.model_selection._scorer import low_active_rows
from skmars.persistence import Columns, Model
from skmars.pipeline import make_mars
from skmars.pipeline import recommend as pipeline_recommend
from skmars.serving._histories import UserHistories

LOW_QUANTILE = 0.3


def make_pipeline(
    *, base: bool, seed: int, variant: str = "default", settings: Iterable[tuple[str, Any]] = ()
) -> Pipeline:
    """Return MARS, or DIN alone, with these parameters.

    Raises
    ------
    ValueError
        If a setting names no parameter (the message lists those that there are), or its value
        is out of range.
    """
    if base:
        pipeline = Pipeline([("ctr", DINClassifier(random_state=seed))])
    else:
        pipeline = make_mars(variant, random_state=seed)
    for name, value in settings:
        step, _, parameter = name.partition("__")
        if step not in pipeline.named_steps or not parameter:
            raise ValueError(
                f"{name!r} names no parameter; write STEP__PARAM, where STEP is one of "
                f"{', '.join(pipeline.named_steps)}."
            )
        known = pipeline.named_steps[step].get_params()
        if parameter not in known:
            raise ValueError(f"{step} has no parameter {parameter!r}; it has {', '.join(known)}.")
        pipeline.set_params(**{name: value})
    for estimator in pipeline.named_steps.values():
        estimator._validate_params()  # else a later step would raise after fitting earlier ones
    return pipeline


def fit(
    log: Source,
    items: Source | None,
    pipeline: Pipeline,
    *,
    columns: Columns,
    holdout: str = "none",
) -> Model:
    """Fit a pipeline to a log.

    Parameters
    ----------
    log, items : Path or StandardInput
        Tables with one row an event, and one row an item (None: only ids are known).
    pipeline : Pipeline
    columns : Columns
    holdout : {"none", "last"}
        "last" keeps the last impressions of each user out of training.
    """
    X, y, columns = read_training(log, items, columns)
    rows: Any = leave_last_out(X)[0] if holdout == "last" else slice(None)
    pipeline.fit(X[rows], y[rows])
    return Model(pipeline, columns, UserHistories.of(X), holdout)


def predict(
    model: Model, rows: Source, *, log: Source | None = None, items: Source | None = None
) -> Any:
    """Return a table of users, items and times of the rows, with the probability of a click.

    Parameters
    ----------
    model : Model
    rows : Path or StandardInput
        Table with a user and an item a row; see `read_rows`.
    log, items : Path or StandardInput, default=None
        Files with other histories and items than those of the model.
    """
    table, X = read_rows(model, rows, log=log, items=items)
    columns = model.columns
    names = [columns.user, columns.item, columns.time]
    kept = table.select([name for name in names if name in table.column_names])
    return kept.append_column(PROBABILITY, [model.pipeline.predict_proba(X)[:, 1]])


def recommend(
    model: Model,
    users: Source | None,
    *,
    user_ids: Sequence[str] = (),
    n: int = 10,
    candidates: Source | None = None,
    include_seen: bool = False,
    log: Source | None = None,
    items: Source | None = None,
) -> Any:
    """Return a table of the items that each user clicks most probably, best first.

    Parameters
    ----------
    model : Model
    users, user_ids, log, items
        See `read_users`.
    n : int, default=10
        Number of items a user.
    candidates : Path or StandardInput, default=None
        Table of the items to choose from. Without one, those of `items`, or of the model.
    include_seen : bool, default=False
        Whether to recommend also what is in the user's history.
    """
    rows, X = read_users(model, users, user_ids, log=log, items=items)
    chosen = candidates if candidates is not None else items
    ids = None
    if chosen is not None:
        ids = read_candidates(chosen, model)
        X = X.with_catalog(X.catalog.extend(ids))
    found: Any = pipeline_recommend(
        model.pipeline, X, n, candidates=ids, exclude_seen=not include_seen, frame="pyarrow"
    )
    columns = model.columns
    names = [columns.user, columns.time]
    kept = rows.select([name for name in names if name in rows.column_names]).take(found["row"])
    made = [("rank", "rank"), (columns.item, "item_id"), ("title", "title")]
    for name, column in [*made, (PROBABILITY, "probability")]:
        if name not in kept.column_names:  # such as the titles of items whose ids are their titles
            kept = kept.append_column(name, found[column])
    return kept


def explain(
    model: Model, rows: Source, *, log: Source | None = None, items: Source | None = None
) -> Any:
    """Return a table of what each row borrows, from whom and why, one line a borrowed item.

    Parameters are those of `predict`.
    """
    if "augment" not in model.pipeline.named_steps:
        raise ValueError(
            "the model borrows nothing: it is DIN alone. Fit one without --base to explain it."
        )
    _, X = read_rows(model, rows, log=log, items=items)
    prepared = model.pipeline[:-2].transform(X)
    return model.pipeline["augment"].explain(prepared, frame="pyarrow")


def evaluate(
    model: Model,
    rows: Source,
    *,
    holdout: str = "last",
    log: Source | None = None,
    items: Source | None = None,
) -> Any:
    """Return a table of AUC, GAUC and AUC of low-active users, with numbers of rows and users.

    Parameters
    ----------
    model : Model
    rows : Path or StandardInput
        Log with labels, which also provides the histories unless `log` does.
    holdout : {"last", "none"}
        "last" scores each user's last impression; GAUC, which needs several a user, the last two.
        "none" scores all rows.
    log, items : Path or StandardInput, default=None
        Log for the histories, and table of items to be used instead of those of the model.

    Raises
    ------
    ValueError
        If the model was fitted on the rows that "last" scores.
    """
    if holdout == "last" and model.holdout != "last":
        raise ValueError(
            "the model was fitted on all rows of its log, the last impressions among them, on "
            "which scores would be too high. Fit with --holdout last, or evaluate a log that it "
            "was not fitted on with --holdout none."
        )
    if log is None:
        X, y = read_log(rows, items, model)
    else:
        X, y = read_labelled(model, rows, log=log, items=items)
    if holdout == "last":
        _, valid, last = leave_last_out(X)
        several = np.sort(np.concatenate([valid, last]))
    else:
        last = several = np.arange(len(X))
    if len(last) == 0:
        raise ValueError(
            f"{rows}: no user has two impressions, so that none can be held out as the last one. "
            "Pass a longer log, or --holdout none."
        )
    p = np.zeros(len(X))
    p[several] = model.pipeline.predict_proba(X[several])[:, 1]
    low = last[low_active_rows(X[last], LOW_QUANTILE)]
    figures = [
        ("AUC", last, _or_nan("AUC", roc_auc_score, y[last], p[last])),
        ("GAUC", several, _or_nan("GAUC", gauc_score, y[several], p[several], X.user_ids[several])),
        ("AUC low-active", low, _or_nan("AUC low-active", roc_auc_score, y[low], p[low])),
    ]
    return arrow().table(
        {
            "metric": [name for name, _, _ in figures],
            "value": [value for _, _, value in figures],
            "rows": [len(rows) for _, rows, _ in figures],
            "users": [len(np.unique(X.user[rows])) for _, rows, _ in figures],
        }
    )


def _or_nan(name: str, score: Callable[..., Any], y: NDArray[Any], *rest: Any) -> float:
    """Return a score; NaN, with a warning, if it is undefined."""
    if len(np.unique(y)) == 2:
        try:
            return float(score(y, *rest))
        except ValueError as error:
            reason = str(error)
    else:
        reason = f"its {len(y)} rows are all of one class."
    warnings.warn(f"{name} is undefined: {reason}", UserWarning, stacklevel=3)
    return float("nan")
