"""Precision and recall at k of nearest-neighbour retrieval between embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array

from skmars.metrics._embedding import unit_rows
from skmars.utils._ids import as_ids, check_same_kind, factorize, joined

BLOCK = 4_000_000  # similarities that are held at once


def retrieval_precision_at_k(
    queries: ArrayLike,
    candidates: ArrayLike,
    *,
    query_labels: ArrayLike | None = None,
    candidate_labels: ArrayLike | None = None,
    k: int | Sequence[int] = 1,
) -> float | NDArray[np.float64]:
    """Precision at k: share of a query's `k` nearest candidates that is relevant, on average.

    Nearness is the cosine similarity. A candidate is relevant if it has the query's label:
    donors of the user's own group, say. Without labels, candidate `i` is the one relevant
    candidate of query `i`: the picture that belongs to a text.

    Parameters
    ----------
    queries : array-like of shape (n_queries, n_components)
        Embeddings to search for.
    candidates : array-like of shape (n_candidates, n_components)
        Embeddings to search in.
    query_labels, candidate_labels : array-like of int or str, default=None
        What decides relevance, shapes (n_queries,) and (n_candidates,). Both or neither.
    k : int or sequence of int, default=1
        How many candidates to retrieve. Several values cost one search.

    Returns
    -------
    float, or ndarray of shape (len(k),) for a sequence
        Queries without any relevant candidate are left out.

    Raises
    ------
    ValueError
        If `k` lies outside 1 to `n_candidates`, shapes do not fit, or no query has a
        relevant candidate.

    See Also
    --------
    retrieval_recall_at_k : Part of the relevant candidates that is found.
    precision_at_k : Share of clicked rows among those of a user that score highest.

    Examples
    --------
    >>> from skmars.metrics import retrieval_precision_at_k
    >>> users, donors = [[1.0, 0.1], [0.0, 1.0]], [[1.0, 0.0], [0.9, 0.3], [0.1, 1.0]]
    >>> retrieval_precision_at_k(
    ...     users, donors, query_labels=["a", "b"], candidate_labels=["a", "a", "b"], k=[1, 2])
    array([1.  , 0.75])
    """
    hits, _, ks = _hits_at_k(queries, candidates, query_labels, candidate_labels, k)
    value = (hits / ks).mean(axis=0)
    return float(value[0]) if isinstance(k, Integral) else value


def retrieval_recall_at_k(
    queries: ArrayLike,
    candidates: ArrayLike,
    *,
    query_labels: ArrayLike | None = None,
    candidate_labels: ArrayLike | None = None,
    k: int | Sequence[int] = 1,
) -> float | NDArray[np.float64]:
    """Recall at k: share of a query's relevant candidates among the `k` nearest, on average.

    Parameters
    ----------
    queries : array-like of shape (n_queries, n_components)
        Embeddings to search for.
    candidates : array-like of shape (n_candidates, n_components)
        Embeddings to search in.
    query_labels, candidate_labels : array-like of int or str, default=None
        What decides relevance; without them candidate `i` belongs to query `i`.
    k : int or sequence of int, default=1
        How many candidates to retrieve. Several values cost one search.

    Returns
    -------
    float, or ndarray of shape (len(k),) for a sequence
        Queries without any relevant candidate are left out.

    Raises
    ------
    ValueError
        If `k` lies outside 1 to `n_candidates`, shapes do not fit, or no query has a
        relevant candidate.

    See Also
    --------
    retrieval_precision_at_k : Part of what is found that is relevant.

    Examples
    --------
    >>> from skmars.metrics import retrieval_recall_at_k
    >>> texts, images = [[1.0, 0.0], [0.2, 1.0]], [[0.9, 0.1], [0.8, 0.3]]
    >>> retrieval_recall_at_k(texts, images, k=1)
    1.0
    """
    hits, n_relevant, _ = _hits_at_k(queries, candidates, query_labels, candidate_labels, k)
    value = (hits / n_relevant[:, None]).mean(axis=0)
    return float(value[0]) if isinstance(k, Integral) else value


def _hits_at_k(
    queries: ArrayLike,
    candidates: ArrayLike,
    query_labels: ArrayLike | None,
    candidate_labels: ArrayLike | None,
    k: int | Sequence[int],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return how many of the k nearest candidates and of all candidates are relevant, and k."""
    Q = unit_rows(check_array(queries, dtype=np.float64, input_name="queries"))
    C = unit_rows(check_array(candidates, dtype=np.float64, input_name="candidates"))
    if Q.shape[1] != C.shape[1]:
        raise ValueError(
            f"queries and candidates must lie in one space, got {Q.shape[1]} and {C.shape[1]} "
            "components."
        )
    ks = checked_k(k, len(C))
    query_code, candidate_code = label_codes(query_labels, candidate_labels, len(Q), len(C))

    n_codes = max(query_code.max(), candidate_code.max()) + 1
    n_relevant = np.bincount(candidate_code, minlength=n_codes)[query_code]
    scored = np.flatnonzero(n_relevant)
    if len(scored) == 0:
        raise ValueError("No query has a relevant candidate: no label occurs on both sides.")
    hits = np.empty((len(scored), len(ks)), dtype=np.int64)
    block = max(1, BLOCK // len(C))
    for begin in range(0, len(scored), block):
        rows = scored[begin : begin + block]
        nearest = _nearest(Q[rows] @ C.T, int(ks.max()))
        relevant = candidate_code[nearest] == query_code[rows, None]
        hits[begin : begin + block] = np.cumsum(relevant, axis=1)[:, ks - 1]
    return hits, n_relevant[scored], ks


def _nearest(similarity: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Return the columns of the k largest entries of each row, largest first."""
    top = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(similarity, top, axis=1), axis=1, kind="stable")
    return np.take_along_axis(top, order, axis=1)


def checked_k(k: int | Sequence[int], n_candidates: int) -> NDArray[np.int64]:
    """Return numbers of candidates to retrieve as an array, all between 1 and `n_candidates`."""
    ks = np.atleast_1d(np.asarray(k))
    if ks.ndim != 1 or ks.dtype.kind not in "iu" or len(ks) == 0:
        raise TypeError(f"k must be an integer or a sequence of integers, got {k!r}.")
    if ks.min() < 1 or ks.max() > n_candidates:
        raise ValueError(f"k must lie between 1 and the {n_candidates} candidates, got {k!r}.")
    return ks


def label_codes(
    query_labels: ArrayLike | None, candidate_labels: ArrayLike | None, n: int, m: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return labels as codes common to both sides; without labels, matched pairs."""
    if (query_labels is None) != (candidate_labels is None):
        raise ValueError("Pass query_labels and candidate_labels together, or neither.")
    if query_labels is None or candidate_labels is None:
        if n != m:
            raise ValueError(
                f"Without labels, candidate i belongs to query i, but there are {n} queries and "
                f"{m} candidates. Pass query_labels and candidate_labels."
            )
        return np.arange(n), np.arange(m)
    names = "query_labels", "candidate_labels"
    sides = [as_ids(v, name) for v, name in zip((query_labels, candidate_labels), names)]
    for side, length, name in zip(sides, (n, m), names):
        if len(side) != length:
            raise ValueError(f"{name} has {len(side)} entries for {length} rows.")
    check_same_kind(sides[0], names[0], sides[1], names[1])
    codes = factorize(joined(*sides))[1].astype(np.int64)
    return codes[:n], codes[n:]
