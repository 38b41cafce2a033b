"""`make_mars` gives the pipeline that users would write by hand."""

from __future__ import annotations

import pytest
from sklearn.linear_model import LogisticRegression

from skmars import DINClassifier, MultimodalEncoder, make_mars, make_small_shop


def test_default_has_the_defaults_of_each_step():
    mars = make_mars(random_state=3)
    assert list(mars.named_steps) == ["encode", "align", "augment", "ctr"]
    for step in mars.named_steps.values():
        default = type(step)().get_params()
        different = {k for k, v in step.get_params().items() if v is not default[k]}
        assert different <= {"random_state"}
    assert mars["ctr"].random_state == mars["align"].random_state == 3


def test_parameters_reach_their_steps():
    classifier = LogisticRegression()
    mars = make_mars("paper", augment__theta=0.4, align__entropy=None, ctr=classifier)
    assert mars["augment"].theta == 0.4
    assert mars["align"].entropy is None  # what is passed counts more than the variant
    assert mars["ctr"] is classifier


@pytest.mark.parametrize("wrong", [{"augment__theta_": 1}, {"steep": 1}])
def test_unknown_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match="Invalid parameter"):
        make_mars(**wrong)


def test_a_parameter_without_its_step_is_told_where_it_belongs():
    with pytest.raises(ValueError, match="no parameter 'n_factors'.* by step: align__n_factors.$"):
        make_mars(n_factors=3)
    with pytest.raises(ValueError, match="align__max_iter or ctr__max_iter"):
        make_mars(max_iter=3)


def test_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="variant must be one of default, paper, got 'printed'"):
        make_mars("printed")


def test_calls_share_no_step():
    one, other = make_mars(), make_mars()
    assert one["encode"] is not other["encode"]
    assert isinstance(one["encode"], MultimodalEncoder)
    assert isinstance(one["ctr"], DINClassifier)


def test_click_rates_are_a_step_where_asked_for():
    mars = make_mars(rates=True, rates__smooth=5.0)
    assert list(mars.named_steps) == ["encode", "align", "augment", "rates", "ctr"]
    assert mars["rates"].smooth == 5.0
    X, y = make_small_shop(n_users=150, random_state=0)
    small = {"align__n_components": 8, "align__id_dim": 8, "align__max_iter": 1}
    mars = make_mars(rates=True, random_state=0, **small, ctr__max_iter=2).fit(X, y)
    assert "click_logit" in mars[:-1].transform(X[:5]).context
    assert mars.predict_proba(X[:5]).shape == (5, 2)
