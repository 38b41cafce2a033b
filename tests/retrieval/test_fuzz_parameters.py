"""Parameters and inputs at and beyond the edge of sense: refused by name, or rightly handled."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from skmars import Impressions, ItemCatalog, SequenceRetrievalAugmenter
from skmars.data._columns import LIKED, LOOKALIKES, TOUCHED

from .worlds import as_tuples, world

NAN, INF = float("nan"), float("inf")
HUGE = [10**9, 10**12, 10**30]


class NoKneighbors:
    def fit(self, X: Any) -> None: ...


class NoParams:
    """Has both methods, but can't be cloned."""

    def fit(self, X: Any) -> None: ...

    def kneighbors(self, X: Any, n_neighbors: int, return_distance: bool) -> None: ...


# For each parameter: what works (its edges and beyond), and what is refused.
VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "strategy": (["filter", "most_similar", "kth", "dp"], ["best", None, 1, ["dp"]]),
    "theta": ([-1, 0, 0.1, 1, 1.1, np.float32(0.5)], [NAN, INF, -2, 1.2, True, "0", None]),
    "n_neighbors": ([1, 2, *HUGE, np.int8(100)], [0, -1, 1.0, True, NAN, "1", None]),
    "user_representation": (["history", "embedding"], ["row", None]),
    "item_representation": (["features", "embedding"], ["id", True]),
    "relevance": (["user", "target", "both"], ["item", 0]),
    "center": ([True, False, np.True_], ["yes", None, 2]),
    "low_quantile": ([0, 0.3, 0.5], [NAN, -0.1, 0.95, INF, False, "0.3", None]),
    "high_quantile": ([0.5, 0.7, 1], [NAN, 1.1, -1, 0.05, True, None]),
    "max_length": ([1, 3, 200, *HUGE], [0, -5, 2.5, True, INF, None]),
    "max_borrowed": ([None, 1, 5, *HUGE], [0, -1, True, False, 1.5, NAN]),
    "n_lookalikes": ([0, 1, 50, *HUGE], [-1, True, 0.5, None]),
    "activity": (["user", "row"], ["item", None]),
    "respect_time": ([True, False, np.True_], ["yes", None, 2]),
    "neighbors": (
        ["auto", "exact", NearestNeighbors(), NearestNeighbors(metric="cosine")],
        ["annoy", None, 3, object(), NoKneighbors(), NoParams(), NearestNeighbors],
    ),
    "cv": ([2, 5, 100], [1, 0, -1, 101, 2.5, True, None]),
    "n_jobs": ([None, 1, 2, -1, 10**9, -(10**9)], [True, 1.5, "all"]),
}
worlds = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**6),
        "n_users": st.integers(2, 15),
        "n_items": st.integers(1, 12),
        "n_events": st.integers(20, 90),
        "width": st.integers(1, 4),
        "integers": st.booleans(),
        "timed": st.booleans(),
        "missing_times": st.booleans(),
        "history": st.sampled_from(["all", "positive"]),
        "users": st.sampled_from(["encoder", "rows", None]),
        "strings": st.booleans(),
    }
)
parameters = st.fixed_dictionaries({k: st.sampled_from(good) for k, (good, _) in VALUES.items()})
WRONG = [(name, value) for name, (_, bad) in VALUES.items() for value in bad]


