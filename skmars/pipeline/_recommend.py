"""The best items of each user, by a fitted classifier."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from skmars.data import Impressions
from skmars.data._checks import require_impressions
from skmars.data._crossing import item_ids, known_codes
from skmars.data._frames import make_frame
from skmars.pipeline._steps import before_augmenter
from skmars.retrieval._candidates import likely_items
from skmars.retrieval._explain import item_titles
from skmars.utils import _ragged as ragged
from skmars.utils._parameters import Number, check_number

if TYPE_CHECKING:
    from skmars.data._frames import Frame

# Rows that are predicted together: few enough for the memory, many enough for the fixed costs.
BLOCK_ROWS = 1 << 14
# Log-odds that agree to so many decimals are ties: the last bits of a float32 network depend on
# how many rows are predicted together.
DECIMALS = 5
# Donors of a row whose items are candidates.
N_DONORS = 50


def recommend(
    model: Any,
    X: Impressions | Frame,
    n: int = 10,
    *,
    candidates: Any = None,
    exclude_seen: bool = True,
    frame: str | None = None,
) -> Frame:
    """Return the `n` items that the user of each row clicks most probably.

    Parameters
    ----------
    model : Pipeline or classifier
        Fitted; predicts the probability of a click on impressions, as `make_mars` and
        `DINClassifier` do.
    X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table
        One row a user, or a moment of a user, such as ``X.latest()``. Their targets don't matter.
    n : int, default=10
        How many items a row gets. Fewer, where there are no more candidates.
    candidates : int, array-like of item ids, or list of n_rows array-likes, default=None
        What to choose from: item ids, the same for all rows or those of each row. None takes the
        whole catalogue of `X` (a table has none). A number asks for two stages, for large
        catalogues: so many items of the catalogue are chosen for each row by cheap means (half of
        them those that the donors most like it touched, half those most like its history), and
        these are ranked. That needs a pipeline with a `SequenceRetrievalAugmenter`.
    exclude_seen : bool, default=True
        Whether to leave out the items of the row's history. Of what a history does not hold, such
        as items that were shown and not clicked with ``history="positive"``, nothing is known.
    frame : {"pandas", "polars", "pyarrow"}, default=None
        Kind of table; None takes the first of these that is installed.

    Returns
    -------
    pandas.DataFrame, polars.DataFrame or pyarrow.Table
        Columns `row` (number in `X`), `user_id`, `rank` (from 1), `item_id`, `title` and
        `probability`, which is that of ``model.predict_proba(X.cross(items))``. Equal
        probabilities (log-odds to five decimals) rank in the order of the catalogue.

    Raises
    ------
    TypeError
        If `X` is no table of impressions, `model` no classifier, or ids are of another kind than
        those of the catalogue.
    ValueError
        If `n` is less than 1, the catalogue lacks a candidate, `X` is a table and there are no
        candidates, there are two stages and `model` has no augmenter, or `X` has columns that were
        made for its targets (see `Impressions.cross`).

    Examples
    --------
    >>> from skmars import DINClassifier, make_multimodal_ctr, recommend
    >>> X, y = make_multimodal_ctr(n_users=60, n_items=40, random_state=0)
    >>> din = DINClassifier(max_iter=2, random_state=0).fit(X, y)
    >>> top = recommend(din, X.latest([7, 8]), n=3, frame="pandas")
    >>> top[["row", "user_id", "rank"]]
       row  user_id  rank
    0    0        7     1
    1    0        7     2
    2    0        7     3
    3    1        8     1
    4    1        8     2
    5    1        8     3
    """
    check_number(n, Number(Integral, 1, None, closed="left"), "n", "recommend")
    if not hasattr(model, "predict_proba"):
        raise TypeError(
            f"model must predict probabilities, but {type(model).__name__} has no predict_proba. "
            "Pass a fitted classifier, or a pipeline that ends in one."
        )
    rows = require_impressions(X, estimator_name="recommend")
    rows._check_free_of_targets("cross")
    if not isinstance(X, Impressions):
        if candidates is None or isinstance(candidates, Integral):
            raise ValueError(
                "X is a table, which has no catalogue of items to choose from. Pass "
                "candidates=ITEM_IDS, or Impressions.from_frame(X, catalog)."
            )
        ids, _ = item_ids(candidates, len(rows), "candidates")
        rows = rows.with_catalog(rows.catalog.extend(ids))
    best: list[_Ranked] = [(_NONE, _NONE, _NONE, np.zeros(0))]
    if isinstance(candidates, Integral):
        choices = _first_stage(model, rows, candidates, exclude_seen)
    else:
        choices = _choices(rows, candidates, exclude_seen)
    for group, codes in _groups(choices):
        best += _ranked_group(model, rows, group, codes, n)
    row, rank, item, probability = (np.concatenate(column) for column in zip(*best))
    columns = {
        "row": row,
        "user_id": rows.user_ids[row],
        "rank": rank,
        "item_id": rows.catalog.take_ids(item),
        "title": item_titles(rows.catalog, item),
        "probability": probability,
    }
    return make_frame(columns, frame)


_Codes: TypeAlias = NDArray[np.integer]
_Ranked: TypeAlias = tuple[_Codes, _Codes, _Codes, NDArray[np.float64]]
_NONE = np.zeros(0, dtype=np.int64)


def _choices(X: Impressions, candidates: Any, exclude_seen: bool) -> Iterator[_Codes]:
    """Yield the distinct codes that each row may get, ascending."""
    ends = None
    if candidates is None:
        codes: _Codes = np.arange(len(X.catalog))
    else:
        ids, count = item_ids(candidates, len(X), "candidates")
        codes = known_codes(ids, X.catalog, "candidates")
        if count is None:
            codes = np.unique(codes)
        else:
            ends = ragged.offsets(count)
    for i in range(len(X)):
        mine = codes if ends is None else np.unique(codes[ends[i] : ends[i + 1]])
        if exclude_seen:
            seen = np.unique(X.history.row(i))
            at = np.searchsorted(mine, seen)
            there = at < len(mine)
            mine = np.delete(mine, at[there][mine[at[there]] == seen[there]])
        yield mine


def _first_stage(
    model: Any, X: Impressions, k: Any, exclude_seen: bool
) -> Iterator[NDArray[np.integer]]:
    """Yield the codes of `k` items for each row, see `likely_items`."""
    check_number(k, Number(Integral, 1, None, closed="left"), "candidates", "recommend")
    augmenter, prepared = before_augmenter(model, X)
    if augmenter is None:
        raise ValueError(
            f"candidates={k} takes candidates from donors, but model has no "
            "SequenceRetrievalAugmenter. Pass item ids, or None for the whole catalogue."
        )
    rows, own = augmenter._fitted_rows(prepared)
    plan = augmenter._plan(
        rows, own, augmenter.pool_, everybody=True, n_neighbors=N_DONORS, max_length=sys.maxsize
    )
    return likely_items(plan, k, exclude_seen)


def _groups(choices: Iterable[_Codes]) -> Iterator[tuple[range, list[_Codes]]]:
    """Gather the choices of successive rows until they fill a block."""
    first, codes, n_pairs = 0, list[_Codes](), 0
    for mine in choices:
        codes.append(mine)
        n_pairs += len(mine)
        if n_pairs >= BLOCK_ROWS:
            yield range(first, first + len(codes)), codes
            first, codes, n_pairs = first + len(codes), [], 0
    if codes:
        yield range(first, first + len(codes)), codes


def _ranked_group(
    model: Any, X: Impressions, rows: range, codes: list[_Codes], n: int
) -> Iterator[_Ranked]:
    """Yield row, rank, item code and probability of the best items of each row."""
    count = [len(mine) for mine in codes]
    p = click_probability(model, X, np.repeat(rows, count), np.concatenate([_NONE, *codes]))
    for row, mine, theirs in zip(rows, codes, np.split(p, np.cumsum(count)[:-1])):
        best = ranking(theirs)[:n]
        yield np.full(len(best), row), np.arange(1, len(best) + 1), mine[best], theirs[best]


def click_probability(
    model: Any, X: Impressions, rows: _Codes, items: _Codes
) -> NDArray[np.float64]:
    """Return the probability that the users of these rows of `X` click these items.

    Pairs are predicted block by block.
    """
    p = np.empty(len(rows))
    for at in range(0, len(rows), BLOCK_ROWS):
        block = slice(at, at + BLOCK_ROWS)
        shown = replace(X[rows[block]], target=items[block].astype(np.int32))
        both = np.asarray(model.predict_proba(shown))
        if both.ndim != 2 or both.shape[1] != 2:
            raise ValueError(
                "model must predict the probabilities of two classes, but predict_proba returned "
                f"shape {both.shape}. Pass a classifier that was fitted to clicks."
            )
        p[block] = both[:, 1]
    return p


def ranking(probability: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the order from the most to the least probable; of ties, the first one comes first."""
    with np.errstate(divide="ignore"):
        return np.argsort(-np.round(logit(probability), DECIMALS), kind="stable")
