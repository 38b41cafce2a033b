"""How new parameters and the current ones predict rows that neither has learnt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

from skmars.data import Impressions


@dataclass(frozen=True)
class Judgement:
    """What became of a candidate: parameters that were to be published.

    Attributes
    ----------
    position : int
        Of the last event that the candidate has learnt.
    rows : int
        On so many both were tried.
    log_loss, current_log_loss : float or None
        Of the candidate and of the current version; None without rows.
    auc, current_auc : float or None
        None also where the rows are of one class.
    accepted : bool
        Whether the candidate was published.
    """

    position: int
    rows: int = 0
    log_loss: float | None = None
    current_log_loss: float | None = None
    auc: float | None = None
    current_auc: float | None = None
    accepted: bool = False


def judged(
    position: int,
    X: Impressions,
    y: NDArray[np.int64],
    candidate: Any,
    current: Any,
    worse_by: float,
) -> tuple[Judgement, NDArray[np.float64]]:
    """Return whether a classifier predicts rows well enough, and its probabilities.

    Parameters
    ----------
    position : int
        Of the last event that the candidate has learnt.
    X : Impressions of n_rows rows
        As they come to the classifiers; one row at least.
    y : ndarray of shape (n_rows,), of 0 and 1
    candidate, current : classifier
    worse_by : float
        The log loss of the candidate may be larger by so much.

    Returns
    -------
    Judgement
    ndarray of shape (n_rows,)
        Of the candidate.
    """
    (p, loss, auc), (_, current_loss, current_auc) = (
        scored(classifier, X, y) for classifier in (candidate, current)
    )
    accepted = loss is not None and (current_loss is None or loss <= current_loss + worse_by)
    return Judgement(position, len(y), loss, current_loss, auc, current_auc, accepted), p


def scored(
    classifier: Any, X: Impressions, y: NDArray[np.int64]
) -> tuple[NDArray[np.float64], float | None, float | None]:
    """Return probabilities of a classifier, log loss and AUC; None where they can't be told."""
    try:
        p = classifier.predict_proba(X)[:, 1]
    except FloatingPointError:
        p = np.full(len(y), math.nan)
    if not np.isfinite(p).all():
        return p, None, None
    loss = float(log_loss(y, p, labels=[0, 1]))
    return p, loss, float(roc_auc_score(y, p)) if len(np.unique(y)) == 2 else None