def quiet(X: Any, method: str = "fit", **arguments: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # nobody to borrow from, now and then
        return getattr(SequenceRetrievalAugmenter(**arguments), method)(X)


def check(X: Impressions, out: Impressions, arguments: dict[str, Any]) -> None:
    """What holds of the output whatever the parameters."""
    assert out.history is X.history
    np.testing.assert_array_equal(out.target, X.target)
    limit = arguments["max_length"]
    own = np.minimum(X.history.length, min(limit, 10**6))
    assert (own + out.borrowed.length <= limit).all()
    if arguments["max_borrowed"] is not None:
        assert (out.borrowed.length <= arguments["max_borrowed"]).all()
    for user, moment, row in zip(X.user_ids, X.time if X.time is not None else [], as_tuples(out)):
        for _, donor, s, cosine, _, time in row:
            assert donor != user
            assert -1 <= s <= 1
            assert -1 <= cosine <= 1
            assert not arguments["respect_time"] or time < moment
            assert arguments["strategy"] != "filter" or s >= np.float32(arguments["theta"])
    names = TOUCHED if X.history.feedback is None else LOOKALIKES
    assert set(out.context) == (set(names) if arguments["n_lookalikes"] else set())
    for column in out.context.values():
        # Counts of so few donors can't be further from each other than this.
        assert np.abs(column).max(initial=0) < np.log(30)


@settings(max_examples=40, deadline=None)
@given(worlds, parameters)
def test_whatever_is_permitted_keeps_what_is_promised(world_arguments, arguments):
    X = world(**world_arguments)
    augmenter = quiet(X, **arguments)
    out = augmenter.transform(X)
    check(X, out, arguments)
    check(X, quiet(X, "fit_transform", **arguments), arguments)
    # As large as it gets is the same as large enough.
    large = {k: min(v, 10**6) for k, v in arguments.items() if type(v) is int}
    assert as_tuples(quiet(X, **{**arguments, **large}).transform(X)) == as_tuples(out)


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda v: str(v)[:20])
def test_what_makes_no_sense_is_refused_by_name(X, name, value):
    augmenter = SequenceRetrievalAugmenter(**{name: value})
    with pytest.raises((ValueError, TypeError), match=name):
        augmenter.fit(X)
    assert not [attribute for attribute in vars(augmenter) if attribute.endswith("_")]
    with pytest.raises((ValueError, TypeError), match=name):
        augmenter.fit_transform(X)
    assert not [attribute for attribute in vars(augmenter) if attribute.endswith("_")]


def test_a_failing_fit_leaves_the_fitted_one_alone(X):
    augmenter = quiet(X)
    before = as_tuples(augmenter.transform(X))
    for wrong in (X.with_catalog(ItemCatalog(X.catalog.ids)), "nonsense", X[:0]):
        with pytest.raises((ValueError, TypeError)):
            augmenter.fit_transform(wrong)
    assert as_tuples(augmenter.transform(X)) == before


# --- neighbour estimators that misbehave --------------------------------------------------------


class Returns(NearestNeighbors):
    """Finds what it is told to."""

    def __init__(self, what: str = "first") -> None:
        super().__init__()
        self.what = what

    def fit(self, X: Any, y: Any = None) -> None:  # type: ignore[override]
        super().fit(X)  # returns nothing

    def kneighbors(self, X: Any, n_neighbors: int = 1, return_distance: bool = True) -> Any:
        shape = (len(X), n_neighbors)
        return {
            "first": np.zeros(shape, dtype=np.int64),
            "nobody": np.full(shape, -1),
            "beyond": np.full(shape, 10**6),
            "floats": np.full(shape, 0.5),
            "narrow": np.zeros((len(X), 1 + n_neighbors), dtype=np.int64),
        }[self.what]


@pytest.mark.parametrize("what", ["first", "nobody"])
def test_too_few_candidates_are_completed_by_the_exact_search(X, what):
    arguments = {"n_neighbors": 3, "strategy": "kth", "n_lookalikes": 0}
    found = quiet(X, neighbors=Returns(what), **arguments).transform(X)
    assert as_tuples(found) == as_tuples(quiet(X, neighbors="exact", **arguments).transform(X))


@pytest.mark.parametrize("what", ["beyond", "floats", "narrow"])
def test_row_numbers_that_are_none_are_refused(X, what):
    with pytest.raises(ValueError, match=r"kneighbors of neighbors=Returns.*expected row numbers"):
        quiet(X, neighbors=Returns(what)).transform(X)


# --- vectors ------------------------------------------------------------------------------------


