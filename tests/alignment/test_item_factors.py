"""Item factors, against a dense factorisation and planted tastes."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import normalize

from skmars import Impressions, ItemCatalog, SteinAligner
from skmars.alignment import _item_factors as module
from skmars.alignment._item_factors import MIN_USERS, ItemFactors, user_item_matrix
from skmars.data import Sequences
from skmars.data._columns import FACTORS

from .reference import world


def tastes(n_users: int = 60, n_items: int = 20, n: int = 6) -> Impressions:
    """Draw users who touch even items, or odd ones; a row for each prefix of their histories."""
    rng = np.random.default_rng(0)
    histories = [
        rng.choice(np.arange(u % 2, n_items, 2), n, replace=False).astype(np.int32)
        for u in range(n_users)
    ]
    user = np.repeat(np.arange(n_users, dtype=np.int32), n)
    length = np.tile(np.arange(n, dtype=np.int32), n_users)
    history = Sequences(np.concatenate(histories), user.astype(np.int64) * n, length)
    target = np.concatenate(histories)
    catalog = ItemCatalog(np.arange(n_items), features={"text": rng.normal(size=(n_items, 4))})
    return Impressions(catalog, np.arange(n_users), user, target, history)


def gram(vectors: ItemFactors) -> np.ndarray:
    """Return what a rotation of the factors cannot change."""
    return vectors.vectors @ vectors.vectors.T


@pytest.mark.parametrize("history", ["all", "positive"])
def test_the_user_item_matrix_is_that_of_the_longest_histories(history) -> None:
    X, _ = world(3, history=history)
    expected = np.zeros((len(np.unique(X.user)), len(X.catalog)))
    for i, user in enumerate(np.unique(X.user)):
        rows = np.flatnonzero(X.user == user)
        row = rows[np.argmax(X.history.length[rows])]
        at = slice(X.history.start[row], X.history.start[row] + X.history.length[row])
        liked = None if X.history.feedback is None else X.history.feedback[at]
        for j, code in enumerate(X.history.items[at]):
            expected[i, code] += 1.0 if liked is None or liked[j] else -1.0
    np.testing.assert_array_equal(user_item_matrix(X)[1].toarray(), expected)


def test_all_factors_together_are_the_matrix() -> None:
    X = tastes()
    made = ItemFactors.of(X, 1000, 0)
    assert made is not None
    columns = normalize(user_item_matrix(X)[1].toarray()[:, X.catalog.codes(made.ids)], axis=0)
    # All but one: a truncated decomposition leaves one direction out.
    s = np.linalg.svd(columns, compute_uv=False)
    np.testing.assert_allclose(np.trace(gram(made)), np.sum(s[:-1] ** 2), rtol=1e-4)
    assert np.abs(gram(made) - columns.T @ columns).max() <= s[-1] ** 2 + 1e-5


def test_items_of_one_taste_are_alike() -> None:
    made = ItemFactors.of(tastes(), 2, 0)
    cosine = gram(replace(made, vectors=normalize(made.vectors)))
    same = made.ids[:, None] % 2 == made.ids % 2
    assert cosine[same].min() > 0.9
    assert np.abs(cosine[~same]).max() < 0.1


def test_neither_the_order_of_rows_nor_shorter_histories_matter() -> None:
    X = tastes()
    expected = ItemFactors.of(X, 5, 0)
    shuffled = X[np.random.RandomState(0).permutation(len(X))]
    longest = X[X.history.length == X.history.length.max()]
    for other in (shuffled, longest, X[np.repeat(np.arange(len(X)), 2)]):
        made = ItemFactors.of(other, 5, 0)
        np.testing.assert_array_equal(made.ids, expected.ids)
        np.testing.assert_allclose(gram(made), gram(expected), atol=1e-5)


def test_items_of_too_few_users_have_no_factors() -> None:
    X = tastes(n_users=10)
    n_users_of = np.count_nonzero(user_item_matrix(X)[1].toarray(), axis=0)
    made = ItemFactors.of(X, 3, 0)
    assert 0 < np.count_nonzero(n_users_of < MIN_USERS) < len(X.catalog)
    np.testing.assert_array_equal(made.ids, X.catalog.ids[n_users_of >= MIN_USERS])
    described = made.attach(X.catalog)
    np.testing.assert_array_equal(described.missing[FACTORS], n_users_of < MIN_USERS)
    assert not described.features[FACTORS][n_users_of < MIN_USERS].any()


def with_telling_text(X: Impressions, lacks: np.ndarray) -> Impressions:
    """Let the text say which taste an item is of, with noise; some items lack it."""
    rng = np.random.default_rng(1)
    n = len(X.catalog)
    text = np.stack([np.arange(n) % 2, 1 - np.arange(n) % 2], axis=1) + 0.1 * rng.normal(
        size=(n, 2)
    )
    text[lacks] = np.nan  # rows of a missing modality are ignored
    return X.with_catalog(ItemCatalog(X.catalog.ids).with_features({"text": text}, {"text": lacks}))


def test_new_items_get_the_factors_that_their_text_promises() -> None:
    X = tastes(n_items=24)
    lacks = np.arange(24) == 5
    X = with_telling_text(X, lacks)
    new = np.isin(np.arange(24), [2, 3, 5])
    old = X[~np.isin(X.user, np.unique(X.user[new[X.target]]))]  # nobody has the new items
    made = ItemFactors.of(old, 2, 0, ["text"])
    assert not np.isin(np.flatnonzero(new), made.ids).any()
    plain = made.attach(X.catalog)
    full = made.predict(plain)
    np.testing.assert_array_equal(full.missing[FACTORS], lacks)
    known = ~plain.missing[FACTORS]
    np.testing.assert_array_equal(full.features[FACTORS][known], plain.features[FACTORS][known])
    units = normalize(full.features[FACTORS])
    for item in (2, 3):
        cosine = units[known] @ units[item]
        same = np.flatnonzero(known) % 2 == item % 2
        assert cosine[same].min() > 0.8
        assert cosine[~same].max() < 0.5


def test_predicted_vectors_are_for_later_steps_only() -> None:
    """The aligned space treats such an item as before: it lacks the modality."""
    X = with_telling_text(tastes(n_users=12), np.zeros(20, dtype=bool))
    y = np.arange(len(X)) % 2
    aligner = SteinAligner(4, id_dim=4, n_factors=2, max_iter=1, random_state=0).fit(X, y)
    catalog = aligner.transform(X).catalog
    described = aligner.encoder_.with_factors(X.catalog)
    predicted = described.missing[FACTORS]
    assert predicted.any()
    assert not catalog.missing[FACTORS].any()
    again = aligner.transform(X.with_catalog(catalog)).catalog
    np.testing.assert_array_equal(again.embedding, catalog.embedding)
    np.testing.assert_array_equal(again.features[FACTORS], catalog.features[FACTORS])


@pytest.mark.parametrize("n_users", [1, 2])
def test_too_few_users_say_nothing(n_users) -> None:
    X = tastes(n_users)
    assert ItemFactors.of(X, 3, 0) is None
    y = np.arange(len(X)) % 2
    aligned = SteinAligner(4, id_dim=4, max_iter=1, random_state=0).fit(X, y).transform(X)
    assert FACTORS not in aligned.catalog.features


def test_the_aligner_attaches_them_and_catalogues_of_other_items_take_them_by_id() -> None:
    X = tastes()
    y = np.arange(len(X)) % 2
    aligner = SteinAligner(4, id_dim=4, n_factors=3, max_iter=1, random_state=0).fit(X, y)
    known = aligner.transform(X).catalog
    assert known.features[FACTORS].shape == (20, 3)
    aligner = pickle.loads(pickle.dumps(aligner))
    ids = np.array([100, 7, 3])
    other = ItemCatalog(ids, features={"text": np.ones((3, 4))})
    one = np.zeros(1, np.int32)
    history = Sequences(one + 2, np.zeros(1, np.int64), one + 1)
    Y = Impressions(other, np.arange(1), one, one + 1, history)
    described = aligner.transform(Y).catalog
    assert not described.missing[FACTORS].any()  # that of item 100 is predicted
    np.testing.assert_array_equal(described.features[FACTORS][1:], known.features[FACTORS][[7, 3]])
    assert np.isfinite(described.embedding).all()


def test_without_factors_as_printed() -> None:
    X = tastes()
    y = np.arange(len(X)) % 2
    aligner = SteinAligner(4, id_dim=4, n_factors=0, max_iter=1, random_state=0).fit(X, y)
    assert list(aligner.encoder_.network.modality_sizes) == ["text"]
    assert list(aligner.transform(X).catalog.features) == ["text"]


def test_impressions_that_were_aligned_before_can_be_aligned_anew() -> None:
    X = tastes()
    y = np.arange(len(X)) % 2
    aligner = SteinAligner(4, id_dim=4, n_factors=3, max_iter=1, random_state=0)
    once = aligner.fit(X, y).transform(X)
    again = aligner.fit(once, y).transform(once)
    np.testing.assert_array_equal(again.catalog.embedding, once.catalog.embedding)


def test_partial_fit_keeps_the_factors_of_the_first_call() -> None:
    X = tastes()
    y = np.arange(len(X)) % 2
    aligner = SteinAligner(4, id_dim=4, n_factors=3, random_state=0)
    first = aligner.partial_fit(X[:100], y[:100]).transform(X).catalog
    later = aligner.partial_fit(X, y).transform(X).catalog
    for mapping in ("features", "missing"):
        np.testing.assert_array_equal(
            getattr(first, mapping)[FACTORS], getattr(later, mapping)[FACTORS]
        )


def test_a_single_factor_is_predicted_too() -> None:
    X = with_telling_text(tastes(n_items=24), np.zeros(24, dtype=bool))
    old = X[~np.isin(X.user, np.unique(X.user[X.target == 2]))]
    made = ItemFactors.of(old, 1, 0, ["text"])
    full = made.predict(made.attach(X.catalog))
    assert full.features[FACTORS].shape == (24, 1)
    assert not full.missing[FACTORS].any()


def test_factors_beyond_the_rank_of_the_matrix_are_left_out() -> None:
    """They are what rounding leaves, which a division by the singular value would blow up."""
    n_users, n = 40, 5
    items = np.concatenate([np.arange(n) + n * (u % 2) for u in range(n_users)]).astype(np.int32)
    history = Sequences(items, np.arange(n_users) * n, np.full(n_users, n, np.int32))
    user = np.arange(n_users, dtype=np.int32)
    X = Impressions(ItemCatalog(np.arange(2 * n)), np.arange(n_users), user, user % 10, history)
    made = ItemFactors.of(X, 8, 0)
    assert made.vectors.shape == (10, 2)  # two groups of users, each of one mind
    for fold in made.out_of_fold(X, 3):
        np.testing.assert_allclose(np.abs(fold.vectors), np.abs(made.vectors), rtol=0.3, atol=1e-5)


def test_a_fold_that_holds_all_users_knows_no_item() -> None:
    X = tastes(n_users=6)
    made = ItemFactors.of(X, 2, 0, ["text"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "user_folds", lambda users, n: np.zeros(len(users), np.int8))
        nobody, all_of_them = made.out_of_fold(X, 2)
    assert nobody.regression is None  # that of all users would know what they did
    assert nobody.attach(X.catalog).missing[FACTORS].all()
    np.testing.assert_array_equal(nobody.predict(nobody.attach(X.catalog)).features[FACTORS], 0)
    np.testing.assert_allclose(all_of_them.vectors, made.vectors, atol=1e-5)


# --- going on with further rows -------------------------------------------------------------------


def histories_of(matrix: np.ndarray, n_items: int) -> Impressions:
    """Return a row for each user, whose history holds the items with 1 in their row."""
    table = pd.DataFrame(
        {
            "user_id": np.arange(len(matrix)),
            "item_id": 0,
            "history": [np.flatnonzero(row).tolist() for row in matrix],
        }
    )
    return Impressions.from_frame(table, ItemCatalog(np.arange(n_items)))


def some_matrix(seed: int, n_users: int, n_items: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    taste, kind = rng.normal(size=(n_users, 3)), rng.normal(size=(n_items, 3))
    return (taste @ kind.T + rng.normal(size=(n_users, n_items)) > 1).astype(float)


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_the_fit_give_the_factors_of_the_fit(seed) -> None:
    X = histories_of(some_matrix(seed, 60, 20), 20)
    made = ItemFactors.of(X, 4, 0)
    again = made.continued(X)
    np.testing.assert_array_equal(again.ids, made.ids)
    np.testing.assert_allclose(again.vectors, made.vectors, atol=1e-3)  # a randomised SVD
    # As often as one likes: the basis does not turn.
    further = again
    for _ in range(30):
        further = further.continued(X)
    np.testing.assert_array_equal(further.vectors, again.vectors)


@pytest.mark.parametrize("seed", range(5))
def test_further_users_are_folded_in(seed) -> None:
    """A reference with dense matrices: U = A D V / S of unit columns, then U' a / |a|."""
    A = some_matrix(seed, 90, 24)
    n_users, n_items = 60, 20  # of the fit
    old = histories_of(A[:n_users, :n_items], n_items)
    made = ItemFactors.of(old, 4, 0)
    found = made.continued(histories_of(A, 24))
    fitted = A[:n_users][:, made.ids]
    D = 1 / np.linalg.norm(fitted, axis=0)
    strength = np.linalg.norm(made.vectors, axis=0)
    U = A[:, made.ids] @ (D[:, None] * made.vectors / strength**2)
    U /= np.linalg.norm(U, axis=0)
    known = np.flatnonzero(A.sum(axis=0) >= MIN_USERS)
    expected = (A[:, known] / np.linalg.norm(A[:, known], axis=0)).T @ U
    np.testing.assert_array_equal(found.ids, known)
    np.testing.assert_allclose(found.vectors, expected, atol=1e-5)
    np.testing.assert_array_equal(found.users.ids, np.arange(90))


def test_twice_as_many_users_of_the_same_tastes_change_nothing() -> None:
    A = some_matrix(0, 50, 15)
    made = ItemFactors.of(histories_of(A, 15), 4, 0)
    doubled = made.continued(histories_of(np.vstack([A, A]), 15))
    there = np.isin(doubled.ids, made.ids)
    np.testing.assert_allclose(doubled.vectors[there], made.vectors, atol=1e-3)
