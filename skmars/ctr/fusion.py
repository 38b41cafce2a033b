"""Late fusion: what joins the logit of a trained network, weighed on rows that it has not learnt.

A network that sees strong columns in training relies on them, and learns less of the rest; and on
its own training rows it seems better than it is. So the columns join last: a logistic regression
on the logit and the columns, as in stacked generalization (Wolpert, Neural Networks 5, 1992).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit


LEAST_WEIGHT = 0.01


def fuse(
    logit: NDArray[np.floating],
    columns: NDArray[np.floating],
    y: NDArray[np.floating],
    weight: NDArray[np.floating] | None,
    prior: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Fit :math:`b + w_0 z + \sum_j w_j x_j` to the labels.

    Minimises the log loss, summed over the rows, plus half the squared distance to `prior`: a few
    rows change little.

    Parameters
    ----------
    logit : ndarray of shape (n_rows,)
    columns : ndarray of shape (n_rows, n_columns)
        Standardised.
    y : ndarray of shape (n_rows,)
        0 and 1.
    weight : ndarray of shape (n_rows,) or None
        How often each row counts.
    prior : ndarray of shape (2 + n_columns,)
        Bias, weight of the logit, weight of each column.

    Returns
    -------
    fusion : ndarray of shape (2 + n_columns,), float64
        Like `prior`.
    score : ndarray of shape (n_rows,), float64
        The fused logit.
    """
    parts = np.column_stack([np.ones(len(logit)), logit, columns]).astype(np.float64)
    count = np.ones(len(logit)) if weight is None else weight
    total = count.sum()

    def objective(fusion: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        score, away = parts @ fusion, fusion - prior
        loss = count @ (np.logaddexp(0.0, score) - y * score) + away @ away / 2
        gradient = parts.T @ (count * (expit(score) - y)) + away
        return loss / total, gradient / total

    # The network's order of the rows stays, even where it is worth nothing.
    bounds = [(None, None), (LEAST_WEIGHT, None), *[(None, None)] * columns.shape[1]]
    start = prior.astype(np.float64)
    found: Any = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return found.x, parts @ found.x


def cross_fused(
    logit: NDArray[np.floating],
    columns: NDArray[np.floating],
    y: NDArray[np.floating],
    weight: NDArray[np.floating] | None,
    prior: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Return the fused logit of each row by weights that were fitted to other rows."""
    half = np.arange(len(y)) % 2 == 0
    score = np.empty(len(y))
    for fitted, scored in ((half, ~half), (~half, half)):
        w = None if weight is None else weight[fitted]
        fusion, _ = fuse(logit[fitted], columns[fitted], y[fitted], w, prior)
        score[scored] = np.column_stack(
            [np.ones(scored.sum()), logit[scored], columns[scored]]
        ) @ fusion
    return score
