"""Scorers inside scikit-learn's searches, on impressions and on tables."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmars import LeaveLastOut
from skmars.data._checks import as_impressions
from skmars.datasets import make_multimodal_ctr
from skmars.metrics import gauc_score, ndcg_at_k, precision_at_k
from skmars.model_selection import (
    gauc_scorer,
    low_active_auc_scorer,
    make_user_scorer,
    ranking_scorer,
)


def features(X):
    X = as_impressions(X)
    return np.stack([X.history.length, X.item_ids % 7], axis=1).astype(float)


MODEL = make_pipeline(FunctionTransformer(features), LogisticRegression())
X, Y = make_multimodal_ctr(60, 40, mean_length=8, random_state=0)


def test_gauc_scorer_reads_the_users():
    model = MODEL.fit(X, Y)
    expected = gauc_score(Y, model.predict_proba(X)[:, 1], X.user_ids)
    assert gauc_scorer(model, X, Y) == pytest.approx(expected)


def test_low_active_scorer_takes_the_short_histories_ties_included():
    model = MODEL.fit(X, Y)
    activity = np.array([X.history.length[X.user == u].max() for u in range(60)])
    low = activity <= np.quantile(activity, 0.4)
    rows = low[X.user]
    assert low.mean() >= 0.4
    expected = roc_auc_score(Y[rows], model.predict_proba(X)[rows, 1])
    assert low_active_auc_scorer(0.4)(model, X, Y) == pytest.approx(expected)
    # Rows of other users, or users without a row, change nothing but the quantile.
    everybody = low_active_auc_scorer(1.0)
    assert everybody(model, X, Y) == pytest.approx(roc_auc_score(Y, model.predict_proba(X)[:, 1]))


@pytest.mark.parametrize("frame", ["pandas", "polars", "pyarrow"])
def test_tables_score_as_impressions_do(frame):
    model, table = MODEL.fit(X, Y), X.to_frame(frame)
    for scorer in (gauc_scorer, low_active_auc_scorer()):
        assert scorer(model, table, Y) == scorer(model, X, Y)


@pytest.mark.parametrize("data", [X, X.to_frame("pandas"), X.to_frame("polars")])
def test_inside_a_grid_search_with_workers(data):
    search = GridSearchCV(
        MODEL,
        {"logisticregression__C": [1e-3, 1.0]},
        scoring={"gauc": gauc_scorer, "low": low_active_auc_scorer(0.5)},
        refit="gauc",
        cv=KFold(2, shuffle=True, random_state=0),
        n_jobs=2,
        error_score="raise",
    ).fit(data, Y)
    for name in ("gauc", "low"):
        scores = search.cv_results_[f"mean_test_{name}"]
        assert ((scores > 0) & (scores < 1)).all()
    assert search.best_score_ == search.cv_results_["mean_test_gauc"].max()


def test_decision_function_is_preferred_and_enough():
    class Ranker(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            return self

        def decision_function(self, X):
            return X.item_ids.astype(float)

    expected = gauc_score(Y, X.item_ids, X.user_ids)
    assert gauc_scorer(Ranker(), X, Y) == pytest.approx(expected)
    folds = KFold(2)
    scores = cross_validate(Ranker(), X, Y, scoring=gauc_scorer, cv=folds, error_score="raise")
    by_hand = [gauc_score(Y[t], X[t].item_ids, X[t].user_ids) for _, t in folds.split(Y)]
    assert scores["test_score"] == pytest.approx(by_hand)


def test_own_scorer():
    def hit_rate(y_true, y_score, impressions, threshold):
        assert len(impressions) == len(y_true)
        return np.mean((y_score > threshold) == y_true)

    scorer = make_user_scorer(hit_rate, threshold=0.0)
    assert 0 <= scorer(MODEL.fit(X, Y), X, Y) <= 1
    assert repr(scorer) == "make_user_scorer(hit_rate, threshold=0.0)"


def test_scorers_pickle():
    model = MODEL.fit(X, Y)
    for scorer in (gauc_scorer, low_active_auc_scorer(0.2)):
        copy = pickle.loads(pickle.dumps(scorer))
        assert copy(model, X, Y) == scorer(model, X, Y)
        assert repr(copy) == repr(scorer)


def test_errors():
    model = MODEL.fit(X, Y)
    with pytest.raises(ValueError, match=r"The 'quantile' parameter .* Got 30"):
        low_active_auc_scorer(30)
    with pytest.raises(ValueError, match="rows are all of one class"):
        low_active_auc_scorer()(model, X, np.where(X.history.length > 3, Y, 0))
    with pytest.raises(TypeError, match="gauc_scorer works on Impressions .* got ndarray"):
        gauc_scorer(model, np.zeros((3, 2)), [0, 1, 0])
    with pytest.raises(ValueError, match="gauc_scorer needs the target y"):
        gauc_scorer(model, X, None)
    with pytest.raises(TypeError, match="neither decision_function nor predict_proba"):
        gauc_scorer(BaseEstimator(), X, Y)
    with pytest.raises(TypeError, match="score_func must be a function"):
        make_user_scorer("gauc")


@pytest.mark.parametrize("quantile", [None, "a", True, np.nan])
def test_a_quantile_that_is_no_number(quantile):
    with pytest.raises(ValueError, match="The 'quantile' parameter of low_active_auc_scorer"):
        low_active_auc_scorer(quantile)


def test_targets_that_do_not_belong_to_the_rows():
    model = MODEL.fit(X, Y)
    for scorer in (gauc_scorer, low_active_auc_scorer()):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            scorer(model, X, Y[:-1])
        with pytest.raises(ValueError, match="y_true must be binary"):
            scorer(model, X, np.linspace(0, 1, len(Y)))
        with pytest.raises(ValueError, match=r"y_true is empty|0 sample\(s\)"):
            scorer(model, X[:0], Y[:0])


@pytest.mark.parametrize("score", ["0.5", [0.5, 0.6], None])
def test_a_score_that_is_no_number(score):
    def odd(y_true, y_score, impressions):
        return score

    scorer = make_user_scorer(odd)
    with pytest.raises(TypeError, match="odd must return one number, got"):
        scorer(MODEL.fit(X, Y), X, Y)


def pages():
    """Impressions that were shown five at a time."""
    page = replace(X, time=np.floor(np.arange(len(X)) / 5.0))
    return page, [f"{u} {t}" for u, t in zip(page.user_ids, page.time)]


def test_ranking_scorer_takes_users_or_pages_as_groups():
    model, (page, groups) = MODEL.fit(X, Y), pages()
    p = model.predict_proba(X)[:, 1]
    found = ranking_scorer("precision", k=3)(model, page, Y)
    assert found == pytest.approx(precision_at_k(Y, p, X.user_ids, k=3))
    found = ranking_scorer(k=2, groups="moment")(model, page, Y)
    assert found == pytest.approx(ndcg_at_k(Y, p, groups, k=2))
    assert found != pytest.approx(ndcg_at_k(Y, p, X.user_ids, k=2))


def test_ranking_scorer_in_a_search_and_pickled():
    scorer = ranking_scorer("mrr", k=5)
    folds = KFold(2, shuffle=True, random_state=0)
    scores = cross_validate(MODEL, X, Y, scoring=scorer, cv=folds, error_score="raise")
    assert ((scores["test_score"] > 0) & (scores["test_score"] < 1)).all()
    model = MODEL.fit(X, Y)
    assert pickle.loads(pickle.dumps(scorer))(model, X, Y) == scorer(model, X, Y)


@pytest.mark.parametrize("scorer", [gauc_scorer, ranking_scorer(), ranking_scorer("recall", k=2)])
def test_one_row_a_user_is_an_error_that_says_what_to_do(scorer):
    with pytest.raises(ValueError, match="each user has a single row .* Split with TimeSplit"):
        cross_validate(MODEL, X, Y, scoring=scorer, cv=LeaveLastOut(2), error_score="raise")


def test_moments_need_times():
    model, (page, _) = MODEL.fit(X, Y), pages()
    scorer = ranking_scorer(groups="moment")
    with pytest.raises(ValueError, match="groups='moment' needs times, but X has none"):
        scorer(model, replace(page, time=None), Y)
    time = np.where(np.arange(len(X)) == 3, -np.inf, page.time)
    with pytest.raises(ValueError, match="1 rows of X have none .first: row 3"):
        scorer(model, replace(page, time=time), Y)
    with pytest.raises(ValueError, match="each moment has a single row .* groups='user'"):
        scorer(model, replace(page, time=np.arange(len(X), dtype=float)), Y)


@pytest.mark.parametrize(
    ("parameters", "name"),
    [({"metric": "auc"}, "metric"), ({"groups": "item"}, "groups"), ({"k": 0}, "k")],
)
def test_parameters_of_the_ranking_scorer(parameters, name):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of ranking_scorer"):
        ranking_scorer(**parameters)
