"""The estimator as scikit-learn and a person see it: checks, messages, warnings, `explain`."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import estimator_checks as checks

from skmars import Impressions, ItemCatalog, SequenceRetrievalAugmenter
from skmars.data._frames import FRAMES
from skmars.retrieval import CosineNeighbors, HNSWNeighbors, NNDescentNeighbors

from .worlds import as_tuples, world

DATA_FREE = [
    checks.check_estimator_cloneable,
    checks.check_estimator_repr,
    checks.check_estimator_tags_renamed,
    checks.check_valid_tag_types,
    checks.check_no_attributes_set_in_init,
    checks.check_parameters_default_constructible,
    checks.check_get_params_invariance,
    checks.check_set_params,
    checks.check_mixin_order,
    checks.check_do_not_raise_errors_in_init_or_set_params,
]


@pytest.mark.parametrize("check", DATA_FREE, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "estimator",
    [
        CosineNeighbors(),
        HNSWNeighbors(),
        NNDescentNeighbors(),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_scikit_learn_checks_that_need_no_data(estimator, check):
    check(type(estimator).__name__, estimator)


def test_defaults_are_documented():
    doc = inspect.getdoc(SequenceRetrievalAugmenter)
    for name, parameter in inspect.signature(SequenceRetrievalAugmenter).parameters.items():
        assert name in doc
        assert str(parameter.default) in doc


# --- bad input: the message names what is wrong and what to do ----------------------------------


@pytest.mark.parametrize("theta", [-1.01, 1.2, 2, float("nan"), float("inf"), "0.1"])
def test_theta_out_of_range(X, theta):
    with pytest.raises(ValueError, match="'theta' parameter .* range \\[-1"):
        SequenceRetrievalAugmenter(theta=theta).fit(X)
    fitted = SequenceRetrievalAugmenter().fit(X).set_params(theta=theta)
    with pytest.raises(ValueError, match="theta"):
        fitted.transform(X)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"strategy": "best"}, "'strategy' parameter .*'filter'"),
        ({"relevance": "item"}, "'relevance' parameter"),
        ({"n_neighbors": 0}, "'n_neighbors' parameter"),
        ({"max_length": 0}, "'max_length' parameter"),
        ({"neighbors": "annoy"}, "'neighbors' parameter"),
        ({"low_quantile": 1.5}, "'low_quantile' parameter"),
        ({"low_quantile": 0.8}, "low_quantile=0.8 must not exceed high_quantile=0.7"),
    ],
)
def test_bad_parameters(X, parameters, message):
    augmenter = SequenceRetrievalAugmenter(**parameters)
    with pytest.raises(ValueError, match=message):
        augmenter.fit(X)
    assert not [name for name in vars(augmenter) if name.endswith("_")]


def test_no_rows(X):
    with pytest.raises(ValueError, match="at least one row"):
        SequenceRetrievalAugmenter().fit(X[:0])
    augmenter = SequenceRetrievalAugmenter().fit(X)
    assert len(augmenter.transform(X[:0])) == 0
    assert augmenter.transform(X[:0]).columns == augmenter.transform(X).columns


def test_nothing_to_compare_users_by(X):
    bare = X.with_catalog(ItemCatalog(X.catalog.ids)).with_user_embedding(None)
    with pytest.raises(ValueError, match="nothing to compare users by.*aligner"):
        SequenceRetrievalAugmenter(strategy="most_similar").fit(bare)


def test_nothing_to_compare_items_by(X):
    bare = X.with_catalog(ItemCatalog(X.catalog.ids))
    with pytest.raises(ValueError, match="strategy='filter' compares items.*most_similar"):
        SequenceRetrievalAugmenter().fit(bare)


def test_embeddings_of_different_spaces(X):
    wide = X.with_user_embedding(np.random.default_rng(0).normal(size=(len(X), 9)))
    with pytest.raises(ValueError, match=r"user embeddings have 9 columns and item vectors 5"):
        SequenceRetrievalAugmenter(relevance="user", user_representation="embedding").fit(wide)
    out = SequenceRetrievalAugmenter(user_representation="embedding").fit(wide).transform(wide)
    assert out.borrowed.length.any()


def test_embeddings_that_are_not_finite(X):
    embedding = X.user_embedding.copy()
    embedding[:] = np.nan
    with pytest.raises(ValueError, match="user_embedding of X holds NaN"):
        SequenceRetrievalAugmenter(user_representation="embedding").fit(
            X.with_user_embedding(embedding)
        )
    augmenter = SequenceRetrievalAugmenter(user_representation="embedding").fit(X)
    with pytest.raises(ValueError, match="user_embedding of X holds NaN"):
        augmenter.transform(X.with_user_embedding(embedding))
    items = X.catalog.embedding.copy()
    items[0, 0] = np.inf
    with pytest.raises(ValueError, match="item embedding .* holds NaN"):
        SequenceRetrievalAugmenter().fit(X.with_catalog(X.catalog.with_embedding(items)))


def test_user_embedding_of_fit_is_missing_in_transform(X):
    augmenter = SequenceRetrievalAugmenter(user_representation="embedding").fit(X)
    with pytest.raises(ValueError, match="X has no user embedding, but the rows of fit had"):
        augmenter.transform(X.with_user_embedding(None))


def test_ids_of_another_kind(X):
    augmenter = SequenceRetrievalAugmenter().fit(X)
    other = world(7, n_users=40, n_items=25, n_events=600, width=5, strings=True)
    with pytest.raises(TypeError, match="user_id of X holds strings"):
        augmenter.transform(other)


def test_neighbors_that_return_something_else(X):
    class Short(NearestNeighbors):
        def kneighbors(self, X, n_neighbors=1, return_distance=True):
            return np.zeros((len(X), 1), dtype=int)

    augmenter = SequenceRetrievalAugmenter(neighbors=Short()).fit(X)
    with pytest.raises(ValueError, match="kneighbors of neighbors=Short.* returned shape"):
        augmenter.transform(X)


# --- nothing to borrow: the identity, with one warning -------------------------------------------


def frame(lengths, **columns) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user_id": range(len(lengths)),
            "item_id": 1,
            "history": [[1 + k % 3 for k in range(n)] for n in lengths],
            **columns,
        }
    )


CATALOG = ItemCatalog([1, 2, 3], embedding=np.eye(3))


@pytest.mark.parametrize(
    ("lengths", "parameters", "message"),
    [
        ([3, 3, 3], {}, "there is no donor.*up to 3 items.*Lower low_quantile"),
        ([0, 0], {}, "there is no donor"),
        ([5], {}, "there is no donor"),
        ([0, 0, 0, 5, 6, 7], {}, "only rows without any history.*50% of.*Raise low_quantile"),
    ],
)
def test_nothing_to_borrow(lengths, parameters, message):
    X = Impressions.from_frame(frame(lengths), CATALOG)
    augmenter = SequenceRetrievalAugmenter(**parameters)
    with pytest.warns(UserWarning, match=f"will borrow nothing: .*{message}") as record:
        out = augmenter.fit_transform(X)
    assert len(record) == 1
    assert record[0].filename == __file__ or "sklearn" in record[0].filename
    assert not out.borrowed.length.any()
    assert out.columns == list(augmenter.get_feature_names_out())


def test_no_warning_where_something_is_borrowed(X):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SequenceRetrievalAugmenter().fit(X).transform(X)
        # An active user alone is no reason to warn: a server sees them all the time.
        SequenceRetrievalAugmenter().fit(X).transform(X[[int(np.argmax(X.history.length))]])


# --- explain -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, *FRAMES])
def test_explain_tells_what_was_borrowed(X, kind):
    titles = [f"item {i}" for i in X.catalog.ids]
    titled = ItemCatalog(X.catalog.ids, content={"title": titles}, embedding=X.catalog.embedding)
    X = X.with_catalog(titled)
    augmenter = SequenceRetrievalAugmenter(n_neighbors=2).fit(X)
    table = augmenter.explain(X, frame=kind)
    if kind == "pyarrow":
        table = table.to_pandas()
    expected = [
        (row, user, donor, item, f"item {item}", s, cosine, feedback, time)
        for row, (user, events) in enumerate(zip(X.user_ids, as_tuples(augmenter.transform(X))))
        for item, donor, s, cosine, feedback, time in events
    ]
    names = ["row", "user_id", "donor_id", "item_id", "title", "similarity", "donor_similarity",
             "feedback", "timestamp"]  # fmt: skip
    assert set(table.columns) == set(names)
    assert list(zip(*(table[name].to_numpy().tolist() for name in names))) == expected


def test_explain_of_nothing_is_an_empty_table(X):
    augmenter = SequenceRetrievalAugmenter(theta=1.1).fit(X)
    for kind in FRAMES:
        table = augmenter.explain(X, frame=kind)
        assert table.shape[0] == 0
        assert "similarity" in (table.column_names if kind == "pyarrow" else table.columns)


def test_explain_names_unknown_kinds(X):
    with pytest.raises(ValueError, match="frame must be one of 'pandas'"):
        SequenceRetrievalAugmenter().fit(X).explain(X, frame="excel")


# --- within scikit-learn -------------------------------------------------------------------------


def test_attributes(X):
    augmenter = SequenceRetrievalAugmenter().fit(X)
    n = augmenter.n_donors_
    assert len(augmenter.donor_ids_) == len(augmenter.donor_history_) == n > 0
    assert np.allclose(np.linalg.norm(augmenter.donor_embedding_, axis=1), 1, atol=1e-6)
    assert augmenter.donor_embedding_.dtype == np.float32
    # Compact: nothing of the others' histories is kept.
    assert len(augmenter.donor_history_.items) == augmenter.donor_history_.length.sum()
    assert (augmenter.donor_history_.length >= augmenter.high_threshold_).all()
