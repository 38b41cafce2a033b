"""What must hold of borrowing whatever the data."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

from skmars import Impressions, ItemCatalog, SequenceRetrievalAugmenter
from skmars.data import Sequences
from skmars.data._frames import FRAMES

from .worlds import HistoryEncoder, as_tuples, world

STRATEGIES = ["filter", "most_similar", "kth", "dp"]
strategies = st.sampled_from(STRATEGIES)


def fitted(X: Impressions, **parameters) -> SequenceRetrievalAugmenter:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return SequenceRetrievalAugmenter(**parameters).fit(X)


@given(st.integers(0, 10**6), strategies, st.sampled_from(["user", "row"]))
def test_nobody_borrows_from_themselves(seed, strategy, activity):
    X = world(seed)
    out = fitted(X, strategy=strategy, activity=activity, n_neighbors=3).transform(X)
    for user, row in zip(out.user_ids, as_tuples(out)):
        assert all(donor != user for _, donor, *_ in row)


@given(st.integers(0, 10**6), strategies, st.booleans())
def test_nothing_is_borrowed_from_the_future(seed, strategy, missing_times):
    X = world(seed, missing_times=missing_times)
    out = fitted(X, strategy=strategy, activity="row", n_neighbors=3).transform(X)
    for moment, row in zip(X.time, as_tuples(out)):
        assert all(time < moment for *_, time in row)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("max_length", [1, 4, 200])
def test_own_items_are_kept_and_the_total_is_bounded(X, strategy, max_length):
    out = fitted(
        X, strategy=strategy, max_length=max_length, n_neighbors=4, respect_time=False
    ).transform(X)
    assert out.history is X.history
    own = np.minimum(X.history.length, max_length)
    assert (out.borrowed.length + own <= max_length).all()
    assert (out.borrowed.length[own == max_length] == 0).all()
    assert out.borrowed.length.any() == (max_length > 1)


@given(st.integers(0, 10**6), st.sampled_from(["user", "target", "both"]))
def test_theta_beyond_1_is_the_identity(seed, relevance):
    X = world(seed, integers=True)
    out = fitted(X, theta=1.01, relevance=relevance).transform(X)
    assert not out.borrowed.length.any()
    assert len(out.borrowed.items) == 0


@given(st.integers(0, 10**6), st.sampled_from(["user", "target", "both"]), st.booleans())
def test_theta_minus_1_is_kth(seed, relevance, integers):
    X = world(seed, integers=integers, width=2)  # two dimensions: cosines of exactly -1
    arguments = {"relevance": relevance, "n_neighbors": 2, "max_length": 6}
    filtered = fitted(X, theta=-1, **arguments).transform(X)
    whole = fitted(X, strategy="kth", **arguments).transform(X)
    assert as_tuples(filtered) == as_tuples(whole)


def test_a_higher_theta_borrows_a_part(X):
    before = None
    for theta in [-1, -0.2, 0.1, 0.5, 0.9, 1]:
        rows = as_tuples(fitted(X, theta=theta).transform(X))
        assert all(event[2] >= np.float32(theta) for row in rows for event in row)
        if before is not None:
            assert all(set(row) <= set(old) for row, old in zip(rows, before))
        before = rows


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("relevance", ["user", "target"])
def test_rows_are_treated_by_themselves(X, strategy, relevance):
    augmenter = fitted(X[::2], strategy=strategy, relevance=relevance, n_neighbors=2)
    everything = as_tuples(augmenter.transform(X))
    assert any(everything)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(X))
    assert as_tuples(augmenter.transform(X[order])) == [everything[r] for r in order]
    some = np.flatnonzero(rng.random(len(X)) < 0.1)
    assert as_tuples(augmenter.transform(X[some])) == [everything[r] for r in some]
    alone = [as_tuples(augmenter.transform(X[[r]]))[0] for r in some]
    assert alone == [everything[r] for r in some]


def test_order_of_fit_rows_decides_nothing(X):
    order = np.random.default_rng(1).permutation(len(X))
    assert as_tuples(fitted(X[order]).transform(X)) == as_tuples(fitted(X).transform(X))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_n_jobs_decides_nothing(X, strategy):
    arguments = {"strategy": strategy, "n_neighbors": 3}
    one, two = fitted(X, **arguments), fitted(X, n_jobs=2, **arguments)
    assert as_tuples(one.transform(X)) == as_tuples(two.transform(X))


def test_rows_are_shared_not_copied(X):
    out = fitted(X).transform(X)
    assert X.borrowed is None
    assert (out.user is X.user, out.target is X.target, out.time is X.time) == (True,) * 3


def test_borrowed_arrays_hold_what_is_borrowed_once():
    # Twenty targets are shown to the same users at the same moment.
    X = world(2, n_users=30, n_events=300)
    augmenter = fitted(X)
    rows = np.repeat(np.arange(len(X)), 20)
    once, often = augmenter.transform(X), augmenter.transform(X[rows])
    assert len(often.borrowed.items) == len(once.borrowed.items) > 0
    assert np.array_equal(often.borrowed.start, once.borrowed.start[rows])


def test_embeddings_are_made_of_donors_and_low_active_rows_only():
    X = world(3, n_users=40, n_events=500, users=None)
    encoder = HistoryEncoder(X.catalog.embedding)
    X = X.with_user_encoder(encoder)
    augmenter = fitted(X, activity="user", n_lookalikes=0)
    assert sum(encoder.calls) <= augmenter.n_donors_ + 1
    encoder.calls.clear()
    rows = np.repeat(np.arange(len(X)), 3)
    longest = {u: X.history.length[X.user_ids == u].max() for u in np.unique(X.user_ids)}
    n_low = sum(longest[u] <= augmenter.low_threshold_ for u in X.user_ids)
    assert 0 < n_low < len(X) / 2
    augmenter.transform(X[rows])
    assert sum(encoder.calls) <= n_low


def test_whatever_was_borrowed_before_is_replaced(X):
    augmenter = fitted(X)
    once = augmenter.transform(X)
    assert as_tuples(augmenter.transform(once)) == as_tuples(once)


# --- other catalogues, other containers ---------------------------------------------------------


def test_rows_of_another_catalogue(X):
    augmenter = fitted(X, relevance="both", n_neighbors=2)
    expected = as_tuples(augmenter.transform(X))
    # The same rows over a catalogue in another order that lacks what these rows don't name.
    rows = np.flatnonzero([len(row) > 0 for row in expected])[:5]
    few = X[rows].with_user_embedding(X[rows].user_embedding)
    used = np.unique(np.concatenate([few.target, *(few.history.row(r) for r in range(5))]))[::-1]
    codes = np.full(len(X.catalog), -1, dtype=np.int32)
    codes[used] = np.arange(len(used))
    for embedding in (None, X.catalog.embedding[used]):
        catalog = ItemCatalog(X.catalog.ids[used], embedding=embedding)
        other = Impressions(
            catalog,
            np.append(X.users[::-1], 10**6),
            (len(X.users) - 1 - few.user).astype(np.int32),
            codes[few.target],
            few.history.compact().recode(codes),
            time=few.time,
            _embedding=few._embedding,
        )
        out = augmenter.transform(other)
        assert as_tuples(out) == [expected[r] for r in rows]
        assert np.array_equal(out.catalog.ids[: len(used)], catalog.ids)
        if embedding is not None:
            added = out.catalog.ids[len(used) :]
            assert len(added)
            assert np.array_equal(
                out.catalog.embedding[len(used) :], X.catalog.embedding[X.catalog.codes(added)]
            )


def test_new_items_have_the_embedding_of_their_catalogue(X):
    augmenter = fitted(X, relevance="target")
    row = int(np.argmax(augmenter.transform(X).borrowed.length))
    twin = X.catalog.embedding[X.target[row]]
    catalog = X.catalog.extend([10**6])
    embedding = catalog.embedding.copy()
    embedding[-1] = twin
    rows = X[[row]].with_user_embedding(X[[row]].user_embedding)
    new = Impressions(
        catalog.with_embedding(embedding), rows.users, rows.user,
        np.array([len(catalog) - 1], dtype=np.int32), rows.history, time=rows.time,
        _embedding=rows._embedding,
    )  # fmt: skip
    assert as_tuples(augmenter.transform(new)) == as_tuples(augmenter.transform(rows))


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("strings", [False, True])
@pytest.mark.parametrize("users", ["encoder", None])
def test_same_from_frames(frame, strings, users):
    X = world(5, n_users=30, n_events=300, strings=strings, users=users)
    expected = as_tuples(fitted(X).transform(X))
    assert any(expected)
    table = X.to_frame(frame)
    augmenter = fitted(Impressions.from_frame(table, X.catalog))
    assert as_tuples(augmenter.transform(X)) == expected
    # A table knows items by their ids alone, as a server gets it: fit knows their vectors.
    assert as_tuples(augmenter.transform(table)) == expected
    assert as_tuples(fitted(X).transform(table)) == expected


def test_a_pickle_leaves_raw_content_out():
    X = world(0, n_users=30, n_events=200)
    content = {"text": ["x" * 100_000] * len(X.catalog)}
    catalog = ItemCatalog(X.catalog.ids, content=content, embedding=X.catalog.embedding)
    assert len(pickle.dumps(fitted(X.with_catalog(catalog)))) < 50_000


# --- definitions --------------------------------------------------------------------------------


def rows_of(lengths: dict[str, int], *, target: int = 1, **columns) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user_id": list(lengths),
            "item_id": target,
            "history": [[1 + k % 4 for k in range(n)] for n in lengths.values()],
            **columns,
        }
    )


CATALOG = ItemCatalog([1, 2, 3, 4], embedding=np.array([[1, 0], [0.5, 1], [0, 1], [-1, 0.2]]))


def test_quantile_ties_are_all_in():
    # 3 of 10 users would be the bottom 30 %, but five have the same length; likewise at the top.
    lengths = dict(zip("abcdefghij", [2, 2, 2, 2, 2, 5, 8, 8, 8, 8]))
    X = Impressions.from_frame(rows_of(lengths), CATALOG)
    augmenter = fitted(X, theta=-1)
    assert (augmenter.low_threshold_, augmenter.high_threshold_) == (2, 8)
    assert augmenter.donor_ids_.tolist() == list("ghij")
    out = augmenter.transform(rows_of(lengths))
    assert (out.borrowed.length > 0).tolist() == [True] * 5 + [False] * 5


def test_who_would_be_both_is_low_active():
    lengths = dict(zip("abcdefghij", [2] * 9 + [9]))
    augmenter = fitted(Impressions.from_frame(rows_of(lengths), CATALOG), theta=-1)
    assert augmenter.low_threshold_ == augmenter.high_threshold_ == 2
    assert augmenter.donor_ids_.tolist() == ["j"]


def test_activity_is_that_of_the_row_and_quantiles_are_over_users_or_rows():
    """How active a user is going to be is not known at the moment of a row."""
    lengths = dict(zip("abcdefghij", range(1, 11)))
    two_of_a = pd.concat([rows_of({"a": 0}), rows_of(lengths)])
    train = Impressions.from_frame(two_of_a, CATALOG)
    by_user = fitted(train, theta=-1, activity="user")
    by_row = fitted(train, theta=-1, activity="row")
    assert by_user.low_threshold_ == pytest.approx(np.quantile(range(1, 11), 0.3))
    assert by_row.low_threshold_ == pytest.approx(np.quantile(range(11), 0.3))
    for augmenter in (by_user, by_row):
        # a was low-active in fit and has grown since, j was not, k is new.
        later = rows_of({"a": 2, "j": 2, "k": 2})
        assert (augmenter.transform(later).borrowed.length > 0).all()
        later = rows_of({"a": 5, "j": 5, "k": 5})
        assert not augmenter.transform(later).borrowed.length.any()


def test_several_donors_stand_in_order_of_similarity():
    X = Impressions.from_frame(
        pd.DataFrame(
            {
                "user_id": ["low", "p", "q", "r"],
                "item_id": 1,
                "history": [[1], [1, 2, 1], [3, 4, 3], [4, 4, 4]],
                "user_embedding": [[1.0, 0.0], [1.0, 0.1], [1.0, 0.9], [-1.0, 0.0]],
            }
        ),
        CATALOG,
    )
    settings = {"low_quantile": 0, "high_quantile": 0.2, "user_representation": "embedding"}
    augmenter = fitted(X, strategy="kth", n_neighbors=2, **settings)
    (row, *others) = as_tuples(augmenter.transform(X))
    assert [(item, donor) for item, donor, *_ in row] == [
        (3, "q"), (4, "q"), (3, "q"), (1, "p"), (2, "p"), (1, "p"),
    ]  # fmt: skip
    assert not any(others)
    one = clone(augmenter).set_params(strategy="most_similar").fit(X).transform(X)
    assert as_tuples(one)[0] == row[3:]
    cut = clone(augmenter).set_params(max_length=5).fit(X).transform(X)
    assert as_tuples(cut)[0] == row[-4:]
    few = clone(augmenter).set_params(max_borrowed=2).fit(X).transform(X)
    assert as_tuples(few)[0] == row[-2:]


def test_dp_borrows_what_matches_in_order():
    X = Impressions.from_frame(
        pd.DataFrame(
            {
                "user_id": ["low", "p", "q"],
                "item_id": 1,
                "history": [[1, 3], [3, 2, 1, 4, 4, 3], [4, 4, 4]],
                "user_embedding": [[1.0, 0.0], [1.0, 0.1], [-1.0, 0.9]],
            }
        ),
        CATALOG,
    )
    augmenter = fitted(X, strategy="dp", theta=0.9, user_representation="embedding")
    assert [item for item, *_ in as_tuples(augmenter.transform(X))[0]] == [1, 3]


def test_a_row_without_history_borrows_nothing():
    X = Impressions.from_frame(rows_of({"a": 0, "b": 1, "c": 4, "d": 5, "e": 6}), CATALOG)
    augmenter = fitted(X, theta=-1)
    assert augmenter.transform(X).borrowed.length.tolist()[0] == 0
    assert augmenter.transform(X).borrowed.length.tolist()[1] > 0


def test_a_donor_without_event_before_the_impression_is_passed_over():
    lengths = {"early": 1, "late": 1, "p": 3, "q": 3}
    times = [50.0, 500.0, 900.0, 900.0]
    events = [[1.0], [1.0], [100.0, 110.0, 120.0], [10.0, 20.0, 600.0]]
    X = Impressions.from_frame(
        rows_of(
            lengths,
            timestamp=times,
            history_timestamp=events,
            user_embedding=[[1.0, 0.0], [1.0, 0.0], [1.0, 0.1], [-1.0, 0.1]],
        ),
        CATALOG,
    )
    by = {"strategy": "most_similar", "user_representation": "embedding"}
    out = as_tuples(fitted(X, **by).transform(X))
    assert [(donor, time) for _, donor, *_, time in out[0]] == [("q", 10), ("q", 20)]
    assert [donor for _, donor, *_ in out[1]] == ["p"] * 3
    kept = fitted(X, **by, respect_time=False).transform(X)
    assert [donor for _, donor, *_ in as_tuples(kept)[0]] == ["p"] * 3


def test_features_stand_in_for_an_embedding_each_modality_alike():
    rng = np.random.default_rng(0)
    text, image = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    table = rows_of(dict(zip("abcdef", [1, 1, 4, 5, 6, 7])))
    scaled = []
    for factor in (1.0, 1000.0):
        catalog = ItemCatalog([1, 2, 3, 4], features={"text": text, "image": image * factor})
        X = Impressions.from_frame(table, catalog)
        scaled.append(as_tuples(fitted(X, theta=-1).transform(X)))
    assert scaled[0] == scaled[1]
    assert scaled[0][0]


def test_without_item_embedding_users_can_still_be_compared():
    X = Impressions.from_frame(
        rows_of(dict(zip("abcd", [1, 4, 5, 6])), user_embedding=[[1.0], [2.0], [0.0], [3.0]])
    )
    out = fitted(X, strategy="most_similar").transform(X)
    assert out.borrowed.length[0] > 0
    assert np.isnan(out.borrowed.similarity).all()


# --- planted look-alikes ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_donors_are_of_the_users_own_group(seed):
    datasets = pytest.importorskip("skmars.datasets")
    X, _, truth = datasets.make_multimodal_ctr(random_state=seed, return_truth=True)
    rng = np.random.default_rng(seed)
    mixed = truth.item_factors @ rng.normal(size=(truth.item_factors.shape[1], 24)) + 1.0
    X = X.with_catalog(X.catalog.with_embedding(mixed))
    out = fitted(X, theta=-1).transform(X)
    group = dict(zip(X.users, truth.group))
    rows = np.flatnonzero(out.borrowed.length)
    donors = out.borrowed.donors[out.borrowed.donor[out.borrowed.start[rows]]]
    same = [group[d] == group[u] for d, u in zip(donors, out.user_ids[rows])]
    assert len(same) > 50
    assert np.mean(same) >= 0.9


def test_sequences_are_valid(X):
    borrowed = fitted(X, n_neighbors=3).transform(X).borrowed
    assert isinstance(borrowed, Sequences)
    n = len(borrowed.items)
    assert borrowed.items.dtype == np.int32
    assert borrowed.length.dtype == np.int32
    assert borrowed.start.dtype == np.int64
    for name in ("feedback", "time", "donor", "similarity", "donor_similarity"):
        assert len(getattr(borrowed, name)) == n
    assert borrowed.similarity.dtype == borrowed.donor_similarity.dtype == np.float32
    assert (borrowed.start + borrowed.length <= n).all()


def test_another_space_is_noticed(X):
    augmenter = fitted(X)
    moved = X.with_catalog(X.catalog.with_embedding(X.catalog.embedding[:, ::-1]))
    with pytest.raises(ValueError, match=r"items have changed.*Fit the augmenter again"):
        augmenter.transform(moved)
    again = X.catalog.embedding * np.float32(1 + 1e-6)  # computed in other batches, say
    augmenter.transform(X.with_catalog(X.catalog.with_embedding(again)))
