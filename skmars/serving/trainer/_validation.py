"""How new parameters, the current ones and those of the fit predict rows that none has learnt."""

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
        On so many all were tried.
    log_loss, current_log_loss, fit_log_loss : float or None
        Of the candidate, of the current version and of the parameters of the fit; None without
        rows.
    auc, current_auc, fit_auc : float or None
        None also where the rows are of one class.
    accepted : bool
        Whether the candidate was published.
    """

    position: int
    rows: int = 0
    log_loss: float | None = None
    current_log_loss: float | None = None
    fit_log_loss: float | None = None
    auc: float | None = None
    current_auc: float | None = None
    fit_auc: float | None = None
    accepted: bool = False


def judged(
    position: int,
    X: Impressions,
    y: NDArray[np.int64],
    candidate: Any,
    current: Any,
    fitted: Any,
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
    candidate, current, fitted : classifier
        The last one with the parameters of the fit: were there only the current one, many versions
        that are worse by a little would add up.
    worse_by : float
        The log loss of the candidate may be larger by so much than that of the better of the other
        two.

    Returns
    -------
    Judgement
    ndarray of shape (n_rows,)
        Of the candidate.
    """
    p, loss, auc = scored(candidate, X, y)
    _, current_loss, current_auc = scored(current, X, y)
    fit_loss, fit_auc = current_loss, current_auc
    if fitted is not current:
        _, fit_loss, fit_auc = scored(fitted, X, y)
    others = [other for other in (current_loss, fit_loss) if other is not None]
    accepted = loss is not None and loss <= min(others, default=math.inf) + worse_by
    found = Judgement(
        position, len(y), loss, current_loss, fit_loss, auc, current_auc, fit_auc, accepted
    )
    return found, p


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
