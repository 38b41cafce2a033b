"""`compare`: the table, the paired tests behind it, and the words."""

from __future__ import annotations

from html import escape

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import log_loss, roc_auc_score

from skmars import (
    Impressions,
    LeaveLastOut,
    compare,
    gauc_score,
    leave_last_out,
    make_multimodal_ctr,
    make_small_shop,
)
from skmars.metrics import delong_test
from skmars.pipeline._comparison import holm

NETWORKS = dict.fromkeys(["DIN", "DIN + factors", "MARS"])
NONE = dict.fromkeys(["popularity", "click rates", *NETWORKS])


class Noisy(ClassifierMixin, BaseEstimator):
    """Knows the clicks up to a noise: the smaller, the better. Of rows it must not see, no more."""

    def __init__(self, noise: float = 1.0, seed: int = 0, only=None) -> None:
        self.noise = noise
        self.seed = seed
        self.only = only

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        logit = TRUTH[X.user, X.target] - 0.5
        if self.only is not None:
            logit = np.where(X.history.length <= self.only, logit, 0)
        logit = logit + self.noise * np.random.default_rng(self.seed).normal(size=len(X))
        p = 1 / (1 + np.exp(-logit))
        return np.column_stack([1 - p, p])


TRUTH = np.random.default_rng(0).integers(0, 2, (400, 12))


@pytest.fixture(scope="module")
def known() -> tuple[Impressions, np.ndarray]:
    """Users of whom each is shown 2 to 12 items, and `TRUTH` says what they click."""
    n = np.random.default_rng(1).integers(2, 13, 400)
    user = np.repeat(np.arange(400), n)
    item = np.concatenate([np.arange(k) for k in n])
    log = pd.DataFrame({"user_id": user, "item_id": item, "clicked": TRUTH[user, item]})
    return Impressions.from_log(log, label="clicked", history="all")


def test_scores_are_those_of_scikit_learn_on_the_last_impressions(known) -> None:
    X, y = known
    models = {**NONE, "a": Noisy(1), "b": Noisy(2, seed=1)}
    result = compare(X, y, models=models, random_state=0)
    _, _, test = leave_last_out(X)
    np.testing.assert_array_equal(result.test, test)
    low = X.history.length[test] <= np.quantile(X.history.length[test], 0.3)
    table = result.table
    assert table["model"].tolist() == ["a", "b"]
    for i, name in enumerate("ab"):
        p = result.probability[name]
        assert table["auc"][i] == pytest.approx(roc_auc_score(y[test], p))
        assert table["log_loss"][i] == pytest.approx(log_loss(y[test], p))
        assert table["auc_low_active"][i] == pytest.approx(roc_auc_score(y[test][low], p[low]))
        assert table["auc_lower"][i] < table["auc"][i] < table["auc_upper"][i]
        assert table["seconds"][i] >= 0
    assert np.isnan(table["gauc"]).all()  # one row a user
    paired = delong_test(y[test], result.probability["b"], result.probability["a"])
    assert result.recommended == "a"
    assert table["difference"][1] == pytest.approx(paired.difference)
    assert table["difference_lower"][1] == pytest.approx(paired.confidence_interval[0], abs=2e-3)
    assert table["pvalue"][1] == pytest.approx(paired.pvalue, abs=0.02)
    assert np.isnan(table["difference"][0])


def test_several_rows_a_user_give_gauc(known) -> None:
    X, y = known
    result = compare(X, y, models={**NONE, "a": Noisy(1)}, cv=LeaveLastOut(3), random_state=0)
    expected = gauc_score(y[result.test], result.probability["a"], X.user_ids[result.test])
    table = result.table
    assert table["gauc"][0] == pytest.approx(expected)
    assert table["gauc_lower"][0] < expected < table["gauc_upper"][0]
    assert "GAUC" in str(result)
    assert result.recommendation == "Use 'a': it is the only model."


def test_the_simplest_is_recommended_unless_a_complex_one_is_significantly_better(known) -> None:
    X, y = known
    alike = {**NONE, "simple": Noisy(2), "complex": Noisy(2, seed=1)}
    result = compare(X, y, models=alike)
    assert result.recommended == "simple"
    assert result.recommendation.startswith(
        "Use 'simple': nothing more complex is significantly better on these 400 test rows. "
        "The best of what is more complex, 'complex', differs in AUC by "
    )
    better = {**NONE, "simple": Noisy(4), "middle": Noisy(1), "complex": Noisy(1, seed=1)}
    result = compare(X, y, models=better)
    assert result.recommended == "middle"
    assert "significantly higher than that of 'simple' (+0." in result.recommendation
    assert "Nothing more complex is significantly better" in result.recommendation
    most = {**NONE, "simple": Noisy(4), "complex": Noisy(0.5)}
    assert "the most complex of these models" in compare(X, y, models=most).recommendation


def test_help_for_low_active_users_is_told(known) -> None:
    X, y = known
    models = {**NONE, "simple": Noisy(3), "newcomers": Noisy(3, seed=1, only=3)}
    models["newcomers"].noise = 0.5
    result = compare(X, y, models={**models, "simple": Noisy(0.8)}, random_state=0)
    assert result.recommended == "simple"
    assert "'newcomers' helps low-active users" in result.recommendation


def test_what_is_no_better_than_chance_is_told(known) -> None:
    X, y = known
    result = compare(X, y, models={**NONE, "chance": Noisy(100)})
    assert "not even this model ranks significantly better than chance" in result.recommendation
    assert "Its probabilities are worse than the same one for all rows" in result.recommendation


