"""A feature of a training row knows nothing of the row's own click: what `fit_transform` owes."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import Pipeline

from skmars import (
    DINClassifier,
    Impressions,
    ItemCatalog,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
    leave_last_out,
    make_multimodal_ctr,
)
from skmars.alignment._item_factors import MIN_USERS, ItemFactors, user_item_matrix
from skmars.data._columns import FACTORS
from skmars.data._folds import EVERYBODY, OWN, user_folds

N_ITEMS = 12
ALIGNED = {"id_dim": 8, "max_iter": 1, "random_state": 0}


def random_log(seed: int, n_users: int = 30, n: int = 8) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(n_users), n)
    return pd.DataFrame(
        {
            "user_id": user,
            "item_id": rng.integers(0, N_ITEMS, len(user)),
            "timestamp": rng.integers(0, 60, len(user)),  # with ties
            "clicked": rng.integers(0, 2, len(user)),
        }
    )


def catalog(seed: int = 0) -> ItemCatalog:
    vectors = np.random.default_rng(seed).normal(size=(N_ITEMS, 6))
    return ItemCatalog(np.arange(N_ITEMS), features={"text": vectors})


def read(log: pd.DataFrame, history: str, times: bool) -> Impressions:
    settings = {"time": "timestamp"} if times else {"time": None, "order": "timestamp"}
    return Impressions.from_log(
        log, catalog(), label="clicked", history=history, duplicates="keep", **settings
    )[0]


def features_of(X: Impressions, row: int) -> dict[str, np.ndarray]:
    """Return what a classifier reads of a row: history, borrowed items, what look-alikes did."""
    found = {name: column[row] for name, column in X.context.items()}
    for part, sequences in (("history", X.history), ("borrowed", X.borrowed)):
        at = sequences[[row]].positions()
        found[f"{part} items"] = X.catalog.ids[sequences.items[at]]
        for name in ("feedback", "similarity", "donor_similarity", "time"):
            values = getattr(sequences, name)
            if values is not None:
                found[f"{part} {name}"] = values[at]
        if sequences.donor is not None:
            found[f"{part} donors"] = sequences.donors[sequences.donor[at]]
    return found


@given(
    st.integers(0, 10**6),
    st.sampled_from(["all", "positive"]),
    st.booleans(),
    st.sampled_from(["row", "user"]),
    st.sampled_from(["filter", "most_similar", "dp"]),
)
def test_neither_a_rows_click_nor_the_users_future_changes_its_features(
    seed, history, times, activity, strategy
) -> None:
    log = random_log(seed)
    row = seed % len(log)
    settings = {"activity": activity, "strategy": strategy, "theta": -0.5}
    before = SequenceRetrievalAugmenter(**settings)
    one = before.fit_transform(read(log, history, times))
    # The row's own click, and whatever the user does at its moment or later.
    now = (log.user_id == log.user_id[row]) & (log.timestamp >= log.timestamp[row])
    other = log.copy()
    rng = np.random.default_rng(seed + 1)
    other.loc[now, "clicked"] = 1 - other.clicked[now]
    later = now & (np.arange(len(log)) != row)
    other.loc[later, "item_id"] = rng.integers(0, N_ITEMS, later.sum())
    after = SequenceRetrievalAugmenter(**settings)
    two = after.fit_transform(read(other, history, times))
    # Who is low-active depends on how long all histories are, by two numbers.
    assume(before.low_threshold_ == after.low_threshold_)
    high = {a.high_threshold_ for a in (before, after)}
    assume(len(high) == 1)
    for name, value in features_of(one, row).items():
        np.testing.assert_array_equal(value, features_of(two, row)[name], err_msg=name)


@given(st.integers(0, 10**6), st.booleans())
def test_a_fold_of_factors_knows_nothing_of_its_users(seed, feedback) -> None:
    """In the basis of all users, which is one for all folds."""
    history = "all" if feedback else "positive"
    log = random_log(seed)
    X = read(log, history, times=True)
    factors = ItemFactors.of(X, 4, 0, ["text"])
    assume(factors is not None)
    k = seed % 3
    hidden = np.isin(log.user_id, np.flatnonzero(user_folds(np.arange(30), 3) == k))
    rng = np.random.default_rng(seed + 1)
    other = log.copy()
    other.loc[hidden, "item_id"] = rng.integers(0, N_ITEMS, hidden.sum())
    other.loc[hidden, "clicked"] = rng.integers(0, 2, hidden.sum())
    Z = read(other, history, times=True)
    # The columns are scaled to length one, which is part of the basis.
    _, matrix = user_item_matrix(X)
    _, changed = user_item_matrix(Z)
    codes = X.catalog.codes(factors.ids)
    lengths = [m[:, codes].power(2).sum(axis=0) for m in (matrix, changed)]
    ours, theirs = factors.out_of_fold(X, 3)[k], factors.out_of_fold(Z, 3)[k]
    np.testing.assert_array_equal(ours.ids, theirs.ids)
    same = np.isin(ours.ids, factors.ids[lengths[0] == lengths[1]])
    if same.all():
        np.testing.assert_allclose(ours.vectors, theirs.vectors, atol=1e-5)


def test_without_nobody_the_factors_are_those_of_all_users() -> None:
    X = read(random_log(0), "all", times=True)
    factors = ItemFactors.of(X, 4, 0, ["text"])
    n_folds = 100  # most of which no user is in
    empty = np.setdiff1d(np.arange(n_folds), user_folds(X.users, n_folds))[0]
    without = factors.out_of_fold(X, n_folds)[empty]
    np.testing.assert_array_equal(without.ids, factors.ids)
    np.testing.assert_allclose(without.vectors, factors.vectors, atol=1e-5)


def test_items_that_few_others_know_lack_factors_in_the_fold() -> None:
    X = read(random_log(0, n_users=12, n=4), "all", times=True)
    factors = ItemFactors.of(X, 3, 0)
    users, matrix = user_item_matrix(X)
    fold = user_folds(users.ids, 3)
    for k, without in enumerate(factors.out_of_fold(X, 3)):
        rest = matrix[np.flatnonzero(fold != k)]
        touched = np.bincount(rest.indices, minlength=N_ITEMS)  # also who liked and disliked it
        expected = np.intersect1d(factors.ids, X.catalog.ids[touched >= MIN_USERS])
        np.testing.assert_array_equal(without.ids, expected)


# --- rows of a fold go through the pipeline ------------------------------------------------------


@pytest.fixture(scope="module")
def world() -> tuple[Impressions, np.ndarray, SteinAligner, Impressions]:
    X, y = make_multimodal_ctr(n_users=80, n_items=40, random_state=0)
    X = MultimodalEncoder().fit_transform(X)
    aligner = SteinAligner(16, **ALIGNED)
    return X, y, aligner, aligner.fit_transform(X, y)


def test_each_row_sees_the_items_of_its_fold(world) -> None:
    X, _, aligner, out = world
    np.testing.assert_array_equal(out.fold, user_folds(X.users, 5)[X.user])
    whole = aligner.transform(X)
    assert len(out.catalog.folds) == 5
    np.testing.assert_array_equal(out.catalog.features[FACTORS], whole.catalog.features[FACTORS])
    for k, folded in enumerate(aligner.encoder_.out_of_fold(X, 5)):
        seen = out.catalog.in_fold(k)
        assert np.abs(seen.features[FACTORS] - whole.catalog.features[FACTORS]).max() > 0.1
        assert seen.features["text"] is X.catalog.features["text"]
        np.testing.assert_allclose(seen.embedding, folded.embed_items(X.catalog), atol=1e-6)
        rows = np.flatnonzero(out.fold == k)
        np.testing.assert_allclose(out[rows].user_embedding, folded(X[rows]), atol=1e-6)
    assert np.abs(out.user_embedding - whole.user_embedding).max() > 1e-3


def test_din_reads_the_items_of_each_rows_fold(world) -> None:
    _, y, _, out = world
    din = DINClassifier(item_features=["factors", "text", "aligned"], max_iter=1, random_state=0)
    score = din.fit(out, y).decision_function(out)
    for k in range(5):
        rows = np.flatnonzero(out.fold == k)
        alone = out[rows].with_catalog(out.catalog.in_fold(k)).with_fold(None)
        np.testing.assert_allclose(din.decision_function(alone), score[rows], atol=1e-5)


def test_donors_are_of_other_folds_and_nothing_else_is_lost(world) -> None:
    _, _, _, out = world
    augmented = SequenceRetrievalAugmenter(theta=-0.5).fit_transform(out)
    np.testing.assert_array_equal(augmented.fold, out.fold)
    np.testing.assert_array_equal(augmented.target, out.target)
    borrowed = augmented.borrowed
    row = np.repeat(np.arange(len(out)), borrowed.length)
    donors = borrowed.donors[borrowed.donor[borrowed.positions()]]
    assert len(donors) > 100
    assert (user_folds(donors, 5) != out.fold[row]).all()
    lent = {
        user: set(out.history.row(np.argmax((out.user_ids == user) * (1 + out.history.length))))
        for user in np.unique(donors)
    }
    items = borrowed.items[borrowed.positions()]
    assert all(item in lent[donor] for item, donor in zip(items, donors))


def test_training_rows_that_know_their_answer_are_noticed(world) -> None:
    X, y, aligner, out = world
    train, _, test = leave_last_out(X)
    through_transform = aligner.transform(X)
    assert set(through_transform.fold) == {OWN, EVERYBODY}
    din = DINClassifier(max_iter=1, random_state=0)
    with pytest.warns(UserWarning, match="Let the earlier steps make them by fit_transform"):
        din.fit(through_transform, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        din.fit(out, y)
        steps = [("align", SteinAligner(16, **ALIGNED)), ("ctr", din)]
        Pipeline(steps).fit(X[train], y[train]).predict_proba(X[test])
        # Rows after those of fit are nobody's own answer.
        early = aligner.fit(X[train], y[train])
        assert early.transform(X[test]).fold is None
    augmenter = SequenceRetrievalAugmenter().fit(X[train])
    assert (augmenter.transform(X[train]).fold == OWN).any()
    assert augmenter.transform(X[test]).fold is None


def test_tables_keep_the_fold_of_each_row(world) -> None:
    _, y, _, out = world
    din = DINClassifier(max_iter=1, random_state=0)
    expected = din.fit(out, y).predict_proba(out)
    table = out.to_frame("pandas").drop(columns="user_embedding")
    again = Impressions.from_frame(table, out.catalog)
    np.testing.assert_array_equal(again.fold, out.fold)
    np.testing.assert_allclose(din.predict_proba(again), expected, atol=1e-6)
    whole = out.catalog.with_folds(())
    with pytest.raises(ValueError, match="catalogue of X has those of all users only"):
        din.fit(Impressions.from_frame(table, whole), y)


def test_going_on_with_new_users_keeps_what_is_known_of_everybody(world) -> None:
    X, y, _, _ = world
    old = X.user < 60
    aligner = SteinAligner(16, warm_start=True, **ALIGNED)
    aligner.fit(X[old], y[old])
    out = aligner.fit_transform(X, y)
    assert (out.fold[~old] == EVERYBODY).all()
    assert (out.fold[old] >= 0).any()


# --- labels of chance -----------------------------------------------------------------------------


def coin_flips(history: str, times: bool, seed: int) -> tuple[Impressions, np.ndarray]:
    """Each user is shown 4 to 24 of 300 items; clicks are the tosses of a coin."""
    rng = np.random.default_rng(seed)
    n_each = rng.integers(4, 25, 500)
    user = np.repeat(np.arange(len(n_each)), n_each)
    item = np.concatenate([rng.choice(300, n, replace=False) for n in n_each])
    log = pd.DataFrame({"user_id": user, "item_id": item, "clicked": rng.integers(0, 2, len(user))})
    if times:
        log["timestamp"] = rng.permutation(len(log))
    return Impressions.from_log(log, label="clicked", history=history)


@pytest.mark.parametrize(
    ("history", "times", "settings"),
    [
        ("all", True, {}),
        ("positive", False, {}),
        ("all", False, {"augment__n_lookalikes": 0}),
        ("positive", True, {"ctr__item_features": ["factors", "aligned"]}),
    ],
)
def test_chance_is_worth_nothing_and_costs_log_2(history, times, settings) -> None:
    X, y = coin_flips(history, times, seed=0)
    train, _, test = leave_last_out(X)
    align = SteinAligner(32, modalities=(), early_stopping=True, **{**ALIGNED, "max_iter": 3})
    steps = [("align", align), ("augment", SequenceRetrievalAugmenter())]
    model = Pipeline([*steps, ("ctr", DINClassifier(max_iter=5, random_state=0))]).set_params(
        **settings
    )
    model.fit(X[train], y[train])
    # Of about 650 held-out rows, AUC has a standard deviation of 0.023.
    assert np.mean(model["ctr"].validation_scores_) == pytest.approx(0.5, abs=0.06)
    assert np.mean(model["align"].validation_scores_) == pytest.approx(0.5, abs=0.06)
    assert log_loss(y[test], model.predict_proba(X[test])[:, 1]) < 0.71


@pytest.mark.parametrize("history", ["all", "positive"])
def test_what_look_alikes_lend_and_did_tells_nothing_of_the_click_of_a_training_row(
    history,
) -> None:
    """Also where the aligner has learnt the clicks of the very rows by heart."""
    X, y = coin_flips(history, times=True, seed=1)
    aligner = SteinAligner(64, modalities=(), **{**ALIGNED, "max_iter": 8})
    out = SequenceRetrievalAugmenter(theta=-0.2).fit_transform(aligner.fit_transform(X, y))
    borrowed = out.borrowed
    total = np.bincount(
        np.repeat(np.arange(len(out)), borrowed.length),
        borrowed.similarity[borrowed.positions()],
        minlength=len(out),
    )
    columns = {**out.context, "n borrowed": borrowed.length, "their similarity": total}
    assert len(columns) >= 4
    for name, column in columns.items():
        assert abs(np.corrcoef(column, y)[0, 1]) < 0.05, name  # 3.5 standard deviations


def test_look_alikes_tell_nothing_of_the_clicks_of_users_of_the_fit() -> None:
    """Of the same item, in `transform`, where only the row's own user is left out.

    Histories are of all events: what is in a history of likes tells which items were liked, and
    `Impressions.fold` marks such rows.
    """
    X, y = coin_flips("all", times=False, seed=2)
    X = with_vectors(X)
    Z = SequenceRetrievalAugmenter(strategy="most_similar").fit(X).transform(X)
    _, item = np.unique(X.target, return_inverse=True)
    for name in set(Z.context) - set(X.context):
        column = np.asarray(Z.context[name])
        within = column - (np.bincount(item, column) / np.bincount(item))[item]
        assert abs(roc_auc_score(y, within) - 0.5) < 0.03, name


def with_vectors(X: Impressions) -> Impressions:
    """Give items vectors by which donors can be compared."""
    vectors = np.random.default_rng(0).normal(size=(len(X.catalog), 4))
    return X.with_catalog(X.catalog.with_features({"text": vectors}))
