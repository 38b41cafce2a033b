"""Fit a model to files, and predict, recommend, explain or compare, with a table as result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from skmars.cli._inputs import read_rows, read_training
from skmars.cli._scores import with_negatives
from skmars.cli._source import Source
from skmars.cli._users import read_candidates, read_users
from skmars.ctr import DINClassifier
from skmars.data._user_histories import UserHistories
from skmars.model_selection import leave_last_out, time_split
from skmars.persistence import Columns, Model
from skmars.persistence._tables._arrow import arrow, holds
from skmars.persistence._tables._rows import PROBABILITY
from skmars.pipeline import Comparison, make_mars
from skmars.pipeline import compare as pipeline_compare
from skmars.pipeline import explain as pipeline_explain
from skmars.pipeline import recommend as pipeline_recommend
from skmars.pipeline._steps import augmenter_in


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
    split_at: datetime | float | None = None,
    negatives: int = 0,
    seed: int = 0,
    users: Source | None = None,
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
    split_at : datetime or float, default=None
        Keeps the rows from this moment on out of training; see `time_split`.
    negatives : int, default=0
        For logs of clicks alone: how many items are drawn for each click.
    seed : int, default=0
        Of these draws.
    users : Path or StandardInput, default=None
        Table with attributes of users.
    """
    X, y, columns = read_training(log, items, replace(columns, clicks_alone=negatives > 0), users)
    rows: Any = slice(None)
    if holdout == "last":
        rows = leave_last_out(X)[0]
    start = None
    if split_at is not None:
        try:
            rows, later = time_split(X, split_at)
        except ValueError as error:
            raise ValueError(f"--split-at for {log}: {error}") from error
        assert X.time is not None
        start, holdout = float(X.time[later].min()), "later"
    train, clicked = X[rows], y[rows]
    if negatives:
        train, clicked = with_negatives(train, negatives, train, seed)
    pipeline.fit(train, clicked)
    return Model(pipeline, columns, UserHistories.of(X), holdout, start, negatives)


def predict(model: Model, rows: Source, **files: Source | None) -> Any:
    """Return a table of users, items and times of the rows, with the probability of a click.

    Parameters
    ----------
    model : Model
    rows : Path or StandardInput
        Table with a user and an item a row; see `read_rows`.
    **files : Path or StandardInput, or None
        `log`, `items` and `users`, other than those of the model.
    """
    table, X = read_rows(model, rows, **_files(files))
    kept = _kept(table, model.columns)
    return kept.append_column(PROBABILITY, [model.pipeline.predict_proba(X)[:, 1]])


def _files(given: dict[str, Source | None]) -> dict[str, Any]:
    return {"log": None, "items": None, **given}


def _kept(table: Any, columns: Columns) -> Any:
    """Return users, items and times of rows, as they are in the file."""
    names = [columns.user, columns.item, columns.time]
    return table.select([name for name in names if name in table.column_names])


def recommend(
    model: Model,
    rows: Source | None,
    *,
    user_ids: Sequence[str] = (),
    n: int = 10,
    candidates: Source | None = None,
    include_seen: bool = False,
    context: Mapping[str, str] | None = None,
    **files: Source | None,
) -> Any:
    """Return a table of the items that each user clicks most probably, best first.

    Parameters
    ----------
    model : Model
    rows, user_ids, context
        The users, and the context of all of them; see `read_users`.
    n : int, default=10
        Number of items a user.
    candidates : Path or StandardInput, default=None
        Table of the items to choose from. Without one, those of `items`, or of the model.
    include_seen : bool, default=False
        Whether to recommend also what is in the user's history.
    **files : Path or StandardInput, or None
        As for `predict`.
    """
    other = _files(files)
    table, X = read_users(
        model,
        rows,
        user_ids,
        log=other["log"],
        items=other["items"],
        user_table=other.get("users"),
        context=context,
    )
    chosen = candidates if candidates is not None else other["items"]
    ids = None
    if chosen is not None:
        ids = read_candidates(chosen, model)
        X = X.with_catalog(X.catalog.extend(ids))
    found: Any = pipeline_recommend(
        model.pipeline, X, n, candidates=ids, exclude_seen=not include_seen, frame="pyarrow"
    )
    columns = model.columns
    names = [name for name in (columns.user, columns.time) if name in table.column_names]
    kept = table.select(names).take(found["row"])
    made = [("rank", "rank"), (columns.item, "item_id"), ("title", "title")]
    for name, column in [*made, (PROBABILITY, "probability")]:
        if name not in kept.column_names:  # such as the titles of items whose ids are their titles
            kept = kept.append_column(name, found[column])
    return kept


