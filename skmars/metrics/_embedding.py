"""Scores of an embedding space: alignment of views, uniformity, and effective rank."""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from sklearn.preprocessing import normalize
from sklearn.utils import check_array

from skmars.utils._parameters import Number, check_number

BLOCK = 1024  # rows of a distance matrix that are held at once


def _matrix(values: ArrayLike, name: str, *, min_rows: int = 1) -> NDArray[np.float64]:
    return np.asarray(
        check_array(values, dtype=np.float64, input_name=name, ensure_min_samples=min_rows)
    )


def unit_rows(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale the rows to length one; a row of zeros stays."""
    # First by the largest number: squares of very large and very small ones are no numbers.
    largest = np.abs(matrix).max(axis=1, keepdims=True)
    return np.asarray(normalize(matrix / np.where(largest > 0, largest, 1.0)))


def alignment_score(X: ArrayLike, Y: ArrayLike) -> float:
    """Mean cosine similarity of matched rows, that is of two views of the same items.

    With unit vectors this is ``1 - l_align / 2``, where `l_align` is the alignment loss of
    Wang and Isola [1]_ (squared distance): a score, so larger is better.

    Parameters
    ----------
    X, Y : array-like of shape (n_items, n_components)
        Two views of the same items, row by row: text and image embeddings, say.

    Returns
    -------
    float
        Between -1 and 1.

    Raises
    ------
    ValueError
        If shapes differ or values are not finite.

    See Also
    --------
    uniformity_score : A collapsed space is perfectly aligned; look at both.

    References
    ----------
    .. [1] T. Wang and P. Isola, "Understanding Contrastive Representation Learning through
       Alignment and Uniformity on the Hypersphere", ICML 2020.

    Examples
    --------
    >>> from skmars.metrics import alignment_score
    >>> alignment_score([[1.0, 0.0], [0.0, 2.0]], [[3.0, 0.0], [1.0, 0.0]])
    0.5
    """
    x, y = _matrix(X, "X"), _matrix(Y, "Y")
    if x.shape != y.shape:
        raise ValueError(
            f"X and Y must be views of the same items in one space, got shapes {x.shape} and "
            f"{y.shape}."
        )
    return float(np.einsum("ij,ij->i", unit_rows(x), unit_rows(y)).mean())


def uniformity_score(X: ArrayLike, *, t: float = 2.0) -> float:
    """How evenly embeddings spread over the sphere; 0 if all point the same way.

    ``-log mean exp(-t |x_i - x_j|^2)`` over all pairs of distinct rows, on unit vectors: the
    uniformity loss of Wang and Isola [1]_ with its sign turned, so that larger is better.

    Parameters
    ----------
    X : array-like of shape (n_items, n_components)
        Embeddings; rows are normalised.
    t : float, default=2.0
        Sharpness of the kernel.

    Returns
    -------
    float
        Between 0 (collapsed) and ``4 * t``; close to ``2 * t`` for directions drawn at
        random in many dimensions.

    Raises
    ------
    ValueError
        If there are fewer than two rows, values are not finite, or `t` is not positive.

    References
    ----------
    .. [1] T. Wang and P. Isola, "Understanding Contrastive Representation Learning through
       Alignment and Uniformity on the Hypersphere", ICML 2020.

    Examples
    --------
    >>> from skmars.metrics import uniformity_score
    >>> round(uniformity_score([[1.0, 0.0], [-1.0, 0.0]]), 3)
    8.0
    """
    check_number(t, Number(Real, 0, None, closed="neither"), "t", "uniformity_score")
    unit = unit_rows(_matrix(X, "X", min_rows=2))
    n = len(unit)
    parts = []
    for begin in range(0, n, BLOCK):
        # On the sphere |x - y|^2 = 2 - 2 x.y; clipped, as rounding may exceed 1.
        exponent = -2.0 * t * (1.0 - np.clip(unit[begin : begin + BLOCK] @ unit.T, -1.0, 1.0))
        rows = np.arange(len(exponent))
        exponent[rows, begin + rows] = -np.inf
        parts.append(logsumexp(exponent))
    return float(np.log(n * (n - 1)) - logsumexp(parts)) + 0.0


def effective_rank(X: ArrayLike, *, center: bool = True) -> float:
    """Effective rank: the number of dimensions over which embeddings spread.

    The exponential of the entropy of the normalised singular values [1]_: `d` when all `d`
    directions carry the same spread, 1 when all rows lie on a line.

    Parameters
    ----------
    X : array-like of shape (n_items, n_components)
        Embeddings.
    center : bool, default=True
        Whether to subtract the mean first. An offset common to all rows is one direction without
        information.

    Returns
    -------
    float
        Between 1 and ``min(n_items, n_components)``; 0 if all (centred) rows are zero.

    Raises
    ------
    ValueError
        If values are not finite.

    References
    ----------
    .. [1] O. Roy and M. Vetterli, "The effective rank: a measure of effective
       dimensionality", EUSIPCO 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from skmars.metrics import effective_rank
    >>> round(effective_rank(np.eye(4), center=False), 6)
    4.0
    """
    matrix = _matrix(X, "X")
    # What rounding may leave of rows that are all the same.
    rounding = np.finfo(np.float64).eps * matrix.size * np.abs(matrix).max()
    if center:
        matrix = matrix - matrix.mean(axis=0)
    singular = np.linalg.svd(matrix, compute_uv=False)
    scale = singular.sum()
    if scale <= rounding:
        return 0.0
    share = singular[singular > 0] / scale
    return float(np.exp(-np.sum(share * np.log(share))))
