"""Interactions to measure on: synthetic, Amazon's item ids, MovieLens-1M."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars import Impressions, ItemCatalog, leave_last_out
from skmars.data import Sequences
from skmars.utils import _ragged as ragged

Labels = NDArray[np.int64]


def synthetic(
    n_rows: int,
    *,
    mean_length: float = 40.0,
    sigma: float = 1.0,
    n_items: int = 3000,
    seed: int = 0,
) -> tuple[Impressions, Labels]:
    """Draw users with log-normal numbers of events; every event is an impression.

    Parameters
    ----------
    n_rows : int
        Events of all users together.
    mean_length, sigma : float
        Mean number of events of a user, and the standard deviation of its logarithm.
    n_items : int
        Of the catalogue; the k-th most popular item is drawn with a probability like 1 / k.
    seed : int
    """
    rng = np.random.default_rng(seed)
    location = np.log(mean_length) - sigma**2 / 2
    n_users = int(2 * n_rows / mean_length) + 16
    length = np.zeros(0, dtype=np.int64)
    while length.sum() < n_rows:
        drawn = np.exp(rng.normal(location, sigma, n_users))
        length = np.append(length, np.maximum(1, drawn.round()).astype(np.int64))
    ends = np.minimum(np.cumsum(length), n_rows)
    length = np.diff(ends, prepend=0)
    popularity = 1.0 / np.arange(1, n_items + 1)
    items = rng.choice(n_items, n_rows, p=popularity / popularity.sum())
    return from_events(items, length[length > 0], n_items, rng)


def from_events(
    items: NDArray[Any], length: NDArray[Any], n_items: int, rng: np.random.Generator
) -> tuple[Impressions, Labels]:
    """Make every event of every user an impression whose history is what was before it.

    Parameters
    ----------
    items : ndarray of shape (n_events,)
        Item codes, user after user, oldest first.
    length : ndarray of shape (n_users,)
        Events of each user.
    n_items : int
    rng : Generator
        Draws the labels: speed does not depend on them.
    """
    user = np.repeat(np.arange(len(length), dtype=np.int32), length)
    start = ragged.offsets(length)[:-1][user]
    before = (np.arange(len(items)) - start).astype(np.int32)
    codes = items.astype(np.int32)
    catalog = ItemCatalog(np.arange(n_items))
    history = Sequences(codes, start, before)
    X = Impressions(catalog, np.arange(len(length)), user, codes, history)
    return X, rng.integers(0, 2, len(codes))


def load(
    data: list[str] | None, n_rows: int | None, *, mean_length: float, sigma: float, seed: int = 0
) -> tuple[str, Impressions, Labels]:
    """Return name, training rows and labels of what the command line asks for.

    Parameters
    ----------
    data : list of str or None
        ``["toys", FILE]`` (a line a user: user, then items in the order of time),
        ``["ml-1m", FOLDER]``, or None for synthetic data.
    n_rows : int or None
        About so many rows, of whole users; None for all (100,000 of synthetic data).
    mean_length, sigma : float
        Of synthetic data, see `synthetic`.
    """
    rng = np.random.default_rng(seed)
    if data is None:
        X, y = synthetic(n_rows or 100_000, mean_length=mean_length, sigma=sigma, seed=seed)
        return "synthetic", X, y
    kind, path = data
    if kind == "toys":
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        users = [np.array(line.split()[1:], dtype=np.int64) for line in lines if line.strip()]
        length, items = np.array([len(u) for u in users]), np.concatenate(users)
        ids, codes = np.unique(items, return_inverse=True)
        X, y = from_events(codes, length, len(ids), rng)
    elif kind == "ml-1m":
        from skmars import load_movielens_1m

        catalog, log = load_movielens_1m(path, content=False)
        X, y = Impressions.from_log(
            log, catalog, label="liked", history="all", time=None, order="position"
        )
        # The peers know nothing of feedback, and then skmars shall not use it either.
        X = replace(X, history=replace(X.history, feedback=None))
    else:
        raise SystemExit(f"--data takes 'toys FILE' or 'ml-1m FOLDER', got {kind!r}.")
    train = leave_last_out(X)[0]
    X, y = X[train], y[train]
    if n_rows is not None and n_rows < len(X):
        rows_of_user = np.bincount(X.user, minlength=len(X.users))
        shuffled = rng.permutation(len(X.users))
        last = int(np.searchsorted(np.cumsum(rows_of_user[shuffled]), n_rows))
        chosen = np.flatnonzero(np.isin(X.user, shuffled[: last + 1]))
        X, y = X[chosen], y[chosen]
    return kind, X, y


def padded(X: Impressions, max_length: int) -> dict[str, NDArray[np.int64]]:
    """Return what libraries with rectangular input need: int64, 0 is padding, at the right.

    Returns
    -------
    dict
        `item` (n_rows,), `hist_item` (n_rows, max_length), `length` (n_rows,).
    """
    history = X.history.last(max_length)
    result = np.zeros((len(X), max_length), dtype=np.int64)
    real = np.arange(max_length) < history.length[:, None]
    result[real] = history.items[history.positions()] + 1
    return {
        "item": X.target.astype(np.int64) + 1,
        "hist_item": result,
        "length": history.length.astype(np.int64),
    }


def with_features(X: Impressions, sizes: dict[str, int], seed: int = 0) -> Impressions:
    """Give the catalogue random modality features of these widths."""
    rng = np.random.default_rng(seed)
    n = len(X.catalog)
    features = {k: rng.standard_normal((n, d), dtype=np.float32) for k, d in sizes.items()}
    return X.with_catalog(X.catalog.with_features(features))
