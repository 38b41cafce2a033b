"""Random tables: a clear error of ours, or what a slow reference makes of them.

The long form of these tests is ``python -m benchmarks.fuzz.door``.
"""

from __future__ import annotations

import random
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import door
from skmars import Impressions, ItemCatalog
from skmars.data import Sequences
from skmars.data._folds import EVERYBODY


@pytest.mark.parametrize("kind", door.DOORS)
@settings(max_examples=150)
@given(seed=st.integers(0, 2**32))
def test_random_tables(kind: str, seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        door.attempt(kind, random.Random(seed))


def test_the_judge_knows_what_is_wrong() -> None:
    def fail(error: BaseException):
        raise error

    def refuse():
        raise door.Refused

    for read, reference in (
        (lambda: fail(KeyError("user_id")), lambda: print),
        (lambda: fail(ValueError("some error from inside, of column 'user_id'")), lambda: print),
        (lambda: None, refuse),
        (lambda: [1], lambda: lambda got: door.agree(got, [2], "values")),
        (lambda: ItemCatalog([1, None]), lambda: print),
    ):
        with pytest.raises(door.Wrong):
            door.judge(read, reference, ["user_id"], sound=True)
    assert door.judge(lambda: ItemCatalog([1, None]), refuse, ["a"], sound=False) == "refused"


def some_ids(kind: str, codes: list[int]) -> np.ndarray:
    values = np.array(codes)
    if kind == "strings":
        return values.astype(str).astype(object)
    return values.astype(np.uint64) + 2**63 if kind == "uint64" else values - 2


@st.composite
def impressions(draw: st.DrawFn) -> Impressions:
    """Rows with all that they can have: times, feedback, context, folds, borrowed items."""
    n = draw(st.integers(0, 6))
    codes = st.lists(st.integers(0, 4), min_size=n, max_size=n)
    kinds = st.sampled_from(["integers", "uint64", "strings"])
    rng = np.random.default_rng(draw(st.integers(0, 100)))
    log = pd.DataFrame(
        {
            "user_id": some_ids(draw(kinds), draw(codes)),
            "item_id": some_ids(draw(kinds), draw(codes)),
            "liked": rng.integers(0, 2, n),
            "hour": rng.normal(size=n),
            "big": 2**60 + rng.integers(0, 9, n),
            "new": rng.integers(0, 2, n).astype(bool),
            "city": rng.choice(["Rome", "Oslo", "", "a\0"], n).astype(object),
        }
    )
    if draw(st.booleans()):
        log["timestamp"] = rng.choice([1.25, 2.5, 1e9, np.nan, np.inf], n)
        log.loc[:0, "timestamp"] = 1.0
    if n == 0:
        first = {"user_id": [1], "item_id": [1], "liked": [1], "hour": [1.0], "city": ["Rome"]}
        X, _ = Impressions.from_log(pd.DataFrame(first), context=["hour", "city"])
        return X[:0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        X, _ = Impressions.from_log(
            log,
            label="liked",
            history=draw(st.sampled_from(["positive", "all"])),
            context=["hour", "big", "new", "city"],
        )
    if draw(st.booleans()):
        length = rng.integers(0, 3, n)
        m = int(length.sum())
        X = X.with_borrowed(
            Sequences(
                rng.integers(0, len(X.catalog), m),
                np.cumsum(length) - length,
                length,
                feedback=rng.integers(0, 2, m),
                time=rng.choice([1.0, np.inf], m),
                donor=rng.integers(0, len(X.users), m),
                donors=X.users,
                similarity=rng.normal(size=m).astype(np.float32),
                donor_similarity=rng.normal(size=m).astype(np.float32),
            )
        )
    if draw(st.booleans()):
        X = X.with_fold(rng.integers(-2, 3, n))
    if draw(st.booleans()):
        X = X.with_user_embedding(rng.normal(size=(n, 3)).astype(np.float32))
    return X[rng.permutation(n)[: draw(st.integers(0, n))]]


@pytest.mark.parametrize("frame", door.LIBRARIES)
@given(X=impressions())
def test_there_and_back_to_the_bit(frame: str, X: Impressions) -> None:
    Z = Impressions.from_frame(X.to_frame(frame), X.catalog)
    assert Z.catalog is X.catalog
    assert Z.columns == X.columns
    assert Z.user_ids.tolist() == X.user_ids.tolist()
    np.testing.assert_array_equal(Z.item_ids, X.item_ids, strict=True)
    np.testing.assert_array_equal(Z.target, X.target, strict=True)
    everybody = np.full(len(X), EVERYBODY, dtype=np.int8)
    pairs = [
        *((Z.context[name], X.context[name]) for name in X.context),
        (Z.fold if Z.fold is not None else everybody, X.fold if X.fold is not None else everybody),
        (Z.time, X.time),
    ]
    if len(X):
        pairs.append((Z.user_embedding, X.user_embedding))
    for name in ("history", "borrowed"):
        first, second = getattr(X, name), getattr(Z, name)
        if first is None:
            assert second is None
            continue
        first, second = first.compact(), second.compact()
        pairs += [
            (getattr(second, key), getattr(first, key))
            for key in ("items", "length", "feedback", "time", "similarity", "donor_similarity")
        ]
        if first.donor is not None and len(first.donor):
            assert second.donors[second.donor].tolist() == first.donors[first.donor].tolist()
    for got, wanted in pairs:
        if wanted is None:
            assert got is None
        elif len(wanted) or got is not None:
            np.testing.assert_array_equal(got, wanted, strict=len(X) > 0)
