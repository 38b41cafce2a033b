"""Late fusion: what joins the logit of a trained network, weighed on rows that it has not learnt.

On its own training rows a network seems better than it is: scale and offset of its logit are
fitted to held-out rows (Platt scaling), so that a network which learnt nothing costs log 2. One
that sees strong columns in training relies on them, and learns less of the rest. So such columns
join last: a logistic regression on the logit and the columns, as in stacked generalization
(Wolpert, Neural Networks 5, 1992).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

LEAST_WEIGHT = 0.01
# With fewer rows, their loss with a column and without differs by chance more than by what columns
# usually give: columns then join in any case. How they are weighed among each other is what
# training rows say; the few rows change their weights by one common factor, which is 1 before,
# with this standard deviation: much where training rows say what is not so, else little.
ENOUGH = 500
FACTOR_DEVIATION = 0.3


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


def prior_of(
    columns: NDArray[np.floating], y: NDArray[np.floating], weight: NDArray[np.floating] | None
) -> NDArray[np.float64]:
    """Return the weights of the columns in training rows, and those of a logit as it is.

    The columns are made out of fold, so that these rows can weigh them; the logit of a network that
    was trained on them can't be weighed here. Parameters and result are those of `fuse`.
    """
    alone = np.zeros(2 + columns.shape[1])
    fusion, _ = fuse(np.zeros(len(y)), columns, y, weight, alone)
    return np.append([0.0, 1.0], fusion[2:])


def fuse_if_better(
    logit: NDArray[np.floating],
    columns: NDArray[np.floating],
    y: NDArray[np.floating],
    weight: NDArray[np.floating] | None,
    prior: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.floating]]:
    """Fuse with the columns that predict rows best that were not fitted: none, the first, or all.

    Fewer than `ENOUGH` rows can't tell: where `prior` has weights for columns, all join, and keep
    the ratios of these. Parameters are those of `fuse`; the column most likely to help stands
    first.

    Returns
    -------
    fusion : ndarray of shape (2 + n_columns,), float64
        Fitted to all rows. Columns that don't help have weight 0.
    score : ndarray of shape (n_rows,)
        Where columns join, logits by weights that were fitted to other rows; else `logit`, as
        alone only the order of the rows counts.
    """
    weights, few = prior[2:], len(y) < ENOUGH and bool(prior[2:].any())
    if few:
        columns = columns @ weights[:, np.newaxis] * FACTOR_DEVIATION
        prior = np.append(prior[:2], 1 / FACTOR_DEVIATION)
    # By chance: rows that alternate between clicks and sampled negatives would part by class.
    half = np.random.RandomState(0).permutation(len(y)) % 2 == 0

    def cross_fitted(n: int) -> tuple[float, NDArray[np.float64]]:
        score = np.empty(len(y))
        for part in (half, ~half):
            other = None if weight is None else weight[part]
            found, _ = fuse(logit[part], columns[part, :n], y[part], other, prior[: 2 + n])
            score[~part] = found[0] + found[1] * logit[~part] + columns[~part, :n] @ found[2:]
        return np.average(np.logaddexp(0.0, score) - y * score, weights=weight), score

    n = columns.shape[1]
    if n:
        found = {k: cross_fitted(k) for k in ({n} if few else sorted({0, 1, n}))}
        n = min(found, key=lambda k: found[k][0])
    fusion, _ = fuse(logit, columns[:, :n], y, weight, prior[: 2 + n])
    fusion = np.append(fusion, np.zeros(columns.shape[1] - n))
    if few:
        fusion = np.append(fusion[:2], fusion[2] * FACTOR_DEVIATION * weights)
    return fusion, found[n][1] if n else logit