def test_defaults_on_a_shop() -> None:
    X, y = make_small_shop(n_users=300, random_state=1)
    result = compare(X, y, models=NETWORKS, random_state=0, frame="polars")
    assert result.table["model"].to_list() == ["popularity", "click rates"]
    assert type(result.table).__module__.startswith("polars")
    text = str(result)
    assert repr(result) == text
    assert text.splitlines()[0].split() == [
        *("model", "AUC", "log", "loss", "low-active", "AUC", "difference", "in", "AUC", "seconds")
    ]
    assert result.recommendation in text
    html = result._repr_html_()
    assert '<th scope="col">low-active AUC</th>' in html
    assert escape(result.recommendation) in html
    assert result.models["click rates"].predict_proba(X[:2]).shape == (2, 2)


@pytest.mark.parametrize("content", [True, False])
def test_all_models_with_and_without_content(content, capsys) -> None:
    X, y = make_multimodal_ctr(n_users=30, n_items=20, random_state=0)
    if not content:
        X = Impressions.from_frame(X.to_frame("pandas"))
    result = compare(X, y, random_state=0, verbose=1)
    assert list(result.models) == ["popularity", "click rates", "DIN", "DIN + factors", "MARS"]
    assert capsys.readouterr().out.count("[compare]") == 5
    assert np.isfinite(result.table["auc"]).all()
    encoder = result.models["MARS"]["encode"]
    assert (encoder == "passthrough") == (not content)


def test_tables_and_other_labels_give_the_same() -> None:
    X, y = make_small_shop(n_users=100, random_state=0)
    one = compare(X, y, models=NETWORKS)
    two = compare(X.to_frame("polars"), np.array(["no", "yes"])[y], models=NETWORKS, frame="pandas")
    drop = ["seconds"]
    pd.testing.assert_frame_equal(one.table.drop(columns=drop), two.table.drop(columns=drop))


def test_bad_input_is_refused() -> None:
    X, y = make_small_shop(n_users=40, random_state=0)
    rows = np.arange(len(X))
    half = rows[: len(X) // 2], rows[len(X) // 2 :]
    for change, error, message in (
        ({"X": np.zeros((3, 2))}, TypeError, "compare works on Impressions"),
        ({"y": None}, ValueError, "compare requires y"),
        ({"y": np.zeros(len(X))}, ValueError, "only one class"),
        ({"models": ["DIN"]}, TypeError, "models must be a dict"),
        ({"models": {"a": 3}}, TypeError, r"models\['a'\] must be a classifier"),
        ({"models": {"a": Noisy}}, TypeError, r"models\['a'\] must be a classifier"),
        ({"models": {1: Noisy()}}, TypeError, "names must be strings"),
        ({"models": NONE}, ValueError, "leaves out all models"),
        ({"cv": half}, ValueError, r"cv=\[\(train, test\)\]"),
        ({"cv": [(rows, rows[:9])]}, ValueError, "9 rows in both"),
        ({"cv": [half, half]}, ValueError, "more than once"),
        ({"cv": [(rows[y == 1], rows[y == 0])]}, ValueError, "fewer than two classes"),
        ({"cv": [(rows[9:], rows[:0])]}, ValueError, "two test rows of each class, got 0"),
        ({"cv": [(rows[X.user > 0], rows[X.user == 0])]}, ValueError, "two users|two test rows"),
        ({"confidence_level": 1.0}, ValueError, "confidence_level"),
        ({"frame": "excel"}, ValueError, "frame must be one of"),
        ({"random_state": "x"}, ValueError, "seed"),
    ):
        arguments = {"X": X, "y": y, "models": NETWORKS, **change}
        with pytest.raises(error, match=message):
            compare(**arguments)


def test_an_error_of_a_model_names_it() -> None:
    X, y = make_small_shop(n_users=40, random_state=0)

    class Broken(Noisy):
        def fit(self, X, y):
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no") as caught:
        compare(X, y, models={**NETWORKS, "mine": Broken()})
    assert "'mine'" in caught.value.__notes__[0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_what_the_step_down_procedure_rejects(pvalues) -> None:
    adjusted = holm(pvalues)
    for alpha in (0.01, 0.05, 0.2):
        rejected = set()
        for rank, i in enumerate(np.argsort(pvalues, kind="stable")):
            if pvalues[i] * (len(pvalues) - rank) > alpha:
                break
            rejected.add(int(i))
        assert {i for i, p in enumerate(adjusted) if p <= alpha} == rejected


def test_ends_of_log_loss_are_those_of_a_mean(known) -> None:
    X, y = known
    result = compare(X, y, models={**NONE, "a": Noisy(1)})
    p, clicked = result.probability["a"], y[result.test]
    losses = -np.log(np.where(clicked == 1, p, 1 - p))
    low, high = stats.norm.interval(0.95, losses.mean(), stats.sem(losses))
    assert result.table["log_loss_lower"][0] == pytest.approx(low)
    assert result.table["log_loss_upper"][0] == pytest.approx(high)


def test_the_choice_begins_with_the_better_of_the_simplest(known) -> None:
    X, y = known
    models = {**NONE, "popularity": Noisy(3), "click rates": Noisy(2), "DIN": Noisy(2.5, seed=1)}
    assert compare(X, y, models=models).recommended == "click rates"
    models |= {"click rates": Noisy(3.2, seed=2), "popularity": Noisy(2)}
    assert compare(X, y, models=models).recommended == "popularity"
    models |= {"DIN": None, "popularity": Noisy(3), "click rates": Noisy(2)}
    assert compare(X, y, models=models).recommendation.startswith(
        "Use 'click rates': its AUC is the highest of the simple models, and nothing more complex "
        "was compared."
    )