def explain(model: Model, rows: Source, **files: Source | None) -> tuple[Any, str]:
    """Return a table of what each row borrows, from whom and why, or why nothing; and in words.

    Parameters are those of `predict`. The table has one line a borrowed item, and one for a row
    that borrows nothing.
    """
    if augmenter_in(model.pipeline) is None:
        raise ValueError(
            "the model borrows nothing: it is DIN alone. Fit one without --base to explain it."
        )
    table, X = read_rows(model, rows, **_files(files))
    found = pipeline_explain(model.pipeline, X, frame="pyarrow")
    n = np.asarray(found.rows["n_borrowed"])
    row = np.repeat(np.arange(len(n)), np.maximum(n, 1))
    # Borrowed items stand in the order of the rows; a row without one has a line without one.
    line = np.full(len(row), -1)
    line[np.repeat(n > 0, np.maximum(n, 1))] = np.arange(n.sum())
    line = arrow().array(line, mask=line < 0)
    told, compute = arrow().table({"row": row}), arrow("pyarrow.compute")
    kept = _kept(table, model.columns)
    lists = ("row", "user_id", "item_id", "timestamp", "n_borrowed", "donor_id", "donor_similarity")
    about = found.rows.drop_columns([c for c in lists if c in found.rows.column_names])
    borrowed = found.borrowed.drop_columns(["row", "user_id"])
    names = {"item_id": "borrowed_item", "title": "borrowed_title"}
    names |= {"feedback": "borrowed_feedback", "timestamp": "borrowed_timestamp"}
    borrowed = borrowed.rename_columns([names.get(c, c) for c in borrowed.column_names])
    for part, at in ((kept, row), (about, row), (borrowed, line)):
        for name in part.column_names:
            if name not in told.column_names:
                values = part[name].take(arrow().array(at))
                if holds(values, "floating"):  # NaN is what is not known
                    values = compute.if_else(compute.is_nan(values), None, values)
                told = told.append_column(name, values)
    return told, str(found)


def compare(
    log: Source,
    items: Source | None,
    *,
    columns: Columns,
    users: Source | None = None,
    without: Iterable[str] = (),
    negatives: int = 0,
    split_at: datetime | float | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> Comparison:
    """Fit simple models, DIN and MARS to a log without each user's last moment, and compare them.

    Parameters
    ----------
    log, items, columns, users
        As for `fit`.
    without : iterable of str
        Models to leave out.
    negatives : int, default=0
        For a log of clicks alone: how many other items are drawn for each click, none that the user
        had touched before.
    split_at : datetime or float, default=None
        Test on all rows from this time on, as `time_split` reads it.
    seed : int, default=0
    quiet : bool, default=False
        Whether to print no progress.
    """
    columns = replace(columns, clicks_alone=negatives > 0)
    X, y, _ = read_training(log, items, columns, users)
    if negatives:
        X, y = with_negatives(X, negatives, X, seed, exclude="before")
    try:
        cv = None if split_at is None else [time_split(X, split_at)]
        return pipeline_compare(
            X,
            y,
            cv=cv,
            models=dict.fromkeys(without),
            random_state=seed,
            frame="pyarrow",
            verbose=0 if quiet else 1,
        )
    except ValueError as error:
        raise ValueError(f"{log}: {error}") from error
