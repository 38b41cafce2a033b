"""Score a model on a log, on rows that it has not seen."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from skmars.cli._inputs import read_labelled, read_log
from skmars.cli._source import Source
from skmars.data import Impressions
from skmars.metrics import gauc_score
from skmars.model_selection import leave_last_out, sample_negatives
from skmars.model_selection._scorer import low_active_rows
from skmars.persistence import Model
from skmars.persistence._tables._arrow import arrow

LOW_QUANTILE = 0.3


def evaluate(
    model: Model,
    rows: Source,
    *,
    holdout: str | None = None,
    log: Source | None = None,
    items: Source | None = None,
    users: Source | None = None,
) -> Any:
    """Return a table of AUC, GAUC and AUC of low-active users, with numbers of rows and users.

    Parameters
    ----------
    model : Model
    rows : Path or StandardInput
        Log with labels, which also provides the histories unless `log` does.
    holdout : {"last", "later", "none"}, default=None
        "last" scores each user's last impression; GAUC, which needs several a user, the last two.
        "later" scores what lies after the training rows, "none" all rows. The default is what
        the model has not seen; "none" with `log`.
    log, items, users : Path or StandardInput, default=None
        Log for the histories, tables of items and of attributes of users, instead of those of the
        model.

    Raises
    ------
    ValueError
        If the model was fitted on the rows that are scored.
    """
    if holdout is None:
        unseen = "later" if model.holdout == "later" else "last"
        holdout = "none" if log is not None else unseen
    if holdout not in ("none", model.holdout):
        option = "--holdout last" if holdout == "last" else "--split-at"
        raise ValueError(
            f"the model was not fitted with {option}, so that it has seen rows that would be "
            f"scored, and scores would be too high. Fit with {option}, or evaluate a log that it "
            "was not fitted on with --holdout none."
        )
    if log is None:
        X, y = read_log(rows, items, model, users)
    else:
        X, y = read_labelled(model, rows, log=log, items=items, users=users)
    last = scored = np.arange(len(X))
    if holdout == "last":
        _, valid, last = leave_last_out(X)
        scored = np.sort(np.concatenate([valid, last]))
    elif model.split_at is not None and holdout == "later":
        later = np.zeros(len(X), dtype=bool) if X.time is None else X.time >= model.split_at
        last = scored = np.flatnonzero(later)
    if len(last) == 0:
        why = {
            "last": "no user has two impressions, so that none can be held out as the last one",
            "later": "no row has a time after those that the model was fitted on",
        }
        raise ValueError(f"{rows}: {why.get(holdout, 'no rows')}. Pass a longer log.")
    shown, clicked, is_last = X[scored], y[scored], np.isin(scored, last)
    if model.negatives and y.all():
        shown, clicked = with_negatives(shown, model.negatives, X, seed=0)
        is_last = np.repeat(is_last, 1 + model.negatives)
    p = model.pipeline.predict_proba(shown)[:, 1]
    every, last = np.arange(len(shown)), np.flatnonzero(is_last)
    low = last[low_active_rows(shown[last], LOW_QUANTILE)]
    users_of = shown.user_ids
    figures = [
        ("AUC", last, _or_nan("AUC", roc_auc_score, clicked[last], p[last])),
        ("GAUC", every, _or_nan("GAUC", gauc_score, clicked, p, users_of)),
        ("AUC low-active", low, _or_nan("AUC low-active", roc_auc_score, clicked[low], p[low])),
    ]
    return arrow().table(
        {
            "metric": [name for name, _, _ in figures],
            "value": [value for _, _, value in figures],
            "rows": [len(part) for _, part, _ in figures],
            "users": [len(np.unique(shown.user[part])) for _, part, _ in figures],
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


def with_negatives(
    X: Impressions, n: int, log: Impressions, seed: int, exclude: str = "always"
) -> tuple[Impressions, NDArray[np.int64]]:
    """Return rows with sampled negatives, see `sample_negatives`."""
    try:
        return sample_negatives(X, n_negatives=n, log=log, exclude=exclude, random_state=seed)
    except ValueError as error:
        raise ValueError(f"--negatives {n}: {error}") from error
