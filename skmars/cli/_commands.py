"""Fit, predict, explain and evaluate: from the names of files to a model or a table."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline

from skmars.cli._files import library_for, parse_times, read_table
from skmars.ctr import DINClassifier
from skmars.data import Impressions, ItemCatalog
from skmars.data._frames import Table, make_frame
from skmars.data._log import DEFAULT_TIME, time_candidates
from skmars.metrics import gauc_score
from skmars.model_selection import leave_last_out
from skmars.model_selection._scorer import low_active_rows
from skmars.persistence._model_file import Columns, Model
from skmars.serving._histories import UserHistories

LOW_QUANTILE = 0.3


def make_pipeline(*, base: bool, seed: int, settings: Iterable[tuple[str, Any]] = ()) -> Pipeline:
    """Return MARS, or DIN alone, with these parameters.

    Raises
    ------
    ValueError
        If a setting names no parameter (the message lists those that there are), or its value
        is out of range.
    """
    steps: list[tuple[str, Any]] = [("ctr", DINClassifier(random_state=seed))]
    if not base:
        from skmars.alignment import SteinAligner
        from skmars.encoding import MultimodalEncoder
        from skmars.retrieval import SequenceRetrievalAugmenter

        steps = [
            ("encode", MultimodalEncoder(random_state=seed)),
            ("align", SteinAligner(random_state=seed)),
            ("augment", SequenceRetrievalAugmenter()),
            *steps,
        ]
    pipeline = Pipeline(steps)
    for name, value in settings:
        step = name.partition("__")[0]
        if step not in pipeline.named_steps or "__" not in name:
            raise ValueError(
                f"{name!r} names no parameter; write STEP__PARAM, where STEP is one of "
                f"{', '.join(pipeline.named_steps)}."
            )
        pipeline.set_params(**{name: value})
    for estimator in pipeline.named_steps.values():
        estimator._validate_params()  # a later step would else complain when the earlier are fitted
    return pipeline


def fit(
    log: Path,
    items: Path | None,
    pipeline: Pipeline,
    *,
    columns: Columns,
    holdout: str = "none",
) -> Model:
    """Fit a pipeline to a log.

    Parameters
    ----------
    log, items : Path
        Tables with one row an event, and one row an item (None: ids alone).
    pipeline : Pipeline
    columns : Columns
    holdout : {"none", "last"}
        "last" keeps the last impressions of each user out of training.
    """
    X, y, time = read_log(log, None if items is None else read_catalog(items, columns), columns)
    rows: Any = leave_last_out(X)[0] if holdout == "last" else slice(None)
    pipeline.fit(X[rows], y[rows])
    return Model(pipeline, replace(columns, time=time), UserHistories.of(X), holdout)


def predict(
    model: Model, rows: Path, *, log: Path | None = None, items: Path | None = None
) -> nw.DataFrame[Any]:
    """Return users, items and times of the rows, with the probability of a click.

    Parameters
    ----------
    model : Model
    rows : Path
        Table with a user and an item a row; see `read_rows`.
    log, items : Path, default=None
        Where histories and items come from, instead of the model.
    """
    table, X = read_rows(model, rows, log=log, items=items)
    p = model.pipeline.predict_proba(X)[:, 1]
    columns = model.columns
    names = [columns.user, columns.item, columns.time]
    kept = table.select([name for name in names if name in table.columns])
    p = nw.new_series("probability", p, nw.Float64, backend=table.implementation)
    return kept.with_columns(p)


def explain(
    model: Model, rows: Path, *, log: Path | None = None, items: Path | None = None
) -> nw.DataFrame[Any]:
    """Return what each row borrows, from whom and why, one line a borrowed item.

    Parameters are those of `predict`.
    """
    if "augment" not in model.pipeline.named_steps:
        raise ValueError("the model borrows nothing: it is DIN alone, fitted with --base.")
    table, X = read_rows(model, rows, log=log, items=items)
    prepared = model.pipeline[:-2].transform(X)
    kind = str(table.implementation)
    return nw.from_native(model.pipeline["augment"].explain(prepared, frame=kind))


def evaluate(
    model: Model, log: Path, *, holdout: str = "last", items: Path | None = None
) -> nw.DataFrame[Any]:
    """Return AUC, GAUC and AUC of low-active users, with the rows and users they were taken over.

    Parameters
    ----------
    model : Model
    log : Path
        Log with labels, from which the histories are taken, too.
    holdout : {"last", "none"}
        "last" scores each user's last impression; GAUC, which needs several a user, the last two.
        "none" scores all rows.
    items : Path, default=None
        Instead of the items of the model.

    Raises
    ------
    ValueError
        If the model was fitted on the rows that "last" scores.
    """
    if holdout == "last" and model.holdout != "last":
        raise ValueError(
            "the model was fitted on all rows of its log, the last impressions among them, and "
            "figures on these would flatter it. Fit with --holdout last, or evaluate a log that "
            "it has not seen with --holdout none."
        )
    X, y, _ = read_log(log, _catalog_of(model, items), model.columns)
    if holdout == "last":
        _, valid, last = leave_last_out(X)
        several = np.sort(np.concatenate([valid, last]))
    else:
        last = several = np.arange(len(X))
    if len(last) == 0:
        raise ValueError(f"{log}: no user has two impressions, so that there is no last one.")
    p = np.zeros(len(X))
    p[several] = model.pipeline.predict_proba(X[several])[:, 1]
    low = last[low_active_rows(X[last], LOW_QUANTILE)]
    figures = [
        ("AUC", last, _or_nan("AUC", roc_auc_score, y[last], p[last])),
        ("GAUC", several, _or_nan("GAUC", gauc_score, y[several], p[several], X.user_ids[several])),
        ("AUC low-active", low, _or_nan("AUC low-active", roc_auc_score, y[low], p[low])),
    ]
    table = make_frame(
        {
            "metric": np.array([name for name, _, _ in figures], dtype=object),
            "value": np.array([value for _, _, value in figures]),
            "rows": np.array([len(rows) for _, rows, _ in figures]),
            "users": np.array([len(np.unique(X.user[rows])) for _, rows, _ in figures]),
        },
        library_for(log),
    )
    return nw.from_native(table)


def _or_nan(name: str, score: Callable[..., Any], y: NDArray[Any], *rest: Any) -> float:
    """Return a score; NaN and a warning where it does not exist."""
    if len(np.unique(y)) == 2:
        try:
            return float(score(y, *rest))
        except ValueError as error:
            reason = str(error)
    else:
        reason = f"its {len(y)} rows are all of one class."
    warnings.warn(f"{name} is undefined: {reason}", UserWarning, stacklevel=3)
    return float("nan")


# --- files ----------------------------------------------------------------------------------


def read_catalog(path: Path, columns: Columns) -> ItemCatalog:
    """Read the items. Paths of images are taken from the folder of the table."""
    table = read_table(path)
    named = {"--title": columns.title, "--text": columns.text, "--image": columns.image}
    _require(table, path, {"--item": columns.item, **named})
    catalog = ItemCatalog.from_frame(
        table, item=columns.item, title=columns.title, text=columns.text, image=columns.image
    )
    if "image" not in catalog.content:
        return catalog
    folder = path.resolve().parent
    images = [str(folder / v) if isinstance(v, str) and v else v for v in catalog.content["image"]]
    return ItemCatalog(catalog.ids, content={**catalog.content, "image": images})


def read_log(
    path: Path, catalog: ItemCatalog | None, columns: Columns
) -> tuple[Impressions, NDArray[np.int64], str | None]:
    """Read a log with labels as impressions, row by row; say which column holds the times."""
    table = read_table(path)
    named = {"--user": columns.user, "--item": columns.item, "--label": columns.label}
    _require(table, path, {**named, "--order": columns.order})
    time = _time_column(table, path, columns)
    table = parse_times(table, path, time)
    label = columns.label
    if columns.click_from is not None:
        if not table[label].dtype.is_numeric():
            raise ValueError(
                f"{path}: column {label!r} holds {table[label].dtype}, but --click-from compares "
                "numbers. Leave --click-from out, or name a column of numbers with --label."
            )
        table = table.with_columns(nw.col(label) >= columns.click_from)
    elif not set(table[label].drop_nulls().unique().to_list()) <= {0, 1}:
        values = sorted(map(str, table[label].drop_nulls().unique().to_list()))
        raise ValueError(
            f"{path}: column {label!r} must hold 0 and 1 (or booleans), got {len(values)} "
            f"distinct values ({', '.join(values[:5])}). Say from which value on it is a click, "
            "for example --click-from 4, or name another column with --label."
        )
    try:
        X, y = Impressions.from_log(
            table,
            catalog,
            user=columns.user,
            item=columns.item,
            time=time,
            order=columns.order,
            label=label,
            history=columns.history,
            duplicates=columns.duplicates,
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    return X, y, time


def _time_column(table: nw.DataFrame[Any], path: Path, columns: Columns) -> str | None:
    """Return the column of the times by the rule of `Impressions.from_log`."""
    if columns.time != DEFAULT_TIME:
        _require(table, path, {"--time": columns.time})
        return columns.time
    used = {columns.user, columns.item, columns.label, columns.order}
    found = time_candidates(Table(table, str(path)), used)
    if len(found) > 1:
        raise ValueError(
            f"{path} has no column {DEFAULT_TIME!r}, but several that may hold the times: "
            f"{', '.join(map(repr, found))}. Say which one with `skmars fit --time COLUMN`, or "
            "--no-time if the order of the rows is that of the events."
        )
    return found[0] if found else DEFAULT_TIME


def read_rows(
    model: Model, path: Path, *, log: Path | None, items: Path | None
) -> tuple[nw.DataFrame[Any], Impressions]:
    """Read rows to predict, with their histories.

    These come from `log`, or from the column "history" of the rows, or else from the log that
    the model was fitted on. With a time column, a row's history ends before its time.
    """
    columns = model.columns
    time = columns.time
    table = parse_times(read_table(path), path, time)
    _require(table, path, {"--user": columns.user, "--item": columns.item})
    if len(table) == 0:
        raise ValueError(f"{path} has no rows.")
    if "history" in table.columns and log is None:
        names = {columns.user: "user_id", columns.item: "item_id", time: DEFAULT_TIME}
        used = [*names, "history", "history_feedback", "history_timestamp"]
        frame = table.select([c for c in used if c in table.columns])
        return table, Impressions.from_frame(
            frame.rename({old: new for old, new in names.items() if old in frame.columns}),
            _catalog_of(model, items),
        )
    histories = model.histories
    if log is not None:
        histories = UserHistories.of(read_log(log, _catalog_of(model, items), columns)[0])
    elif items is not None:
        histories = histories.with_catalog(read_catalog(items, columns))
    rows = Table(table, str(path))
    seconds = rows.seconds(time) if time in rows.columns else None
    return table, histories.impressions(rows.ids(columns.user), rows.ids(columns.item), seconds)


def _catalog_of(model: Model, items: Path | None) -> ItemCatalog:
    return model.histories.catalog if items is None else read_catalog(items, model.columns)


def _require(table: nw.DataFrame[Any], path: Path, columns: Mapping[str, str | None]) -> None:
    """Raise ValueError if a column is not there, naming the option that names it."""
    for option, column in columns.items():
        if column is not None and column not in table.columns:
            found = ", ".join(map(repr, table.columns))
            raise ValueError(
                f"{path} has no column {column!r}; it has {found}. `skmars fit` takes the name of "
                f"this column with {option}."
            )