def with_vectors(X: Impressions, vectors: np.ndarray, kind: str) -> Impressions:
    catalog = ItemCatalog(X.catalog.ids)
    if kind == "features":
        return X.with_catalog(catalog.with_features({"text": vectors}))
    return X.with_catalog(catalog.with_embedding(vectors))


@pytest.mark.parametrize("kind", ["features", "embedding"])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_vectors_that_are_not_finite_are_refused(kind, value):
    X = world(7, n_users=40, n_items=25, n_events=600, users=None)
    vectors = X.catalog.embedding.copy()
    vectors[3, 1] = value
    with pytest.raises(ValueError, match=r"\(or features\) of the catalogue holds NaN"):
        quiet(with_vectors(X, vectors, kind))
    users = world(7, n_users=40, n_items=25, n_events=600, users="rows")
    users.user_embedding[:, 0] = value
    with pytest.raises(ValueError, match="user_embedding of X holds NaN or infinite"):
        quiet(users, user_representation="embedding")


@pytest.mark.parametrize("kind", ["features", "embedding"])
@pytest.mark.parametrize("factor", [1e-30, 1e30])
@pytest.mark.parametrize("strategy", ["filter", "dp"])
def test_the_scale_of_vectors_decides_nothing(kind, factor, strategy):
    X = world(7, n_users=40, n_items=25, n_events=600, users=None)
    vectors = X.catalog.embedding
    one = as_tuples(quiet(with_vectors(X, vectors, kind), strategy=strategy).transform(X))
    scaled = with_vectors(X, vectors * np.float32(factor), kind)
    assert any(one)
    other = as_tuples(quiet(scaled, strategy=strategy).transform(scaled))
    assert [[e[:2] for e in row] for row in one] == [[e[:2] for e in row] for row in other]


def test_user_vectors_that_float32_can_not_hold_are_refused():
    X = world(7, n_users=40, n_items=25, n_events=600)
    large = X.with_user_embedding(np.full((len(X), 3), 1e200))
    with pytest.raises(ValueError, match="user_embedding of X holds NaN or infinite"):
        quiet(large, user_representation="embedding")


@pytest.mark.parametrize("kind", ["features", "embedding"])
def test_vectors_that_say_nothing_let_nobody_borrow(kind):
    X = world(7, n_users=40, n_items=25, n_events=600, users=None)
    X = with_vectors(X, np.zeros((25, 4)), kind)
    with pytest.warns(UserWarning, match="will borrow nothing: there is no donor"):
        augmenter = SequenceRetrievalAugmenter().fit(X)
    out = augmenter.transform(X)
    assert not out.borrowed.length.any()


# --- ids ----------------------------------------------------------------------------------------


def test_unknown_users_are_treated_as_users_who_are_no_donors(X):
    augmenter = quiet(X)
    rows = X[~np.isin(X.user_ids, augmenter.donor_ids_)]
    strangers = Impressions(
        rows.catalog,
        np.append(rows.users + 10**6, 5),
        rows.user,
        rows.target,
        rows.history,
        rows.time,
    )
    known, unknown = augmenter.transform(rows), augmenter.transform(strangers)
    assert any(as_tuples(known))
    assert as_tuples(unknown) == as_tuples(known)
    # Among users who touched the target, known users are not compared with themselves.
    for name in (TOUCHED[0], LIKED[0]):
        np.testing.assert_array_equal(unknown.context[name], known.context[name])


@pytest.mark.parametrize("n_lookalikes", [0, 50])
def test_items_of_another_kind_are_refused(X, n_lookalikes):
    """Also where no row needs a search: what is refused depends on no row."""
    augmenter = quiet(X, n_lookalikes=n_lookalikes)
    ids = np.array([f"i{i}" for i in X.catalog.ids], dtype=object)
    strings = Impressions(ItemCatalog(ids), X.users, X.user, X.target, X.history, X.time)
    for rows in (strings, strings[[int(np.argmax(X.history.length))]], strings[:0]):
        with pytest.raises(TypeError, match="item_id of X holds strings but the catalogue of fit"):
            augmenter.transform(rows)
