"""Do the items that are similar in one space stay so in another? Four answers, by cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr
from sklearn.manifold import trustworthiness
from sklearn.utils import check_array, check_random_state

from skmars.metrics._embedding import unit_rows
from skmars.utils._parameters import Number, check_number

COUNT = Number(Integral, 1, None, closed="left")


@dataclass(frozen=True)
class SimilarityPreservation:
    """How far the similarities of one space are found in another, see `similarity_preservation`.

    Attributes
    ----------
    trustworthiness : float
        1 if all neighbours of an item in the second space are neighbours in the first; less, the
        farther in the first those are that are not.
    continuity : float
        1 if all neighbours in the first space are neighbours in the second: trustworthiness with
        the roles of the spaces exchanged.
    rank_correlation : float
        Spearman's correlation of the similarities of all pairs of items. NaN where all pairs of a
        space are equally similar.
    neighbor_overlap : float
        Share of an item's neighbours in the first space that are neighbours in the second.
    n_items : int
        Over how many items this was measured.
    """

    trustworthiness: float
    continuity: float
    rank_correlation: float
    neighbor_overlap: float
    n_items: int


def similarity_preservation(
    X: ArrayLike,
    Y: ArrayLike,
    *,
    n_neighbors: int = 10,
    mask: ArrayLike | None = None,
    center: bool = True,
    max_items: int = 2000,
    random_state: int | np.random.RandomState | None = None,
) -> SimilarityPreservation:
    """Measure whether items that are similar in one space are similar in another.

    For items in two spaces, say text features and aligned space: are the neighbours of an item
    the same in both, and are its similarities with all others ordered alike? Similarity is the
    cosine. The widths of the spaces may differ.

    Parameters
    ----------
    X : array-like of shape (n_items, n_features)
        The items in the first space: features of a modality, say.
    Y : array-like of shape (n_items, n_components)
        The same items, row by row, in the second: their embedding.
    n_neighbors : int, default=10
        How many nearest items are the neighbours of an item; less than half of all items.
    mask : array-like of bool, shape (n_items,), default=None
        The items to look at, such as those that have the modality; None takes all.
    center : bool, default=True
        Whether to subtract the mean of each space first. What all items have in common makes
        them all similar.
    max_items : int, default=2000
        Of more items, so many are drawn at random: time and memory are quadratic in their
        number. Neighbours are then the nearest of those drawn, so compare values of one setting.
    random_state : int, RandomState instance or None, default=None
        Pass an int to draw the same items on every call.

    Returns
    -------
    SimilarityPreservation
        `trustworthiness`, `continuity`, `rank_correlation`, `neighbor_overlap` and `n_items`.

    Raises
    ------
    ValueError
        If lengths differ, values of the items to look at are not finite, `n_neighbors` is not
        less than half of the items, or another number is out of its range.
    TypeError
        If `mask` is not of booleans.

    See Also
    --------
    sklearn.manifold.trustworthiness : What trustworthiness and continuity are computed with.
    skmars.alignment.modality_preservation : The table of a catalogue.

    References
    ----------
    J. Venna and S. Kaski, "Neighborhood Preservation in Nonlinear Projection Methods: An
    Experimental Study", ICANN 2001 (trustworthiness and continuity).

    Examples
    --------
    >>> import numpy as np
    >>> from skmars.metrics import similarity_preservation
    >>> X = np.random.RandomState(0).normal(size=(100, 8))
    >>> similarity_preservation(X, 3 * X).neighbor_overlap
    1.0
    >>> other = np.random.RandomState(1).normal(size=(100, 8))
    >>> abs(similarity_preservation(X, other).rank_correlation) < 0.05
    True
    """
    check_number(n_neighbors, COUNT, "n_neighbors", "similarity_preservation")
    check_number(max_items, COUNT, "max_items", "similarity_preservation")
    first, second = _rows_of(X, Y, mask, max_items, random_state)
    n = len(first)
    if 2 * n_neighbors >= n:
        raise ValueError(
            f"n_neighbors={n_neighbors} must be less than half of the {n} items compared. Lower "
            "n_neighbors, or compare more items."
        )
    first, second = (
        unit_rows(space - space.mean(axis=0) if center else space) for space in (first, second)
    )
    cosines = [space @ space.T for space in (first, second)]
    return SimilarityPreservation(
        # On the unit sphere the order by distance is that by cosine.
        float(trustworthiness(first, second, n_neighbors=n_neighbors)),
        float(trustworthiness(second, first, n_neighbors=n_neighbors)),
        _rank_correlation(*cosines),
        _overlap(*(_nearest(each, n_neighbors) for each in cosines)),
        n,
    )


def _rows_of(
    X: ArrayLike,
    Y: ArrayLike,
    mask: ArrayLike | None,
    max_items: int,
    random_state: int | np.random.RandomState | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the rows of both spaces that are compared."""
    spaces = [np.asarray(space) for space in (X, Y)]
    if not all(space.ndim == 2 for space in spaces) or len(spaces[0]) != len(spaces[1]):
        raise ValueError(
            "X and Y must be matrices of the same items, row by row, got shapes "
            f"{spaces[0].shape} and {spaces[1].shape}."
        )
    rows = np.arange(len(spaces[0]))
    if mask is not None:
        chosen = np.asarray(mask)
        if chosen.dtype != np.bool_:
            raise TypeError(f"mask must hold booleans, got dtype {chosen.dtype}.")
        if chosen.shape != rows.shape:
            raise ValueError(f"mask must have shape ({len(rows)},), got {chosen.shape}.")
        rows = rows[chosen]
    if len(rows) > max_items:
        rows = np.sort(check_random_state(random_state).permutation(rows)[:max_items])
    x, y = (
        check_array(space[rows], dtype=np.float64, input_name=name, ensure_min_samples=0)
        for space, name in zip(spaces, "XY")
    )
    return x, y


def _rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return Spearman's correlation of the values of two symmetric matrices, pair by pair."""
    pairs = np.tril_indices(len(first), -1)
    # Rounding must not order what is equally similar.
    a, b = (each[pairs].round(12) for each in (first, second))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(spearmanr(a, b).statistic)


def _nearest(cosines: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Return the `k` items most similar to each item, itself left out, shape (n, k)."""
    others = cosines.round(12)
    np.fill_diagonal(others, -np.inf)
    return np.argsort(-others, axis=1, kind="stable")[:, :k]


def _overlap(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Return the mean share of values that rows have in common."""
    shift = len(first) * np.arange(len(first))[:, None]
    return float(np.isin(first + shift, second + shift).mean())
